/** Loading a version: what is opened when something behind it fails. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ByteBudget } from '../../src/batching/byte-budget.js';
import { systemClock } from '../../src/batching/clock.js';
import { Scheduler } from '../../src/batching/scheduler.js';
import { resolveRuntimeConfig } from '../../src/config/load.js';
import { ServingError } from '../../src/errors.js';
import { ModelLoader, type ModelLoaderOptions } from '../../src/model/model-loader.js';
import { ModelVersion } from '../../src/model/model-version.js';
import type { PreparedModel } from '../../src/model/prepared-model.js';
import type { ModelEntry } from '../../src/repository/layout.js';
import { countedRows, makeTable } from '../support/embedding-models.js';
import { FakeSlots } from '../support/fake-runner.js';
import { rowModel, temporaryDirectory, writeModel } from './model-fixtures.js';

const spec = (name: string) => ({ name, datatype: 'FP32', shape: [-1, 2] }) as const;

const prepared: PreparedModel = {
  source: 'model.onnx',
  file: 'model.onnx',
  form: 'original',
  formReason: '',
  sessionExtra: {},
  signature: { inputs: [spec('rows')], outputs: [spec('y')] },
  anyRank: [],
  hiddenOutputs: [],
  opsets: {},
  batching: { rowsIndependent: true, reason: '' },
  trial: { ran: true, p50Us: 1, p99Us: 1 },
  measures: [],
  weightBytes: 0,
  fileBytes: 0,
  loadMs: 1,
  cached: true,
  digest: '0',
};

/** Versions that are open in instances, or on the main thread. */
class FakeInstances {
  readonly device = { name: 'cpu', provider: 'cpu' };
  readonly open = new Set<number>();
  readonly lostReason = undefined;
  readonly #fault: ServingError | undefined;

  constructor(fault?: ServingError) {
    this.#fault = fault;
  }

  async load({ versionId }: { readonly versionId: number }): Promise<readonly number[]> {
    if (this.#fault) throw this.#fault;
    this.open.add(versionId);
    return [1];
  }

  async unload(versionId: number): Promise<void> {
    this.open.delete(versionId);
  }
}

const canSeeMaps = process.platform === 'linux';
const isMapped = (table: string): boolean =>
  canSeeMaps && readFileSync('/proc/self/maps', 'utf8').includes(table);

for (const failing of ['an instance', 'the main thread', 'nothing'] as const) {
  test(`when ${failing} fails to open a version, ${failing === 'nothing' ? 'all' : 'nothing'} stays open`, async (t) => {
    const directory = temporaryDirectory(t);
    const table = join(directory, 'table');
    await makeTable(table, countedRows(10, 2));
    const file = writeModel(directory, rowModel({ op: 'Relu' }));
    const fault = new ServingError('SRV_OUT_OF_MEMORY', 'no room');
    const groups = [new FakeInstances(), new FakeInstances(failing === 'an instance' ? fault : undefined)];
    const mainInstance = new FakeInstances(failing === 'the main thread' ? fault : undefined);
    const loader = new ModelLoader({
      config: resolveRuntimeConfig({ cacheDir: directory, models: [{ path: directory }], warmUpCount: 0 }),
      groups,
      mainInstance,
      preparer: { prepare: async () => ({ ...prepared, file }) },
      scheduler: new Scheduler(systemClock),
      slots: new FakeSlots(),
      queueBytes: new ByteBudget(1),
      clock: systemClock,
      crashes: { quarantineReason: () => undefined, remember: () => 1 },
      isServing: () => false,
      takeOver: async () => undefined,
    } as unknown as ModelLoaderOptions);
    const version = versionWithTable(directory, table);
    const everything = [...groups, mainInstance];
    const open = (): number[] => everything.map((instances) => instances.open.size);
    if (failing === 'nothing') {
      await loader.load(version);
      assert.deepEqual([version.state, open(), isMapped(table)], ['ready', [1, 1, 1], canSeeMaps]);
      await loader.unload(version);
      assert.equal(version.state, 'unloaded');
    } else {
      await assert.rejects(loader.load(version), fault);
      assert.deepEqual([version.state, version.error], ['failed', fault]);
    }
    assert.deepEqual([open(), isMapped(table)], [[0, 0, 0], false]);
  });
}

test('a load that verifies its tables ends when the runtime closes, and leaves none of them open', async (t) => {
  const directory = temporaryDirectory(t);
  const table = join(directory, 'table');
  await makeTable(table, countedRows(10, 2));
  const loader = new ModelLoader({
    config: resolveRuntimeConfig({
      cacheDir: directory,
      models: [{ path: directory }],
      verifyTables: 'open',
    }),
    groups: [new FakeInstances()],
    preparer: { prepare: async () => prepared },
    crashes: { quarantineReason: () => undefined, remember: () => 1 },
    takeOver: async () => undefined,
    closing: AbortSignal.abort(),
  } as unknown as ModelLoaderOptions);
  const version = versionWithTable(directory, table);
  await assert.rejects(loader.load(version), { code: 'SRV_CANCELLED' });
  assert.deepEqual([version.state, isMapped(table)], ['failed', false]);
});

/** A version of a model in `directory` whose one stage fetches rows of `table`. */
function versionWithTable(directory: string, table: string): ModelVersion {
  const entry: ModelEntry = {
    name: 'm',
    version: 1,
    modelFile: join(directory, 'model.onnx'),
    directory,
    settings: { embeddings: [{ table, ids: 'ids', target: 'rows' }] },
    origin: 'file',
    wanted: true,
  };
  return new ModelVersion(entry, 7, systemClock);
}
