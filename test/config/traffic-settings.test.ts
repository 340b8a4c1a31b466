import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadServeConfig, resolveRuntimeConfig, type Surroundings } from '../../src/config/load.js';
import type { RuntimeOptions } from '../../src/config/schema.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const variants = [
  { tag: 'old', version: 1, weight: 90 },
  { tag: 'new', version: 2, weight: 10 },
];
const guard = { control: 'old', max_error_rate_margin: 0.01 };

/** What is wrong with a split under the name `ranker`. */
function problemsOf(split: unknown, name = 'ranker'): string[] {
  try {
    resolveRuntimeConfig({ traffic: { [name]: split } } as RuntimeOptions);
  } catch (error) {
    return (error as { details: { problems: string[] } }).details.problems;
  }
  return [];
}

test('a split with all of its keys is taken', () => {
  const split = {
    variants,
    sticky: { by: 'header', name: 'x-user' },
    shadow: [{ tag: 'next', model: 'other', label: 'canary', sample: 0.1, max_in_flight: 2 }],
    guard: { ...guard, max_p99_ratio: 1.2, min_requests: 1000, window_s: 30 },
    steps: [{ weight: 5, hold_s: 600 }],
  };
  assert.deepEqual(problemsOf(split), []);
  assert.deepEqual(resolveRuntimeConfig({ traffic: { ranker: { variants } } }).traffic, {
    ranker: { variants },
  });
  assert.deepEqual(problemsOf({ variants, sticky: undefined, shadow: undefined }), []);
});

test('what is wrong is named with its place, the nearest key, and what was expected', () => {
  for (const [split, problem] of [
    [{}, 'traffic.ranker.variants: missing: expected a non-empty list'],
    [{ variants: [] }, 'traffic.ranker.variants: expected a non-empty list, got []'],
    [{ variants, stiky: {} }, 'traffic.ranker.stiky: unknown key; did you mean "sticky"?'],
    [
      { variants: [{ tag: 'a', wieght: 1, weight: 1 }] },
      'traffic.ranker.variants[0].wieght: unknown key; did you mean "weight"?',
    ],
    [
      { variants: [{ tag: 'a', weight: -1 }] },
      'traffic.ranker.variants[0].weight: expected a number of at least 0, got -1',
    ],
    [
      { variants: [{ tag: 'a', weight: Number.POSITIVE_INFINITY }] },
      'traffic.ranker.variants[0].weight: expected a number of at least 0, got Infinity',
    ],
    [
      { variants: [{ tag: 'a b', weight: 1 }] },
      'traffic.ranker.variants[0].tag: expected a name of at most 64 letters, digits, dots, dashes and underscores, got "a b"',
    ],
    [
      {
        variants: [
          { tag: 'a', weight: 0 },
          { tag: 'b', weight: 0 },
        ],
      },
      'traffic.ranker.variants: all weights are 0; expected at least one above 0',
    ],
    [
      {
        variants: [
          { tag: 'a', weight: 1 },
          { tag: 'a', weight: 1 },
        ],
      },
      'traffic.ranker.variants[1].tag: "a" is the tag of variants[0] already',
    ],
    [
      { variants, shadow: [{ tag: 'new' }] },
      'traffic.ranker.shadow[0].tag: "new" is the tag of variants[1] already',
    ],
    [
      { variants: [{ tag: 'a', weight: 1, version: 1, label: 'stable' }] },
      'traffic.ranker.variants[0].label: version is there too; expected one of the two',
    ],
    [
      { variants, sticky: { by: 'cookie' } },
      'traffic.ranker.sticky.by: expected header, parameter or id, got "cookie"',
    ],
    [
      { variants, sticky: { by: 'header' } },
      'traffic.ranker.sticky.name: missing: expected the name of the header',
    ],
    [{ variants, sticky: { by: 'id', name: 'x' } }, 'traffic.ranker.sticky.name: an id has no name'],
    [
      { variants, guard: { ...guard, control: 'odl' } },
      'traffic.ranker.guard.control: "odl" is no variant; did you mean "old"?',
    ],
    [
      { variants, guard: { control: 'old' } },
      'traffic.ranker.guard: expected max_error_rate_margin or max_p99_ratio, or both',
    ],
    [
      { variants, steps: [{ weight: 5, hold_s: 1 }] },
      'traffic.ranker.steps: expected a guard, and exactly one variant beside its control',
    ],
    [
      { variants, guard, steps: [{ weight: 101, hold_s: 1 }] },
      'traffic.ranker.steps[0].weight: expected a number above 0, at most 100, got 101',
    ],
    [
      { variants, shadow: [{ tag: 's', sample: 2 }] },
      'traffic.ranker.shadow[0].sample: expected a number from 0 to 1, got 2',
    ],
  ] as const) {
    assert.deepEqual(problemsOf(split), [problem]);
  }
  assert.deepEqual(problemsOf({ variants }, 'a/b'), [
    'traffic.a/b: expected a name without slashes, got "a/b"',
  ]);
});

test('traffic stands in the file of the server, whose problems name it; there is no flag and no variable', (t) => {
  const directory = makeDirectory('config');
  t.after(() => removeDirectory(directory));
  const file = join(directory, 'serve.yaml');
  const surroundings: Surroundings = {
    env: {},
    homeDir: directory,
    tempDir: directory,
    usableCpus: 2,
    isTerminal: false,
  };
  writeFileSync(
    file,
    `traffic:
  ranker:
    variants:
      - { tag: old, version: 1, weight: 90 }
      - { tag: new, version: 2, weight: 10 }
    sticky: { by: parameter, name: user }
`,
  );
  const { runtime } = loadServeConfig({ flags: { config: file }, surroundings });
  assert.deepEqual(runtime.traffic, { ranker: { variants, sticky: { by: 'parameter', name: 'user' } } });
  writeFileSync(file, 'traffic:\n  ranker:\n    varaints: []\n');
  assert.throws(() => loadServeConfig({ flags: { config: file }, surroundings }), {
    code: 'SRV_BAD_CONFIG',
    message: new RegExp(`traffic in ${file}.ranker.varaints: unknown key; did you mean "variants"\\?`),
  });
  assert.throws(
    () => loadServeConfig({ surroundings: { ...surroundings, env: { ONNX_SERVING_TRAFFIC: 'a' } } }),
    { code: 'SRV_BAD_CONFIG', message: /ONNX_SERVING_TRAFFIC: unknown environment variable/ },
  );
});
