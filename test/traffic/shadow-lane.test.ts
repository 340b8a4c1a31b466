import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ShadowSettings } from '../../src/config/traffic-settings.js';
import { ServingError } from '../../src/errors.js';
import type { InferAnswer, InferCall, NamedTensor } from '../../src/server/service.js';
import { tensor } from '../../src/tensor/tensor.js';
import { ShadowLane } from '../../src/traffic/shadow-lane.js';
import { ManualClock } from '../support/manual-clock.js';

const output = (value: number): readonly NamedTensor[] => [
  { name: 'y', tensor: tensor('FP32', [1, 1], [value]) },
];

const request = (more: Partial<InferCall> = {}): InferCall => ({
  model: 'public',
  inputs: [{ name: 'x', tensor: tensor('FP32', [1, 1], [1]) }],
  protocol: 'http',
  origin: 'socket',
  ...more,
});

/** A lane whose runs the test answers. */
function open(settings: Partial<ShadowSettings> = {}): {
  lane: ShadowLane;
  clock: ManualClock;
  runs: { call: InferCall; answer(value: number): void; fail(error: Error): void }[];
  room: { isThere: boolean };
  ready: { version: number | undefined };
} {
  const clock = new ManualClock();
  const runs: ReturnType<typeof open>['runs'] = [];
  const room = { isThere: true };
  const ready: { version: number | undefined } = { version: 4 };
  const lane = new ShadowLane(
    'public',
    { tag: 'next', model: 'new', ...settings },
    {
      clock,
      hasRoom: () => room.isThere,
      random: () => 0.5,
      targets: { readyVersion: () => ready.version, mayWake: () => false, problemWith: () => undefined },
      infer: (call) =>
        new Promise<InferAnswer>((resolve, reject) => {
          runs.push({
            call,
            answer: (value) =>
              resolve({ model: 'new', version: 4, outputs: output(value), recordEncode: () => undefined }),
            fail: reject,
          });
        }),
    },
  );
  return { lane, clock, runs, room, ready };
}

test('a copy runs after the caller has its answer, last in line, and is compared', async () => {
  const { lane, clock, runs } = open();
  lane.offer(request({ priority: 1, timeoutMs: 50, outputs: ['y'] }), output(1), 0.01);
  assert.equal(runs.length, 0, 'not before the turn is over');
  await clock.settle();
  const { call } = runs[0]!;
  assert.deepEqual(
    [call.model, call.version, call.protocol, call.outputs, call.timeoutMs, call.priority],
    ['new', 4, 'shadow', ['y'], 50, 32],
  );
  assert.equal(call.isAbandoned, undefined);
  await clock.advance(30);
  runs[0]!.answer(1.5);
  await clock.settle();
  assert.deepEqual([lane.compared, lane.maxAbsDifference, lane.failed, lane.shed], [1, 0.5, 0, 0]);
  assert.ok(Math.abs(lane.latencyDifference.sum - 0.02) < 1e-9);
});

test('while others want the instances a copy waits, and is dropped after a second', async () => {
  const { lane, clock, runs, room } = open();
  room.isThere = false;
  lane.offer(request(), output(1), 0.01);
  await clock.advance(500);
  assert.equal(runs.length, 0);
  lane.offer(request(), output(1), 0.01);
  await clock.advance(600);
  assert.deepEqual([runs.length, lane.shed], [0, 1]);
  room.isThere = true;
  await clock.advance(5);
  assert.equal(runs.length, 1);
  runs[0]!.answer(1);
  await clock.settle();
  assert.equal(lane.compared, 1);
  assert.equal(clock.timers, 0, 'nothing is watched when nothing waits');
});

test('no more copies wait and run than allowed: others are dropped at once', async () => {
  const { lane, clock, runs } = open({ max_in_flight: 2 });
  for (let i = 0; i < 5; i++) lane.offer(request(), output(1), 0.01);
  assert.equal(lane.shed, 3);
  await clock.settle();
  await clock.advance(20);
  assert.equal(runs.length, 2);
  lane.offer(request(), output(1), 0.01);
  assert.equal(lane.shed, 4);
  runs[0]!.answer(1);
  await clock.settle();
  lane.offer(request(), output(1), 0.01);
  assert.equal(lane.shed, 4);
});

test('copies of large inputs are dropped before they hold much memory', async () => {
  const { lane, clock, runs, room } = open();
  room.isThere = false;
  const large = [{ name: 'x', tensor: tensor('FP32', [1, 10_000_000], new Float32Array(10_000_000)) }];
  lane.offer(request({ inputs: large }), output(1), 0.01);
  lane.offer(request({ inputs: large }), output(1), 0.01);
  assert.equal(lane.shed, 1, '80 MB are too much');
  await clock.settle();
  await clock.advance(1100);
  assert.equal(lane.shed, 2);
  room.isThere = true;
  lane.offer(request({ inputs: large }), output(1), 0.01);
  await clock.settle();
  assert.equal(runs.length, 1, 'what was dropped is not counted any more');
  runs[0]!.answer(1);
  await clock.settle();
  lane.offer(request({ inputs: large }), output(1), 0.01);
  await clock.settle();
  assert.equal(runs.length, 2);
});

test('only the sample is copied', async () => {
  const { lane, clock, runs } = open({ sample: 0.5 });
  lane.offer(request(), output(1), 0.01);
  await clock.settle();
  assert.deepEqual([runs.length, lane.shed], [0, 0]);
  const more = open({ sample: 0.51 });
  more.lane.offer(request(), output(1), 0.01);
  await more.clock.settle();
  assert.equal(more.runs.length, 1);
});

test('what a caller of this process gave and got is copied, because it is its own again', async () => {
  const { lane, clock, runs } = open();
  const call = request({ origin: 'process' });
  const outputs = output(1);
  lane.offer(call, outputs, 0.01);
  (call.inputs[0]!.tensor.data as Float32Array).fill(9);
  (outputs[0]!.tensor.data as Float32Array).fill(9);
  await clock.settle();
  assert.equal(runs[0]!.call.inputs[0]!.tensor.data[0], 1);
  runs[0]!.answer(1);
  await clock.settle();
  assert.equal(lane.maxAbsDifference, 0);
});

test('a failure, an answer of another shape and a shadow that is not ready are counted with their reason', async () => {
  const { lane, clock, runs, ready } = open();
  lane.offer(request(), output(1), 0.01);
  await clock.settle();
  runs[0]!.fail(new ServingError('SRV_MODEL_RUN_FAILED', 'no'));
  await clock.settle();
  assert.deepEqual([lane.failed, lane.lastFailure], [1, 'SRV_MODEL_RUN_FAILED: no']);
  lane.offer(request(), [{ name: 'z', tensor: tensor('FP32', [1], [1]) }], 0.01);
  await clock.settle();
  runs[1]!.answer(1);
  await clock.settle();
  assert.deepEqual([lane.failed, lane.lastFailure], [2, "it has no output 'z'"]);
  ready.version = undefined;
  lane.offer(request(), output(1), 0.01);
  await clock.settle();
  assert.deepEqual([lane.failed, lane.lastFailure, lane.compared], [3, 'new is not ready', 0]);
});

test('a closed lane drops what waits and takes nothing', async () => {
  const { lane, clock, runs, room } = open();
  room.isThere = false;
  lane.offer(request(), output(1), 0.01);
  await clock.settle();
  lane.close();
  room.isThere = true;
  lane.offer(request(), output(1), 0.01);
  await clock.advance(2000);
  assert.deepEqual([runs.length, lane.shed, clock.timers], [0, 0, 0]);
});
