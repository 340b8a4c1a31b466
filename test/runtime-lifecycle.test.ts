/** Models, stamps and tables that change on disk while a runtime serves them. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { RuntimeOptions } from '../src/config/schema.js';
import type { ServingError } from '../src/errors.js';
import { mayRaisePriority } from '../src/instance/thread-priority.js';
import { writeOnnxModel } from '../src/model/onnx-writer.js';
import { openRuntime, type Runtime } from '../src/runtime.js';
import type { ModelStatus } from '../src/server/service.js';
import { tensor } from '../src/tensor/tensor.js';
import { concatModel, countedRows, makeTable, rowOf } from './support/embedding-models.js';
import { type OpenedRuntime, openWith, type ServedModel } from './support/served.js';
import {
  makeDirectory,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
  slowModel,
} from './support/test-models.js';
import { until } from './support/until.js';

interface Opened extends OpenedRuntime {
  /** The factor of the scale model that answers. */
  factor(model: string, version?: number): Promise<number>;
  statusOf(model: string): readonly ModelStatus[];
}

async function open(
  t: TestContext,
  models: Readonly<Record<string, ServedModel>> = { other: scaleModel(7) },
  options: RuntimeOptions = {},
): Promise<Opened> {
  const opened = await openWith(models, options);
  t.after(opened.close);
  const { runtime } = opened;
  return {
    ...opened,
    factor: async (model, version) => {
      const { outputs } = await runtime.infer(
        model,
        { x: tensor('FP32', [1, 4], [1, 1, 1, 1]) },
        version === undefined ? {} : { version },
      );
      return Number(outputs.y!.data[0]);
    },
    statusOf: (model) => runtime.listModels().filter(({ name }) => name === model),
  };
}

/** Puts a version beside the others in one step, as a publisher does. */
function publish(repository: string, name: string, version: number, bytes: Uint8Array): void {
  const staging = join(repository, '.staging');
  mkdirSync(staging, { recursive: true });
  writeFileSync(join(staging, 'model.onnx'), bytes);
  mkdirSync(join(repository, name), { recursive: true });
  renameSync(staging, join(repository, name, String(version)));
}

/** The state of a model's only version. */
function stateOf(runtime: Runtime, model: string): string | undefined {
  return runtime.listModels().find(({ name }) => name === model)?.state;
}

/** The nice value of a thread; undefined for one that has ended. */
function niceOf(thread: number): number | undefined {
  try {
    return getPriority(thread);
  } catch {
    return undefined;
  }
}

const scale = (factor: number): Uint8Array => writeOnnxModel(scaleModel(factor));

test('a version that is put beside the others takes their place, and a caller never notices', async (t) => {
  const { repository, factor, statusOf } = await open(t);
  publish(repository, 'm', 1, scale(1));
  await until('a new model is served', async () => (await factor('m').catch(() => 0)) === 1);
  let isOver = false;
  const seen = new Set<number>();
  const caller = (async () => {
    while (!isOver) seen.add(await factor('m'));
  })();
  for (const version of [2, 3]) {
    publish(repository, 'm', version, scale(version));
    await until(`version ${version} is served`, () => seen.has(version));
  }
  isOver = true;
  await caller;
  assert.deepEqual([...seen], [1, 2, 3]);
  const states = (): string =>
    statusOf('m')
      .map(({ version, state }) => `${version} ${state}`)
      .join();
  await until('the old ones are unloaded', () => states() === '1 unloaded,2 unloaded,3 ready');
  rmSync(join(repository, 'm'), { recursive: true });
  await until('the model is not known any more', () => statusOf('m').length === 0);
  await assert.rejects(factor('m'), { code: 'SRV_MODEL_NOT_FOUND' });
  assert.equal(await factor('other'), 7);
});

test('a version that cannot be served leaves the one before, and says why, until a better one comes', async (t) => {
  const { repository, factor, statusOf, runtime } = await open(t);
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  publish(repository, 'm', 2, Buffer.from('this is no model'));
  await until('its failure is listed', () => statusOf('m').some(({ state }) => state === 'failed'));
  assert.equal(await factor('m'), 1);
  assert.match(statusOf('m').find(({ version }) => version === 2)!.reason!, /2\/model\.onnx/);
  const counted = 'onnx_serving_load_failures_total{model="m",code="SRV_MODEL_INVALID"} 1';
  const listed = 'onnx_serving_version_failed{model="m",version="2",code="SRV_MODEL_INVALID"} 1';
  const failed = await runtime.metrics();
  assert.ok(failed.includes(counted) && failed.includes(listed), failed);
  writeFileSync(join(repository, 'm/2/model.onnx'), scale(2));
  await until('its new content is served', async () => (await factor('m')) === 2);
  const mended = await runtime.metrics();
  assert.ok(mended.includes(counted) && !mended.includes('onnx_serving_version_failed{'), mended);
});

test('a directory that is filled bit by bit is not taken before it has been left alone', async (t) => {
  const { repository, factor, statusOf } = await open(t);
  const bytes = scale(5);
  const file = join(repository, 'm/1/model.onnx');
  mkdirSync(join(repository, 'm/1'), { recursive: true });
  for (let end = 0; end < bytes.length; end += 8) {
    writeFileSync(file, bytes.subarray(0, end));
    await new Promise((resume) => setTimeout(resume, 20));
  }
  writeFileSync(file, bytes);
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 5);
  assert.deepEqual(
    statusOf('m').map(({ state, reason }) => [state, reason]),
    [['ready', undefined]],
  );
});

test('a version directory that never comes to rest is served as soon as it holds _SUCCESS', async (t) => {
  const { repository, factor } = await open(t, { other: scaleModel(7) }, { threads: 1 });
  const directory = placeVersion(repository, 'm', 1, scaleModel(5));
  let turn = 0;
  const writer = setInterval(() => writeFileSync(join(directory, 'notes.txt'), `${turn++}`), 20);
  t.after(() => clearInterval(writer));
  writeFileSync(join(directory, '_SUCCESS'), '');
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 5);
});

test('a _SUCCESS beside half a file fails the version with the reason, and the one before serves', async (t) => {
  const { repository, factor, statusOf } = await open(t, { other: scaleModel(7) }, { threads: 1 });
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  const staging = join(repository, '.half');
  mkdirSync(staging);
  writeFileSync(join(staging, 'model.onnx'), scale(2).subarray(0, 60));
  writeFileSync(join(staging, '_SUCCESS'), '');
  renameSync(staging, join(repository, 'm/2'));
  await until('its failure is listed', () => statusOf('m').some(({ state }) => state === 'failed'));
  assert.match(
    statusOf('m').find(({ version }) => version === 2)!.reason!,
    /2\/model\.onnx: not a whole ONNX model: .*\(the file has 60 bytes\); it is truncated/,
  );
  assert.equal(await factor('m'), 1);
  writeFileSync(join(repository, 'm/2/model.onnx'), scale(2));
  await until('the whole file is served', async () => (await factor('m')) === 2);
});

test('of a flood of versions the newest is loaded, and not every one', async (t) => {
  const { repository, factor, runtime } = await open(t);
  for (let version = 1; version <= 40; version++) publish(repository, 'm', version, scale(version));
  await until('the newest is served', async () => (await factor('m').catch(() => 0)) === 40);
  const loads = Number(/onnx_serving_loads_total\{result="ready"\} (\d+)/.exec(await runtime.metrics())![1]);
  assert.ok(loads <= 10, `${loads} loads`);
});

for (const type of ['timestamp_ne', 'timestamp_gt', 'md5sum', 'revision'] as const) {
  test(`a model that is overwritten in place is loaded when its stamp says so: ${type}`, async (t) => {
    const { repository, factor, statusOf } = await open(t, { m: scaleModel(1) }, { reloadableType: type });
    const stamp = join(repository, 'm/fluid_time_file');
    const file = join(repository, 'm/model.onnx');
    const touch = (turn: number): void => {
      writeFileSync(stamp, `${turn}\n`);
      utimesSync(stamp, turn, turn);
    };
    for (const turn of [2, 3]) {
      writeFileSync(file, scale(turn));
      assert.equal(await factor('m'), turn - 1, 'without a stamp nothing happens');
      touch(turn);
      await until('the new content is served', async () => (await factor('m')) === turn);
    }
    // Half a model, and the rest of it soon after.
    writeFileSync(file, scale(4).subarray(0, 40));
    touch(4);
    await new Promise((resume) => setTimeout(resume, 50));
    writeFileSync(file, scale(4));
    await until('the whole model is served', async () => (await factor('m')) === 4);
    assert.deepEqual(
      statusOf('m').map(({ version, state, reason }) => [version, state, reason]),
      [[1, 'ready', undefined]],
    );
    // What is served does not lie in the directory any more.
    writeFileSync(file, 'this is no model');
    assert.equal(await factor('m'), 4);
    if (type !== 'timestamp_gt') return;
    touch(1);
    writeFileSync(file, scale(9));
    touch(2);
    await new Promise((resume) => setTimeout(resume, 1500));
    assert.equal(await factor('m'), 4, 'a clock that goes backwards changes nothing');
  });
}

test('one stamp file drives several models, and none of them with the type none', async (t) => {
  const first = await open(t);
  const stamp = join(first.directory, 'stamp');
  for (const [reloadableType, expected] of [
    ['timestamp_ne', [5, 6]],
    ['none', [1, 2]],
  ] as const) {
    const { repository, factor } = await open(
      t,
      { a: scaleModel(1), b: scaleModel(2) },
      { reloadableMeta: stamp, reloadableType },
    );
    placeModel(repository, 'a', scaleModel(5));
    placeModel(repository, 'b', scaleModel(6));
    writeFileSync(stamp, expected.join());
    if (reloadableType === 'none') await new Promise((resume) => setTimeout(resume, 1500));
    await until('both are as they ought to be', async () => {
      return (await factor('a')) === expected[0] && (await factor('b')) === expected[1];
    });
  }
});

test('a model may have a stamp file and a type of its own', async (t) => {
  const { repository, factor } = await open(t, {
    a: {
      model: scaleModel(1),
      settings: { reloadable_meta: '../released', reloadable_type: 'revision' },
    },
    b: scaleModel(2),
  });
  const stamp = (text: string): void => writeFileSync(join(repository, 'released'), text);
  placeModel(repository, 'a', scaleModel(5), { reloadable_meta: '../released', reloadable_type: 'revision' });
  placeModel(repository, 'b', scaleModel(6));
  stamp('7 first');
  await until('the one whose stamp came is loaded', async () => (await factor('a')) === 5);
  placeModel(repository, 'a', scaleModel(8), { reloadable_meta: '../released', reloadable_type: 'revision' });
  stamp('7 again');
  await new Promise((resume) => setTimeout(resume, 1500));
  assert.equal(await factor('a'), 5, 'the revision is the same');
  assert.equal(await factor('b'), 2, 'its own stamp did not come');
  stamp('8');
  await until('the next revision is loaded', async () => (await factor('a')) === 8);
});

test('what was overwritten without a stamp is not served by the spare of another load', async (t) => {
  const { repository, factor, runtime, statusOf } = await open(
    t,
    { m: scaleModel(1), big: slowModel() },
    { threads: 2, idlePath: 'off' },
  );
  placeModel(repository, 'm', scaleModel(6));
  const before = statusOf('big')[0]!;
  // Slow enough for a spare thread, which has everything opened that the others have.
  await runtime.load('big');
  assert.equal(before.state, 'ready');
  const factors = await Promise.all([...Array(20)].map(() => factor('m')));
  assert.deepEqual([...new Set(factors)], [1]);
  writeFileSync(join(repository, 'm/fluid_time_file'), '');
  await until('its stamp brings it', async () => (await factor('m')) === 6);
});

test('a rollback to a version that was kept is instant, and what was rolled back from does not come again', async (t) => {
  const { repository, factor, runtime, statusOf } = await open(t, undefined, { keepPrevious: 1 });
  for (const version of [1, 2, 3]) {
    publish(repository, 'm', version, scale(version));
    await until(`version ${version} is served`, async () => (await factor('m').catch(() => 0)) === version);
  }
  await until('the first one is gone', () => statusOf('m')[0]!.state === 'unloaded');
  assert.equal(await factor('m', 2), 2, 'a version that is kept answers to its number');
  assert.equal(await runtime.rollback('m'), 2);
  assert.equal(await factor('m'), 2);
  // Something happens to the directory, and the newest version there is the one that was bad.
  writeFileSync(join(repository, 'm/model.json'), '{"max_batch_size": 8}');
  await new Promise((resume) => setTimeout(resume, 1500));
  assert.equal(await factor('m'), 2);
  publish(repository, 'm', 4, scale(4));
  await until('a version that is newer is served', async () => (await factor('m')) === 4);
});

test('a rollback without a kept version loads the one before, and says when there is none', async (t) => {
  const { repository, factor, runtime } = await open(t);
  for (const version of [1, 2]) publish(repository, 'm', version, scale(version));
  await until('the newest is served', async () => (await factor('m').catch(() => 0)) === 2);
  assert.equal(await runtime.rollback('m'), 1);
  assert.equal(await factor('m'), 1);
  await assert.rejects(runtime.rollback('m'), (error: ServingError) => {
    assert.equal(error.code, 'SRV_MODEL_NOT_FOUND');
    assert.match(error.message, /no earlier version is kept \(keep_previous 0\).*served is version 1/);
    return true;
  });
  await assert.rejects(runtime.rollback('nobody'), { code: 'SRV_MODEL_NOT_FOUND' });
  await runtime.load('m');
  assert.equal(await factor('m'), 2, 'a load that is asked for takes the newest');
});

test('of several versions a rollback takes the one that answers, and goes on to those that served', async (t) => {
  const { repository, factor, runtime } = await open(t);
  mkdirSync(join(repository, 'm'));
  writeFileSync(join(repository, 'm/model.json'), '{"version_policy": {"latest": 2}}');
  for (const version of [2, 3, 4]) {
    publish(repository, 'm', version, scale(version));
    await until(`version ${version} is served`, async () => (await factor('m').catch(() => 0)) === version);
  }
  assert.equal(await runtime.rollback('m'), 3);
  assert.equal(await factor('m'), 3);
  await assert.rejects(factor('m', 4), { code: 'SRV_MODEL_NOT_READY' });
  assert.equal(await runtime.rollback('m'), 2);
  assert.equal(await factor('m'), 2);
  await runtime.load('m', { config: { version_policy: { specific: [3] } } });
  await runtime.load('m', { config: { version_policy: { specific: [2] } } });
  assert.equal(await runtime.rollback('m'), 3, 'it served before, although its number is higher');
  assert.equal(await factor('m'), 3);
});

test('what a load said holds for what is rolled back to', async (t) => {
  const { repository, factor, runtime } = await open(t);
  for (const version of [1, 2]) publish(repository, 'm', version, scale(version));
  await until('the newest is served', async () => (await factor('m').catch(() => 0)) === 2);
  await runtime.load('m', { config: { max_batch_size: 5 } });
  assert.equal(await runtime.rollback('m'), 1);
  assert.equal(runtime.service.model('m').maxBatchSize, 5);
});

test('a model overwritten in place can be rolled back too', async (t) => {
  const { repository, factor, runtime } = await open(t, { m: scaleModel(1) }, { keepPrevious: 1 });
  writeFileSync(join(repository, 'm/model.onnx'), scale(2));
  writeFileSync(join(repository, 'm/fluid_time_file'), '');
  await until('the new content is served', async () => (await factor('m')) === 2);
  assert.equal(await runtime.rollback('m'), 1);
  assert.equal(await factor('m'), 1);
});

test('a model that was unloaded by request stays so, whatever comes, until it is loaded', async (t) => {
  const { repository, factor, runtime } = await open(t);
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  await runtime.unload('m');
  publish(repository, 'm', 2, scale(2));
  await new Promise((resume) => setTimeout(resume, 1500));
  await assert.rejects(factor('m'), { code: 'SRV_MODEL_NOT_READY' });
  await runtime.load('m', { config: { max_batch_size: 2 } });
  assert.equal(await factor('m'), 2);
  assert.equal(runtime.service.model('m').maxBatchSize, 2);
});

test('a load may ask for other versions than the files do, until the next load', async (t) => {
  const { repository, runtime, statusOf } = await open(t);
  for (const version of [1, 2, 3]) publish(repository, 'm', version, scale(version));
  const ready = (): number[] =>
    statusOf('m')
      .flatMap(({ version, state }) => (state === 'ready' ? [version] : []))
      .toSorted();
  await until('the newest is served', () => ready().join() === '3');
  await runtime.load('m', { config: { version_policy: { specific: [1, 2] } } });
  assert.deepEqual(ready(), [1, 2]);
  publish(repository, 'm', 4, scale(4));
  await new Promise((resume) => setTimeout(resume, 1500));
  assert.deepEqual(ready(), [1, 2], 'it holds for what comes');
  await runtime.load('m', { config: { version_policy: { latest: { num_versions: 2 } } } });
  assert.deepEqual(ready(), [3, 4]);
  await runtime.load('m');
  assert.deepEqual(ready(), [4]);
});

test('what a load wants is followed like what the files want: versions, their content, tables', async (t) => {
  const stateFile = join(makeDirectory('state'), 'state.json');
  t.after(() => removeDirectory(dirname(stateFile)));
  const opened = await open(t, undefined, { stateFile });
  const { repository, directory } = opened;
  for (const version of [1, 2]) publish(repository, 'm', version, scale(version));
  await until('the newest is served', async () => (await opened.factor('m').catch(() => 0)) === 2);
  await opened.runtime.load('m', { config: { version_policy: { specific: [1, 5] } } });
  assert.equal(await opened.factor('m'), 1);
  const replace = (version: number, factor: number): void => {
    const staged = join(directory, 'staged.onnx');
    writeFileSync(staged, scale(factor));
    renameSync(staged, join(repository, 'm', String(version), 'model.onnx'));
  };
  replace(1, 11);
  await until('the new content of version 1 is served', async () => (await opened.factor('m')) === 11);
  publish(repository, 'm', 5, scale(5));
  await until('the version that was still to come is served', async () => (await opened.factor('m')) === 5);
  replace(5, 55);
  await until('its new content is served', async () => (await opened.factor('m')) === 55);

  const dim = 2;
  const [table, other] = [join(directory, 'table'), join(directory, 'other')];
  for (const one of [table, other]) await makeTable(one, countedRows(10, dim));
  const stage = (one: string) => [{ table: one, ids: 'ids', target: 'rows' }];
  placeModel(repository, 'ctr', concatModel(dim), { embeddings: stage(table) });
  const first = async ({ runtime }: OpenedRuntime): Promise<number> => {
    const inputs = { dense: tensor('FP32', [1, 2], [0, 0]), ids: tensor('INT64', [1], [3n]) };
    return Number((await runtime.infer('ctr', inputs)).outputs.y!.data[0]);
  };
  await until('it is served', async () => (await first(opened).catch(() => 0)) === 3);
  await opened.runtime.load('ctr', { config: { embeddings: stage(other) } });
  await makeTable(other, { 3: rowOf(103, dim) }, { mode: 'delta' });
  await until('the delta of its table is used', async () => (await first(opened)) === 103);

  // What is asked for outlives a restart, and so does looking after it.
  await opened.runtime.close();
  const again = await open(t, {}, { modelRepository: repository, stateFile });
  assert.deepEqual([await again.factor('m', 1), await again.factor('m', 5)], [11, 55]);
  replace(1, 12);
  await until('the next content is served', async () => (await again.factor('m', 1)) === 12);
  await makeTable(other, { 3: rowOf(203, dim) }, { mode: 'delta' });
  await until('the next delta is used', async () => (await first(again)) === 203);
  // Without settings of a load, the files' own hold, and are looked after again.
  await again.runtime.load('ctr');
  await makeTable(table, { 3: rowOf(303, dim) }, { mode: 'delta' });
  await until('the delta of the first table is used', async () => (await first(again)) === 303);
});

test('a version that a load alone wants is not taken before its files have been left alone', async (t) => {
  const { repository, runtime, factor } = await open(t);
  publish(repository, 'm', 9, scale(9));
  await until('the newest is served', async () => (await factor('m').catch(() => 0)) === 9);
  await runtime.load('m', { config: { version_policy: { specific: [3, 9] } } });
  const file = join(repository, 'm/3/model.onnx');
  mkdirSync(join(repository, 'm/3'));
  const bytes = scale(3);
  for (let end = 0; end < bytes.length; end += 16) {
    writeFileSync(file, bytes.subarray(0, end));
    await new Promise((resume) => setTimeout(resume, 20));
  }
  writeFileSync(file, bytes);
  await until('it is served', async () => (await factor('m', 3).catch(() => 0)) === 3);
  assert.match(await runtime.metrics(), /onnx_serving_loads_total\{result="failed"\} 0/);
});

test('with resource_first the old version makes room before the new one is loaded', async (t) => {
  const { repository, factor, runtime } = await open(t, undefined, { reload: 'resource_first' });
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  publish(repository, 'm', 2, scale(2));
  await until('the new one is served', async () => (await factor('m').catch(() => 0)) === 2);
  assert.ok(runtime.isReady);
});

test('with resource_first versions that stay wanted are not unloaded for another one', async (t) => {
  const models = { other: scaleModel(7) };
  const { repository, factor, runtime } = await open(t, models, { reload: 'resource_first' });
  const directory = join(repository, 'm');
  mkdirSync(directory);
  writeFileSync(join(directory, 'model.json'), '{"version_policy": "all"}');
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  publish(repository, 'm', 2, scale(2));
  await until('the second one is served', async () => (await factor('m').catch(() => 0)) === 2);
  assert.equal(await factor('m', 1), 1);
  assert.match(await runtime.metrics(), /onnx_serving_unloads_total 0/);
});

test('settings in a version directory come and go with their version', async (t) => {
  const { repository, factor, runtime } = await open(t);
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  const staged = join(repository, '.next');
  mkdirSync(staged);
  writeFileSync(join(staged, 'model.onnx'), scale(2));
  writeFileSync(join(staged, 'model.json'), '{"max_batch_size": 3}');
  renameSync(staged, join(repository, 'm/2'));
  await until('the next one is served', async () => (await factor('m')) === 2);
  assert.equal(runtime.service.model('m').maxBatchSize, 3);
  assert.equal(await runtime.rollback('m'), 1);
  assert.notEqual(runtime.service.model('m').maxBatchSize, 3);
});

test('with resource_first the old version comes back where the new one cannot be served', async (t) => {
  const { repository, factor, statusOf, runtime } = await open(t);
  for (const name of ['once', 'twice']) publish(repository, name, 1, scale(1));
  writeFileSync(join(repository, 'once/model.json'), '{"reload": "resource_first"}');
  await until('both are served', async () => {
    const factors = await Promise.all([factor('once'), factor('twice')]).catch(() => []);
    return factors.join() === '1,1' && runtime.service.model('once').state === 'ready';
  });
  const unloads = async (): Promise<number> =>
    Number(/onnx_serving_unloads_total (\d+)/.exec(await runtime.metrics())![1]);
  const before = await unloads();
  publish(repository, 'twice', 2, Buffer.from('this is no model'));
  await until('it failed', () => statusOf('twice').some(({ state }) => state === 'failed'));
  assert.equal(await unloads(), before, 'a model that does not say so makes no room');
  publish(repository, 'once', 2, Buffer.from('this is no model'));
  await until('it failed', () =>
    statusOf('once').some(({ version, state }) => version === 2 && state === 'failed'),
  );
  await until('the old one is back', async () => (await factor('once').catch(() => 0)) === 1);
  assert.equal(await unloads(), before + 1);
});

test('a model may say itself how many versions stay behind the one that is served', async (t) => {
  const { repository, factor, statusOf } = await open(t);
  for (const name of ['one', 'none']) mkdirSync(join(repository, name));
  writeFileSync(join(repository, 'one/model.json'), '{"keep_previous": 1}');
  for (const version of [1, 2]) {
    for (const name of ['one', 'none']) {
      publish(repository, name, version, scale(version));
      await until('it is served', async () => (await factor(name).catch(() => 0)) === version);
    }
  }
  await until('the old one is gone', () => statusOf('none')[0]!.state === 'unloaded');
  assert.equal(await factor('one', 1), 1);
});

test('a delta of a table is used as soon as its manifest is there, with the session of before', async (t) => {
  const dim = 2;
  const { repository, runtime, directory } = await open(t);
  const table = join(directory, 'table');
  await makeTable(table, countedRows(10, dim));
  placeModel(repository, 'm', concatModel(dim), { embeddings: [{ table, ids: 'ids', target: 'rows' }] });
  const rowOfKey = async (key: number): Promise<number[]> => {
    const { outputs } = await runtime.infer('m', {
      dense: tensor('FP32', [1, 2], [0, 0]),
      ids: tensor('INT64', [1], [BigInt(key)]),
    });
    return [...(outputs.y!.data as Float32Array)].slice(0, dim);
  };
  await until('it is served', async () => (await rowOfKey(3).catch(() => []))[0] === 3);
  const { loadMs } = runtime.service.model('m');
  for (const value of [103, 203]) {
    await makeTable(table, { 3: rowOf(value, dim) }, { mode: 'delta' });
    await until('the delta is used', async () => (await rowOfKey(3))[0] === value);
    assert.deepEqual(await rowOfKey(4), rowOf(4, dim));
  }
  assert.ok(loadMs! > 0);
});

test('what was rolled back from does not come back with a delta of its table, and a delta can be rolled back', async (t) => {
  const dim = 2;
  const { repository, runtime, directory } = await open(t, undefined, { keepPrevious: 1 });
  const table = join(directory, 'table');
  await makeTable(table, countedRows(10, dim));
  const row = async (): Promise<number> => {
    const { outputs } = await runtime.infer('m', {
      dense: tensor('FP32', [1, 2], [0, 0]),
      ids: tensor('INT64', [1], [3n]),
    });
    return Number(outputs.y!.data[0]);
  };
  mkdirSync(join(repository, 'm'));
  const embeddings = [{ table, ids: 'ids', target: 'rows' }];
  writeFileSync(join(repository, 'm/model.json'), JSON.stringify({ embeddings }));
  const version = (): number | undefined =>
    runtime.listModels().find(({ name, state, reason }) => name === 'm' && state === 'ready' && !reason)
      ?.version;
  for (const number of [1, 2]) {
    publish(repository, 'm', number, writeOnnxModel(concatModel(dim)));
    await until(`version ${number} is served`, () => version() === number);
  }
  assert.equal(await runtime.rollback('m'), 1);
  await makeTable(table, { 3: rowOf(103, dim) }, { mode: 'delta' });
  await until('the delta is used', async () => (await row()) === 103);
  assert.equal(version(), 1);
  await makeTable(table, { 3: rowOf(203, dim) }, { mode: 'delta' });
  await until('the next one is used', async () => (await row()) === 203);
  assert.equal(await runtime.rollback('m'), 1);
  assert.equal(await row(), 103, 'the tables of before are back');
  // Something happens to the directory.
  mkdirSync(join(repository, 'm/notes'));
  await new Promise((resume) => setTimeout(resume, 1500));
  assert.equal(await row(), 103);
  await makeTable(table, { 3: rowOf(303, dim) }, { mode: 'delta' });
  await until('a newer one is used', async () => (await row()) === 303);
});

test('a load that fails for want of its table is tried again, and works once the table is there', async (t) => {
  const { repository, runtime, directory, statusOf } = await open(t);
  const table = join(directory, 'late');
  placeModel(repository, 'm', concatModel(2), { embeddings: [{ table, ids: 'ids', target: 'rows' }] });
  await until('it has failed', () => statusOf('m')[0]?.error?.code === 'SRV_TABLE_NOT_FOUND');
  await makeTable(table, countedRows(3, 2));
  await until('it is served', () => statusOf('m')[0]?.state === 'ready');
  assert.ok(runtime.isReady);
});

test('where nothing is watched nothing changes by itself', async (t) => {
  const { repository, factor, runtime } = await open(
    t,
    { other: scaleModel(7) },
    { fileSystemPollWaitSeconds: 0 },
  );
  placeVersion(repository, 'm', 1, scaleModel(1));
  await new Promise((resume) => setTimeout(resume, 1000));
  await assert.rejects(factor('m'), { code: 'SRV_MODEL_NOT_FOUND' });
  await runtime.load('m');
  assert.equal(await factor('m'), 1);
});

test('a load beside serving gives way on a thread of its own, which does so no longer when it serves', async (t) => {
  const { runtime } = await open(t, { slow: slowModel(2) }, { threads: 1 });
  const givingWay = (): number =>
    readdirSync('/proc/self/task').filter((thread) => niceOf(Number(thread)) === 10).length;
  const seen: number[] = [];
  const watch = setInterval(() => seen.push(givingWay()), 5);
  await runtime.load('slow');
  clearInterval(watch);
  // Where a thread could not go back it never gives way.
  assert.equal(Math.max(...seen), mayRaisePriority() ? 1 : 0, seen.join());
  assert.equal(givingWay(), 0);
});

test('threads that the engine makes for a model do not give way to others', async (t) => {
  const { runtime, factor } = await open(t, { m: scaleModel(2) }, { threads: 1, intraOpThreads: 3 });
  await runtime.load('m');
  assert.equal(await factor('m'), 2);
  const low = readdirSync('/proc/self/task').filter((thread) => niceOf(Number(thread)) === 10);
  assert.deepEqual(low, []);
});

test('what was asked for at run time outlives a restart: unloads, rollbacks, settings of loads', async (t) => {
  const first = await open(t);
  const { repository, directory } = first;
  const stateFile = join(directory, 'state.json');
  const options = { modelRepository: repository, cacheDir: join(directory, 'cache'), threads: 1, stateFile };
  placeVersion(repository, 'back', 1, scaleModel(1));
  placeVersion(repository, 'back', 2, scaleModel(2));
  placeModel(repository, 'gone', scaleModel(3));
  placeModel(repository, 'set', scaleModel(4));
  const before = await openRuntime(options);
  assert.equal(await before.rollback('back'), 1);
  await before.unload('gone');
  await before.load('set', { config: { max_batch_size: 5, backend: 'onnxruntime' } });
  await before.close();
  const after = await openRuntime(options);
  t.after(() => after.close());
  const ready = after.listModels().filter(({ state }) => state === 'ready');
  assert.deepEqual(ready.map(({ name, version }) => `${name} ${version}`).toSorted(), [
    'back 1',
    'other 1',
    'set 1',
  ]);
  assert.equal(after.service.model('set').maxBatchSize, 5);
  await after.load('gone');
  await after.load('back');
  assert.equal(after.service.model('back').version, 2);
});

test('where the newest version cannot be served after a restart, the one that served does', async (t) => {
  const { repository, directory } = await open(t);
  const options: RuntimeOptions = {
    modelRepository: repository,
    cacheDir: join(directory, 'cache'),
    threads: 1,
    stateFile: join(directory, 'state.json'),
  };
  const x = tensor('FP32', [1, 4], [1, 1, 1, 1]);
  const factorOf = async (runtime: Runtime): Promise<number> =>
    Number((await runtime.infer('m', { x })).outputs.y!.data[0]);
  publish(repository, 'm', 1, scale(9));
  publish(repository, 'm', 2, scale(2));
  const before = await openRuntime(options);
  assert.equal(await factorOf(before), 2);
  publish(repository, 'm', 3, Buffer.from('this is no model'));
  await until('it failed', async () => (await before.metrics()).includes('_failed{model="m",version="3"'));
  await before.close();
  const after = await openRuntime(options);
  t.after(() => after.close());
  assert.equal(await factorOf(after), 2);
  assert.ok((await after.metrics()).includes('_failed{model="m",version="3"'));
  writeFileSync(join(repository, 'm/3/model.onnx'), scale(3));
  await until('the newest is served once it can be', async () => (await factorOf(after)) === 3);
});

test('a model that comes late is loaded if it was before', async (t) => {
  const { repository, directory } = await open(t);
  const stateFile = join(directory, 'state.json');
  writeFileSync(stateFile, JSON.stringify({ models: { loaded: ['late'] } }));
  const runtime = await openRuntime({
    modelRepository: repository,
    cacheDir: join(directory, 'cache'),
    threads: 1,
    stateFile,
    loadModels: 'on_first_use',
  });
  t.after(() => runtime.close());
  publish(repository, 'other2', 1, scale(1));
  publish(repository, 'late', 1, scale(2));
  await until('it is loaded', () => stateOf(runtime, 'late') === 'ready');
  await until('the other one is known', () => stateOf(runtime, 'other2') === 'unloaded');
});

test('what could not be loaded is told only as long as it is there and wanted', async (t) => {
  const { repository, factor, runtime } = await open(t);
  const failed = async (): Promise<readonly string[]> =>
    (await runtime.metrics()).match(/^onnx_serving_version_failed\{.*\}/gm) ?? [];
  publish(repository, 'm', 1, scale(1));
  await until('it is served', async () => (await factor('m').catch(() => 0)) === 1);
  writeFileSync(join(repository, 'm/model.json'), '{"inputs": {"rows": "nothing"}}');
  await until('its settings do not fit', async () => (await failed()).length === 1);
  rmSync(join(repository, 'm/model.json'));
  await until('they are gone', async () => (await failed()).length === 0);
  mkdirSync(join(repository, 'm/0'));
  publish(repository, 'm', 2, scale(2));
  await until('the next one is served', async () => (await factor('m')) === 2);
  assert.deepEqual(await failed(), [], 'nobody wants version 0');
  mkdirSync(join(repository, 'empty'));
  const ofAll = 'onnx_serving_version_failed{model="empty",version="",code="SRV_MODEL_NOT_FOUND"}';
  await until('a directory without a model is told', async () => (await failed()).join() === ofAll);
  publish(repository, 'm', 3, Buffer.from('this is no model'));
  await until('the third one is told', async () => (await failed()).length === 2);
  await runtime.unload('m');
  assert.deepEqual(await failed(), [ofAll]);
});

test('what requests had loaded is loaded again after a restart, and what made room is not', async (t) => {
  const { repository, directory } = await open(t);
  const stateFile = join(directory, 'state.json');
  const options: RuntimeOptions = {
    modelRepository: repository,
    cacheDir: join(directory, 'cache'),
    threads: 1,
    stateFile,
    loadModels: 'on_first_use',
  };
  for (const [at, name] of ['a', 'b', 'c', 'd'].entries()) placeModel(repository, name, scaleModel(at + 1));
  const x = tensor('FP32', [1, 4], [1, 1, 1, 1]);
  const before = await openRuntime({ ...options, modelMemoryLimitBytes: 2 * scale(1).length });
  for (const name of ['a', 'b', 'c']) await before.infer(name, { x });
  await until('one made room', () => stateOf(before, 'a') === 'unloaded');
  await before.load('d');
  await until('another one did', () => stateOf(before, 'b') === 'unloaded');
  await before.close();
  const after = await openRuntime(options);
  await until('both are there', () => stateOf(after, 'c') === 'ready' && stateOf(after, 'd') === 'ready');
  assert.deepEqual(
    ['a', 'b', 'other'].map((name) => stateOf(after, name)),
    ['unloaded', 'unloaded', 'unloaded'],
  );
  await after.close();
  const limited = await openRuntime({
    ...options,
    loadModels: 'at_start',
    modelMemoryLimitBytes: 10 * scale(1).length,
  });
  t.after(() => limited.close());
  assert.deepEqual(
    ['a', 'b', 'c', 'd', 'other'].map((name) => stateOf(limited, name)),
    ['unloaded', 'unloaded', 'ready', 'ready', 'ready'],
    'what made room waits for its next request',
  );
  assert.equal((await limited.infer('a', { x })).version, 1);
});

test('a models.config that is read again takes the place of the old set', async (t) => {
  const { repository, directory } = await open(t);
  const file = join(directory, 'models.config');
  const config = (...names: string[]): string =>
    `model_config_list { ${names.map((name) => `config { name: "${name}" base_path: "${repository}/${name}" }`).join(' ')} }`;
  for (const [at, name] of ['a', 'b', 'c'].entries()) placeVersion(repository, name, 1, scaleModel(at + 1));
  writeFileSync(file, config('a', 'b'));
  const runtime = await openRuntime({
    modelConfigFile: file,
    modelConfigFilePollWaitSeconds: 1,
    cacheDir: join(directory, 'cache'),
    threads: 1,
  });
  t.after(() => runtime.close());
  const ready = (): string[] =>
    runtime
      .listModels()
      .filter(({ state }) => state === 'ready')
      .map(({ name }) => name);
  assert.deepEqual(ready(), ['a', 'b']);
  writeFileSync(file, 'model_config_list { config { name: ');
  await new Promise((resume) => setTimeout(resume, 1500));
  assert.deepEqual(ready(), ['a', 'b'], 'a file that cannot be read changes nothing');
  writeFileSync(file, config('b', 'c'));
  await until('the new set is served', () => ready().join() === 'b,c');
  assert.deepEqual(
    runtime.listModels().map(({ name }) => name),
    ['b', 'c'],
  );
  writeFileSync(file, config('c'));
  await runtime.readModelsConfig();
  await until('it is read on request', () => ready().join() === 'c');
  writeFileSync(file, 'config {');
  await assert.rejects(runtime.readModelsConfig(), { code: 'SRV_BAD_CONFIG' });
});

test('with on_first_use a model is loaded by the first request for it, once for all that come meanwhile', async (t) => {
  const models = { a: scaleModel(1), b: scaleModel(2) };
  const { factor, statusOf, runtime, repository } = await open(t, models, { loadModels: 'on_first_use' });
  assert.ok(runtime.isReady, 'it can answer');
  assert.deepEqual(
    statusOf('a').map(({ state, reason }) => [state, reason]),
    [['unloaded', 'it is loaded when it is used']],
  );
  assert.deepEqual(await Promise.all([factor('a'), factor('a'), factor('a')]), [1, 1, 1]);
  assert.equal(statusOf('a')[0]!.state, 'ready');
  assert.equal(statusOf('b')[0]!.state, 'unloaded');
  const page = await runtime.metrics();
  assert.match(page, /onnx_serving_loads_total\{result="ready"\} 1/);
  assert.match(page, /onnx_serving_first_uses_total\{model="a"\} 1/);
  assert.match(page, /onnx_serving_first_use_seconds_total\{model="a"\} \d+\.\d+/);
  assert.doesNotMatch(page, /onnx_serving_first_use\w+\{model="b"/);
  await assert.rejects(factor('nobody'), { code: 'SRV_MODEL_NOT_FOUND' });
  rmSync(join(repository, 'a'), { recursive: true });
  await until('the model is not known any more', () => statusOf('a').length === 0);
  assert.doesNotMatch(await runtime.metrics(), /onnx_serving_first_use\w+\{/);
});

test('a request to a public name loads the model of the variant that it is for', async (t) => {
  const models = { a: scaleModel(1), b: scaleModel(2) };
  const { factor, statusOf } = await open(t, models, {
    loadModels: 'on_first_use',
    traffic: {
      pair: {
        variants: [
          { tag: 'one', model: 'a', weight: 0 },
          { tag: 'two', model: 'b', version: 1, weight: 1 },
        ],
      },
    },
  });
  assert.equal(await factor('pair'), 2);
  assert.equal(statusOf('b')[0]!.state, 'ready');
  assert.equal(statusOf('a')[0]!.state, 'unloaded', 'nothing was for it');
});

test('a clock that went back holds no version up', async (t) => {
  const { repository, factor } = await open(t, { m: scaleModel(1) });
  const now = Date.now.bind(Date);
  t.mock.method(Date, 'now', () => now() - 3_600_000);
  publish(repository, 'n', 1, scale(2));
  await until('a version is served', async () => (await factor('n').catch(() => 0)) === 2);
  writeFileSync(join(repository, 'm/model.onnx'), scale(3));
  writeFileSync(join(repository, 'm/fluid_time_file'), '');
  await until('a model overwritten in place is served', async () => (await factor('m')) === 3);
});

test('settings that are copied before their model wait for the stamp with it', async (t) => {
  const { repository, factor, runtime } = await open(t, { m: scaleModel(1) });
  writeFileSync(join(repository, 'm/model.onnx'), scale(2));
  writeFileSync(join(repository, 'm/model.json'), '{"max_batch_size": 8}');
  await new Promise((resume) => setTimeout(resume, 2500));
  assert.equal(await factor('m'), 1);
  writeFileSync(join(repository, 'm/fluid_time_file'), '');
  await until('both are there', async () => (await factor('m')) === 2);
  assert.equal(runtime.service.model('m').maxBatchSize, 8);
});

test('half a file under a stamp is tried again when it is whole', async (t) => {
  const { repository, factor } = await open(t, { m: scaleModel(1) });
  writeFileSync(join(repository, 'm/model.onnx'), scale(2).subarray(0, 60));
  writeFileSync(join(repository, 'm/fluid_time_file'), '');
  // Longer than half a file is waited for.
  await new Promise((resume) => setTimeout(resume, 5000));
  assert.equal(await factor('m'), 1);
  writeFileSync(join(repository, 'm/model.onnx'), scale(2));
  await until('the whole one is served', async () => (await factor('m')) === 2);
});

test('a variant whose model cannot be loaded leaves its requests to the others', async (t) => {
  const { repository, factor, statusOf, runtime } = await open(
    t,
    { good: scaleModel(3), bad: scaleModel(1) },
    {
      loadModels: 'on_first_use',
      traffic: {
        pair: {
          variants: [
            { tag: 'one', model: 'good', weight: 1 },
            { tag: 'two', model: 'bad', weight: 1 },
          ],
        },
      },
    },
  );
  writeFileSync(join(repository, 'bad/model.onnx'), 'this is no model');
  for (let i = 0; i < 40; i++) assert.equal(await factor('pair'), 3);
  assert.match(statusOf('bad')[0]!.reason!, /bad\/model\.onnx/, 'it was tried');
  const counted = (await runtime.metrics()).match(/^onnx_serving_requests_total\{.*/gm) ?? [];
  assert.equal(counted.length, 1, 'what was answered is no failure');
  assert.match(counted[0]!, /model="good".*code="ok".* 40$/);
  await assert.rejects(factor('bad'), /bad\/model\.onnx/);
  assert.match(
    await runtime.metrics(),
    /^onnx_serving_requests_total\{.*SRV_MODEL_(INVALID|NOT_READY).* 1$/m,
  );
});

test('a model that cannot be loaded for a request says why, to every request', async (t) => {
  const { repository, factor } = await open(t, undefined, { loadModels: 'on_first_use' });
  publish(repository, 'bad', 1, Buffer.from('this is no model'));
  await until('it is known', async () => {
    const code = await factor('bad').catch((error: ServingError) => error.code);
    return code === 'SRV_MODEL_INVALID';
  });
  await assert.rejects(factor('bad'), { message: /bad\/1\/model\.onnx/ });
});

test('above the memory limit the model used longest ago makes room, and comes back with its next request', async (t) => {
  const bytes = scale(1).length;
  const models = {
    a: { model: scaleModel(1), settings: { pinned: true } },
    b: scaleModel(2),
    c: scaleModel(3),
    d: scaleModel(4),
  };
  const { factor, statusOf, runtime } = await open(t, models, {
    loadModels: 'on_first_use',
    modelMemoryLimitBytes: 3 * bytes,
  });
  const ready = (): string =>
    runtime
      .listModels()
      .filter(({ state }) => state === 'ready')
      .map(({ name }) => name)
      .join('');
  for (const name of ['a', 'b', 'c']) await factor(name);
  assert.equal(ready(), 'abc');
  await factor('b');
  assert.equal(await factor('d'), 4);
  await until('the one used longest ago and not pinned is gone', () => ready() === 'abd');
  assert.equal(await factor('c'), 3);
  await until('the next one is', () => ready() === 'acd');
  await until('it says how it comes back', () => statusOf('b')[0]!.reason === 'it is loaded when it is used');
  assert.equal(await factor('b'), 2);
  assert.match(await runtime.metrics(), /onnx_serving_evictions_total 3/);
});
