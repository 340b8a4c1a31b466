import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/batching/clock.js';
import { ServingError } from '../../src/errors.js';
import { ModelRegistry } from '../../src/model/model-registry.js';
import { ModelVersion } from '../../src/model/model-version.js';
import { type KeptLabels, readKeptLabels } from '../../src/model/version-labels.js';
import type { ModelEntry } from '../../src/repository/layout.js';

/** A registry whose model `m` has these ready versions. */
function registryOf(...versions: number[]): ModelRegistry {
  return withVersions(new ModelRegistry(), versions);
}

function withVersions(registry: ModelRegistry, versions: readonly number[]): ModelRegistry {
  for (const version of versions) makeReady(registry, version);
  return registry;
}

function makeReady(registry: ModelRegistry, number: number): ModelVersion {
  const version = new ModelVersion({ name: 'm', version: number } as ModelEntry, number, systemClock);
  registry.add(version);
  version.state = 'ready';
  registry.refresh('m');
  return version;
}

test('a label finds its version, and an unknown one is told which there are', () => {
  const registry = registryOf(1, 2);
  assert.throws(() => registry.find('m', undefined, 'stable'), {
    code: 'SRV_MODEL_NOT_FOUND',
    message: "Request for unknown model: 'm' label 'stable' is not found; the model has no labels",
  });
  registry.setLabels('m', { stable: 1, canary: 2 });
  assert.equal(registry.find('m', undefined, 'stable').version, 1);
  assert.equal(registry.find('m', undefined, 'canary').version, 2);
  assert.deepEqual(registry.labelsOf('m'), { canary: 2, stable: 1 });
  assert.throws(() => registry.find('m', undefined, 'beta'), {
    code: 'SRV_MODEL_NOT_FOUND',
    message: /label 'beta' is not found; the model has the labels 'canary', 'stable'$/,
  });
  assert.throws(() => registry.find('m', 1, 'stable'), { code: 'SRV_BAD_REQUEST', message: /one of them/ });
  assert.throws(() => registry.find('other', undefined, 'stable'), { code: 'SRV_MODEL_NOT_FOUND' });
});

test('labels move and go together, or not at all', () => {
  const registry = registryOf(1, 2);
  registry.setLabels('m', { stable: 1, old: 1 });
  assert.throws(() => registry.setLabels('m', { stable: 2, old: 9 }), {
    code: 'SRV_MODEL_NOT_FOUND',
    message: /'m' version 9 is not found/,
  });
  assert.throws(() => registry.setLabels('m', { stable: 2, '7': 2 }), {
    code: 'SRV_BAD_REQUEST',
    message: /the label "7" is a number/,
  });
  assert.throws(() => registry.setLabels('none', { stable: 2 }), { code: 'SRV_MODEL_NOT_FOUND' });
  assert.deepEqual(registry.labelsOf('m'), { old: 1, stable: 1 });
  registry.setLabels('m', { stable: 2, old: null, 'never there': null });
  assert.deepEqual(registry.labelsOf('m'), { stable: 2 });
});

test('a label cannot point to a version that is not ready, and the reason is told', () => {
  const registry = registryOf(1);
  const broken = makeReady(registry, 2);
  broken.fail(new ServingError('SRV_MODEL_INVALID', 'the file is empty'));
  registry.refresh('m');
  assert.throws(() => registry.setLabels('m', { stable: 2 }), {
    code: 'SRV_MODEL_NOT_READY',
    message: /the file is empty/,
  });
});

test('a label whose version goes away keeps it and is not ready, until it is moved or the version is back', () => {
  const registry = registryOf(2);
  const version = makeReady(registry, 1);
  registry.setLabels('m', { stable: 1 });
  version.state = 'unloaded';
  registry.refresh('m');
  assert.throws(() => registry.find('m', undefined, 'stable'), {
    code: 'SRV_MODEL_NOT_READY',
    message: /'m' label 'stable' stands for version 1, which is not at ready state: version 1 is unloaded/,
  });
  assert.deepEqual(registry.labelsOf('m'), { stable: 1 });
  makeReady(registry, 1);
  assert.equal(registry.find('m', undefined, 'stable').version, 1);
  registry.setLabels('m', { stable: 2 });
  assert.equal(registry.find('m', undefined, 'stable').version, 2);
});

test('a configured label waits for its version and stays where it was until then', () => {
  const registry = registryOf(1);
  registry.configureLabels('m', { stable: 1, canary: 2 });
  assert.deepEqual(registry.labelsOf('m'), { stable: 1 });
  assert.deepEqual(registry.waitingLabelsOf('m'), [{ label: 'canary', version: 2 }]);
  assert.throws(() => registry.find('m', undefined, 'canary'), {
    code: 'SRV_MODEL_NOT_READY',
    message: /label 'canary' stands for version 2, which is not at ready state: it is not loaded/,
  });
  makeReady(registry, 2);
  assert.deepEqual(registry.labelsOf('m'), { canary: 2, stable: 1 });
  assert.deepEqual(registry.waitingLabelsOf('m'), []);

  registry.configureLabels('m', { stable: 3, canary: 2 });
  assert.equal(registry.find('m', undefined, 'stable').version, 1);
  makeReady(registry, 3);
  assert.equal(registry.find('m', undefined, 'stable').version, 3);
});

test('a label may be configured before its model has any version', () => {
  const registry = new ModelRegistry();
  registry.configureLabels('m', { stable: 1 });
  registry.setBroken('m', [
    { name: 'm', version: 1, directory: '/m', error: new ServingError('SRV_IO', '1 cannot be read') },
  ]);
  assert.throws(() => registry.find('m', undefined, 'stable'), {
    code: 'SRV_MODEL_NOT_READY',
    message: /stands for version 1, .*: 1 cannot be read/,
  });
  makeReady(registry, 1);
  assert.equal(registry.find('m', undefined, 'stable').version, 1);
});

test('a label that was moved by request stays there while its configuration says the same', () => {
  const registry = registryOf(1, 2);
  registry.configureLabels('m', { stable: 1 });
  registry.setLabels('m', { stable: 2 });
  registry.configureLabels('m', { stable: 1 });
  registry.refresh('m');
  assert.deepEqual(registry.labelsOf('m'), { stable: 2 });
  registry.setLabels('m', { stable: null });
  registry.configureLabels('m', { stable: 1 });
  assert.deepEqual(registry.labelsOf('m'), {});
});

test('a label that waits is given up when it is set by request or leaves the configuration', () => {
  const registry = registryOf(1);
  registry.configureLabels('m', { stable: 2, canary: 3, old: 1 });
  registry.setLabels('m', { stable: 1 });
  registry.configureLabels('m', { stable: 2 });
  makeReady(registry, 2);
  makeReady(registry, 3);
  assert.deepEqual(registry.labelsOf('m'), { stable: 1 });
});

test('with labels for unavailable versions allowed, a configured label points at once', () => {
  const registry = withVersions(new ModelRegistry({ allowUnavailableLabels: true }), [1]);
  registry.configureLabels('m', { stable: 1 });
  registry.configureLabels('m', { stable: 2 });
  assert.deepEqual(registry.labelsOf('m'), { stable: 2 });
  assert.throws(() => registry.find('m', undefined, 'stable'), { code: 'SRV_MODEL_NOT_READY' });
});

test('labels outlive the process: what was moved, what waits, and what the configuration had said', () => {
  let kept: Readonly<Record<string, KeptLabels>> = {};
  const onLabels = (labels: typeof kept): void => {
    kept = JSON.parse(JSON.stringify(labels)) as typeof kept;
  };
  const before = withVersions(new ModelRegistry({ onLabels }), [1, 2]);
  before.configureLabels('m', { stable: 1, next: 3 });
  before.setLabels('m', { stable: 2 });

  const after = new ModelRegistry({ keptLabels: readKeptLabels(kept), onLabels });
  after.configureLabels('other', { only: 1 });
  assert.deepEqual(Object.keys(kept).toSorted(), ['m', 'other'], 'a model that is still to come is kept');
  after.configureLabels('m', { stable: 1, next: 3 });
  assert.throws(() => after.find('m', undefined, 'stable'), { code: 'SRV_MODEL_NOT_READY' });
  withVersions(after, [1, 2]);
  assert.deepEqual(after.labelsOf('m'), { stable: 2 });
  makeReady(after, 3);
  assert.deepEqual(after.labelsOf('m'), { next: 3, stable: 2 });
  assert.deepEqual(kept.m?.waiting, {});
  after.configureLabels('m', { stable: 3 });
  assert.deepEqual(after.labelsOf('m'), { stable: 3 });
  after.remove('m');
  assert.deepEqual(Object.keys(kept), ['other']);
});

test('kept labels of another form are left out', () => {
  const sound = { versions: { stable: 1 }, configured: {}, waiting: {} };
  assert.deepEqual(readKeptLabels({ m: sound, n: { versions: { stable: 'x' } }, o: 3, p: [] }), { m: sound });
  for (const value of [undefined, null, [], 'text', 7]) assert.deepEqual(readKeptLabels(value), {});
});
