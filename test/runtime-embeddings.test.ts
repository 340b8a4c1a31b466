/** Models with embedding stages: ids in, rows of tables into the network, answers compared number by number. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import type { RuntimeOptions } from '../src/config/schema.js';
import type { OnnxModel } from '../src/model/onnx-writer.js';
import { hashIds } from '../src/native/tables.js';
import { openRuntime, type Runtime, type RuntimeDependencies } from '../src/runtime.js';
import { type Tensor, type TensorMap, tensor } from '../src/tensor/tensor.js';
import { concatModel, countedRows, makeTable, mirrorModel, rowOf } from './support/embedding-models.js';
import { call, json, jsonInput } from './support/http-call.js';
import { openWith, type ServedModel, serveModels } from './support/served.js';
import { packageRoot } from './support/server-process.js';
import { makeDirectory, placeVersion, removeDirectory, scaleModel } from './support/test-models.js';

const dim = 2;
/** For what needs /proc, or the guard of mapped files. */
const linuxOnly = { skip: process.platform !== 'linux' };
let root: string;
/** Keys 0 to 999 of dim 2, row k = [k, 2k]. */
let plain: string;

before(async () => {
  root = makeDirectory('embeddings');
  plain = join(root, 'plain');
  await makeTable(plain, countedRows(1000, dim), { defaultRow: [-1, -2] });
});
after(() => removeDirectory(root));

type Stage = Readonly<Record<string, unknown>>;

/** A model whose stages are given; keys of a stage that are not: the table `plain`, `ids` into `rows`. */
function staged(model: OnnxModel, stages: readonly Stage[], more: Stage = {}): ServedModel {
  const embeddings = stages.map((stage) => ({ table: plain, ids: 'ids', target: 'rows', ...stage }));
  return { model, settings: { embeddings, ...more } };
}

async function open(
  t: TestContext,
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions = {},
  dependencies: RuntimeDependencies = {},
): Promise<Runtime> {
  const { runtime, close } = await openWith(models, options, dependencies);
  t.after(close);
  for (const { name, state, reason } of runtime.listModels())
    assert.equal(state, 'ready', `${name}: ${reason}`);
  return runtime;
}

const data = (value: Tensor | undefined): number[] =>
  Array.from(value!.data as ArrayLike<number | bigint>, Number);
const wide = (shape: readonly number[], ids: readonly number[]): Tensor => tensor('INT64', shape, ids);

/** Random numbers that are the same in every run. */
function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** The row of a key of `plain`; zeros for those beyond. */
const known = (id: number): number[] => (id >= 0 && id < 1000 ? rowOf(id, dim) : [0, 0]);

interface Asked {
  readonly inputs: TensorMap;
  readonly expected: readonly number[];
  readonly rows: number;
}

/** A request of ids [rows, slots] and dense numbers, and what `concatModel` answers. */
function slotted(random: (below: number) => number, rows: number, slots: number): Asked {
  const ids = Array.from({ length: rows * slots }, () => random(1100));
  const dense = Array.from({ length: rows * 2 }, () => random(1000));
  const expected = Array.from({ length: rows }, (_, row) => [
    ...ids.slice(row * slots, (row + 1) * slots).flatMap(known),
    ...dense.slice(2 * row, 2 * row + 2),
  ]).flat();
  return {
    rows,
    expected,
    inputs: { ids: wide([rows, slots], ids), dense: tensor('FP32', [rows, 2], dense) },
  };
}

/** Lengths of bags as a request, and what the sums of `plain` with weights of halves are: exact numbers. */
function ragged(random: (below: number) => number, rows: number, kind: 'lengths' | 'offsets'): Asked {
  const lengths = Array.from({ length: rows }, () => random(5));
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const ids = Array.from({ length: total }, () => random(1100));
  const weights = Array.from({ length: total }, () => 1 + random(4) / 2);
  const dense = Array.from({ length: rows * 2 }, () => random(1000));
  const starts: number[] = [];
  const expected: number[] = [];
  let at = 0;
  lengths.forEach((length, row) => {
    starts.push(at);
    const bag = [0, 0];
    for (const end = at + length; at < end; at++) {
      known(ids[at]!).forEach((value, index) => {
        bag[index]! += value * weights[at]!;
      });
    }
    expected.push(...bag, ...dense.slice(2 * row, 2 * row + 2));
  });
  return {
    rows,
    expected,
    inputs: {
      ids: wide([total], ids),
      where: wide([rows], kind === 'lengths' ? lengths : starts),
      w: tensor('FP32', [total], weights),
      dense: tensor('FP32', [rows, 2], dense),
    },
  };
}

/** Sends all at once; every answer must be the caller's own. */
async function askAll(runtime: Runtime, model: string, asked: readonly Asked[]): Promise<void> {
  const answers = await Promise.all(asked.map(({ inputs }) => runtime.infer(model, inputs)));
  answers.forEach(({ outputs }, index) => {
    const { rows, expected } = asked[index]!;
    assert.deepEqual(outputs.y!.shape[0], rows);
    assert.deepEqual(data(outputs.y), expected, `request ${index}`);
  });
}

const statsOf = (runtime: Runtime, model: string): { inferenceCount: number; executionCount: number } =>
  runtime.service.model(model).stats;

test('requests of unlike sizes merge, and each gets its own rows', async (t) => {
  const runtime = await open(t, { m: staged(concatModel(3 * dim), [{ slots: 3 }]) }, { idlePath: 'off' });
  const random = randomOf(1);
  const asked = Array.from({ length: 120 }, () => slotted(random, 1 + random(7), 3));
  await askAll(runtime, 'm', asked);
  const { inferenceCount, executionCount } = statsOf(runtime, 'm');
  assert.equal(
    inferenceCount,
    asked.reduce((sum, { rows }) => sum + rows, 0),
  );
  assert.ok(executionCount < 60, `${executionCount} batches`);
});

for (const kind of ['lengths', 'offsets'] as const) {
  const stage = { [kind]: 'where', combiner: 'sum', weights: 'w' };

  test(`ragged requests merge by ${kind}, weights and empty rows included`, async (t) => {
    const runtime = await open(t, { m: staged(concatModel(dim), [stage]) }, { idlePath: 'off' });
    const random = randomOf(2);
    const asked = Array.from({ length: 80 }, () => ragged(random, 1 + random(5), kind));
    await askAll(runtime, 'm', asked);
    assert.ok(statsOf(runtime, 'm').executionCount < 40);
    const empty = { ids: wide([0], []), where: wide([2], [0, 0]), w: tensor('FP32', [0], []) };
    const { outputs } = await runtime.infer('m', { ...empty, dense: tensor('FP32', [2, 2], [1, 2, 3, 4]) });
    assert.deepEqual(data(outputs.y), [0, 0, 1, 2, 0, 0, 3, 4]);
  });

  test(`ragged requests by ${kind} that are larger than a batch are split and joined`, async (t) => {
    const runtime = await open(t, { m: staged(concatModel(dim), [stage], { max_batch_size: 4 }) });
    const random = randomOf(3);
    await askAll(
      runtime,
      'm',
      [1, 4, 5, 11, 3, 8, 29].map((rows) => ragged(random, rows, kind)),
    );
  });
}

test('requests larger than a batch are split and joined', async (t) => {
  const stages = [{ slots: 3 }];
  const runtime = await open(t, { m: staged(concatModel(3 * dim), stages, { max_batch_size: 4 }) });
  const random = randomOf(4);
  await askAll(
    runtime,
    'm',
    [1, 4, 5, 11, 3, 8, 29].map((rows) => slotted(random, rows, 3)),
  );
});

test('mean and sqrtn are those of each row, whatever it merges with', async (t) => {
  const stages = [
    { lengths: 'n', combiner: 'mean', target: 'rows' },
    { lengths: 'n', combiner: 'sqrtn', target: 'more', missing: 'default' },
  ];
  const network = mirrorModel({ rows: ['FP32', 'b', dim], more: ['FP32', 'b', dim] });
  const runtime = await open(t, { m: staged(network, stages) });
  const ask = async (ids: readonly number[], lengths: readonly number[]): Promise<number[][]> => {
    const { outputs } = await runtime.infer('m', {
      ids: wide([ids.length], ids),
      n: wide([lengths.length], lengths),
    });
    return [data(outputs.rows_out), data(outputs.more_out)];
  };
  const [first, second] = await Promise.all([ask([1, 2, 3, 6], [3, 1]), ask([4, 5000, 2, 2, 2], [1, 4])]);
  const root3 = Math.fround(Math.sqrt(3));
  assert.deepEqual(first, [[2, 4, 6, 12], [6 / root3, 12 / root3, 6, 12].map(Math.fround)]);
  assert.deepEqual(second, [
    [4, 8, 1.5, 3],
    [4, 8, 2.5, 5],
  ]);
});

test('every form of ids feeds its target', async (t) => {
  const network = mirrorModel({
    one: ['FP32', 'b', dim],
    several: ['FP32', 'b', 2, dim],
    columns: ['FP32', 'b', 2 * dim],
    any: ['FP32', 'b', 'n', dim],
    flat: ['FP32', 'b', 'm'],
    hashed: ['FP32', 'b', 1, dim],
    ids: ['INT64', 'b'],
  });
  const hash = { function: 'xxh64', modulus: 1000, column: 3 };
  const runtime = await open(t, {
    m: staged(network, [
      { target: 'one', rows: 1000 },
      { ids: ['a', 'b'], target: 'several' },
      { ids: 'matrix', slots: 3, columns: [2, 0], target: 'columns' },
      { ids: 'wide', slots: -1, datatype: 'INT32', target: 'any' },
      { ids: 'wide', slots: -1, datatype: 'INT32', target: 'flat', hash: { modulus: 10 } },
      { ids: 'text', datatype: 'BYTES', hash, target: 'hashed' },
    ]),
  });
  const request = (shift: number): TensorMap => ({
    ids: wide([2], [-1, shift]),
    a: wide([2], [shift, 1]),
    b: wide([2], [2, 3]),
    matrix: wide([2, 3], [10, 11, 12, 13, 14, 15]),
    wide: tensor('INT32', [2, 3], [1, 2, 3, -4, 5, 6 + shift]),
    text: tensor('BYTES', [2], ['x', `y${shift}`]),
  });
  const answers = await Promise.all([0, 1, 2, 3].map((shift) => runtime.infer('m', request(shift))));
  answers.forEach(({ outputs }, shift) => {
    const out = (name: string): number[] => data(outputs[`${name}_out`]);
    assert.deepEqual(out('ids'), [-1, shift]);
    assert.deepEqual(out('one'), [...known(999), ...known(shift)]);
    assert.deepEqual(out('several'), [shift, 2, 1, 3].flatMap(known));
    assert.deepEqual(out('columns'), [12, 10, 15, 13].flatMap(known));
    assert.deepEqual(outputs.any_out!.shape, [2, 3, dim]);
    assert.deepEqual(out('any'), [1, 2, 3, -4, 5, 6 + shift].flatMap(known));
    assert.deepEqual(outputs.flat_out!.shape, [2, 3 * dim]);
    assert.deepEqual(out('flat'), [1, 2, 3, 6, 5, 6 + shift].flatMap(known));
    const keys = new BigUint64Array(2);
    hashIds(['x', `y${shift}`], 1, 0n, 1000, 3, 1, keys);
    assert.deepEqual(
      out('hashed'),
      [...keys].flatMap((key) => known(Number(key))),
    );
  });
  // Other widths are no reason to fail, or to mix.
  const unlike = await Promise.all(
    [1, 3, 0, 2].map((width) =>
      runtime.infer('m', { ...request(0), wide: tensor('INT32', [2, width], Array(2 * width).fill(width)) }),
    ),
  );
  assert.deepEqual(
    unlike.map(({ outputs }) => [outputs.any_out!.shape, ...data(outputs.any_out)]),
    [1, 3, 0, 2].map((width) => [
      [2, width, dim],
      ...Array(2 * width)
        .fill(known(width))
        .flat(),
    ]),
  );
});

test('a request without rows has an answer without rows', async (t) => {
  const runtime = await open(t, {
    m: staged(mirrorModel({ rows: ['FP32', 'b', 'w'], other: ['FP32', 'b', dim] }), [
      { slots: 3 },
      { ids: 'bags', lengths: 'n', combiner: 'sum', target: 'other' },
    ]),
  });
  const { outputs } = await runtime.infer('m', {
    ids: wide([0, 3], []),
    bags: wide([0], []),
    n: wide([0], []),
  });
  assert.deepEqual(
    [outputs.rows_out!.shape, outputs.other_out!.shape],
    [
      [0, 3 * dim],
      [0, dim],
    ],
  );
});

test('missing ids are zeros, the default row of the stage or that of the table', async (t) => {
  const network = mirrorModel({
    zeros: ['FP32', 'b', dim],
    own: ['FP32', 'b', dim],
    given: ['FP32', 'b', dim],
  });
  const runtime = await open(t, {
    m: staged(network, [
      { target: 'zeros' },
      { target: 'own', missing: 'default' },
      { target: 'given', missing: 'default', default_row: [8, 9] },
    ]),
  });
  const { outputs } = await runtime.infer('m', { ids: wide([3], [5000, 1, -1]) });
  assert.deepEqual(data(outputs.zeros_out), [0, 0, 1, 2, 0, 0]);
  assert.deepEqual(data(outputs.own_out), [-1, -2, 1, 2, -1, -2]);
  assert.deepEqual(data(outputs.given_out), [8, 9, 1, 2, 8, 9]);
});

test('a missing key fails its own request alone, and nothing is run again', async (t) => {
  const stages = [{ slots: 2, missing: 'error' }];
  const runtime = await open(t, { m: staged(concatModel(2 * dim), stages) }, { threads: 1, idlePath: 'off' });
  const ask = (index: number): Promise<number[]> => {
    const ids = index % 10 === 3 ? [index, 7, 8, 5000 + index] : [index, 7, 8, 9];
    const inputs = { ids: wide([2, 2], ids), dense: tensor('FP32', [2, 2], [index, 0, 0, index]) };
    return runtime.infer('m', inputs).then(({ outputs }) => data(outputs.y));
  };
  const settled = await Promise.allSettled(Array.from({ length: 40 }, (_, index) => ask(index)));
  settled.forEach((result, index) => {
    if (index % 10 !== 3) {
      assert.equal(result.status, 'fulfilled', `request ${index}`);
      assert.deepEqual(result.value, [
        ...known(index),
        ...known(7),
        index,
        0,
        ...known(8),
        ...known(9),
        0,
        index,
      ]);
      return;
    }
    assert.equal(result.status, 'rejected');
    assert.equal(result.reason.code, 'SRV_MISSING_KEY');
    assert.match(
      result.reason.message,
      new RegExp(`table plain version 1 has no row for key ${5000 + index}, id 1`),
    );
    assert.deepEqual(result.reason.details, { key: String(5000 + index), position: 1 });
  });
  const { inferenceCount, executionCount } = statsOf(runtime, 'm');
  // Every row ran once: no batch was halved, and none was kept apart afterwards.
  assert.deepEqual([inferenceCount, executionCount < 10], [80, true]);
  // The failures are no bad batches: the next ones still merge.
  await Promise.all(Array.from({ length: 20 }, (_, index) => ask(10 * index)));
  assert.ok(statsOf(runtime, 'm').executionCount <= executionCount + 5);
  const metrics = await runtime.metrics();
  assert.match(metrics, /onnx_serving_gather_keys_total\{model="m",version="1",result="found"\} 236\n/);
  assert.match(metrics, /onnx_serving_gather_keys_total\{model="m",version="1",result="missing"\} 4\n/);
});

test('a missing key in a ragged row, in an unmerged and in a split request is told', async (t) => {
  const bags = { lengths: 'n', combiner: 'sum', missing: 'error' };
  const runtime = await open(t, {
    ragged: staged(mirrorModel({ rows: ['FP32', 'b', dim] }), [bags]),
    alone: staged(mirrorModel({ rows: ['FP32', 'b', dim] }), [{ missing: 'error' }], { batching: 'off' }),
    split: staged(mirrorModel({ rows: ['FP32', 'b', dim] }), [{ missing: 'error' }], { max_batch_size: 2 }),
  });
  const missing = (key: number, position: number): object => ({
    code: 'SRV_MISSING_KEY',
    details: { key: String(key), position },
  });
  const [good, bad] = await Promise.allSettled([
    runtime.infer('ragged', { ids: wide([3], [1, 2, 3]), n: wide([2], [1, 2]) }),
    runtime.infer('ragged', { ids: wide([4], [1, 2, 7000, 3]), n: wide([3], [0, 1, 3]) }),
  ]);
  assert.ok(good.status === 'fulfilled' && bad.status === 'rejected');
  assert.deepEqual(data(good.value.outputs.rows_out), [1, 2, 5, 10]);
  assert.deepEqual([bad.reason.code, bad.reason.details], ['SRV_MISSING_KEY', { key: '7000', position: 1 }]);
  await assert.rejects(runtime.infer('alone', { ids: wide([3], [1, 2, 1000]) }), missing(1000, 0));
  await assert.rejects(
    runtime.infer('split', { ids: wide([7], [1, 2, 3, 4, 5, 1001, 6]) }),
    missing(1001, 0),
  );
  const { outputs } = await runtime.infer('split', { ids: wide([7], [1, 2, 3, 4, 5, 6, 7]) });
  assert.deepEqual(data(outputs.rows_out), [1, 2, 3, 4, 5, 6, 7].flatMap(known));
});

test('over HTTP bad ids are 400, a missing key is 404, and both say why', async (t) => {
  const { url, close } = await serveModels({
    m: staged(mirrorModel({ rows: ['FP32', 'b', dim], more: ['FP32', 'b', 2, dim] }), [
      { lengths: 'n', combiner: 'sum', missing: 'error' },
      { ids: ['a', 'b'], target: 'more' },
    ]),
    o: staged(mirrorModel({ rows: ['FP32', 'b', dim] }), [{ offsets: 'o', combiner: 'sum', weights: 'w' }]),
  });
  t.after(close);
  const good = { ids: [1, 2, 3], n: [1, 2], a: [1, 2], b: [3, 4] };
  const send = async (
    change: Readonly<Record<string, readonly number[]>>,
    types: Readonly<Record<string, string>> = {},
    shapes: Readonly<Record<string, readonly number[]>> = {},
  ): Promise<unknown[]> => {
    const inputs = Object.entries({ ...good, ...change }).map(([name, values]) =>
      jsonInput(name, types[name] ?? 'INT64', shapes[name] ?? [values.length], values),
    );
    const answer = await call(`${url}/v2/models/m/infer`, { body: { inputs } });
    const { code, error } = json<{ code?: string; error?: string }>(answer);
    return [answer.status, code, error];
  };
  const refused = async (
    sent: Promise<unknown[]>,
    status: number,
    code: string,
    message: RegExp,
  ): Promise<void> => {
    const [gotStatus, gotCode, text] = await sent;
    assert.deepEqual([gotStatus, gotCode], [status, code], String(text));
    assert.match(String(text), message);
  };
  assert.deepEqual((await send({}))[0], 200);
  await refused(send({ ids: [1, 2, 9000] }), 404, 'SRV_MISSING_KEY', /no row for key 9000/);
  await refused(send({ n: [1, 1] }), 400, 'SRV_BAD_BAGS', /the rows have 2 ids, but 3 were sent/);
  await refused(send({ n: [4, -1] }), 400, 'SRV_BAD_BAGS', /length 0 is 4/);
  await refused(send({ n: [-1, 4] }), 400, 'SRV_BAD_BAGS', /length 0 is -1/);
  await refused(send({ n: [1, 5] }), 400, 'SRV_BAD_BAGS', /length 1 is 5/);
  await refused(
    send({}, { ids: 'INT32' }),
    400,
    'SRV_BAD_SIGNATURE',
    /'ids' .* datatype INT32; expected INT64/,
  );
  await refused(send({}, { n: 'FP32' }), 400, 'SRV_BAD_SIGNATURE', /'n' .* datatype FP32; expected INT64/);
  await refused(send({}, {}, { ids: [3, 1] }), 400, 'SRV_BAD_SIGNATURE', /shape for input 'ids'/);
  await refused(send({ b: [1] }), 400, 'SRV_BAD_SIGNATURE', /'b' has 1 rows?, but 'a' has 2/);
  await refused(send({ n: [] }), 400, 'SRV_BAD_BAGS', /0 ids, but 3/);

  const sendOffsets = async (offsets: readonly number[], weights = [1, 1, 1]): Promise<unknown[]> => {
    const answer = await call(`${url}/v2/models/o/infer`, {
      body: {
        inputs: [
          jsonInput('ids', 'INT64', [3], [1, 2, 3]),
          jsonInput('o', 'INT64', [offsets.length], offsets),
          jsonInput('w', 'FP32', [weights.length], weights),
        ],
      },
    });
    const { code, error } = json<{ code?: string; error?: string }>(answer);
    return [answer.status, code, error];
  };
  assert.equal((await sendOffsets([0, 0, 2]))[0], 200);
  await refused(sendOffsets([0, 2, 1]), 400, 'SRV_BAD_BAGS', /offset 2 is 1, expected 2 to 3/);
  await refused(sendOffsets([0, 4]), 400, 'SRV_BAD_BAGS', /offset 1 is 4/);
  await refused(sendOffsets([1]), 400, 'SRV_BAD_BAGS', /offset 0 is 1/);
  await refused(sendOffsets([0], [1, 2]), 400, 'SRV_BAD_SIGNATURE', /'w' has 2 weights/);

  const metadata = json(await call(`${url}/v2/models/m`));
  assert.deepEqual(metadata.inputs, [
    { name: 'ids', datatype: 'INT64', shape: [-1] },
    { name: 'n', datatype: 'INT64', shape: [-1] },
    { name: 'a', datatype: 'INT64', shape: [-1] },
    { name: 'b', datatype: 'INT64', shape: [-1] },
  ]);
});

test('where rows do not merge, and on the idle path, answers are the same', async (t) => {
  const stage = { lengths: 'where', combiner: 'sum', weights: 'w' };
  const runtime = await open(
    t,
    {
      off: staged(concatModel(dim), [stage], { batching: 'off' }),
      idle: staged(concatModel(dim), [stage]),
      single: staged(concatModel(dim), [stage], { max_batch_size: 1 }),
    },
    { idlePath: 'auto' },
  );
  const random = randomOf(5);
  for (const model of ['off', 'idle']) {
    for (let turn = 0; turn < 5; turn++)
      await askAll(runtime, model, [ragged(random, 1 + random(9), 'lengths')]);
    await askAll(
      runtime,
      model,
      Array.from({ length: 20 }, () => ragged(random, 1 + random(9), 'lengths')),
    );
  }
  await askAll(
    runtime,
    'single',
    Array.from({ length: 20 }, () => ragged(random, 1, 'lengths')),
  );
});

test('slabs of SharedArrayBuffers gather the same', async (t) => {
  const models = {
    m: staged(concatModel(dim), [{ lengths: 'where', combiner: 'sum', weights: 'w' }]),
    s: staged(concatModel(3 * dim), [{ slots: 3, missing: 'error' }]),
  };
  const runtime = await open(t, models, { idlePath: 'off' }, { slabMemory: 'shared' });
  const random = randomOf(6);
  await askAll(
    runtime,
    'm',
    Array.from({ length: 40 }, () => ragged(random, 1 + random(5), 'lengths')),
  );
  const inputs = { ids: wide([1, 3], [1, 2, 3]), dense: tensor('FP32', [1, 2], [0, 0]) };
  const bad = { ...inputs, ids: wide([1, 3], [1, 2000, 3]) };
  const [good, missing] = await Promise.allSettled([runtime.infer('s', inputs), runtime.infer('s', bad)]);
  assert.ok(good.status === 'fulfilled' && missing.status === 'rejected');
  assert.deepEqual(data(good.value.outputs.y), [1, 2, 2, 4, 3, 6, 0, 0]);
  assert.equal(missing.reason.code, 'SRV_MISSING_KEY');
});

test('types of rows, shards, deltas and memory change no answer', async (t) => {
  const stages: Stage[] = [];
  const targets: Record<string, readonly ['FP32', ...(string | number)[]]> = {};
  const gone = join(root, 'gone.txt');
  writeFileSync(gone, '5\n');
  for (const dtype of ['f32', 'f16', 'int8'] as const) {
    for (const shardNum of [1, 3]) {
      const table = join(root, `${dtype}-${shardNum}`);
      // Rows whose smallest and largest number are 0 and 255 lose nothing as int8.
      const rows = Object.fromEntries(Array.from({ length: 200 }, (_, key) => [key, [0, 255, key]]));
      await makeTable(table, rows, { dtype, shardNum });
      await makeTable(table, { 7: [0, 255, 70], 1000: [0, 255, 100] }, { mode: 'delta', deleteKeys: gone });
      for (const inMem of [false, true]) {
        const target = `${dtype}_${shardNum}_${inMem}`;
        targets[target] = ['FP32', 'b', 2, 3];
        stages.push({ table, slots: 2, target, in_mem: inMem });
      }
      targets[`${dtype}_${shardNum}_first`] = ['FP32', 'b', 2, 3];
      stages.push({ table, slots: 2, target: `${dtype}_${shardNum}_first`, version: 1 });
    }
  }
  const runtime = await open(t, { m: staged(mirrorModel(targets), stages) });
  const { outputs } = await runtime.infer('m', { ids: wide([3, 2], [5, 7, 1000, 8, 199, 400]) });
  const none = [0, 0, 0];
  const latest = [...none, 0, 255, 70, 0, 255, 100, 0, 255, 8, 0, 255, 199, ...none];
  const first = [0, 255, 5, 0, 255, 7, ...none, 0, 255, 8, 0, 255, 199, ...none];
  for (const target of Object.keys(targets)) {
    assert.deepEqual(data(outputs[`${target}_out`]), target.endsWith('_first') ? first : latest, target);
  }
});

test('ids that the network takes too are merged and split with their keys', async (t) => {
  const network = mirrorModel({ rows: ['FP32', 'b', dim], ids: ['INT64', 'b', 1] });
  const runtime = await open(t, { m: staged(network, [{ slots: 1 }], { max_batch_size: 3 }) });
  const answers = await Promise.all(
    [1, 2, 5, 7].map(async (rows) => {
      const ids = Array.from({ length: rows }, (_, row) => 10 * rows + row);
      const { outputs } = await runtime.infer('m', { ids: wide([rows, 1], ids) });
      return [ids, data(outputs.ids_out), data(outputs.rows_out)];
    }),
  );
  for (const [ids, mirrored, rows] of answers) {
    assert.deepEqual(mirrored, ids);
    assert.deepEqual(rows, ids!.flatMap(known));
  }
});

test('offsets that the network takes too are never put behind those of another request', async (t) => {
  const network = mirrorModel({ rows: ['FP32', 'b', dim], o: ['INT64', 'b'] });
  const stages = [{ offsets: 'o', combiner: 'sum' }];
  const runtime = await open(t, { m: staged(network, stages, { batching: 'on' }) }, { idlePath: 'off' });
  const answers = await Promise.all(
    [1, 2, 3, 4].map((first) =>
      runtime.infer('m', { ids: wide([3], [first, 2, 3]), o: wide([2], [0, first % 4]) }),
    ),
  );
  answers.forEach(({ outputs }, index) => {
    assert.deepEqual(data(outputs.o_out), [0, (index + 1) % 4]);
  });
  assert.equal(statsOf(runtime, 'm').executionCount, 4);
});

test('ids cannot be padded: the model says so instead of mixing rows', async (t) => {
  const network = mirrorModel({ rows: ['FP32', 'b', 'n', dim], ids: ['INT64', 'b', 'n'] });
  const padding = { ids: { axes: [1] } };
  const { runtime, close } = await openWith({
    m: staged(network, [{ slots: -1 }], { padding }),
    other: scaleModel(),
  });
  t.after(close);
  const status = runtime.listModels().find(({ name }) => name === 'm')!;
  assert.equal(status.state, 'failed');
  assert.match(status.reason!, /pad the input 'ids', which holds ids/);
});

test('a model whose table cannot be used says why, and the others serve', async (t) => {
  const corrupt = join(root, 'corrupt');
  const { directory } = await makeTable(corrupt, countedRows(10, dim));
  const file = join(directory, 'part-00000-of-00001.shard');
  const bytes = readFileSync(file);
  bytes[100] = bytes[100]! ^ 1;
  writeFileSync(file, bytes);
  const orphan = join(root, 'orphan');
  await makeTable(orphan, countedRows(2, dim));
  await makeTable(orphan, countedRows(3, dim), { mode: 'delta' });
  removeDirectory(join(orphan, '1'));
  const foreign = join(root, 'foreign');
  await makeTable(foreign, countedRows(2, dim), { model: { name: 'foreign', version: 7 } });
  const text = join(root, 'text-table');
  await makeTable(text, { 1: [5] }, { dtype: 'bytes' });
  const broken: Readonly<Record<string, readonly [Stage, RegExp]>> = {
    absent: [{ table: join(root, 'nowhere') }, /there is no table at .*nowhere/],
    empty: [{ table: join(root) }, /holds no version of a table/],
    unversioned: [{ version: 9 }, /there is no version 9/],
    orphan: [{ table: orphan }, /version 2 is a delta on version 1, which is not there/],
    foreign: [{ table: foreign }, /none of which was published with version 1 of model foreign/],
    pinned: [
      { table: foreign, version: 1 },
      /published with version 7 of model foreign, not with version 1 of pinned/,
    ],
    corrupt: [{ table: corrupt }, /part-00000-of-00001\.shard, byte \d+: the header does not have the hash/],
    text: [{ table: text }, /rows of bytes; an embedding stage needs rows of numbers/],
    misfit: [{ slots: 5 }, /it gives 10 numbers for each row of a request, but "rows" takes \[-1,2\]/],
    rowless: [{ table: corrupt, missing: 'default' }, /hash|neither default_row/],
  };
  const models = Object.entries(broken).map(([name, [stage]]) => [name, staged(concatModel(dim), [stage])]);
  const { runtime, close } = await openWith({
    ...Object.fromEntries(models),
    good: staged(concatModel(dim), [{ slots: 1 }]),
  });
  t.after(close);
  for (const { name, state, reason } of runtime.listModels()) {
    const expected = broken[name]?.[1];
    assert.equal(state, expected ? 'failed' : 'ready', `${name}: ${reason}`);
    if (expected) assert.match(reason!, expected, name);
  }
  await askAll(runtime, 'good', [slotted(randomOf(7), 3, 1)]);
});

test('each version of a model gets the table that was published with it', async () => {
  const paired = join(root, 'paired');
  const published = (version: number): object => ({ model: { name: 'm', version } });
  await makeTable(paired, { 1: [1, 1] }, published(1));
  await makeTable(paired, { 1: [2, 2] }, published(2));
  // A delta belongs to the version of the model whose rows it changes.
  await makeTable(paired, { 9: [9, 9] }, { mode: 'delta' });
  const rowsOf = async (version: number): Promise<number[]> => {
    const models = join(root, `paired-models-${version}`);
    const place = placeVersion(models, 'm', version, mirrorModel({ rows: ['FP32', 'b', dim] }));
    const embeddings = [{ table: paired, ids: 'ids', target: 'rows' }];
    writeFileSync(join(place, '..', 'model.json'), JSON.stringify({ embeddings }));
    await using runtime = await openRuntime({
      modelRepository: models,
      cacheDir: join(root, 'cache'),
      threads: 1,
    });
    return data((await runtime.infer('m', { ids: wide([2], [1, 9]) })).outputs.rows_out);
  };
  assert.deepEqual(await rowsOf(1), [1, 1, 0, 0]);
  assert.deepEqual(await rowsOf(2), [2, 2, 9, 9]);
});

test(
  'a table that is cut while it serves fails its requests, and the process and other models go on',
  linuxOnly,
  async (t) => {
    const cut = join(root, 'cut');
    const { directory } = await makeTable(cut, countedRows(20_000, dim));
    const path = join(directory, 'part-00000-of-00001.shard');
    const whole = readFileSync(path);
    const stage = { table: cut, slots: 100 };
    const opened = await serveModels(
      {
        m: staged(mirrorModel({ rows: ['FP32', 'b', 100 * dim] }), [stage]),
        other: staged(concatModel(dim), [{ slots: 1 }]),
      },
      { runtime: { modelControl: 'explicit' } },
    );
    const { runtime, url } = opened;
    t.after(opened.close);
    const ids = wide(
      [1, 100],
      Array.from({ length: 100 }, (_, index) => 199 * index),
    );
    const ask = async (): Promise<number[]> => data((await runtime.infer('m', { ids })).outputs.rows_out);
    const expected = Array.from({ length: 100 }, (_, index) => rowOf(199 * index, dim)).flat();
    assert.deepEqual(await ask(), expected);
    truncateSync(path, 8192);
    const corrupt = { code: 'SRV_TABLE_CORRUPT', message: /part-00000-of-00001\.shard was truncated/ };
    await assert.rejects(ask(), corrupt);
    // From then on the model is not ready, and says why.
    const gone = { code: 'SRV_MODEL_NOT_READY', message: /part-00000-of-00001\.shard was truncated/ };
    for (let turn = 0; turn < 5; turn++) await assert.rejects(ask(), gone);
    const body = { inputs: [jsonInput('ids', 'INT64', [1, 100], data(ids))] };
    assert.equal((await call(`${url}/v2/models/m/infer`, { body })).status, 503);
    await askAll(runtime, 'other', [slotted(randomOf(8), 5, 1)]);
    // Loaded anew while the file is cut: refused, and the reason is there. With the file back: served again.
    await assert.rejects(runtime.service.loadModel('m'), { code: 'SRV_TABLE_CORRUPT' });
    writeFileSync(path, whole);
    await runtime.service.loadModel('m');
    assert.deepEqual(await ask(), expected);
  },
);

const mapsProgram = `
  const { openRuntime, tensor } = await import(process.argv[1]);
  const { readFileSync } = await import('node:fs');
  const mapped = () =>
    readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => line.endsWith('.shard')).length;
  const runtime = await openRuntime({
    modelRepository: process.argv[2], cacheDir: process.argv[3], threads: 3, modelControl: 'explicit',
  });
  const seen = { loaded: mapped() };
  const ask = (name) => runtime.infer(name, { ids: tensor('INT64', [1], [3]), dense: tensor('FP32', [1, 2], [0, 0]) });
  for (const name of ['a', 'b']) seen[name] = [...(await ask(name)).outputs.y.data];
  await runtime.service.unloadModel('a');
  seen.oneUnloaded = mapped();
  seen.bAgain = [...(await ask('b')).outputs.y.data];
  await runtime.service.unloadModel('b');
  seen.unloaded = mapped();
  await runtime.service.loadModel('b');
  seen.again = mapped();
  await runtime.close();
  seen.closed = mapped();
  console.log(JSON.stringify(seen));
`;

test(
  'a table is mapped once for all threads and models, and not at all after the last unload',
  linuxOnly,
  async (t) => {
    const { repository, directory, close } = await openWith({
      a: staged(concatModel(dim), [{}]),
      b: staged(concatModel(dim), [{}]),
    });
    t.after(close);
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        mapsProgram,
        join(packageRoot, 'dist/src/index.js'),
        repository,
        join(directory, 'cache'),
      ],
      { encoding: 'utf8', timeout: 60_000 },
    );
    assert.equal(status, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), {
      loaded: 1,
      a: [3, 6, 0, 0],
      b: [3, 6, 0, 0],
      oneUnloaded: 1,
      bAgain: [3, 6, 0, 0],
      unloaded: 0,
      again: 1,
      closed: 0,
    });
  },
);
