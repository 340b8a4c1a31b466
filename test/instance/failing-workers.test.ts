/** Workers and devices that fail on command: who pays, and what is there afterwards. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { RuntimeOptions } from '../../src/config/schema.js';
import type { ServingError } from '../../src/errors.js';
import type { Logger } from '../../src/observe/logger.js';
import type { Runtime } from '../../src/runtime.js';
import { type FixedTensor, tensor } from '../../src/tensor/tensor.js';
import { faults } from '../fixtures/faulty-worker.js';
import { openWith, type ServedModel } from '../support/served.js';
import { scaleModel, slowModel } from '../support/test-models.js';
import { until } from '../support/until.js';

interface Opened {
  readonly runtime: Runtime;
  /** Messages of the log, in order. */
  readonly log: string[];
}

async function open(
  t: TestContext,
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions,
): Promise<Opened> {
  const log: string[] = [];
  const write = (context: unknown, message?: string): void => {
    log.push(message ?? String(context));
  };
  const logger = { info: write, warn: write, error: write, debug: write, isLevelEnabled: () => false };
  const { runtime, close } = await openWith(models, options, {
    logger: logger as unknown as Logger,
    workerFile: fileURLToPath(new URL('../fixtures/faulty-worker.js', import.meta.url)),
  });
  t.after(close);
  return { runtime, log };
}

/** One row whose first value is `first`; gives the outputs' values. */
async function infer(runtime: Runtime, model: string, first: number): Promise<number[]> {
  const { outputs } = await runtime.infer(model, { x: tensor('FP32', [1, 4], [first, 2, 3, 4]) });
  return [...((outputs.y as FixedTensor).data as Float32Array)];
}

/** The devices that answered these requests, by how many each. */
async function devicesOf(runtime: Runtime, model: string, count: number): Promise<Map<string, number>> {
  const devices = new Map<string, number>();
  const asked = Array.from({ length: count }, () => infer(runtime, model, faults.tellDevice));
  for (const result of await Promise.allSettled(asked)) {
    assert.equal(result.status, 'rejected');
    const device = /ran on (\S+)/.exec((result.reason as Error).message)![1]!;
    devices.set(device, (devices.get(device) ?? 0) + 1);
  }
  return devices;
}

const replaced = (log: readonly string[]): number =>
  log.filter((line) => line === 'instance replaced').length;

for (const fault of ['die', 'exit'] as const) {
  test(`a worker that ends (${fault}) fails its own batch alone and is replaced with every version it held`, async (t) => {
    const models = { a: scaleModel(2), b: scaleModel(3), c: scaleModel(4) };
    const { runtime, log } = await open(t, models, { threads: 2 });
    const [dead, ...others] = await Promise.allSettled([
      infer(runtime, 'a', faults[fault]),
      infer(runtime, 'b', 1),
      infer(runtime, 'c', 1),
      infer(runtime, 'b', 1),
    ]);
    assert.equal((dead as PromiseRejectedResult).reason.code, 'SRV_WORKER_DIED');
    assert.deepEqual(
      others.map((result) => (result as PromiseFulfilledResult<number[]>).value?.[1]),
      [6, 8, 6],
    );
    await until('the worker is replaced', () => replaced(log) === 1);
    // Both instances, new and old, run every model: more requests than one of them would take.
    for (const [model, factor] of [
      ['a', 2],
      ['b', 3],
      ['c', 4],
    ] as const) {
      const answers = await Promise.all(Array.from({ length: 6 }, () => infer(runtime, model, 1)));
      for (const answer of answers) assert.deepEqual(answer, [factor, 2 * factor, 3 * factor, 4 * factor]);
    }
  });
}

test('with one thread, requests that wait while it is replaced are answered by the new one', async (t) => {
  const { runtime, log } = await open(
    t,
    { a: { model: scaleModel(), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  for (let round = 1; round <= 3; round++) {
    const dead = infer(runtime, 'a', faults.die);
    await assert.rejects(dead, { code: 'SRV_WORKER_DIED' });
    const waiting = Array.from({ length: 5 }, (_, i) => infer(runtime, 'a', i));
    for (const [i, answer] of (await Promise.all(waiting)).entries())
      assert.deepEqual(answer, [2 * i, 4, 6, 8]);
    assert.equal(replaced(log), round);
  }
});

test('batches that wait behind one that ends its worker are run by another', async (t) => {
  const { runtime } = await open(
    t,
    { a: { model: scaleModel(), settings: { max_batch_size: 1 } } },
    { threads: 1 },
  );
  const dying = infer(runtime, 'a', faults.dieLater);
  dying.catch(() => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  const behind = Array.from({ length: 4 }, (_, i) => infer(runtime, 'a', i));
  const results = await Promise.allSettled(behind);
  await assert.rejects(dying, { code: 'SRV_WORKER_DIED' });
  assert.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? result.value[0] : result.reason.code)),
    [0, 2, 4, 6],
  );
});

test('a model that is loaded while a worker is replaced is held by the new one too', async (t) => {
  const { runtime, log } = await open(
    t,
    { a: scaleModel(2), b: scaleModel(3) },
    {
      threads: 2,
      modelControl: 'explicit',
    },
  );
  await assert.rejects(infer(runtime, 'a', faults.die), { code: 'SRV_WORKER_DIED' });
  await runtime.service.loadModel('b');
  await until('the worker is replaced', () => replaced(log) === 1);
  const answers = await Promise.all(Array.from({ length: 12 }, () => infer(runtime, 'b', 1)));
  for (const answer of answers) assert.equal(answer[0], 3);
});

test('closing the runtime while a worker is being replaced ends in order', async (t) => {
  const { runtime } = await open(t, { a: scaleModel() }, { threads: 2 });
  await assert.rejects(infer(runtime, 'a', faults.die), { code: 'SRV_WORKER_DIED' });
  await runtime.close();
});

// Two groups as for two cards; only the sessions in them are of the CPU.
const cards = { provider: 'cpu', gpuIds: [0, 1] } as const;

test('the group logic for --gpu_ids 0,1, tested with CPU sessions standing for cards: batches spread over both', async (t) => {
  const { runtime } = await open(t, { a: { model: scaleModel(), settings: { max_batch_size: 1 } } }, cards);
  assert.deepEqual(runtime.listModels()[0]!.devices, ['cpu:0', 'cpu:1']);
  // Both cards are free at the start of a round; with more requests at once the quicker thread rightly takes more.
  for (let round = 0; round < 10; round++) {
    const devices = await devicesOf(runtime, 'a', 2);
    assert.deepEqual([...devices].toSorted(), [
      ['cpu:0', 1],
      ['cpu:1', 1],
    ]);
  }
});

test('the group logic for --gpu_ids 0,1, tested with CPU sessions standing for cards: a model.json chooses its cards', async (t) => {
  const { runtime } = await open(
    t,
    {
      first: { model: scaleModel(), settings: { gpu_ids: [0] } },
      second: { model: scaleModel(), settings: { gpu_ids: [1] } },
      both: scaleModel(),
      absent: { model: scaleModel(), settings: { gpu_ids: [7] } },
      none: { model: scaleModel(), settings: { gpu_ids: [] } },
    },
    cards,
  );
  assert.deepEqual([...(await devicesOf(runtime, 'first', 4)).keys()], ['cpu:0']);
  assert.deepEqual([...(await devicesOf(runtime, 'second', 4)).keys()], ['cpu:1']);
  const status = new Map(runtime.listModels().map((model) => [model.name, model]));
  assert.deepEqual(status.get('both')!.devices, ['cpu:0', 'cpu:1']);
  assert.equal(status.get('absent')!.state, 'failed');
  assert.match(status.get('absent')!.reason!, /asks for card 7; the server was given the cards \[0,1\]/);
  assert.match(status.get('none')!.reason!, /leave it no device/);
});

test('the group logic for --gpu_ids 0,1, tested with CPU sessions standing for cards: out of memory is answered per request', async (t) => {
  const { runtime } = await open(
    t,
    { a: { model: scaleModel(), settings: { max_queue_delay_us: 5000 } } },
    cards,
  );
  const results = await Promise.allSettled(
    [1, faults.outOfMemory, 2, 3].map((first) => infer(runtime, 'a', first)),
  );
  assert.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? result.value[0] : result.reason.code)),
    [2, 'SRV_OUT_OF_MEMORY', 4, 6],
  );
  assert.equal((await infer(runtime, 'a', 5))[0], 10);
  assert.deepEqual([...(await devicesOf(runtime, 'a', 12)).keys()].toSorted().slice(0, 1), ['cpu:0']);
});

test('the group logic for --gpu_ids 0,1, tested with CPU sessions standing for cards: a lost card leaves the other serving', async (t) => {
  const { runtime } = await open(
    t,
    {
      a: { model: scaleModel(), settings: { max_batch_size: 1 } },
      second: { model: scaleModel(), settings: { gpu_ids: [1] } },
    },
    cards,
  );
  // Sent until card 1 has had one: each of them is answered, by card 0 where card 1 is lost under it.
  const sent = Array.from({ length: 12 }, () => infer(runtime, 'a', faults.loseCard + 1));
  for (const answer of await Promise.all(sent)) assert.equal(answer[0], 2 * (faults.loseCard + 1));
  await assert.rejects(infer(runtime, 'second', faults.loseCard + 1), { code: 'SRV_DEVICE_LOST' });
  assert.deepEqual([...(await devicesOf(runtime, 'a', 12)).keys()], ['cpu:0']);
  const refused = await infer(runtime, 'second', 1).catch((error: ServingError) => error);
  assert.equal((refused as ServingError).code, 'SRV_DEVICE_LOST');
  assert.equal((await infer(runtime, 'a', 1))[0], 2);
});

test('the group logic for --gpu_ids 0,1, tested with CPU sessions standing for cards: CPU and cards serve side by side', async (t) => {
  const { runtime } = await open(
    t,
    {
      all: { model: scaleModel(), settings: { max_batch_size: 1 } },
      cards_only: { model: scaleModel(), settings: { cpu: false } },
      cpu_only: { model: scaleModel(), settings: { gpu_ids: [] } },
    },
    { ...cards, cpuGroup: true, threads: 1 },
  );
  const status = new Map(runtime.listModels().map((model) => [model.name, model.devices]));
  assert.deepEqual(status.get('all'), ['cpu:0', 'cpu:1', 'cpu']);
  assert.deepEqual(status.get('cards_only'), ['cpu:0', 'cpu:1']);
  assert.deepEqual(status.get('cpu_only'), ['cpu']);
  assert.deepEqual([...(await devicesOf(runtime, 'all', 30)).keys()].toSorted(), ['cpu', 'cpu:0', 'cpu:1']);
  assert.deepEqual([...(await devicesOf(runtime, 'cpu_only', 3)).keys()], ['cpu']);
});

test('the group logic for --gpu_ids 0,1, tested with CPU sessions standing for cards: several predictors on each', async (t) => {
  const { runtime } = await open(t, { a: slowModel(4) }, { ...cards, predictorsPerCard: 2 });
  assert.match(await runtime.metrics(), /onnx_serving_workers\{device="cpu:1"\} 2/);
  assert.deepEqual(runtime.service.model('a').instances, [
    { device: 'cpu:0', count: 2 },
    { device: 'cpu:1', count: 2 },
  ]);
  const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => infer(runtime, 'a', i)));
  assert.deepEqual(
    answers.map(([first]) => first),
    [0, 1, 2, 3, 4, 5, 6, 7],
  );
});

test('when every device of a model is lost, its requests are refused at once and the other models go on', async (t) => {
  const { runtime } = await open(
    t,
    {
      first: { model: scaleModel(), settings: { gpu_ids: [0] } },
      second: { model: scaleModel(), settings: { gpu_ids: [1] } },
    },
    cards,
  );
  await assert.rejects(infer(runtime, 'first', faults.loseCard), {
    code: 'SRV_DEVICE_LOST',
    message: /cpu:0 fell off the bus/,
  });
  await assert.rejects(infer(runtime, 'first', 1), {
    code: 'SRV_DEVICE_LOST',
    message: /no device of first version 1/,
  });
  assert.equal((await infer(runtime, 'second', 1))[0], 2);
  await runtime.close();
});
