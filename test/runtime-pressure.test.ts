/** Versions that come, go and compete while runs of theirs are held up, on real threads with the real engine. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import type { RuntimeOptions } from '../src/config/schema.js';
import { type ErrorCode, errorToData } from '../src/errors.js';
import { writeOnnxModel } from '../src/model/onnx-writer.js';
import { createServer } from '../src/server/app.js';
import type { ModelStatus } from '../src/server/service.js';
import { tensor } from '../src/tensor/tensor.js';
import { gateVariable, holdFrom } from './fixtures/held-worker.js';
import { call, errorOf, jsonInput } from './support/http-call.js';
import { type OpenedRuntime, openWith, type ServedModel } from './support/served.js';
import { makeDirectory, removeDirectory, scaleModel } from './support/test-models.js';
import { until } from './support/until.js';

/** No answer comes so late on a thread that is free; a request that finds none is answered with its deadline. */
const timeoutMs = 10_000;

interface Opened extends OpenedRuntime {
  /** The first value of the answer to rows of this one. */
  infer(model: string, first: number, rows?: number): Promise<number>;
  /** Runs that have come to the gate. */
  held(): number;
  /** Lets them run, and all that come; with a number only so many, the first. */
  release(runs?: number): void;
  /** The value of a metric without labels, or of one model. */
  metric(name: string, model?: string): Promise<number>;
  statusOf(model: string, version: number): ModelStatus | undefined;
  text(): string;
}

async function open(
  t: TestContext,
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions = {},
): Promise<Opened> {
  const place = makeDirectory('gate');
  const gate = join(place, 'gate');
  process.env[gateVariable] = gate;
  const lines: string[] = [];
  const opened = await openWith(models, options, {
    workerFile: fileURLToPath(new URL('./fixtures/held-worker.js', import.meta.url)),
    logger: pino({ level: 'info' }, { write: (line: string) => void lines.push(line) }),
  });
  const { runtime } = opened;
  const release = (runs?: number): void => {
    // Renamed, so that no run finds it empty meanwhile.
    writeFileSync(`${gate}.next`, runs === undefined ? '' : String(runs));
    renameSync(`${gate}.next`, gate);
  };
  t.after(async () => {
    release();
    await opened.close();
    removeDirectory(place);
  });
  return {
    ...opened,
    infer: async (model, first, rows = 1) => {
      const values = Array.from({ length: rows * 4 }, () => first);
      const { outputs } = await runtime.infer(model, { x: tensor('FP32', [rows, 4], values) }, { timeoutMs });
      return Number(outputs.y!.data[0]);
    },
    held: () => (existsSync(`${gate}.held`) ? readFileSync(`${gate}.held`).length : 0),
    release,
    metric: async (name, model) => {
      const labels = model === undefined ? '' : `\\{model="${model}".*\\}`;
      return Number(
        new RegExp(`^onnx_serving_${name}${labels} (\\S+)$`, 'm').exec(await runtime.metrics())![1],
      );
    },
    statusOf: (model, version) =>
      runtime.listModels().find((one) => one.name === model && one.version === version),
    text: () => lines.join(''),
  };
}

const codeOf = (error: unknown): ErrorCode => errorToData(error).code;

test('an unload answers what was accepted, running or waiting, refuses what comes, and gives everything back', async (t) => {
  const model = { model: scaleModel(2), settings: { max_batch_size: 1 } };
  const { runtime, infer, held, release, metric, statusOf } = await open(t, {
    m: model,
    other: scaleModel(3),
  });
  const app = await createServer(runtime);
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => app.close());
  const accepted = Array.from({ length: 8 }, (_, i) => infer('m', holdFrom + i));
  await until('both threads run it', () => held() === 2);
  assert.equal(await metric('queue_depth', 'm'), 6);
  let isUnloaded = false;
  const unloading = runtime.unload('m').then(() => {
    isUnloaded = true;
  });
  await until('it drains', () => statusOf('m', 1)?.state === 'draining');
  await assert.rejects(infer('m', 1), { code: 'SRV_MODEL_NOT_READY' });
  const refused = await call(`${url}/v2/models/m/infer`, {
    body: { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] },
  });
  assert.equal(refused.status, 503, errorOf(refused));
  assert.equal(isUnloaded, false);
  release();
  assert.deepEqual(
    await Promise.all(accepted),
    accepted.map((_, i) => 2 * (holdFrom + i)),
  );
  await unloading;
  assert.equal(held(), 8, 'each ran once');
  assert.equal(statusOf('m', 1)?.state, 'unloaded');
  assert.deepEqual(statusOf('m', 1)?.devices, []);
  assert.equal(await metric('queue_bytes'), 0);
  assert.equal(await infer('other', 1), 3);
  await runtime.load('m');
  assert.equal(await infer('m', 1), 2);
});

test('callers of a model that is unloaded and loaded again and again get right answers or are told that it is not ready', {
  timeout: 60_000,
}, async (t) => {
  const { runtime, infer, metric } = await open(t, { m: scaleModel(2) });
  const codes = new Set<string>();
  let answered = 0;
  let isOver = false;
  const callers = Array.from({ length: 8 }, async (_, caller) => {
    for (let turn = 0; !isOver; turn++) {
      const first = (caller * 97 + turn) % holdFrom;
      try {
        assert.equal(await infer('m', first), 2 * first);
        answered += 1;
      } catch (error) {
        codes.add(codeOf(error));
        await new Promise((resume) => setImmediate(resume));
      }
    }
  });
  for (let turn = 0; turn < 5; turn++) {
    const before = answered;
    await until('it answers', () => answered > before + 20);
    await runtime.unload('m');
    await runtime.load('m');
  }
  isOver = true;
  await Promise.all(callers);
  assert.deepEqual([...codes], ['SRV_MODEL_NOT_READY']);
  assert.equal(await metric('queue_bytes'), 0);
});

/** Publishes version 2 of `m`, whose warm-up is one request that is held up. */
function publishSlow(repository: string, timeLimitMs: number): void {
  const staging = join(repository, '.staging');
  mkdirSync(staging);
  writeFileSync(join(staging, 'model.onnx'), writeOnnxModel(scaleModel(5)));
  writeFileSync(
    join(repository, 'm/warm.jsonl'),
    JSON.stringify({ inputs: [jsonInput('x', 'FP32', [1, 4], Array(4).fill(holdFrom))] }),
  );
  writeFileSync(
    join(repository, 'm/model.json'),
    JSON.stringify({ warm_up_data_path: 'warm.jsonl', warm_up_count: 1, warm_up_timeout_ms: timeLimitMs }),
  );
  renameSync(staging, join(repository, 'm/2'));
}

async function openVersioned(t: TestContext): Promise<Opened> {
  const opened = await open(t, { other: scaleModel(7) });
  mkdirSync(join(opened.repository, '.m/1'), { recursive: true });
  writeFileSync(join(opened.repository, '.m/1/model.onnx'), writeOnnxModel(scaleModel(1)));
  renameSync(join(opened.repository, '.m'), join(opened.repository, 'm'));
  await until('version 1 is served', async () => (await opened.infer('m', 1).catch(() => 0)) === 1);
  return opened;
}

test('while a new version takes long to warm up the old one answers all the while, and then the new one', async (t) => {
  const { repository, infer, held, release, statusOf } = await openVersioned(t);
  publishSlow(repository, 0);
  await until('it is being warmed up', () => held() === 1);
  for (let i = 0; i < 50; i++) {
    assert.deepEqual(await Promise.all([infer('m', i), infer('other', i), infer('m', i)]), [i, 7 * i, i]);
  }
  assert.equal(statusOf('m', 2)?.state, 'loading');
  assert.equal(statusOf('m', 1)?.state, 'ready');
  release();
  await until('the new one answers', async () => (await infer('m', 1)) === 5);
  await until('the old one is gone', () => statusOf('m', 1)?.state === 'unloaded');
});

test('a new version over the time limit of its warm-up fails with the reason, and the old one serves on', async (t) => {
  const { repository, infer, held, release, statusOf, text } = await openVersioned(t);
  publishSlow(repository, 20);
  const late = /the warm-up of m version 2 waits for .*warm\.jsonl.*, which runs for 20 ms by now/g;
  const lateRuns = (): number => [...text().matchAll(late)].length;
  const hasFailed = (): boolean => statusOf('m', 2)?.state === 'failed';
  await until('it is late', () => lateRuns() === 1);
  assert.equal(await infer('m', 4), 4);
  // Where it gave way to others it is run once more without.
  release(1);
  await until('it is late again, or has failed', () => lateRuns() === 2 || hasFailed());
  assert.equal(await infer('m', 4), 4);
  release();
  await until('it has failed', hasFailed);
  const { error, reason } = statusOf('m', 2)!;
  assert.equal(error?.code, 'SRV_WARM_UP_FAILED');
  assert.match(reason!, /warm\.jsonl.*it ran for \d+ ms; the limit is 20 ms \(warm_up_timeout_ms\)/);
  assert.ok(held() >= 1);
  assert.equal(statusOf('m', 1)?.state, 'ready');
  assert.equal(await infer('m', 4), 4);
});

test('max_workers leaves the other thread to the neighbours of a hot model, which has both without it', async (t) => {
  const hot = scaleModel(2);
  const { infer, held, release, metric } = await open(t, {
    bounded: { model: hot, settings: { max_workers: 1, max_batch_size: 1 } },
    greedy: { model: hot, settings: { max_batch_size: 1 } },
    neighbour: scaleModel(3),
  });
  const first = Array.from({ length: 4 }, (_, i) => infer('bounded', holdFrom + i));
  await until('it has its thread', () => held() === 1);
  for (let i = 0; i < 20; i++) assert.equal(await infer('neighbour', i), 3 * i);
  assert.equal(held(), 1);
  assert.equal(await metric('in_flight', 'bounded'), 1);
  assert.equal(await metric('queue_depth', 'bounded'), 3);
  const second = Array.from({ length: 4 }, (_, i) => infer('greedy', holdFrom + i));
  await until('the other thread is taken too', () => held() === 2);
  const waiting = infer('neighbour', 9);
  await until('the neighbour waits', async () => (await metric('queue_depth', 'neighbour')) === 1);
  release();
  assert.equal(await waiting, 27);
  const expected = first.map((_, i) => 2 * (holdFrom + i));
  assert.deepEqual(await Promise.all(first), expected);
  assert.deepEqual(await Promise.all(second), expected);
});

test('a hot model at its max_queue_bytes is refused by name, and its neighbour is answered', async (t) => {
  const { runtime, infer, held, release, metric } = await open(
    t,
    {
      hot: { model: scaleModel(2), settings: { max_workers: 1, max_batch_size: 64, max_queue_bytes: 2048 } },
      neighbour: scaleModel(3),
    },
    { maxQueueBytes: 3072 },
  );
  const accepted = [infer('hot', holdFrom, 64)];
  await until('it runs', () => held() === 1);
  accepted.push(infer('hot', holdFrom, 64));
  await assert.rejects(infer('hot', 1), (error) => {
    assert.equal(codeOf(error), 'SRV_QUEUE_FULL');
    assert.match(
      errorToData(error).message,
      /the queue of hot version 1 is full: 2048 bytes wait or run, this request has 16, the limit is 2048 \(max_queue_bytes of the model\)/,
    );
    return true;
  });
  assert.equal(await infer('neighbour', 5, 64), 15, 'there is room for the neighbour');
  const app = await createServer(runtime);
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  t.after(() => app.close());
  const body = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };
  const refused = await call(`${url}/v2/models/hot/infer`, { body });
  assert.equal(refused.status, 503);
  assert.equal(refused.headers['retry-after'], '1');
  assert.equal((await call(`${url}/v2/models/neighbour/infer`, { body })).status, 200);
  const tooMuch = infer('neighbour', 5, 300);
  await assert.rejects(tooMuch, {
    code: 'SRV_QUEUE_FULL',
    message:
      /all queues together are full: \d+ bytes wait or run, this request has \d+, the limit is 3072 \(max_queue_bytes of the server\)/,
  });
  release();
  assert.deepEqual(await Promise.all(accepted), [2 * holdFrom, 2 * holdFrom]);
  assert.equal(await metric('queue_bytes'), 0);
  assert.equal(await infer('hot', 1, 64), 2);
});
