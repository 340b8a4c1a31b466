/** Warm-up of whole versions: what runs before a version is ready, and what becomes of one that fails. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Clock, systemClock } from '../../src/batching/clock.js';
import type { RuntimeOptions } from '../../src/config/schema.js';
import { batchSizesOf } from '../../src/model/warm-up-sources.js';
import { WireWriter } from '../../src/protobuf-wire.js';
import type { ModelStatus } from '../../src/server/service.js';
import { tensor } from '../../src/tensor/tensor.js';
import { writeTfRecord } from '../../src/warmup/tf-record.js';
import { faults } from '../fixtures/faulty-worker.js';
import { concatModel, countedRows, makeTable } from '../support/embedding-models.js';
import { floatBytes } from '../support/http-call.js';
import { openWith, type ServedModel } from '../support/served.js';
import {
  identityModel,
  lookupModel,
  makeDirectory,
  pairModel,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
} from '../support/test-models.js';

/** A directory of files, removed after the test. */
function filesIn(t: TestContext, files: Readonly<Record<string, string | Uint8Array>>): string {
  const directory = makeDirectory('warm-up');
  t.after(() => removeDirectory(directory));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  return directory;
}

/** A clock by which nothing takes any time: no size of a batch is left out for want of it. */
const standing: Clock = { ...systemClock, now: () => 0 };

async function statusOf(
  t: TestContext,
  model: ServedModel,
  options: RuntimeOptions = {},
  clock: Clock = systemClock,
): Promise<ModelStatus> {
  const opened = await openWith(
    { m: model },
    { threads: 1, warmUpBatchSizes: 'auto', ...options },
    { clock },
  );
  t.after(() => opened.close());
  return opened.runtime.listModels()[0]!;
}

const body = (name: string, datatype: string, shape: readonly number[], data: unknown, more = {}): string =>
  JSON.stringify({ inputs: [{ name, datatype, shape, data }], ...more });
const row = body('x', 'FP32', [1, 4], [1, 2, 3, 4]);

test('without requests a made-up one is run, and a batch of every size', async (t) => {
  const { warmUp } = await statusOf(t, scaleModel(), { maxBatchSize: 20 }, standing);
  assert.ok(warmUp);
  assert.deepEqual({ ...warmUp, ms: 0 }, { requests: 1, isRecorded: false, runs: 5 + 20, failed: 0, ms: 0 });
});

test('every instance runs them, and one that loads beside traffic too', async (t) => {
  const opened = await openWith(
    { m: scaleModel() },
    { maxBatchSize: 6, warmUpBatchSizes: 'auto' },
    { clock: standing },
  );
  t.after(() => opened.close());
  const { runtime } = opened;
  assert.equal(runtime.service.model('m').warmUp?.runs, 2 * (5 + 6));
  placeModel(opened.repository, 'm', scaleModel(3));
  await runtime.load('m');
  assert.equal(runtime.service.model('m').warmUp?.runs, 2 * (5 + 6));
});

test('rows that do not merge have no sizes', async (t) => {
  const { warmUp } = await statusOf(t, { model: scaleModel(), settings: { batching: 'off' } });
  assert.equal(warmUp?.runs, 5);
});

test('recorded requests are run warm_up_count times on each instance', async (t) => {
  const data = filesIn(t, { 'warm.jsonl': `${row}\n\n${body('x', 'FP32', [2, 4], Array(8).fill(1))}\n` });
  const { warmUp } = await statusOf(t, scaleModel(), {
    threads: 3,
    warmUpDataPath: join(data, 'warm.jsonl'),
    warmUpCount: 7,
    warmUpBatchSizes: 'off',
  });
  assert.deepEqual(
    { ...warmUp, ms: 0 },
    { requests: 2, isRecorded: true, runs: 3 * 2 * 7, failed: 0, ms: 0 },
  );
});

test('warm_up_count 0 runs nothing', async (t) => {
  const { warmUp, state } = await statusOf(t, scaleModel(), { warmUpCount: 0 });
  assert.deepEqual([state, warmUp], ['ready', undefined]);
});

test('settings of model.json win, and its paths are relative to it', async (t) => {
  const directory = makeDirectory('warm-up');
  t.after(() => removeDirectory(directory));
  const opened = await openWith({ other: scaleModel() }, { modelControl: 'explicit', warmUpCount: 9 });
  t.after(() => opened.close());
  const model = placeModel(opened.repository, 'm', scaleModel(), {
    warm_up_data_path: ['requests', 'more.jsonl'],
    warm_up_count: 2,
    warm_up_batch_sizes: [3],
  });
  mkdirSync(join(model, 'requests'));
  writeFileSync(join(model, 'requests', 'a.jsonl'), row);
  writeFileSync(join(model, 'requests', '.hidden'), 'not read');
  writeFileSync(join(model, 'more.jsonl'), `${row}\n${row}`);
  await opened.runtime.service.loadModel('m');
  const { warmUp } = opened.runtime.service.model('m');
  assert.deepEqual(
    { ...warmUp, ms: 0 },
    { requests: 3, isRecorded: true, runs: 2 * (3 * 2 + 1), failed: 0, ms: 0 },
  );
});

test('{model} in the path of the server is the name of each model, and one without such a file is warmed up all the same', async (t) => {
  const data = filesIn(t, { 'a.jsonl': row });
  const opened = await openWith(
    { a: scaleModel(), b: scaleModel() },
    { threads: 1, warmUpDataPath: join(data, '{model}.jsonl') },
  );
  t.after(() => opened.close());
  const found = opened.runtime.listModels().map(({ name, warmUp }) => [name, warmUp?.isRecorded]);
  assert.deepEqual(found.toSorted(), [
    ['a', true],
    ['b', false],
  ]);
});

interface Failing {
  readonly what: string;
  readonly model?: ServedModel;
  readonly file: string;
  readonly content: string;
  readonly message: RegExp;
  readonly line?: number;
  readonly reason: string;
}

const failing: readonly Failing[] = [
  {
    what: 'a request of an unknown input',
    file: 'warm.jsonl',
    content: `${row}\n${body('z', 'FP32', [1, 4], [1, 2, 3, 4])}`,
    message: /warm\.jsonl line 2: unexpected inference input 'z'/,
    line: 2,
    reason: 'SRV_BAD_SIGNATURE',
  },
  {
    what: 'a request of another datatype',
    file: 'warm.jsonl',
    content: `\n\n${body('x', 'INT64', [1, 4], [1, 2, 3, 4])}`,
    message: /warm\.jsonl line 3: inference input 'x' .* has datatype INT64; expected FP32/,
    line: 3,
    reason: 'SRV_BAD_SIGNATURE',
  },
  {
    what: 'a request for an output that is not there',
    file: 'warm.jsonl',
    content: body('x', 'FP32', [1, 4], [1, 2, 3, 4], { outputs: [{ name: 'q' }] }),
    message: /line 1: unexpected inference output 'q'/,
    line: 1,
    reason: 'SRV_BAD_SIGNATURE',
  },
  {
    what: 'a request that the engine refuses',
    model: lookupModel(),
    file: 'warm.jsonl',
    content: `${body('id', 'INT64', [1, 1], [1])}\n${body('id', 'INT64', [1, 1], [99])}`,
    message: /line 2: the engine refused these values/,
    line: 2,
    reason: 'SRV_MODEL_RUN_FAILED',
  },
  {
    what: 'a line that is no JSON',
    file: 'warm.jsonl',
    content: `${row}\n{"inputs": [`,
    message: /cannot be read: .*warm\.jsonl line 2: /,
    line: 2,
    reason: 'SRV_BAD_WARM_UP_FILE',
  },
  {
    what: 'a line of text for a model that takes numbers',
    file: 'warm.txt',
    content: 'hello',
    message:
      /warm\.txt line 1: a line of text is the only input of a model, one BYTES element; this model takes \[x FP32/,
    line: 1,
    reason: 'SRV_BAD_SIGNATURE',
  },
];

for (const { what, model = scaleModel(), file, content, message, line, reason } of failing) {
  test(`${what} fails the version, with file and line`, async (t) => {
    const warmUpDataPath = join(filesIn(t, { [file]: content }), file);
    const status = await statusOf(t, model, { warmUpDataPath });
    assert.equal(status.state, 'failed');
    assert.equal(status.error?.code, 'SRV_WARM_UP_FAILED');
    assert.match(status.reason ?? '', /the warm-up of m version 1/);
    assert.match(status.reason ?? '', message);
    assert.deepEqual(status.error?.details, { file: warmUpDataPath, line, reason });
  });

  test(`${what} is passed over where failures are ignored`, async (t) => {
    const warmUpDataPath = join(filesIn(t, { [file]: content }), file);
    const status = await statusOf(t, model, { warmUpDataPath, warmUpFailure: 'ignore' });
    assert.equal(status.state, 'ready', status.reason);
    if (reason !== 'SRV_BAD_WARM_UP_FILE') assert.equal(status.warmUp?.failed, 1);
  });
}

test('a request with too many rows is split as it is for callers, or fails where callers are refused', async (t) => {
  const many = body('x', 'FP32', [7, 4], Array(28).fill(1));
  const warmUpDataPath = join(filesIn(t, { 'warm.jsonl': many }), 'warm.jsonl');
  const options = { warmUpDataPath, warmUpCount: 1, maxBatchSize: 3, warmUpBatchSizes: 'off' } as const;
  const split = await statusOf(t, scaleModel(), options);
  assert.equal(split.warmUp?.runs, 3);
  const refused = await statusOf(t, scaleModel(), { ...options, allowSplitRequest: false });
  assert.match(refused.reason ?? '', /it has 7 rows, and a batch at most 3/);
});

test('lines of text are the one BYTES element of the only input', async (t) => {
  const warmUpDataPath = join(filesIn(t, { 'warm.txt': 'one\r\n\nzwei €\n' }), 'warm.txt');
  const { warmUp, reason } = await statusOf(t, identityModel('BYTES', ['batch', 1]), {
    warmUpDataPath,
    warmUpBatchSizes: 'off',
  });
  assert.deepEqual([warmUp?.requests, warmUp?.runs], [2, 10], reason);
});

test('what callers are answered is not changed, nor counted, by the warm-up', async (t) => {
  const opened = await openWith({ m: scaleModel(3) }, { threads: 2 });
  t.after(() => opened.close());
  const { runtime } = opened;
  assert.equal(runtime.service.model('m').stats.executionCount, 0);
  const { outputs } = await runtime.infer('m', { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) });
  assert.deepEqual([...(outputs.y!.data as Float32Array)], [3, 6, 9, 12]);
  const metrics = await runtime.metrics();
  assert.match(metrics, /onnx_serving_warm_up_requests\{model="m",version="1"\} 1/);
  assert.match(metrics, /onnx_serving_warm_up_failed\{model="m",version="1"\} 0/);
  assert.match(metrics, /onnx_serving_warm_up_seconds\{model="m",version="1"\} 0\.\d+/);
});

test('a sample of traffic that does not fit any more is left out, and fails nothing', async (t) => {
  const samples = filesIn(t, { 'm.recorded.bin': `${row}${body('gone', 'FP32', [1], [1])}` });
  const { warmUp, state } = await statusOf(t, scaleModel(), {
    recordWarmupDir: samples,
    warmUpBatchSizes: 'off',
  });
  assert.equal(state, 'ready');
  assert.deepEqual({ ...warmUp, ms: 0 }, { requests: 1, isRecorded: true, runs: 5, failed: 1, ms: 0 });
});

test('batches of the sizes that traffic had are run too', async (t) => {
  const sized = body('x', 'FP32', [1, 4], [1, 2, 3, 4], { parameters: { warm_up_batch_sizes: '3,5,200' } });
  const samples = filesIn(t, { 'm.recorded.bin': sized });
  const options = { recordWarmupDir: samples, maxBatchSize: 8 };
  const { warmUp } = await statusOf(t, scaleModel(), options, standing);
  assert.equal(warmUp?.runs, 5 + 8);
  assert.deepEqual(batchSizesOf('auto', 8, [3, 5, 200], 'm'), {
    batchSizes: [1, 2, 3, 4, 5, 8],
    furtherSizes: [6, 7],
  });
});

test('a batch size beyond max_batch_size is a mistake of the settings', async (t) => {
  const { state, error } = await statusOf(t, {
    model: scaleModel(),
    settings: { max_batch_size: 8, warm_up_batch_sizes: [4, 9] },
  });
  assert.deepEqual([state, error?.code], ['failed', 'SRV_BAD_CONFIG']);
  assert.match(error!.message, /warm_up_batch_sizes has 9, but max_batch_size is 8/);
});

test('the thread that replaces a dead one runs the warm-up before it takes batches', async (t) => {
  const opened = await openWith(
    { m: scaleModel() },
    { threads: 1, warmUpBatchSizes: 'off' },
    { workerFile: fileURLToPath(new URL('../fixtures/faulty-worker.js', import.meta.url)) },
  );
  t.after(() => opened.close());
  const { runtime } = opened;
  const runs = (): number => runtime.listModels()[0]!.warmUp!.runs;
  const before = runs();
  const infer = (first: number) => runtime.infer('m', { x: tensor('FP32', [1, 4], [first, 0, 0, 0]) });
  await assert.rejects(infer(faults.die), { code: 'SRV_WORKER_DIED' });
  const { outputs } = await infer(1);
  assert.equal((outputs.y!.data as Float32Array)[0], 2);
  assert.equal(runs(), before + 5);
});

const stages: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'of ids in slots': { slots: 2 },
  'of ragged ids by lengths, weighted': { lengths: 'counts', weights: 'shares', combiner: 'sum' },
  'of ragged ids by offsets': { offsets: 'starts', combiner: 'mean' },
  'that fail requests with unknown ids': { slots: 2, missing: 'error' },
  'of texts': { slots: 2, datatype: 'BYTES', hash: { function: 'xxh64', modulus: 10 } },
};
for (const [what, stage] of Object.entries(stages)) {
  test(`a model with stages ${what} is warmed up with made-up ids`, async (t) => {
    const table = makeDirectory('warm-up-table');
    t.after(() => removeDirectory(table));
    await makeTable(table, countedRows(10, 2));
    const width = stage.slots === undefined ? 2 : 4;
    const { warmUp, reason } = await statusOf(
      t,
      {
        model: concatModel(width),
        settings: { embeddings: [{ table, ids: 'ids', target: 'rows', ...stage }], batching: 'on' },
      },
      { maxBatchSize: 8 },
      standing,
    );
    assert.deepEqual([warmUp?.requests, warmUp?.runs, warmUp?.failed], [1, 5 + 8, 0], reason);
  });
}

test("model_warmup of Triton's config.pbtxt is run, with its zero and random data and its files", async (t) => {
  const opened = await openWith(
    { other: scaleModel() },
    { modelControl: 'explicit', threads: 1, warmUpBatchSizes: 'auto' },
    { clock: standing },
  );
  t.after(() => opened.close());
  const place = (name: string, warmUps: string, files: Readonly<Record<string, Buffer>> = {}): void => {
    const version = placeVersion(opened.repository, name, 1, pairModel());
    const directory = join(version, '..');
    mkdirSync(join(directory, 'warmup'));
    for (const [file, bytes] of Object.entries(files)) writeFileSync(join(directory, 'warmup', file), bytes);
    const tensors = (names: string): string =>
      names
        .split(' ')
        .map((one) => `{ name: "${one}" data_type: TYPE_FP32 dims: [4] }`)
        .join();
    writeFileSync(
      join(directory, 'config.pbtxt'),
      `backend: "onnxruntime" max_batch_size: 8 input [${tensors('a b')}] output [${tensors('sum difference')}] ${warmUps}`,
    );
  };
  const input = (key: string, data: string): string =>
    `inputs { key: "${key}" value { data_type: TYPE_FP32 dims: [4] ${data} } }`;
  place(
    'good',
    `model_warmup [
       { name: "zeros" batch_size: 3 count: 4 ${input('a', 'zero_data: true')} ${input('b', 'random_data: true')} },
       { name: "own" batch_size: 1 ${input('a', 'input_data_file: "a.raw"')} ${input('b', 'zero_data: true')} }
     ]`,
    { 'a.raw': floatBytes(1, 2, 3, 4) },
  );
  const { service } = opened.runtime;
  await service.loadModel('good');
  // 4 runs of the first, 1 of the second, then 1 to 8 rows.
  assert.deepEqual(
    { ...service.model('good').warmUp, ms: 0 },
    { requests: 2, isRecorded: true, runs: 4 + 1 + 8, failed: 0, ms: 0 },
  );
  place(
    'short',
    `model_warmup [{ name: "own" batch_size: 1 ${input('a', 'input_data_file: "a.raw"')} ${input('b', 'zero_data: true')} }]`,
    { 'a.raw': floatBytes(1, 2, 3) },
  );
  await assert.rejects(service.loadModel('short'), {
    code: 'SRV_WARM_UP_FAILED',
    message: /warmup\/a\.raw: input 'a' of model_warmup "own" is FP32 \[4\], 16 bytes; the file has 12/,
  });
  place(
    'missing',
    `model_warmup [{ name: "own" batch_size: 1 ${input('a', 'input_data_file: "gone.raw"')} ${input('b', 'zero_data: true')} }]`,
  );
  await assert.rejects(service.loadModel('missing'), { message: /gone\.raw cannot be read: ENOENT/ });
  place('partial', `model_warmup [{ name: "half" batch_size: 1 ${input('a', 'zero_data: true')} }]`);
  await assert.rejects(service.loadModel('partial'), {
    message: /config\.pbtxt model_warmup "half": expected 2 inputs but got 1/,
  });
});

test("TF Serving's requests are found in the version's directory", async (t) => {
  const opened = await openWith({ other: scaleModel() }, { modelControl: 'explicit', threads: 1 });
  t.after(() => opened.close());
  const version = placeVersion(opened.repository, 'm', 1, scaleModel());
  mkdirSync(join(version, 'assets.extra'));
  const dims = new WireWriter()
    .message(2, new WireWriter().integer(1, 1))
    .message(2, new WireWriter().integer(1, 4));
  const x = new WireWriter().integer(1, 1).message(2, dims).float(5, 2.5);
  const predict = new WireWriter().message(2, new WireWriter().string(1, 'x').message(2, x)).string(3, 'y');
  const log = new WireWriter().message(6, new WireWriter().message(1, predict)).toBytes();
  const file = join(version, 'assets.extra', 'tf_serving_warmup_requests');
  writeFileSync(file, Buffer.concat([writeTfRecord(log), writeTfRecord(log)]));
  const { service } = opened.runtime;
  await service.loadModel('m');
  assert.deepEqual([service.model('m').warmUp?.requests, service.model('m').warmUp?.isRecorded], [2, true]);
  writeFileSync(file, writeTfRecord(log).subarray(0, 20));
  await assert.rejects(service.loadModel('m'), {
    code: 'SRV_WARM_UP_FAILED',
    message: /tf_serving_warmup_requests record 1: it is cut off/,
  });
  assert.equal(service.model('m').state, 'ready', 'the version before goes on serving');
});
