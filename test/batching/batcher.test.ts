import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Batcher, type BatcherOptions } from '../../src/batching/batcher.js';
import { ByteBudget } from '../../src/batching/byte-budget.js';
import type { JobRequest } from '../../src/batching/job.js';
import { Scheduler } from '../../src/batching/scheduler.js';
import { ServingError } from '../../src/errors.js';
import { ModelStats } from '../../src/observe/model-stats.js';
import { FakeRunner, FakeSlots } from '../support/fake-runner.js';
import { ManualClock } from '../support/manual-clock.js';

const signature = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 1] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 1] }],
} as const;

const allOutputs = [0] as const;

function request(values: readonly number[], over: Partial<JobRequest> = {}): JobRequest {
  return {
    inputs: [{ datatype: 'FP32', shape: [values.length, 1], data: Float32Array.from(values) }],
    rows: values.length,
    bytes: values.length * 4,
    fetch: allOutputs,
    shapeKey: '',
    length: 0,
    priority: 5,
    deadlineAt: Number.POSITIVE_INFINITY,
    delayAt: Number.POSITIVE_INFINITY,
    origin: 'process',
    ...over,
  };
}

function setUp(over: Partial<BatcherOptions> = {}, instances = 1) {
  const clock = new ManualClock();
  const scheduler = new Scheduler(clock);
  const slots = new FakeSlots();
  const runner = new FakeRunner(slots, instances);
  const options: BatcherOptions = {
    label: 'm version 1',
    versionId: 1,
    signature,
    runners: [runner],
    canMerge: true,
    padding: [],
    targets: [],
    maxBatchSize: 8,
    maxQueueDelayUs: 0,
    maxQueueSize: 100,
    weight: 1,
    scheduler,
    slots: slots as never,
    queueBytes: new ByteBudget(1 << 20),
    stats: new ModelStats(),
    clock,
    ...over,
  };
  return { clock, scheduler, slots, runner, options, batcher: new Batcher(options) };
}

const valuesOf = async (job: { result: Promise<readonly { data: unknown }[]> }): Promise<number[]> =>
  Array.from((await job.result)[0]!.data as Float32Array);

/** The first value of each of the next runs, one after the other. */
async function valuesInOrder(
  runner: FakeRunner,
  batcher: Batcher,
  clock: ManualClock,
  runs: number,
): Promise<number[]> {
  const order: number[] = [];
  for (let i = 0; i < runs; i++) {
    const run = runner.runs[i]!;
    const input = run.message.inputs[0] as { offset: number };
    order.push(new Float32Array((batcher.options.slots as unknown as FakeSlots).buffer, input.offset, 1)[0]!);
    run.succeed();
    await clock.settle();
  }
  return order;
}

const codeOf = (job: { result: Promise<unknown> }): Promise<string> =>
  job.result.then(
    () => 'none',
    (error: ServingError) => error.code,
  );

describe('a batcher', () => {
  it('gives everything that waits at the end of the turn to the idle instance as one batch', async () => {
    const { batcher, clock, runner } = setUp();
    const jobs = [
      batcher.submit(request([1])),
      batcher.submit(request([2, 3])),
      batcher.submit(request([4])),
    ];
    await clock.settle();
    assert.equal(runner.runs.length, 1);
    assert.equal(runner.runs[0]!.rows, 4);
    runner.runs[0]!.succeed();
    assert.deepEqual(await Promise.all(jobs.map(valuesOf)), [[2], [4, 6], [8]]);
  });

  it('never puts more rows into a batch than its limit', async () => {
    const { batcher, clock, runner } = setUp();
    const jobs = Array.from({ length: 20 }, (_, i) => batcher.submit(request([i])));
    for (let batch = 0; batch < 3; batch++) {
      await clock.settle();
      runner.runs[batch]!.succeed();
    }
    assert.deepEqual(
      runner.runs.map(({ rows }) => rows),
      [8, 8, 4],
    );
    assert.deepEqual(
      (await Promise.all(jobs.map(valuesOf))).flat(),
      Array.from({ length: 20 }, (_, i) => 2 * i),
    );
  });

  it('runs no more batches at once than its cap, so that other versions find an instance', async () => {
    const { batcher, options, clock, runner } = setUp({ maxRunning: 2, maxBatchSize: 1 }, 3);
    const other = new Batcher({ ...options, maxRunning: undefined });
    for (const value of [1, 2, 3, 4]) batcher.submit(request([value]));
    await clock.settle();
    assert.equal(runner.runs.length, 2);
    other.submit(request([9]));
    await clock.settle();
    assert.equal(runner.runs.length, 3, 'the third instance is free for the other version');
    runner.runs[0]!.succeed();
    await clock.settle();
    assert.equal(runner.runs.length, 4);
    for (const at of [1, 2, 3]) runner.runs[at]!.succeed();
    await clock.settle();
    runner.runs[4]!.succeed();
    await clock.settle();
    assert.equal(batcher.queueSize + batcher.inFlight, 0);
  });

  it('refuses what is over the bytes of its model, while others still have room', async () => {
    const whole = new ByteBudget(100);
    const { batcher, options, clock, runner } = setUp({ queueBytes: new ByteBudget(8, whole) });
    const other = new Batcher({ ...options, queueBytes: whole });
    batcher.submit(request([1]));
    batcher.submit(request([2]));
    assert.throws(() => batcher.submit(request([3])), { code: 'SRV_QUEUE_FULL' });
    other.submit(request([4]));
    assert.equal(whole.used, 12);
    await clock.settle();
    runner.runs[0]!.succeed();
    await clock.settle();
    runner.runs[1]!.succeed();
    await clock.settle();
    assert.equal(whole.used, 0);
  });

  it('keeps jobs of different shapes in different batches', async () => {
    const { batcher, clock, runner } = setUp({}, 3);
    const wide = (value: number): JobRequest => ({
      ...request([value]),
      inputs: [{ datatype: 'FP32', shape: [1, 2], data: Float32Array.of(value, value) }],
      shapeKey: '2',
    });
    batcher.submit(request([1], { shapeKey: '1' }));
    batcher.submit(wide(2));
    batcher.submit(request([3], { shapeKey: '1' }));
    await clock.settle();
    assert.deepEqual(
      runner.runs.map(({ message }) => message.inputs[0]!.shape),
      [
        [2, 1],
        [1, 2],
      ],
    );
  });

  it('pads jobs of unlike lengths to the longest and cuts the padding off their outputs', async () => {
    const free = {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, -1] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, -1] }],
    } as const;
    const padding = [{ input: 0, axes: [1], value: 7 }];
    const { batcher, clock, runner } = setUp({ signature: free, padding });
    const ofLength = (values: readonly number[]): JobRequest => ({
      ...request([0]),
      inputs: [{ datatype: 'FP32', shape: [1, values.length], data: Float32Array.from(values) }],
      length: values.length,
    });
    const short = batcher.submit(ofLength([1]));
    const long = batcher.submit(ofLength([2, 3, 4]));
    await clock.settle();
    const input = runner.runs[0]!.message.inputs[0] as { shape: readonly number[]; offset: number };
    assert.deepEqual(input.shape, [2, 3]);
    const slots = batcher.options.slots as unknown as FakeSlots;
    assert.deepEqual([...new Float32Array(slots.buffer, input.offset, 6)], [1, 7, 7, 2, 3, 4]);
    runner.runs[0]!.succeed();
    assert.deepEqual([await valuesOf(short), await valuesOf(long)], [[2], [4, 6, 8]]);
    assert.deepEqual((await short.result)[0]!.shape, [1, 1]);
  });

  it('runs jobs one by one where rows must not merge', async () => {
    const { batcher, clock, runner } = setUp({ canMerge: false }, 2);
    batcher.submit(request([1]));
    batcher.submit(request([2]));
    await clock.settle();
    assert.deepEqual(
      runner.runs.map(({ rows }) => rows),
      [1, 1],
    );
  });

  it('serves the more urgent job first, and lets an old one overtake', async () => {
    const { batcher, clock, runner } = setUp({ canMerge: false });
    batcher.submit(request([0]));
    await clock.settle();
    batcher.submit(request([1], { priority: 7 }));
    await clock.advance(500);
    batcher.submit(request([2], { priority: 6 }));
    batcher.submit(request([3], { priority: 1 }));
    await clock.advance(3000);
    batcher.submit(request([4], { priority: 5 }));
    assert.deepEqual(await valuesInOrder(runner, batcher, clock, 5), [0, 3, 2, 1, 4]);
  });

  it('lets all go before a job that was delayed, and delayed ones go in their order', async () => {
    const { batcher, clock, runner } = setUp({ canMerge: false });
    batcher.submit(request([0]));
    await clock.settle();
    const delayed = { priority: 1, delayAt: clock.now() + 100 };
    batcher.submit(request([1], delayed));
    batcher.submit(request([2], { ...delayed, priority: 2 }));
    batcher.submit(request([3], { delayAt: clock.now() + 1000 }));
    await clock.advance(200);
    batcher.submit(request([4], { priority: 9 }));
    const order = await valuesInOrder(runner, batcher, clock, 5);
    assert.deepEqual(order, [0, 3, 4, 1, 2]);
  });

  it('waits for more rows as long as max_queue_delay_us allows, and no longer once a batch is full', async () => {
    const { batcher, clock, runner } = setUp({ maxQueueDelayUs: 5000 });
    batcher.submit(request([1]));
    await clock.advance(4);
    assert.equal(runner.runs.length, 0);
    await clock.advance(1.1);
    assert.equal(runner.runs.length, 1);
    runner.runs[0]!.succeed();
    await clock.settle();
    for (let i = 0; i < 8; i++) batcher.submit(request([i]));
    await clock.settle();
    assert.equal(runner.runs[1]!.rows, 8);
  });

  it('ends the wait for more rows as soon as there are enough of them, and takes all that wait', async () => {
    const { batcher, clock, runner } = setUp({ maxQueueDelayUs: 5000, enoughRows: 3 });
    for (const row of [1, 2]) batcher.submit(request([row]));
    await clock.settle();
    assert.equal(runner.runs.length, 0);
    for (const row of [3, 4]) batcher.submit(request([row]));
    await clock.settle();
    assert.equal(runner.runs[0]!.rows, 4);
  });

  it('refuses at once when the queue is full in requests, and names the limit', async () => {
    const { batcher, clock } = setUp({ maxQueueSize: 2 });
    batcher.submit(request([1]));
    await clock.settle();
    batcher.submit(request([2]));
    batcher.submit(request([3]));
    assert.throws(() => batcher.submit(request([4])), {
      code: 'SRV_QUEUE_FULL',
      message: /2 requests wait \(max_queue_size\)/,
    });
  });

  it('refuses what has a limit of its own priority when as many of it wait, and takes others', async () => {
    const { batcher, clock } = setUp({ maxQueueSizes: new Map([[1, 2]]) });
    batcher.submit(request([0]));
    await clock.settle();
    batcher.submit({ ...request([1]), priority: 1 });
    const withdrawn = batcher.submit({ ...request([2]), priority: 1 });
    assert.throws(() => batcher.submit({ ...request([3]), priority: 1 }), {
      code: 'SRV_QUEUE_FULL',
      message: /full for priority 1: 2 requests wait \(queue_policies\)/,
    });
    assert.doesNotThrow(() => batcher.submit({ ...request([4]), priority: 2 }));
    withdrawn.cancel();
    await assert.rejects(withdrawn.result, { code: 'SRV_CANCELLED' });
    assert.doesNotThrow(() => batcher.submit({ ...request([5]), priority: 1 }));
  });

  it('refuses at once when the queue is full in bytes, and takes requests again when they are answered', async () => {
    const { batcher, clock, runner } = setUp({ queueBytes: new ByteBudget(8) });
    const first = batcher.submit(request([1, 2]));
    assert.throws(() => batcher.submit(request([3])), { code: 'SRV_QUEUE_FULL', message: /max_queue_bytes/ });
    await clock.settle();
    runner.runs[0]!.succeed();
    await first.result;
    assert.doesNotThrow(() => batcher.submit(request([3])));
  });

  it('answers a job whose deadline passes in the queue, and runs its neighbours', async () => {
    const { batcher, clock, runner } = setUp();
    batcher.submit(request([0]));
    await clock.settle();
    const late = batcher.submit(request([1], { deadlineAt: clock.now() + 50 }));
    const patient = batcher.submit(request([2]));
    const lateCode = codeOf(late);
    await clock.advance(60);
    assert.equal(await lateCode, 'SRV_DEADLINE_EXCEEDED');
    runner.runs[0]!.succeed();
    await clock.settle();
    assert.equal(runner.runs[1]!.rows, 1);
    runner.runs[1]!.succeed();
    assert.deepEqual(await valuesOf(patient), [4]);
  });

  it('drops a cancelled job while it waits, and lets it finish once it runs', async () => {
    const { batcher, clock, runner } = setUp();
    const running = batcher.submit(request([1]));
    await clock.settle();
    const waiting = batcher.submit(request([2]));
    const codes = Promise.all([running, waiting].map(codeOf));
    waiting.cancel();
    running.cancel();
    assert.deepEqual(await codes, ['SRV_CANCELLED', 'SRV_CANCELLED']);
    assert.equal(batcher.queueSize, 0);
    assert.equal(batcher.inFlight, 1);
    runner.runs[0]!.succeed();
    await clock.settle();
    assert.equal(runner.runs.length, 1);
    assert.equal(batcher.inFlight, 0);
  });

  it('does not run a job whose caller has gone away', async () => {
    const { batcher, clock, runner } = setUp();
    batcher.submit(request([0]));
    await clock.settle();
    let isGone = false;
    const job = batcher.submit(request([1], { isAbandoned: () => isGone }));
    const code = codeOf(job);
    isGone = true;
    runner.runs[0]!.succeed();
    await clock.settle();
    assert.equal(await code, 'SRV_CANCELLED');
    assert.equal(runner.runs.length, 1);
  });

  it('splits a failing batch in halves until the bad job stands alone, so that neighbours get their answers', async () => {
    const { batcher, clock, runner } = setUp();
    const jobs = [0, 1, 2, 13].map((value) => batcher.submit(request([value])));
    const outcomes = jobs.map((job) => valuesOf(job).catch((error: ServingError) => error.code));
    for (let i = 0; i < 12; i++) {
      await clock.settle();
      const run = runner.runs[i];
      if (!run) break;
      const { offset } = run.message.inputs[0] as { offset: number };
      const values = new Float32Array(
        (batcher.options.slots as unknown as FakeSlots).buffer,
        offset,
        run.rows,
      );
      if (values.includes(13)) run.fail(new ServingError('SRV_MODEL_RUN_FAILED', 'no thirteens'));
      else run.succeed();
    }
    assert.deepEqual(await Promise.all(outcomes), [[0], [2], [4], 'SRV_MODEL_RUN_FAILED']);
  });

  it('runs jobs alone for ten seconds after three bad batches', async () => {
    const { batcher, clock, runner } = setUp();
    for (let round = 0; round < 3; round++) {
      const codes = [batcher.submit(request([1])), batcher.submit(request([2]))].map(codeOf);
      await clock.settle();
      while (runner.runs.length > 0) {
        runner.runs.shift()!.fail(new ServingError('SRV_MODEL_RUN_FAILED', 'bad'));
        await clock.settle();
      }
      await Promise.all(codes);
    }
    batcher.submit(request([1]));
    batcher.submit(request([2]));
    await clock.settle();
    assert.equal(runner.runs[0]!.rows, 1);
    runner.runs.shift()!.succeed();
    await clock.settle();
    runner.runs.shift()!.succeed();
    await clock.advance(10_001);
    batcher.submit(request([1]));
    batcher.submit(request([2]));
    await clock.settle();
    assert.equal(runner.runs[0]!.rows, 2);
  });

  it('fails the whole batch, and it alone, when the worker that ran it died', async () => {
    const { batcher, clock, runner } = setUp({ maxBatchSize: 2 });
    const jobs = [1, 2, 3].map((value) => batcher.submit(request([value])));
    const outcomes = jobs.map((job) => valuesOf(job).catch((error: ServingError) => error.code));
    await clock.settle();
    runner.runs[0]!.fail(new ServingError('SRV_WORKER_DIED', 'gone'));
    await clock.settle();
    runner.runs[1]!.succeed();
    assert.deepEqual(await Promise.all(outcomes), ['SRV_WORKER_DIED', 'SRV_WORKER_DIED', [6]]);
  });

  it('gives the batch of a lost card to another card, and refuses when none is left', async () => {
    const slots = new FakeSlots();
    const cards = [new FakeRunner(slots), new FakeRunner(slots)];
    const { batcher, clock } = setUp({ slots: slots as never, runners: cards });
    const job = batcher.submit(request([5]));
    await clock.settle();
    cards[0]!.runs[0]!.fail(new ServingError('SRV_DEVICE_LOST', 'card fell off the bus'));
    await clock.settle();
    cards[1]!.runs[0]!.succeed();
    assert.deepEqual(await valuesOf(job), [10]);
    const second = batcher.submit(request([6]));
    const code = codeOf(second);
    await clock.settle();
    cards[1]!.runs[1]!.fail(new ServingError('SRV_DEVICE_LOST', 'card fell off the bus'));
    assert.equal(await code, 'SRV_DEVICE_LOST');
    assert.throws(() => batcher.submit(request([7])), { code: 'SRV_DEVICE_LOST' });
  });

  it('keeps a batch waiting while all slots are in use, and runs it when one is given back', async () => {
    const slots = new FakeSlots(1);
    const runner = new FakeRunner(slots, 2);
    const { batcher, clock } = setUp({ slots: slots as never, runners: [runner], maxBatchSize: 1 });
    batcher.submit(request([1]));
    const second = batcher.submit(request([2]));
    await clock.settle();
    assert.equal(runner.runs.length, 1);
    runner.runs[0]!.succeed();
    await clock.settle();
    runner.runs[1]!.succeed();
    assert.deepEqual(await valuesOf(second), [4]);
  });

  it('takes no new jobs once it closes, and answers those that wait', async () => {
    const { batcher, clock, runner } = setUp();
    const job = batcher.submit(request([1]));
    await clock.settle();
    const waiting = batcher.submit(request([2]));
    const closed = batcher.close();
    assert.throws(() => batcher.submit(request([3])), { code: 'SRV_SHUTTING_DOWN' });
    runner.runs[0]!.succeed();
    await clock.settle();
    runner.runs[1]!.succeed();
    await closed;
    assert.deepEqual([await valuesOf(job), await valuesOf(waiting)], [[2], [4]]);
  });

  it('returns only the outputs that a job asked for when its neighbours ask for others', async () => {
    const two = {
      inputs: signature.inputs,
      outputs: [...signature.outputs, { name: 'z', datatype: 'FP32', shape: [-1, 1] }],
    } as const;
    const { batcher, clock, runner } = setUp({ signature: two });
    const onlySecond = batcher.submit(request([1], { fetch: [1] }));
    const both = batcher.submit(request([2], { fetch: [1, 0] }));
    await clock.settle();
    assert.deepEqual(runner.runs[0]!.message.fetch, [0, 1]);
    runner.runs[0]!.succeed();
    assert.equal((await onlySecond.result).length, 1);
    assert.equal((await both.result).length, 2);
  });
});

describe('the scheduler', () => {
  it('shares an instance between a busy and a quiet model by the time they use', async () => {
    const shared = setUp({ canMerge: false });
    const { clock, runner, options } = shared;
    const greedy = shared.batcher;
    const modest = new Batcher({ ...options, versionId: 2, label: 'modest', stats: new ModelStats() });
    for (let i = 0; i < 10; i++) greedy.submit(request([i]));
    await clock.settle();
    for (let i = 0; i < 10; i++) modest.submit(request([i]));
    const order: number[] = [];
    for (let i = 0; i < 12; i++) {
      const run = runner.runs[i]!;
      order.push(run.message.versionId);
      // The greedy model takes ten times as long.
      run.succeed(run.message.versionId === 1 ? 10 : 1);
      await clock.settle();
    }
    const modestRuns = order.filter((id) => id === 2).length;
    assert.ok(modestRuns >= 7, `the modest model ran ${modestRuns} times in ${order}`);
  });
});
