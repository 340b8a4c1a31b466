import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SplitSettings } from '../../src/config/traffic-settings.js';
import { readSaved, type SavedSplit } from '../../src/traffic/traffic-state.js';
import { openWith } from '../support/served.js';
import { makeDirectory, removeDirectory, scaleModel } from '../support/test-models.js';

const saved: SavedSplit = {
  declared: 'abc',
  weights: { a: 1, b: 2 },
  phase: 'steady',
  steps: [],
  step: 0,
  rollback: null,
};

test('what was kept is checked, and what is wrong with it is said', () => {
  assert.deepEqual(readSaved(undefined), {});
  assert.deepEqual(readSaved({ ranker: saved }), { ranker: saved });
  for (const [fault, problem] of [
    [{ weights: { a: 0, b: 0 } }, 'traffic.ranker.weights: expected one above 0'],
    [{ weights: { a: -1 } }, 'traffic.ranker.weights.a: expected a number of at least 0, got -1'],
    [{ weights: null }, 'traffic.ranker.weights: expected an object, got null'],
    [{ step: 1 }, 'traffic.ranker.step: there is no step 1'],
    [
      { steps: [{ weight: 5 }] },
      'traffic.ranker.steps[0].hold_s: missing: expected a number from 0 to 31536000',
    ],
    [
      { phase: 'flying' },
      'traffic.ranker.phase: expected steady, stepping, done or rolled_back, got "flying"',
    ],
    [{ rollback: {} }, 'traffic.ranker.rollback: expected an object, got {}'],
  ] as const) {
    assert.throws(() => readSaved({ ranker: { ...saved, ...fault } }), { message: problem });
  }
  for (const value of [null, [], 'text', { ranker: 7 }]) assert.throws(() => readSaved(value));
});

const traffic = (weight: number): Record<string, SplitSettings> => ({
  public: {
    variants: [
      { tag: 'old', model: 'two', weight: 90 },
      { tag: 'new', model: 'three', weight },
    ],
  },
});
const models = { two: scaleModel(2), three: scaleModel(3) };

test('weights outlive the runtime, until the configuration says otherwise', async (t) => {
  const directory = makeDirectory('state');
  t.after(() => removeDirectory(directory));
  const stateFile = join(directory, 'state.json');
  const weightsWith = async (weight: number, change?: Record<string, number>): Promise<number[]> => {
    const { runtime, close } = await openWith(models, { stateFile, traffic: traffic(weight) });
    try {
      const before = runtime.traffic.get('public').variants.map((variant) => variant.weight);
      if (change) await runtime.traffic.set('public', { weights: change });
      return before;
    } finally {
      await close();
    }
  };
  assert.deepEqual(await weightsWith(10, { old: 1, new: 3 }), [90, 10]);
  assert.deepEqual(await weightsWith(10), [1, 3]);
  assert.deepEqual(await weightsWith(20), [90, 20]);
});

test('a state that makes no sense leaves the configuration', async (t) => {
  const directory = makeDirectory('state');
  t.after(() => removeDirectory(directory));
  const stateFile = join(directory, 'state.json');
  writeFileSync(stateFile, JSON.stringify({ traffic: { public: { ...saved, weights: { old: -1 } } } }));
  const { runtime, close } = await openWith(models, { stateFile, traffic: traffic(10) });
  try {
    assert.deepEqual(
      runtime.traffic.get('public').variants.map(({ weight }) => weight),
      [90, 10],
    );
    await runtime.traffic.set('public', { weights: { old: 2, new: 1 } });
    const kept = JSON.parse(readFileSync(stateFile, 'utf8')) as { traffic: Record<string, SavedSplit> };
    assert.deepEqual(readSaved(kept.traffic).public!.weights, { old: 2, new: 1 });
  } finally {
    await close();
  }
});
