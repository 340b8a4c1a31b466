/** Samples of live traffic: uniform, bounded, written for the next version, and read by it. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { seededRandom } from '../../src/loadtest/load.js';
import { tensor } from '../../src/tensor/tensor.js';
import { parseRequests } from '../../src/warmup/read-requests.js';
import { Reservoir } from '../../src/warmup/reservoir.js';
import { sampleFile } from '../../src/warmup/sample-file.js';
import { TrafficRecorder, type TrafficRecorderOptions } from '../../src/warmup/traffic-recorder.js';
import type { RequestToWrite } from '../../src/warmup/write-requests.js';
import { type Answer, call, errorOf, json, jsonInput } from '../support/http-call.js';
import { ManualClock } from '../support/manual-clock.js';
import { openWith, serveModels } from '../support/served.js';
import { makeDirectory, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

test('every item of a stream is in the sample with the same probability', () => {
  const random = seededRandom(7);
  const [length, capacity, rounds] = [50, 10, 4000];
  const chosen = new Float64Array(length);
  for (let round = 0; round < rounds; round++) {
    const reservoir = new Reservoir<number>(capacity, random);
    for (let item = 0; item < length; item++) reservoir.offer(() => item);
    assert.equal(reservoir.items.length, capacity);
    assert.equal(new Set(reservoir.items).size, capacity);
    for (const item of reservoir.items) chosen[item]! += 1;
  }
  // Each is chosen 800 times, give or take 25; five deviations.
  for (const [item, times] of chosen.entries()) {
    assert.ok(Math.abs(times - 800) < 127, `item ${item} was chosen ${times} times`);
  }
});

test('of a long stream hardly any item is looked at', () => {
  const reservoir = new Reservoir<number>(100, seededRandom(3));
  let made = 0;
  for (let item = 0; item < 1_000_000; item++) reservoir.offer(() => ++made);
  // 100 (1 + ln(1,000,000 / 100)) = 1021 on average.
  assert.ok(made > 850 && made < 1200, String(made));
  assert.equal(reservoir.seen, 1_000_000);
});

test('items that are not kept leave a uniform sample of the others', () => {
  const random = seededRandom(5);
  const chosen = new Float64Array(40);
  for (let round = 0; round < 4000; round++) {
    const reservoir = new Reservoir<number>(10, random);
    for (let item = 0; item < 40; item++) reservoir.offer(() => (item % 2 === 0 ? item : undefined));
    for (const item of reservoir.items) chosen[item]! += 1;
  }
  for (let item = 0; item < 40; item++) {
    if (item % 2 === 1) assert.equal(chosen[item], 0);
    else assert.ok(Math.abs(chosen[item]! - 1000) < 140, `item ${item}: ${chosen[item]}`);
  }
});

const request = (...values: number[]): RequestToWrite => ({
  inputs: [{ name: 'x', tensor: tensor('FP32', [values.length / 4, 4], values) }],
});

interface Recording {
  readonly recorder: TrafficRecorder;
  readonly clock: ManualClock;
  readonly directory: string;
  readonly failures: string[];
  offer(asked: RequestToWrite): void;
}

function record(t: TestContext, options: Partial<TrafficRecorderOptions> = {}): Recording {
  const directory = makeDirectory('traffic');
  t.after(() => removeDirectory(directory));
  const clock = new ManualClock();
  const failures: string[] = [];
  const recorder = new TrafficRecorder({
    count: 2,
    maxBytes: 10_000,
    intervalMs: 1000,
    directory: undefined,
    clock,
    onFailure: (_model, message) => failures.push(message),
    random: seededRandom(1),
    ...options,
  });
  const offer = (asked: RequestToWrite): void =>
    recorder.offer({ name: 'm', directory, batchSizes: new Map([[3, {}]]) }, asked);
  return { recorder, clock, directory, failures, offer };
}

test('samples are written at intervals and at the end, whole, readable by their owner alone', async (t) => {
  const { recorder, clock, directory, offer } = record(t);
  const file = sampleFile('m', directory, undefined);
  assert.equal(recorder.isListening, true);
  offer({ ...request(1, 2, 3, 4), outputs: ['y'] });
  await clock.advance(999);
  assert.equal(existsSync(file), false);
  await clock.advance(1);
  await recorder.flush();
  const first = await parseRequests(file, readFileSync(file), 'binary');
  assert.deepEqual(first.batchSizes, [3]);
  assert.deepEqual(first.requests[0]!.outputs, ['y']);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  offer(request(5, 6, 7, 8, 9, 10, 11, 12));
  await recorder.close();
  const { requests } = await parseRequests(file, readFileSync(file), 'binary');
  assert.deepEqual(
    requests.map(({ content }) => content.kind === 'tensors' && content.inputs[0]!.tensor.shape),
    [
      [1, 4],
      [2, 4],
    ],
  );
  assert.deepEqual(
    readdirSync(join(directory, '.warmup')),
    ['m.recorded.bin'],
    'nothing half-written is left',
  );
});

test('a sample of the process before is kept until the new one is full', async (t) => {
  const { recorder, directory, offer } = record(t);
  const file = sampleFile('m', directory, undefined);
  mkdirSync(join(file, '..'));
  writeFileSync(file, 'of a whole day');
  offer(request(1, 2, 3, 4));
  await recorder.flush();
  assert.equal(readFileSync(file, 'utf8'), 'of a whole day');
  offer(request(5, 6, 7, 8));
  await recorder.flush();
  assert.match(readFileSync(file, 'latin1'), /^\{"parameters"/);
  await recorder.close();
});

test('requests larger than their share of the memory are not kept', async (t) => {
  const { recorder, offer } = record(t, { maxBytes: 2 * 300 });
  offer(request(...new Array<number>(400).fill(1)));
  offer(request(1, 2, 3, 4));
  assert.deepEqual([recorder.sampleOf('m')?.requests, recorder.sampleOf('m')?.seen], [1, 2]);
  await recorder.close();
});

test('a directory that cannot be written is told, and stops nobody', async (t) => {
  const { recorder, directory, failures, offer } = record(t);
  writeFileSync(join(directory, '.warmup'), 'a file is in the way');
  offer(request(1, 2, 3, 4));
  await recorder.close();
  assert.match(failures[0]!, /m\.recorded\.bin cannot be written: /);
});

test('what is kept is a copy', async (t) => {
  const { recorder, offer } = record(t);
  const values = Float32Array.of(1, 2, 3, 4);
  offer({ inputs: [{ name: 'x', tensor: tensor('FP32', [1, 4], values) }] });
  values.fill(9);
  const { requests } = await parseRequests('sample', recorder.sampleOf('m')!.bytes, 'binary');
  const { content } = requests[0]!;
  assert.deepEqual(content.kind === 'tensors' && [...content.inputs[0]!.tensor.data], [1, 2, 3, 4]);
  await recorder.close();
});

test('a recording takes what comes while it lasts; the drain ends it before', async (t) => {
  const { recorder, clock, offer } = record(t, { count: 0 });
  assert.equal(recorder.isListening, false);
  const listening = recorder.listen('m', { count: 5, ms: 3000 });
  await assert.rejects(recorder.listen('m', { count: 5, ms: 3000 }), { code: 'SRV_BAD_REQUEST' });
  for (let i = 0; i < 8; i++) offer(request(i, i, i, i));
  await clock.advance(3000);
  const { requests, seen, bytes } = await listening;
  assert.deepEqual([requests, seen], [5, 8]);
  assert.equal((await parseRequests('sample', bytes, 'binary')).requests.length, 5);
  assert.equal(recorder.isListening, false);
  const cut = recorder.listen('m', { count: 5, ms: 1e9 });
  recorder.drain();
  assert.equal((await cut).seen, 0);
  await recorder.close();
});

test('the next version is warmed up with the sample of the traffic before it', async (t) => {
  const opened = await openWith(
    { m: scaleModel() },
    { recordWarmup: 4, modelControl: 'explicit', threads: 1 },
  );
  t.after(() => opened.close());
  const { runtime } = opened;
  for (let i = 0; i < 10; i++) {
    await runtime.infer('m', {
      x: tensor('FP32', [i % 2 ? 1 : 3, 4], new Array<number>(i % 2 ? 4 : 12).fill(i)),
    });
  }
  await runtime.close();
  const again = await openWith(
    {},
    { modelRepository: opened.repository, threads: 1, warmUpBatchSizes: 'off' },
  );
  t.after(() => again.close());
  const { warmUp } = again.runtime.listModels()[0]!;
  assert.deepEqual({ ...warmUp, ms: 0 }, { requests: 4, isRecorded: true, runs: 20, failed: 0, ms: 0 });
});

test('the route gives the sample that is kept, or one of what comes', async (t) => {
  const served = await serveModels(
    { m: scaleModel() },
    { runtime: { modelControl: 'explicit', recordWarmup: 3, threads: 1 } },
  );
  t.after(() => served.close());
  const body = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };
  const infer = async (): Promise<void> => {
    assert.equal((await call(`${served.url}/v2/models/m/infer`, { body })).status, 200);
  };
  const none = await call(`${served.url}/v2/models/m/warmup`);
  assert.equal(none.status, 400);
  assert.match(
    errorOf(none),
    /no sample of the requests of 'm' is kept; start the server with --record_warmup N/,
  );
  for (let i = 0; i < 5; i++) await infer();
  const kept = await call(`${served.url}/v2/models/m/warmup`);
  assert.deepEqual(
    [
      kept.status,
      kept.headers['content-type'],
      kept.headers['warm-up-requests'],
      kept.headers['warm-up-seen'],
    ],
    [200, 'application/octet-stream', '3', '5'],
  );
  const { requests } = await parseRequests('sample', kept.body, 'binary');
  assert.equal(requests.length, 3);
  let isDone = false;
  const coming = call(`${served.url}/v2/models/m/warmup?count=2&seconds=1`).finally(() => (isDone = true));
  await until('the recording has ended', async () => {
    await infer();
    return isDone;
  });
  const { headers, status } = await coming;
  assert.deepEqual([status, headers['warm-up-requests']], [200, '2']);
  for (const [query, message] of [
    ['count=0', /count is "0"; expected a number from 1 to 10000/],
    ['seconds=999', /seconds is "999"; expected a number from 1 to 240/],
    ['n=1', /unknown parameter n/],
  ] as const) {
    const refused = await call(`${served.url}/v2/models/m/warmup?${query}`);
    assert.deepEqual([refused.status, message.test(errorOf(refused))], [400, true], errorOf(refused));
  }
  assert.equal((await call(`${served.url}/v2/models/other/warmup`)).status, 404);
});

test('a sample is kept beside its model by POST, where the next load finds it', async (t) => {
  const served = await serveModels(
    { m: scaleModel(), alone: scaleModel() },
    { runtime: { modelControl: 'explicit', threads: 1 } },
  );
  t.after(() => served.close());
  const body = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };
  const keep = async (model: string, sends: boolean): Promise<Answer> => {
    let isDone = false;
    const url = `${served.url}/v2/models/${model}/warmup?count=2&seconds=1`;
    const kept = call(url, { method: 'POST' }).finally(() => (isDone = true));
    await until('the recording has ended', async () => {
      if (sends) await call(`${served.url}/v2/models/${model}/infer`, { body });
      return isDone;
    });
    return kept;
  };
  const [kept, none] = await Promise.all([keep('m', true), keep('alone', false)]);
  const file = sampleFile('m', join(served.repository, 'm'), undefined);
  assert.equal(decodeURIComponent(String(kept.headers['warm-up-file'])), file);
  assert.deepEqual(readFileSync(file), kept.body);
  assert.deepEqual(
    [none.status, none.headers['warm-up-requests'], none.headers['warm-up-file']],
    [200, '0', undefined],
  );
  assert.equal(existsSync(join(served.repository, 'alone', '.warmup')), false, 'nothing came of it');
  await served.runtime.load('m');
  const { warmUp } = served.runtime.service.model('m');
  assert.deepEqual([warmUp?.requests, warmUp?.isRecorded], [2, true]);
  const bad = await call(`${served.url}/v2/models/m/warmup?path=/tmp/a.bin`, { method: 'POST' });
  assert.match(errorOf(bad), /unknown parameter path/);
});

test('a sample that was asked for and the one that is kept are written one after the other', async (t) => {
  const { recorder, directory, offer } = record(t);
  offer(request(1, 2, 3, 4));
  const sample = recorder.sampleOf('m')!;
  const both = await Promise.all([recorder.keep('m', directory, sample), recorder.flush()]);
  assert.equal(both[0], sampleFile('m', directory, undefined));
  assert.deepEqual(readFileSync(both[0]), sample.bytes);
  assert.deepEqual(readdirSync(join(directory, '.warmup')), ['m.recorded.bin']);
  // It is of this process, so that what follows need not be full to take its place.
  offer(request(5, 6, 7, 8));
  await recorder.close();
  assert.equal((await parseRequests('sample', readFileSync(both[0]), 'binary')).requests.length, 2);
});

test('requests of others are given to nobody where loading by request is off', async (t) => {
  const served = await serveModels(
    { m: scaleModel() },
    { runtime: { modelControl: 'none', recordWarmup: 3, threads: 1 } },
  );
  t.after(() => served.close());
  for (const method of ['GET', 'POST']) {
    const refused = await call(`${served.url}/v2/models/m/warmup`, { method });
    assert.equal(json<{ code: string }>(refused).code, 'SRV_MODEL_CONTROL_OFF');
  }
});
