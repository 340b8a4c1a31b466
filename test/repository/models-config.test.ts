import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { parseModelsConfig, readModelsConfig } from '../../src/repository/models-config.js';

const file = '/etc/serving/models.config';
const parse = (text: string) => parseModelsConfig(text, file);
const config = (...bodies: string[]): string =>
  `model_config_list {\n${bodies.map((body) => `config { ${body} }`).join('\n')}\n}`;

/** The message of the refusal of this text. */
function refusal(text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof ServingError, String(error));
    assert.equal(error.code, 'SRV_BAD_CONFIG');
    return error.message;
  }
  return assert.fail(`it was taken: ${text}`);
}

test('names, places, policies and labels are read, and a relative path is relative to the file', () => {
  const { models, notices } = parse(`
    # two models
    model_config_list: {
      config: {
        name: "ranker", base_path: "/models/ranker"
        model_version_policy { specific { versions: 42 versions: 43 } }
        version_labels { key: "stable" value: 42 }
        version_labels { key: "canary" value: 43 }
      }
      config <
        name: "scorer"
        base_path: 'scorer'
        model_version_policy: { latest: { num_versions: 2 } }
      >
      config { name: "all" base_path: "../all" model_version_policy { all {} } }
      config { name: "plain" base_path: "/plain/" }
    }`);
  assert.deepEqual(
    models.map(({ line, notices: _, ...model }) => [line, model]),
    [
      [
        4,
        {
          name: 'ranker',
          basePath: '/models/ranker',
          policy: { kind: 'specific', versions: [42, 43] },
          labels: { stable: 42, canary: 43 },
        },
      ],
      [
        10,
        { name: 'scorer', basePath: '/etc/serving/scorer', policy: { kind: 'latest', count: 2 }, labels: {} },
      ],
      [15, { name: 'all', basePath: '/etc/all', policy: { kind: 'all' }, labels: {} }],
      [16, { name: 'plain', basePath: '/plain', policy: undefined, labels: {} }],
    ],
  );
  assert.deepEqual(notices, []);
});

test('a base_path that is an address stays as it is', () => {
  const { models } = parse(config('name: "a" base_path: "s3://bucket/a"'));
  assert.equal(models[0]?.basePath, 's3://bucket/a');
});

test('lists, an empty latest and an empty set of models mean what they mean to protobuf', () => {
  assert.deepEqual(parse('model_config_list { }').models, []);
  assert.deepEqual(parse('model_config_list { config: [] }').models, []);
  const { models } = parse(`model_config_list { config: [
    { name: "a" base_path: "/a" model_version_policy { latest { } } },
    { name: "b" base_path: "/b" model_version_policy { specific { versions: [1, 0x2] } } }
  ] }`);
  assert.deepEqual(
    models.map(({ policy, line }) => [policy, line]),
    [
      [{ kind: 'latest', count: 1 }, 2],
      [{ kind: 'specific', versions: [1, 2] }, 3],
    ],
  );
});

test('the platform tensorflow and fields without effect are taken with a notice that names file and line', () => {
  const { models, notices } = parse(
    config(
      `name: "a" base_path: "/a"\nmodel_platform: "tensorflow"\nlogging_config { log_collector_config { type: "x" } }\nmodel_type: TENSORFLOW`,
      'name: "b" base_path: "/b" model_platform: "onnxruntime"',
    ),
  );
  assert.equal(notices.length, 3);
  const text = notices.join('\n');
  assert.match(text, /models\.config:3: model_platform "tensorflow" of "a" is accepted/);
  assert.match(text, /models\.config:4: logging_config is ignored: requests are not written to a log/);
  assert.match(text, /models\.config:5: model_type is ignored/);
  assert.deepEqual(
    models.map((model) => model.notices.length),
    [3, 0],
  );
});

test('another platform and a custom configuration are refused', () => {
  assert.match(
    refusal(config('name: "a" base_path: "/a" model_platform: "pytorch"')),
    /config:2: model_platform: expected .*"tensorflow", got "pytorch"/,
  );
  assert.match(
    refusal('custom_model_config { type_url: "x" }'),
    /config:1: custom_model_config is not supported: it names a loader/,
  );
});

test('an unknown field is refused with its line and the nearest name', () => {
  const text = refusal(config('name: "a"\nbase_pth: "/a"\nmodel_version_policy { lastest { } }'));
  assert.match(
    text,
    /models\.config:3: model_config_list\.config\.base_pth: unknown field; did you mean "base_path"\?/,
  );
  assert.match(
    text,
    /models\.config:4: .*model_version_policy\.lastest: unknown field; did you mean "latest"\?/,
  );
  assert.match(refusal('model_config_lists { }'), /expected model_config_list, found "model_config_lists"/);
});

test('every problem of the models is told at once', () => {
  const text = refusal(
    config('name: "a"', 'base_path: "/b"', 'name: "x/y" base_path: "/c"', 'name: "a" base_path: "/d"'),
  );
  assert.match(text, /config:2: config of "a" has no base_path/);
  assert.match(text, /config:3: a config has no name/);
  assert.match(text, /config:4: name: expected a name without slashes, got "x\/y"/);
  assert.match(text, /config:5: two configs are named "a"; the other one is in line 2/);
});

test('a policy of two kinds, without versions or with a count of none is refused', () => {
  const policy = (text: string): string =>
    refusal(config(`name: "a" base_path: "/a"\nmodel_version_policy { ${text} }`));
  assert.match(policy('latest { } all { }'), /config:3: a version policy is one of .*, got latest and all/);
  assert.match(policy('specific { }'), /config:3: specific names no versions/);
  assert.match(policy('latest { num_versions: 0 }'), /config:3: num_versions: expected .* at least 1, got 0/);
  assert.match(policy('latest { } latest { }'), /latest: given twice, first in line 3/);
  assert.match(policy('all: true'), /all: expected a message in braces, got true/);
});

test('version numbers that are negative, broken or beyond 2^53 are refused as they were written', () => {
  const versions = (text: string): string =>
    refusal(config(`name: "a" base_path: "/a" model_version_policy { specific { versions: ${text} } }`));
  assert.match(versions('9007199254740993'), /config:2: version 9007199254740993 is above 9007199254740991/);
  assert.match(versions('-1'), /expected a version, an integer of at least 0, got -1/);
  assert.match(versions('1.5'), /versions: expected an integer, got 1.5/);
  assert.match(versions('"1"'), /versions: expected an integer, got "1"/);
  assert.match(
    refusal(config('name: "a" base_path: "/a" version_labels { key: "s" value: 18446744073709551615 }')),
    /version 18446744073709551615 is above/,
  );
});

test('labels that are numbers, repeated, without a version or of a version that is not chosen are refused', () => {
  const labels = (text: string): string => refusal(config(`name: "a" base_path: "/a"\n${text}`));
  assert.match(labels('version_labels { key: "7" value: 7 }'), /config:3: .*the label "7" is a number/);
  assert.match(labels('version_labels { value: 7 }'), /a label is empty/);
  assert.match(labels('version_labels { key: "a/b" value: 7 }'), /has a slash/);
  assert.match(labels('version_labels { key: "s" }'), /the label "s" names no version/);
  assert.match(
    labels('version_labels { key: "s" value: 1 }\nversion_labels { key: "s" value: 2 }'),
    /config:4: .*the label "s" is given twice/,
  );
  assert.match(
    labels('model_version_policy { specific { versions: [1, 2] } }\nversion_labels { key: "s" value: 3 }'),
    /config:4: the label "s" of config of "a" names version 3, which its version policy \(specific 1, 2\) does not choose/,
  );
});

test('an empty file is refused: it may be one that is being written', () => {
  assert.match(refusal(''), /expected model_config_list, found nothing/);
  assert.match(refusal('# nothing yet\n'), /expected model_config_list, found nothing/);
});

test('a text that is cut or spoilt anywhere is refused with its line, or still says a sound set', () => {
  const whole = config(
    'name: "a"\nbase_path: "/a"\nmodel_version_policy {\nlatest { num_versions: 2 }\n}',
    'name: "b"\nbase_path: "/b"\nversion_labels { key: "stable"\nvalue: 3 }',
  );
  for (let length = 1; length < whole.length; length++) {
    assert.match(refusal(whole.slice(0, length)), /^\/etc\/serving\/models\.config:?/, String(length));
  }
  const lines = whole.split('\n');
  for (const [index] of lines.entries()) {
    const spoilt = lines.with(index, `${lines[index]} @`).join('\n');
    assert.match(refusal(spoilt), new RegExp(`models\\.config:${index + 1}:\\d+: `), String(index));
  }
});

test('a file that cannot be read is SRV_IO, and one that can is read', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'models-config-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'models.config');
  await assert.rejects(readModelsConfig(path), { code: 'SRV_IO', message: /models\.config cannot be read/ });
  writeFileSync(path, config('name: "a" base_path: "a"'));
  assert.equal((await readModelsConfig(path)).models[0]?.basePath, join(directory, 'a'));
});
