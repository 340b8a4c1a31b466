/** The runtime as a service embeds it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Fastify from 'fastify';
import type { RuntimeOptions } from '../src/config/schema.js';
import {
  type InferOptions,
  type InferResult,
  openRuntime,
  type Runtime,
  ServingError,
  servingPlugin,
  type Tensor,
  type TensorMap,
  tensor,
} from '../src/index.js';
import { json, jsonInput } from './support/http-call.js';
import { openWith, type ServedModel } from './support/served.js';
import {
  floats,
  identityModel,
  lookupModel,
  makeDirectory,
  pairModel,
  removeDirectory,
  rowSumModel,
  scaleModel,
  sequenceOutputModel,
  slowModel,
} from './support/test-models.js';
import { until } from './support/until.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

async function open(
  t: TestContext,
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions = {},
): Promise<Runtime> {
  const { runtime, close } = await openWith(models, options);
  t.after(close);
  return runtime;
}

/** Rows of four equal values. */
function rowsOf(...values: number[]): TensorMap {
  return {
    x: tensor(
      'FP32',
      [values.length, 4],
      values.flatMap((value) => Array(4).fill(value)),
    ),
  };
}

const valuesOf = (value: Tensor | undefined): unknown[] => [
  ...(value!.data as ArrayLike<unknown> as unknown[]),
];
const firstOf = ({ outputs }: InferResult): unknown => valuesOf(outputs.y)[0];

/** A metric's value. */
async function metric(runtime: Runtime, name: string): Promise<number> {
  return Number(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'm').exec(await runtime.metrics())![1]);
}

test('a model is opened, run and closed in a few lines', async () => {
  const cacheDir = makeDirectory();
  const runtime = await openRuntime({
    models: [{ path: join(root, 'examples/ring'), name: 'ring' }],
    cacheDir,
    threads: 1,
  });
  assert.equal(runtime.isReady, true);
  const { model, version, outputs } = await runtime.infer('ring', {
    point: tensor('FP32', [2, 2], [0.6, 0, 0, 0]),
  });
  assert.deepEqual([model, version], ['ring', 1]);
  assert.deepEqual(outputs.probability!.shape, [2, 1]);
  const [inside, outside] = valuesOf(outputs.probability) as number[];
  assert.ok(inside! > 0.9 && outside! < 0.1);
  await runtime.close();
  removeDirectory(cacheDir);
});

test('await using closes the runtime', async () => {
  const { runtime, close } = await openWith({ scale: scaleModel() });
  {
    await using rt = runtime;
    assert.equal(firstOf(await rt.infer('scale', rowsOf(1))), 2);
  }
  await assert.rejects(runtime.infer('scale', rowsOf(1)), { code: 'SRV_SHUTTING_DOWN' });
  await close();
});

test('many callers at once each get their own rows, out of fewer batches', async (t) => {
  const runtime = await open(t, { scale: scaleModel() });
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => runtime.infer('scale', rowsOf(i))));
  answers.forEach((answer, i) => {
    assert.deepEqual(valuesOf(answer.outputs.y), Array(4).fill(2 * i));
  });
  const { executionCount, inferenceCount } = runtime.service.model('scale').stats;
  assert.equal(inferenceCount, 200);
  assert.ok(executionCount < 100, `${executionCount} batches`);
});

test('an answer is the caller’s own: later requests do not change it', async (t) => {
  const runtime = await open(t, { scale: scaleModel() }, { threads: 1 });
  const first = await runtime.infer('scale', rowsOf(1, 2));
  const kept = valuesOf(first.outputs.y);
  for (let i = 0; i < 20; i++) await runtime.infer('scale', rowsOf(50 + i, 60 + i));
  assert.deepEqual(valuesOf(first.outputs.y), kept);
});

test('outputs chooses what comes back', async (t) => {
  const runtime = await open(t, { pair: pairModel() });
  const inputs = { a: tensor('FP32', [1, 4], [1, 2, 3, 4]), b: tensor('FP32', [1, 4], [1, 1, 1, 1]) };
  const { outputs } = await runtime.infer('pair', inputs, { outputs: ['difference'] });
  assert.deepEqual(Object.keys(outputs), ['difference']);
  assert.deepEqual(valuesOf(outputs.difference), [0, 1, 2, 3]);
  await assert.rejects(runtime.infer('pair', inputs, { outputs: ['none'] }), { code: 'SRV_BAD_SIGNATURE' });
});

test('wrong inputs are refused with a code', async (t) => {
  const runtime = await open(t, { scale: scaleModel() });
  const cases: readonly (readonly [string, TensorMap, string])[] = [
    ['nothing', rowsOf(1), 'SRV_MODEL_NOT_FOUND'],
    ['scale', {}, 'SRV_BAD_SIGNATURE'],
    ['scale', { z: tensor('FP32', [1, 4], [1, 2, 3, 4]) }, 'SRV_BAD_SIGNATURE'],
    ['scale', { x: tensor('FP32', [4], [1, 2, 3, 4]) }, 'SRV_BAD_SIGNATURE'],
    ['scale', { x: tensor('FP64', [1, 4], [1, 2, 3, 4]) }, 'SRV_BAD_SIGNATURE'],
  ];
  for (const [model, inputs, code] of cases) {
    const error = await runtime.infer(model, inputs).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof ServingError);
    assert.equal(error.code, code);
  }
  await assert.rejects(runtime.infer('scale', rowsOf(1), { version: 9 }), { code: 'SRV_MODEL_NOT_FOUND' });
  assert.equal(firstOf(await runtime.infer('scale', rowsOf(1))), 2);
});

test('an AbortSignal withdraws a request that waits, and only that one', async (t) => {
  const runtime = await open(
    t,
    { slow: { model: slowModel(20), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const running = runtime.infer('slow', rowsOf(1));
  await until('it runs', async () => (await metric(runtime, 'onnx_serving_in_flight')) === 1);
  const controller = new AbortController();
  const withdrawn = runtime.infer('slow', rowsOf(2), { signal: controller.signal });
  const other = runtime.infer('slow', rowsOf(3));
  controller.abort();
  await assert.rejects(withdrawn, { code: 'SRV_CANCELLED' });
  assert.equal(await metric(runtime, 'onnx_serving_queue_depth'), 1);
  assert.equal(firstOf(await running), 1);
  assert.equal(firstOf(await other), 3);
  await assert.rejects(runtime.infer('slow', rowsOf(1), { signal: AbortSignal.abort() }), {
    code: 'SRV_CANCELLED',
  });
  assert.equal(runtime.service.model('slow').stats.executionCount, 2);
});

test('timeoutMs ends the waiting of a request', async (t) => {
  const runtime = await open(
    t,
    { slow: { model: slowModel(20), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const running = runtime.infer('slow', rowsOf(1));
  await until('it runs', async () => (await metric(runtime, 'onnx_serving_in_flight')) === 1);
  await assert.rejects(runtime.infer('slow', rowsOf(1), { timeoutMs: 5 }), { code: 'SRV_DEADLINE_EXCEEDED' });
  assert.equal(firstOf(await running), 1);
});

test('priority decides who goes first', async (t) => {
  const runtime = await open(
    t,
    { slow: { model: slowModel(10), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const order: string[] = [];
  const infer = (label: string, options: InferOptions): Promise<unknown> =>
    runtime.infer('slow', rowsOf(1), options).then(() => order.push(label));
  const running = infer('running', {});
  await until('it runs', async () => (await metric(runtime, 'onnx_serving_in_flight')) === 1);
  await Promise.all([
    running,
    infer('low', { priority: 9 }),
    infer('usual', {}),
    infer('urgent', { priority: 1 }),
  ]);
  assert.deepEqual(order, ['running', 'urgent', 'usual', 'low']);
});

test('the event loop goes on while a slow model runs', async (t) => {
  const runtime = await open(
    t,
    { slow: { model: slowModel(60), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const startedAt = performance.now();
  await runtime.infer('slow', rowsOf(1));
  const alone = performance.now() - startedAt;
  let turns = 0;
  let isDone = false;
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const spin = (): void => {
    turns += 1;
    if (!isDone) setImmediate(spin);
  };
  spin();
  await Promise.all([runtime.infer('slow', rowsOf(1)), runtime.infer('slow', rowsOf(2))]);
  isDone = true;
  delay.disable();
  assert.ok(turns > 100, `${turns} turns`);
  // A loop that was held for a run would stand still for its whole time; the bound leaves room for a busy machine.
  assert.ok(
    delay.max / 1e6 < Math.max(50, 0.8 * alone),
    `held for ${delay.max / 1e6} ms, a run takes ${alone} ms`,
  );
});

test('close answers what was accepted and refuses what comes after', async (t) => {
  const runtime = await open(
    t,
    { slow: { model: slowModel(10), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const accepted = [1, 2, 3].map((value) => runtime.infer('slow', rowsOf(value)));
  const closed = runtime.close();
  await assert.rejects(runtime.infer('slow', rowsOf(1)), { code: 'SRV_SHUTTING_DOWN' });
  assert.equal(runtime.isReady, false);
  assert.deepEqual((await Promise.all(accepted)).map(firstOf), [1, 2, 3]);
  await closed;
  await runtime.close();
  await assert.rejects(runtime.infer('slow', rowsOf(1)), { code: 'SRV_SHUTTING_DOWN' });
});

test('close with no time left answers what waits with an error, and awaits what runs', async (t) => {
  const runtime = await open(
    t,
    { slow: { model: slowModel(20), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const running = runtime.infer('slow', rowsOf(1));
  await until('it runs', async () => (await metric(runtime, 'onnx_serving_in_flight')) === 1);
  const waiting = runtime.infer('slow', rowsOf(2));
  const [, outcome] = await Promise.all([
    runtime.close({ timeoutMs: 0 }),
    waiting.catch((error: unknown) => error),
  ]);
  assert.equal((outcome as ServingError).code, 'SRV_SHUTTING_DOWN');
  assert.equal(firstOf(await running), 1);
});

for (const [what, wait] of [
  ['whose caller went away', { isAbandoned: () => true }],
  ['whose deadline passes', { timeoutMs: 1 }],
] as const) {
  test(`close ends where the last waiting request is one ${what}`, { timeout: 30_000 }, async (t) => {
    const runtime = await open(
      t,
      { slow: { model: slowModel(20), settings: { max_batch_size: 1 } } },
      { threads: 1 },
    );
    const running = runtime.infer('slow', rowsOf(1));
    await until('it runs', async () => (await metric(runtime, 'onnx_serving_in_flight')) === 1);
    const gone = runtime.service.infer({
      model: 'slow',
      inputs: [{ name: 'x', tensor: rowsOf(2).x! }],
      protocol: 'http',
      origin: 'socket',
      ...wait,
    });
    gone.catch(() => undefined);
    await runtime.close();
    assert.equal(firstOf(await running), 1);
    await assert.rejects(gone, /deadline|went away/);
  });
}

test('a program that only waits for an answer is not ended by an empty event loop', async () => {
  const program = `
    const { openRuntime, tensor } = await import(${JSON.stringify(join(root, 'dist/src/index.js'))});
    const rt = await openRuntime({ models: [{ path: process.argv[1] }], cacheDir: process.argv[2], threads: 1,
      maxQueueDelayUs: 100_000 });
    const { outputs } = await rt.infer('ring', { point: tensor('FP32', [1, 2], [0, 0]) });
    console.log('answered', outputs.probability.shape);
  `;
  const directory = makeDirectory();
  try {
    const ended = await run(
      ['--input-type=module', '-e', program, join(root, 'examples/ring'), directory],
      directory,
    );
    assert.match(ended.out, /answered \[ 1, 1 \]/, ended.err);
    assert.equal(ended.code, 0, ended.err);
  } finally {
    removeDirectory(directory);
  }
});

test('a CommonJS service loads the package by its name', async () => {
  const directory = makeDirectory();
  const file = join(root, 'dist', `commonjs-${process.pid}.cjs`);
  writeFileSync(
    file,
    `const { buildTable, compactTable, diffTables, load, openRuntime, openTable, writeDelta } = require('onnx-serving');
     (async () => {
       const { tensor, ServingError } = await load();
       const rt = await openRuntime({ models: [{ path: process.argv[2] }], cacheDir: process.argv[3], threads: 1 });
       const { outputs } = await rt.infer('ring', { point: tensor('FP32', [1, 2], [0.6, 0]) });
       const error = await rt.infer('nothing', {}).catch((e) => e);
       console.log('answered', outputs.probability.data[0] > 0.9, error instanceof ServingError, error.code);
       await rt.close();
       const rows = process.argv[3] + '/rows.txt';
       const place = process.argv[3] + '/table';
       require('node:fs').writeFileSync(rows, '7:1 2\\n');
       for (const mode of ['base', 'delta']) await buildTable({ output: place, inputs: [rows], mode });
       await compactTable(place);
       const { difference } = await diffTables(place + '/2', place);
       await writeDelta(place, place + '/1', place);
       const table = await openTable(place);
       console.log('gathered', table.version, difference.changed, table.gather(BigUint64Array.of(7n)).rows.join());
     })();`,
  );
  try {
    const ended = await run([file, join(root, 'examples/ring'), directory], directory);
    assert.match(ended.out, /answered true true SRV_MODEL_NOT_FOUND/, ended.err);
    assert.match(ended.out, /gathered 4 0 1,2/, ended.err);
    assert.equal(ended.code, 0, ended.err);
  } finally {
    removeDirectory(file);
    removeDirectory(directory);
  }
});

function run(
  args: readonly string[],
  home: string,
): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { ...process.env, HOME: home },
      timeout: 60_000,
    });
    const text = { out: '', err: '' };
    child.stdout.on('data', (chunk) => {
      text.out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      text.err += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...text }));
  });
}

test('require gives the functions at once, and the rest with load', () => {
  const required = createRequire(import.meta.url)('onnx-serving') as Record<string, unknown>;
  const names = [
    'buildTable',
    'compactTable',
    'createServer',
    'diffTables',
    'load',
    'openRuntime',
    'openTable',
    'writeDelta',
  ];
  assert.deepEqual(Object.keys(required).toSorted(), names);
});

test('the plugin serves under its prefix and changes nothing else of its host', async (t) => {
  const runtime = await open(t, { scale: scaleModel() });
  const host = Fastify();
  t.after(() => {
    // A reply that nobody has read keeps its connection busy, and closing waits for it.
    host.server.closeAllConnections();
    return host.close();
  });
  host.setErrorHandler((error: Error, _request, reply) => reply.code(418).send({ own: error.message }));
  host.setNotFoundHandler((_request, reply) => reply.code(404).send({ own: 'not here' }));
  host.post('/own', async (request) => ({ got: request.body }));
  host.get('/own/broken', async () => {
    throw new Error('mine');
  });
  await host.register(servingPlugin, { prefix: '/models', runtime, server: { serverName: 'inside' } });
  const url = await host.listen({ host: '127.0.0.1', port: 0 });
  const post = (path: string, body: string): Promise<Response> =>
    fetch(`${url}${path}`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });

  const good = JSON.stringify({ inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] });
  const answer = (await (await post('/models/v2/models/scale/infer', good)).json()) as {
    outputs: { data: number[] }[];
  };
  assert.deepEqual(answer.outputs[0]!.data, [2, 4, 6, 8]);
  assert.equal(((await (await fetch(`${url}/models/v2`)).json()) as { name: string }).name, 'inside');
  assert.equal((await fetch(`${url}/models/metrics`)).status, 200);
  const bad = await post('/models/v2/models/scale/infer', 'no JSON');
  assert.equal(bad.status, 400);
  assert.equal(((await bad.json()) as { code: string }).code, 'SRV_BAD_JSON');
  const nowhere = await fetch(`${url}/models/v2/nothing`);
  assert.equal(((await nowhere.json()) as { code: string }).code, 'SRV_NOT_FOUND');

  assert.deepEqual(await (await post('/own', '{"a":1}')).json(), { got: { a: 1 } });
  const broken = await post('/own', '{"a":');
  assert.equal(broken.status, 418);
  assert.deepEqual(await (await fetch(`${url}/own/broken`)).json(), { own: 'mine' });
  assert.deepEqual(await (await fetch(`${url}/nothing`)).json(), { own: 'not here' });
  assert.equal((await fetch(`${url}/v2/health/live`)).status, 404);
  const injected = await host.inject({ url: '/models/v2/health/ready' });
  assert.deepEqual(json({ status: 200, headers: {}, body: injected.rawPayload }), { ready: true });
});

test('a model of a fixed batch is served unbatched and right', async (t) => {
  const runtime = await open(t, { fixed: identityModel('FP32', [2, 3]) });
  const infer = (first: number): Promise<InferResult> =>
    runtime.infer('fixed', { x: tensor('FP32', [2, 3], [first, 1, 2, 3, 4, 5]) });
  const answers = await Promise.all([1, 2, 3, 4, 5, 6].map(infer));
  answers.forEach((answer, i) => {
    assert.deepEqual(answer.outputs.y!.shape, [2, 3]);
    assert.equal(firstOf(answer), i + 1);
  });
  assert.equal(runtime.service.model('fixed').maxBatchSize, 0);
  assert.equal(runtime.service.model('fixed').stats.executionCount, 6);
  await assert.rejects(runtime.infer('fixed', { x: tensor('FP32', [1, 3], [1, 2, 3]) }), {
    code: 'SRV_BAD_SIGNATURE',
  });
});

test('a model of scalars is served unbatched and right', async (t) => {
  const runtime = await open(t, {
    scalar: {
      nodes: [{ op: 'Add', inputs: ['x', 'one'], outputs: ['y'] }],
      inputs: [{ name: 'x', datatype: 'FP32', shape: [] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [] }],
      initializers: [floats('one', [], [1])],
    },
  });
  const answers = await Promise.all(
    [1, 2, 3].map((value) => runtime.infer('scalar', { x: tensor('FP32', [], [value]) })),
  );
  assert.deepEqual(answers.map(firstOf), [2, 3, 4]);
  assert.deepEqual(answers[0]!.outputs.y!.shape, []);
});

test('a model without inputs is served', async (t) => {
  const runtime = await open(t, {
    constant: {
      nodes: [{ op: 'Identity', inputs: ['value'], outputs: ['y'] }],
      inputs: [],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [2] }],
      initializers: [floats('value', [2], [7, 8])],
    },
  });
  const answers = await Promise.all([runtime.infer('constant', {}), runtime.infer('constant', {})]);
  for (const answer of answers) assert.deepEqual(valuesOf(answer.outputs.y), [7, 8]);
});

test('a model whose rows interact is not merged, and callers do not see each other', async (t) => {
  const runtime = await open(t, { sum: rowSumModel() });
  const answers = await Promise.all([1, 10, 100, 1000].map((value) => runtime.infer('sum', rowsOf(value))));
  assert.deepEqual(answers.map(firstOf), [2, 20, 200, 2000]);
  const together = await runtime.infer('sum', rowsOf(1, 10));
  assert.deepEqual(valuesOf(together.outputs.y), [12, 12, 12, 12, 21, 21, 21, 21]);
  assert.equal(runtime.service.model('sum').maxBatchSize, 0);
  // More rows than max_batch_size are not cut apart either.
  const many = await runtime.infer('sum', rowsOf(...Array(100).fill(1)));
  assert.deepEqual(valuesOf(many.outputs.y).slice(0, 4), [101, 101, 101, 101]);
});

test('a sequence among the outputs is left out, said so, and the rest is served', async (t) => {
  const runtime = await open(t, { sequence: sequenceOutputModel() });
  const [status] = runtime.listModels();
  assert.equal(status!.state, 'ready', status!.reason);
  assert.deepEqual(status!.hiddenOutputs, ['pair']);
  const answers = await Promise.all([1, 2, 3].map((value) => runtime.infer('sequence', rowsOf(value))));
  assert.deepEqual(answers.map(firstOf), [-1, -2, -3]);
  assert.deepEqual(Object.keys(answers[0]!.outputs), ['y']);
});

test('a request of no rows is answered with no rows, also beside others', async (t) => {
  const runtime = await open(t, { scale: scaleModel() });
  const [empty, one] = await Promise.all([
    runtime.infer('scale', { x: tensor('FP32', [0, 4], []) }),
    runtime.infer('scale', rowsOf(1)),
  ]);
  assert.deepEqual(empty.outputs.y!.shape, [0, 4]);
  assert.equal(empty.outputs.y!.data.length, 0);
  assert.equal(firstOf(one), 2);
});

test('rows of unlike widths do not share a batch', async (t) => {
  const runtime = await open(t, { free: identityModel('FP32', ['batch', 'width']) });
  const widths = [1, 2, 3, 1, 2, 3, 1];
  const answers = await Promise.all(
    widths.map((width, i) => runtime.infer('free', { x: tensor('FP32', [1, width], Array(width).fill(i)) })),
  );
  answers.forEach((answer, i) => {
    assert.deepEqual(answer.outputs.y!.shape, [1, widths[i]]);
    assert.deepEqual(valuesOf(answer.outputs.y), Array(widths[i]).fill(i));
  });
});

test('a request of more rows than max_batch_size is split over batches and rejoined', async (t) => {
  const runtime = await open(
    t,
    { scale: scaleModel(), text: identityModel('BYTES', ['batch', 2]), lookup: lookupModel() },
    { maxBatchSize: 8 },
  );
  const values = Array.from({ length: 37 }, (_, i) => i);
  const { outputs } = await runtime.infer('scale', rowsOf(...values));
  assert.deepEqual(outputs.y!.shape, [37, 4]);
  assert.deepEqual(
    valuesOf(outputs.y),
    values.flatMap((value) => Array(4).fill(2 * value)),
  );
  assert.equal(runtime.service.model('scale').stats.executionCount, 5);
  const texts = Array.from({ length: 22 }, (_, i) => `t${i}`);
  const text = await runtime.infer('text', { x: tensor('BYTES', [11, 2], texts) });
  assert.deepEqual(valuesOf(text.outputs.y), texts);
  const ids = Array.from({ length: 20 }, (_, i) => (i === 17 ? 99 : i % 4));
  await assert.rejects(runtime.infer('lookup', { id: tensor('INT64', [20, 1], ids) }), {
    code: 'SRV_MODEL_RUN_FAILED',
  });
  const { outputs: rows } = await runtime.infer('lookup', { id: tensor('INT64', [9, 1], Array(9).fill(2)) });
  assert.deepEqual(valuesOf(rows.row), Array(9).fill([2, 20]).flat());
});

test('with allow_split_request off a request of too many rows is refused with the limit named', async (t) => {
  const runtime = await open(t, { scale: scaleModel() }, { maxBatchSize: 8, allowSplitRequest: false });
  await assert.rejects(runtime.infer('scale', rowsOf(...Array(9).fill(1))), {
    code: 'SRV_BATCH_TOO_LARGE',
    message: /batch-size must be <= 8 .* got 9 rows/,
  });
  assert.equal(firstOf(await runtime.infer('scale', rowsOf(...Array(8).fill(3)))), 6);
});

test('a batch that needs more memory than all slabs may take is refused, and smaller ones go on', async (t) => {
  const runtime = await open(
    t,
    { scale: { model: scaleModel(), settings: { max_batch_size: 65_536 } } },
    { maxSlabBytes: '1mb' },
  );
  await assert.rejects(runtime.infer('scale', rowsOf(...Array(60_000).fill(1))), {
    code: 'SRV_OUT_OF_MEMORY',
    message: /max_slab_bytes is 1048576/,
  });
  assert.equal(firstOf(await runtime.infer('scale', rowsOf(1))), 2);
});

test('outputs larger than what the signature told come back whole', async (t) => {
  const runtime = await open(t, { wide: identityModel('FP32', ['batch', 'width']) });
  for (const width of [10, 10_000, 300_000, 10]) {
    const values = Float32Array.from({ length: width }, (_, i) => i);
    const { outputs } = await runtime.infer('wide', { x: tensor('FP32', [1, width], values) });
    assert.deepEqual(outputs.y!.data, values);
  }
});

test('two runtimes live side by side in one process', async (t) => {
  const one = await open(t, { scale: scaleModel(2) });
  const two = await open(t, { scale: scaleModel(3) });
  const answers = await Promise.all([one.infer('scale', rowsOf(1)), two.infer('scale', rowsOf(1))]);
  assert.deepEqual(answers.map(firstOf), [2, 3]);
  await one.close();
  assert.equal(firstOf(await two.infer('scale', rowsOf(1))), 3);
});

test('options that are not valid are refused with their names', async () => {
  await assert.rejects(openRuntime({ threads: 0 }), { code: 'SRV_BAD_CONFIG', message: /threads/ });
  await assert.rejects(openRuntime({ thread: 2 } as never), { code: 'SRV_BAD_CONFIG', message: /threads/ });
  await assert.rejects(openRuntime({ modelRepository: join(root, 'no-such-directory') }), { code: 'SRV_IO' });
});
