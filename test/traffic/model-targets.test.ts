import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/batching/clock.js';
import { ServingError } from '../../src/errors.js';
import { ModelRegistry } from '../../src/model/model-registry.js';
import { ModelVersion } from '../../src/model/model-version.js';
import type { ModelEntry } from '../../src/repository/layout.js';
import { ModelTargets } from '../../src/traffic/model-targets.js';
import type { VariantTarget } from '../../src/traffic/variant-target.js';

/** A model whose versions 1 and 2 are ready, 3 loads and 4 is broken. */
function targets(labels: Readonly<Record<string, number>> = {}): ModelTargets {
  const registry = new ModelRegistry();
  for (const number of [1, 2, 3]) {
    const version = new ModelVersion({ name: 'ranker', version: number } as ModelEntry, number, systemClock);
    version.state = number === 3 ? 'loading' : 'ready';
    registry.add(version);
  }
  const error = new ServingError('SRV_MODEL_INVALID', 'empty');
  registry.setBroken('ranker', [{ name: 'ranker', version: 4, directory: '', error }]);
  registry.refresh('ranker');
  registry.configureLabels('ranker', labels);
  return new ModelTargets(registry, (name) => name === 'sleeper');
}

const target = (more: Partial<VariantTarget> = {}): VariantTarget => ({
  model: 'ranker',
  version: undefined,
  label: undefined,
  ...more,
});

test('a target means a version that is ready: the newest, that of its number, or that of its label', () => {
  const found = targets({ stable: 1, canary: 3 });
  assert.equal(found.readyVersion(target()), 2);
  assert.equal(found.readyVersion(target({ version: 1 })), 1);
  assert.equal(found.readyVersion(target({ label: 'stable' })), 1);
  for (const other of [
    { version: 3 },
    { version: 9 },
    { label: 'canary' },
    { label: 'none' },
    { model: 'x' },
  ]) {
    assert.equal(found.readyVersion(target(other)), undefined, JSON.stringify(other));
  }
});

test('a target sleeps with its model', () => {
  assert.ok(targets().mayWake(target({ model: 'sleeper', version: 3 })));
  assert.ok(!targets().mayWake(target()));
});

test('what is known is no problem, ready or not; what is not is named beside what there is', () => {
  const found = targets({ stable: 1, canary: 3 });
  for (const known of [{}, { version: 1 }, { version: 3 }, { version: 4 }, { label: 'canary' }]) {
    assert.equal(found.problemWith(target(known)), undefined, JSON.stringify(known));
  }
  assert.equal(
    found.problemWith(target({ model: 'rnker' })),
    'there is no model "rnker"; there are ranker; did you mean "ranker"?',
  );
  assert.equal(
    found.problemWith(target({ version: 9 })),
    'model "ranker" has no version 9 that is to be served; there are 1, 2, 3, 4',
  );
  assert.equal(
    found.problemWith(target({ label: 'stabel' })),
    'model "ranker" has no label "stabel"; there are stable, canary; did you mean "stable"?',
  );
  assert.equal(
    targets().problemWith(target({ label: 'stable' })),
    'model "ranker" has no label "stable"; there are none',
  );
});
