import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fetchInputs, openHttpTarget } from '../../src/loadtest/http-target.js';
import type { Load } from '../../src/loadtest/load.js';
import { jsonBody } from '../../src/loadtest/request-body.js';
import { runLoadTest } from '../../src/loadtest/run-load-test.js';
import type { LoadTarget } from '../../src/loadtest/target.js';
import { reportText } from '../../src/loadtest/text-table.js';
import { type FakeReply, startFakeServer } from './fake-oip-server.js';

const closed: Load = { kind: 'closed', concurrency: 4 };
const quick = { windowMs: 60, warmupMs: 20, maxWindows: 3, tolerance: 10 };

async function measureFake(
  reply: ((index: number) => FakeReply) | undefined,
  options: { readonly load?: Load; readonly timeoutMs?: number } = {},
): Promise<Awaited<ReturnType<typeof runLoadTest>>> {
  const server = await startFakeServer(reply);
  try {
    const target = await openHttpTarget({
      url: server.url,
      model: 'm',
      bodies: [jsonBody('{"inputs":[]}')],
      rowsPerRequest: 2,
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    });
    try {
      return await runLoadTest({ target, loads: [options.load ?? closed], ...quick });
    } finally {
      await target.close();
    }
  } finally {
    await server.close();
  }
}

test('a closed loop counts its successes and reads the stages from the server', async () => {
  const report = await measureFake(undefined);
  const [result] = report.results;
  assert.ok(result);
  assert.ok(result.requests.succeeded > 0);
  assert.equal(result.requests.failed, 0);
  assert.equal(result.windows.length, 3);
  assert.equal(result.rowsPerSecond, result.requestsPerSecond * 2);
  const { p50, p90, p99, p999, max } = result.latencyMs;
  assert.ok(0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max);
  assert.ok(result.stages);
  assert.equal(result.stages.queueUs.toFixed(3), '1.000');
  assert.equal(result.stages.inferUs.toFixed(3), '2.000');
  assert.equal(result.stages.meanBatchRows, 2);
});

test('answers that are not 2xx are counted by status and never as successes', async () => {
  const report = await measureFake((index) => ({ status: index === 0 ? 200 : index % 2 ? 503 : 500 }));
  const { requests, requestsPerSecond, latencyMs, isStable } = report.results[0]!;
  assert.equal(requests.succeeded, 0);
  assert.equal(requestsPerSecond, 0);
  assert.equal(latencyMs.max, 0);
  assert.equal(isStable, false);
  assert.deepEqual(Object.keys(requests.failures).sort(), ['http 500', 'http 503']);
  assert.equal(requests.failures['http 500']! + requests.failures['http 503']!, requests.failed);
  assert.ok(requests.warmupFailed > 0);
});

test('a 200 without a body and a cut connection are failures', async () => {
  const report = await measureFake((index) =>
    index === 0 ? { status: 200 } : index % 2 ? { status: 200, body: '' } : { status: 200, cut: true },
  );
  const { requests } = report.results[0]!;
  assert.equal(requests.succeeded, 0);
  assert.deepEqual(Object.keys(requests.failures).sort(), ['ECONNRESET', 'empty reply']);
});

test('a request without an answer fails by its timeout', async () => {
  const report = await measureFake((index) => ({ status: 200, delayMs: index === 0 ? 0 : 10_000 }), {
    timeoutMs: 30,
  });
  const { requests } = report.results[0]!;
  assert.equal(requests.succeeded, 0);
  assert.deepEqual(Object.keys(requests.failures), ['timeout']);
});

test('an open loop sends at its rate and counts latency from the intended start', async () => {
  const report = await measureFake((index) => ({ status: 200, delayMs: index === 0 ? 0 : 20 }), {
    load: { kind: 'open', ratePerSecond: 200, arrival: 'fixed', seed: 1 },
  });
  const { requests, latencyMs, name, seconds } = report.results[0]!;
  assert.equal(name, 'rate 200/s fixed');
  assert.equal(requests.failed, 0);
  assert.ok(Math.abs(requests.succeeded / seconds - 200) < 100, `${requests.succeeded} in ${seconds} s`);
  assert.ok(latencyMs.p50 >= 19, `p50 is ${latencyMs.p50}`);
});

/** A target that takes as long as the test says and counts what is under way. */
function fakeTarget(send: (index: number) => Promise<string | undefined>): LoadTarget {
  return {
    description: 'fake',
    rowsPerRequest: 1,
    isInProcess: false,
    send,
    statistics: async () => undefined,
    close: async () => {},
  };
}

test('an open loop does not wait for answers, and the slow ones at its end still count', async () => {
  const started = performance.now();
  let underWay = 0;
  let most = 0;
  const target = fakeTarget(async () => {
    most = Math.max(most, ++underWay);
    const left = 250 - (performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, left)));
    underWay--;
    return undefined;
  });
  const report = await runLoadTest({
    target,
    loads: [{ kind: 'open', ratePerSecond: 200, arrival: 'poisson', seed: 3 }],
    windowMs: 60,
    warmupMs: 0,
    maxWindows: 3,
  });
  assert.ok(most > 10);
  assert.equal(underWay, 0);
  assert.equal(report.results[0]!.requests.succeeded, 0, 'nothing was answered inside the windows');
  assert.ok(report.results[0]!.latencyMs.max > 150, 'the wait of the stalled requests is told');
});

test('what is due beyond the bound of unanswered requests counts as failed and makes the generator late', async () => {
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const run = runLoadTest({
    target: fakeTarget(() => held.then(() => undefined)),
    loads: [{ kind: 'open', ratePerSecond: 1000, arrival: 'fixed', seed: 1 }],
    windowMs: 30,
    warmupMs: 0,
    maxWindows: 1,
    maxInFlight: 5,
    onProgress: ({ windowsDone }) => windowsDone === 1 && release(),
  });
  const result = (await run).results[0]!;
  assert.ok(result.requests.failures['not sent: too many in flight']! > 0);
  assert.equal(result.generator.isLate, true);
});

test('a generator whose event loop was blocked says that it was late', async () => {
  const report = await runLoadTest({
    target: fakeTarget(async (index) => {
      const until = performance.now() + (index % 5 === 0 ? 40 : 0);
      while (performance.now() < until);
      return undefined;
    }),
    loads: [{ kind: 'open', ratePerSecond: 100, arrival: 'fixed', seed: 1 }],
    windowMs: 200,
    warmupMs: 0,
    maxWindows: 1,
  });
  assert.equal(report.results[0]!.generator.isLate, true);
  assert.match(reportText(report), /the generator was late/);
});

test('windows that do not agree are said to be unstable, with every window listed', async () => {
  let window = 0;
  const report = await runLoadTest({
    target: fakeTarget(async () => {
      await new Promise((resolve) => setTimeout(resolve, window % 2 ? 2 : 20));
      return undefined;
    }),
    loads: [closed],
    windowMs: 100,
    warmupMs: 0,
    maxWindows: 4,
    onProgress: (progress) => {
      window = progress.windowsDone;
    },
  });
  assert.equal(report.results[0]!.isStable, false);
  assert.equal(report.results[0]!.windows.length, 4);
  assert.match(reportText(report), /concurrency 4: not stable/);
});

test('a target that fails at once does not keep the windows from ending', async () => {
  const report = await runLoadTest({
    target: fakeTarget(async () => 'SRV_QUEUE_FULL'),
    loads: [closed],
    ...quick,
  });
  assert.ok(report.results[0]!.requests.failures.SRV_QUEUE_FULL! > 0);
});

test('a signal ends the run with an error', async () => {
  const options = { target: fakeTarget(async () => 'no'), loads: [closed], signal: AbortSignal.timeout(20) };
  await assert.rejects(runLoadTest(options), { code: 'SRV_CANCELLED' });
});

test('a server that refuses the first request stops the run with its words', async () => {
  const server = await startFakeServer(() => ({ status: 400, body: '{"error":"bad shape"}' }));
  try {
    await assert.rejects(
      openHttpTarget({ url: server.url, model: 'm', bodies: [jsonBody('{}')], rowsPerRequest: 1 }),
      /answers 400: .*bad shape/,
    );
    await assert.rejects(fetchInputs({ url: server.url, model: 'other' }), { code: 'SRV_MODEL_NOT_FOUND' });
  } finally {
    await server.close();
  }
  await assert.rejects(fetchInputs({ url: server.url, model: 'm' }), { code: 'SRV_IO' });
});
