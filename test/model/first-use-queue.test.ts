import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelSettings } from '../../src/config/model-settings.js';
import { errorToData, ServingError } from '../../src/errors.js';
import { FirstUseQueue } from '../../src/model/first-use-queue.js';
import { queueRulesOf } from '../../src/model/queue-rules.js';
import type { InferCall } from '../../src/server/service.js';
import { ManualClock } from '../support/manual-clock.js';

type Wishes = Partial<Pick<InferCall, 'model' | 'priority' | 'timeoutMs' | 'signal' | 'isAbandoned'>>;

function openQueue(settings: ModelSettings = {}, defaults = { maxQueueSize: 1024, requestTimeoutMs: 0 }) {
  const clock = new ManualClock();
  /** The ends of the loads that were begun, by model. */
  const loads: { model: string; resolve: () => void; reject: (reason: unknown) => void }[] = [];
  const load = (model: string): Promise<void> =>
    new Promise((resolve, reject) => loads.push({ model, resolve, reject }));
  const queue = new FirstUseQueue({ clock, load });
  const rules = queueRulesOf(settings, defaults);
  /** What became of each request, in this order; one that waits is not here. */
  const ends: string[] = [];
  const wait = (name: string, wishes: Wishes = {}, arrivedAt = clock.now()): void => {
    queue.wait({ model: 'm', ...wishes }, rules, arrivedAt).then(
      () => ends.push(`${name} goes on`),
      (error: unknown) => ends.push(`${name} ${errorToData(error).code}`),
    );
  };
  return { clock, loads, ends, wait };
}

test('all requests of a model wait for one load, and go on in the order in which they came', async () => {
  const { clock, loads, ends, wait } = openQueue();
  wait('a');
  wait('b');
  wait('other', { model: 'n' });
  await clock.settle();
  assert.deepEqual([loads.map(({ model }) => model), ends], [['m', 'n'], []]);
  loads[0]!.resolve();
  await clock.settle();
  assert.deepEqual(ends, ['a goes on', 'b goes on']);
  wait('c');
  assert.equal(loads.length, 3, 'whoever comes after its end asks anew');
});

test('a load that fails tells all who wait for it why', async () => {
  const { clock, loads, ends, wait } = openQueue();
  wait('a');
  wait('b', { timeoutMs: 5 });
  loads[0]!.reject(new ServingError('SRV_MODEL_INVALID', 'no model'));
  await clock.settle();
  assert.deepEqual(ends, ['a SRV_MODEL_INVALID', 'b SRV_MODEL_INVALID']);
  assert.equal(clock.timers, 0);
});

test('a request waits as long as it says, else its priority, its model or the server', async () => {
  const settings: ModelSettings = {
    requestTimeoutMs: 300,
    queuePolicies: { 1: { request_timeout_ms: 200 }, 2: { request_timeout_ms: 0 } },
  };
  const { clock, loads, ends, wait } = openQueue(settings);
  wait('model');
  wait('own', { timeoutMs: 100 });
  wait('for ever', { priority: 2 });
  wait('priority', { priority: 1 });
  wait('own of 0', { timeoutMs: 0 });
  wait('no number', { timeoutMs: Number.NaN });
  assert.equal(clock.timers, 1, 'they share one');
  const seen: string[][] = [];
  for (let step = 0; step < 3; step++) {
    await clock.advance(100);
    seen.push(ends.splice(0));
  }
  assert.deepEqual(seen, [
    ['own SRV_DEADLINE_EXCEEDED'],
    ['priority SRV_DEADLINE_EXCEEDED'],
    ['model', 'own of 0', 'no number'].map((name) => `${name} SRV_DEADLINE_EXCEEDED`),
  ]);
  await clock.advance(3_600_000);
  loads[0]!.resolve();
  await clock.settle();
  assert.deepEqual([ends, clock.timers], [['for ever goes on'], 0]);
  const ofServer = openQueue({}, { maxQueueSize: 1, requestTimeoutMs: 40 });
  ofServer.wait('a', {}, ofServer.clock.now() - 30);
  await ofServer.clock.advance(9);
  assert.deepEqual(ofServer.ends, []);
  await ofServer.clock.advance(1);
  assert.deepEqual(ofServer.ends, ['a SRV_DEADLINE_EXCEEDED'], 'its time began when it arrived');
});

test('a request that would be delayed in a queue is not refused for waiting', async () => {
  const { clock, loads, ends, wait } = openQueue({ requestTimeoutMs: 100, timeoutAction: 'delay' });
  wait('patient');
  wait('own', { timeoutMs: 100 });
  await clock.advance(500);
  assert.deepEqual(ends, ['own SRV_DEADLINE_EXCEEDED']);
  loads[0]!.resolve();
  await clock.settle();
  assert.deepEqual(ends.slice(1), ['patient goes on']);
});

test('a request that is withdrawn, or whose caller is gone, ends alone', async () => {
  const { clock, loads, ends, wait } = openQueue();
  const withdraw = new AbortController();
  let isGone = false;
  wait('a', { signal: withdraw.signal });
  wait('b', { isAbandoned: () => isGone });
  wait('c');
  withdraw.abort();
  await clock.settle();
  assert.deepEqual(ends, ['a SRV_CANCELLED']);
  await clock.advance(5000);
  isGone = true;
  await clock.advance(1000);
  assert.deepEqual(ends, ['a SRV_CANCELLED', 'b SRV_CANCELLED']);
  assert.equal(clock.timers, 0, 'the one that is left is not looked at');
  loads[0]!.resolve();
  await clock.settle();
  assert.deepEqual(ends.slice(2), ['c goes on']);
});

test('nothing is loaded for a request that nobody waits for any more', async () => {
  const { clock, loads, ends, wait } = openQueue();
  wait('a', { signal: AbortSignal.abort() });
  wait('b', { isAbandoned: () => true });
  await clock.settle();
  assert.deepEqual([ends, loads], [['a SRV_CANCELLED', 'b SRV_CANCELLED'], []]);
});

test('a load that all have given up goes on, and whoever comes joins it', async () => {
  const { clock, loads, ends, wait } = openQueue();
  wait('a', { timeoutMs: 10 });
  await clock.advance(10);
  wait('b');
  loads[0]!.resolve();
  await clock.settle();
  assert.deepEqual([ends, loads.length], [['a SRV_DEADLINE_EXCEEDED', 'b goes on'], 1]);
});

test('more requests than may queue are refused, until one of those that wait gives up', async () => {
  const settings: ModelSettings = { maxQueueSize: 3, queuePolicies: { 1: { max_queue_size: 1 } } };
  const { clock, ends, wait } = openQueue(settings);
  let isGone = false;
  wait('urgent', { priority: 1 });
  wait('urgent too', { priority: 1 });
  wait('b', { isAbandoned: () => isGone });
  wait('c');
  wait('d');
  wait('of another', { model: 'n' });
  await clock.settle();
  assert.deepEqual(ends, ['urgent too SRV_QUEUE_FULL', 'd SRV_QUEUE_FULL']);
  isGone = true;
  wait('e');
  await clock.settle();
  assert.deepEqual(ends.slice(2), ['b SRV_CANCELLED'], 'e waits in the place of b');
  wait('f');
  await clock.settle();
  assert.deepEqual(ends.slice(3), ['f SRV_QUEUE_FULL']);
});
