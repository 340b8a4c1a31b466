/** What a warm-up runs on an instance, batch by batch, and how it meets what takes too long or fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import type { RunMessage, RunResult } from '../../src/instance/messages.js';
import type { SignatureRules } from '../../src/model/signature-check.js';
import { type PlannedRequest, VersionWarmUp, type VersionWarmUpOptions } from '../../src/model/warm-up.js';
import { tensor } from '../../src/tensor/tensor.js';
import { FakeSlots } from '../support/fake-runner.js';
import { ManualClock } from '../support/manual-clock.js';

const spec = (name: string) => ({ name, datatype: 'FP32', shape: [-1, 1] }) as const;
const signature = { inputs: [spec('x')], outputs: [spec('y'), spec('z')] };
const rules: SignatureRules = {
  label: "'m'",
  signature,
  anyRank: new Set(),
  canMerge: true,
  padding: [],
  freeAxes: [],
  ragged: new Set(),
};

const request = (values: readonly number[], more: Partial<PlannedRequest> = {}): PlannedRequest => ({
  origin: 'declared',
  place: { file: 'warm.jsonl', unit: 'line', number: values[0]! },
  content: { kind: 'tensors', inputs: [{ name: 'x', tensor: tensor('FP32', [values.length, 1], values) }] },
  ...more,
});

interface Bench {
  readonly warmUp: VersionWarmUp;
  readonly clock: ManualClock;
  readonly slots: FakeSlots;
  readonly notes: string[];
  /** Rows and wanted outputs of every run so far. */
  readonly ran: { readonly rows: readonly number[]; readonly fetch: readonly number[] }[];
  run(message: RunMessage): Promise<RunResult>;
}

function bench(options: Partial<VersionWarmUpOptions>, answer?: (rows: number[]) => Promise<unknown>): Bench {
  const clock = new ManualClock();
  const slots = new FakeSlots();
  const notes: string[] = [];
  const ran: Bench['ran'] = [];
  const warmUp = new VersionWarmUp({
    label: 'm version 2',
    versionId: 7,
    network: signature,
    rules,
    plan: undefined,
    targets: [],
    maxBatchSize: 8,
    allowSplitRequest: true,
    slots,
    clock,
    requests: [],
    candidates: [],
    batchSizes: [],
    furtherSizes: [],
    loadingNow: () => 1,
    count: 1,
    timeoutMs: 1000,
    ignoresFailures: false,
    onNote: (note) => notes.push(note),
    ...options,
  });
  const run = async (message: RunMessage): Promise<RunResult> => {
    assert.equal(message.versionId, 7);
    const { offset, shape } = message.inputs[0] as { offset: number; shape: readonly number[] };
    const rows = [...new Float32Array(slots.buffer, offset, shape[0])];
    ran.push({ rows, fetch: message.fetch });
    await answer?.(rows);
    return { outputs: [], gatherNs: 0, computeNs: 1 };
  };
  return { warmUp, clock, slots, notes, ran, run };
}

const engineRefuses = new ServingError('SRV_MODEL_RUN_FAILED', 'the engine refused these values: 3');

test('requests are run in their order, each as often as it says, with the outputs that it asks for', async () => {
  const { warmUp, run, ran, slots } = bench({
    requests: [request([1]), request([2, 3], { count: 1, outputs: ['z'] })],
    count: 2,
  });
  await warmUp.warmUp(run);
  assert.deepEqual(ran, [
    { rows: [1], fetch: [0, 1] },
    { rows: [1], fetch: [0, 1] },
    { rows: [2, 3], fetch: [1] },
  ]);
  assert.equal(slots.used, 0);
  assert.equal(warmUp.report.runs, 3);
});

test('batches are made of the rows of the requests, again and again', async () => {
  const { warmUp, run, ran } = bench({ requests: [request([1, 2]), request([3])], batchSizes: [1, 4, 8] });
  await warmUp.warmUp(run);
  assert.deepEqual(
    ran.slice(2).map(({ rows }) => rows),
    [[1], [1, 2, 3, 1], [1, 2, 3, 1, 2, 3, 1, 2]],
  );
});

test('a request that takes longer than its limit is told at once, and fails the warm-up when its run has ended', async () => {
  let end = (): void => undefined;
  const { warmUp, run, clock, notes, slots } = bench(
    { requests: [request([5])], timeoutMs: 200 },
    () => new Promise<void>((resolve) => (end = resolve)),
  );
  const failures: ServingError[] = [];
  const warming = warmUp.warmUp(run).catch((error: ServingError) => void failures.push(error));
  await clock.settle();
  await clock.advance(199);
  assert.deepEqual(notes, []);
  await clock.advance(1);
  assert.deepEqual(notes, [
    'the warm-up of m version 2 waits for warm.jsonl line 5, which runs for 200 ms by now',
  ]);
  await clock.advance(100);
  assert.equal(failures.length, 0, 'its session must not be closed while it runs');
  assert.equal(slots.used, 1);
  end();
  await warming;
  const [failure] = failures;
  assert.equal(failure?.code, 'SRV_WARM_UP_FAILED');
  assert.match(
    failure!.message,
    /warm\.jsonl line 5: it ran for 300 ms; the limit is 200 ms \(warm_up_timeout_ms\)/,
  );
  assert.deepEqual(failure!.details, { file: 'warm.jsonl', line: 5, reason: 'SRV_DEADLINE_EXCEEDED' });
  assert.equal(slots.used, 0);
});

test('a late run that gave way to others is run once more at normal priority, and judged by that', async () => {
  const ends: (() => void)[] = [];
  const { warmUp, run, clock, slots } = bench(
    { requests: [request([5])], timeoutMs: 200, count: 1, batchSizes: [] },
    () => new Promise<void>((resolve) => ends.push(resolve)),
  );
  const priorities: (boolean | undefined)[] = [];
  const warming = warmUp.warmUp((message) => {
    priorities.push(message.lowPriority);
    return run(message);
  }, true);
  await clock.settle();
  await clock.advance(300);
  ends[0]!();
  await clock.settle();
  await clock.advance(150);
  ends[1]!();
  await warming;
  assert.deepEqual(priorities, [undefined, false]);
  assert.equal(slots.used, 0);
});

test('with a limit of 0 a request may take as long as it likes', async () => {
  let end = (): void => undefined;
  const { warmUp, run, clock } = bench(
    { requests: [request([5])], timeoutMs: 0 },
    () => new Promise<void>((resolve) => (end = resolve)),
  );
  const warming = warmUp.warmUp(run);
  await clock.settle();
  assert.equal(clock.timers, 0);
  await clock.advance(1e9);
  end();
  await warming;
  assert.equal(warmUp.report.ms, 1e9);
});

test('a failing request fails the warm-up; where failures are ignored it is not run again, and the others are', async () => {
  const answer = async (rows: number[]): Promise<void> => {
    if (rows.includes(3)) throw engineRefuses;
  };
  const strict = bench({ requests: [request([3]), request([4])], count: 2 }, answer);
  await assert.rejects(strict.warmUp.warmUp(strict.run), {
    code: 'SRV_WARM_UP_FAILED',
    message: /warm\.jsonl line 3: the engine refused these values/,
  });
  assert.equal(strict.slots.used, 0);
  const lenient = bench({ requests: [request([3]), request([4])], count: 2, ignoresFailures: true }, answer);
  await lenient.warmUp.warmUp(lenient.run);
  assert.deepEqual(
    lenient.ran.map(({ rows }) => rows),
    [[3], [4], [4]],
  );
  assert.deepEqual([lenient.warmUp.report.failed, lenient.notes.length], [1, 1]);
});

test('what tells of the instance and not of the request is never ignored', async () => {
  const { warmUp, run } = bench({ requests: [request([3])], ignoresFailures: true }, async () => {
    throw new ServingError('SRV_WORKER_DIED', 'the thread ended');
  });
  await assert.rejects(warmUp.warmUp(run), { code: 'SRV_WORKER_DIED' });
});

test('a batch that fails is told and ends the batches, but fails nothing', async () => {
  const { warmUp, run, ran, notes } = bench(
    { requests: [request([1])], batchSizes: [1, 2, 4] },
    async (rows) => {
      if (rows.length > 1) throw engineRefuses;
    },
  );
  await warmUp.warmUp(run);
  assert.deepEqual(
    ran.map(({ rows }) => rows.length),
    [1, 1, 2],
  );
  assert.match(notes[0]!, /cannot run a batch of 2 rows of warm\.jsonl line 1: the engine refused/);
});

/** Runs a warm-up to its end on one instance. */
async function warmAll({ warmUp, run, clock }: Bench, givesWay = false): Promise<void> {
  const rest = await warmUp.warmUp(run, givesWay);
  let isOver = false;
  const ended = rest?.(run).finally(() => {
    isOver = true;
  });
  while (rest && !isOver) await clock.settle();
  await ended;
}

test('the other sizes are run after the usual ones, between batches of callers', async () => {
  const found = bench({ requests: [request([1])], batchSizes: [1, 2, 4], furtherSizes: [3, 5] });
  const rest = await found.warmUp.warmUp(found.run);
  const sizes = (): number[] => found.ran.map(({ rows }) => rows.length);
  assert.deepEqual(sizes(), [1, 1, 2, 4]);
  assert.equal(found.warmUp.plannedRuns, 4, 'what others may go between holds nobody up');
  const ended = rest!(found.run);
  await Promise.resolve();
  assert.equal(found.ran.length, 4, 'what has come in meanwhile goes first');
  await found.clock.settle();
  await ended;
  assert.deepEqual(sizes(), [1, 1, 2, 4, 3, 5]);
  assert.deepEqual(found.notes, []);
});

test('other sizes that there is no time for are left out, and named once for all instances', async () => {
  const found = bench(
    { requests: [request([1])], batchSizes: [1, 2, 4, 8], furtherSizes: [3, 5, 6, 7], timeoutMs: 0 },
    async (rows) => {
      await found.clock.advance(rows.length * 30);
    },
  );
  for (let instance = 0; instance < 2; instance++) await warmAll(found);
  // 90 ms, then 150 more; what comes next would not fit into 250 ms.
  const once = [1, 1, 2, 4, 8, 3, 5];
  assert.deepEqual(
    found.ran.map(({ rows }) => rows.length),
    [...once, ...once],
  );
  assert.equal(found.notes.length, 1);
  assert.match(
    found.notes[0]!,
    /m version 2 leaves out batches of 6 to 7 rows, .* more than 250 ms together/,
  );
  assert.equal(found.warmUp.report.ms, 16 * 30 + 8 * 30);
  // Beside traffic, on one instance after the other, there is less time.
  await warmAll(found, true);
  assert.deepEqual(
    found.ran.slice(2 * once.length).map(({ rows }) => rows.length),
    [1, 1, 2, 4, 8, 3],
  );
});

test('versions that load at the same time share the time for other sizes', async () => {
  const found = bench(
    { requests: [request([1])], batchSizes: [1], furtherSizes: [2, 3, 4], loadingNow: () => 5 },
    async (rows) => {
      await found.clock.advance(rows.length * 15);
    },
  );
  await warmAll(found);
  assert.deepEqual(
    found.ran.map(({ rows }) => rows.length),
    [1, 1, 2],
  );
  assert.match(found.notes[0]!, /leaves out batches of 3 to 4 rows, .* more than 50 ms together/);
});

test('no other sizes are run where a usual one failed, or took all the time', async () => {
  const refused = bench({ requests: [request([1])], batchSizes: [1, 2], furtherSizes: [3] }, async (rows) => {
    if (rows.length > 1) throw engineRefuses;
  });
  assert.equal(await refused.warmUp.warmUp(refused.run), undefined);
  assert.equal(refused.notes.length, 1);
  const slow = bench(
    { requests: [request([1])], batchSizes: [1, 2], furtherSizes: [3], timeoutMs: 100 },
    async (rows) => {
      await slow.clock.advance(rows.length * 90);
    },
  );
  assert.equal(await slow.warmUp.warmUp(slow.run), undefined);
});

test('a refused one of the other sizes is told, and fails nothing', async () => {
  const found = bench({ requests: [request([1])], batchSizes: [1], furtherSizes: [2, 3] }, async (rows) => {
    if (rows.length > 1) throw engineRefuses;
  });
  await warmAll(found);
  assert.deepEqual(
    found.ran.map(({ rows }) => rows.length),
    [1, 1, 2],
  );
  assert.match(found.notes[0]!, /cannot run a batch of 2 rows/);
});

test('batches end where the next one would pass the time limit', async () => {
  const found = bench(
    { requests: [request([1])], batchSizes: [1, 2, 4, 8], timeoutMs: 1000 },
    async (rows) => {
      await found.clock.advance(rows.length * 150);
    },
  );
  await found.warmUp.warmUp(found.run);
  // 150 + 300 ms were spent, the next one takes 600, the one after that more than is left.
  assert.deepEqual(
    found.ran.map(({ rows }) => rows.length),
    [1, 1, 2, 4],
  );
  assert.match(found.notes[0]!, /ends before batches of 8 rows: 1050 ms were spent/);
});

test('of made-up requests the first that the engine takes is run, on every instance', async () => {
  const made = (value: number): PlannedRequest =>
    request([value], { origin: 'generated', place: { file: 'a made-up request' } });
  const { warmUp, run, ran } = bench(
    { candidates: [made(3), made(4), made(5)], count: 2, batchSizes: [2] },
    async (rows) => {
      if (rows.includes(3)) throw engineRefuses;
    },
  );
  await warmUp.warmUp(run);
  await warmUp.warmUp(run);
  assert.deepEqual(
    ran.map(({ rows }) => rows),
    [[3], [4], [4], [4, 4], [4], [4], [4, 4]],
  );
  assert.deepEqual({ ...warmUp.report }, { requests: 1, isRecorded: false, runs: 6, failed: 0, ms: 0 });
});

test('a version whose made-up requests the engine refuses all is not warmed up, and not failed', async () => {
  const { warmUp, run } = bench(
    { candidates: [request([3], { origin: 'generated' })], batchSizes: [1, 2] },
    async () => {
      throw engineRefuses;
    },
  );
  await warmUp.warmUp(run);
  assert.deepEqual({ ...warmUp.report }, { requests: 0, isRecorded: false, runs: 0, failed: 0, ms: 0 });
});

test('it waits for memory that others have', async () => {
  const { warmUp, run, clock, slots, ran } = bench({ requests: [request([1])] });
  const taken = Array.from({ length: 3 }, () => slots.take(64));
  Object.defineProperty(slots, 'maxBytes', { value: taken.length });
  const warming = warmUp.warmUp(run);
  await clock.advance(10);
  assert.equal(ran.length, 0);
  slots.give();
  await clock.advance(10);
  await warming;
  assert.equal(ran.length, 1);
});

test('a row whose id is in no table fails a recorded request, and no made-up one', async () => {
  const failedRows = [{ row: 0, error: { code: 'SRV_MISSING_KEY', message: 'no row for key 9' } }] as const;
  const run = async (): Promise<RunResult> => ({ outputs: [], gatherNs: 0, computeNs: 1, failedRows });
  await assert.rejects(bench({ requests: [request([9])] }).warmUp.warmUp(run), {
    code: 'SRV_WARM_UP_FAILED',
    message: /no row for key 9/,
  });
  const madeUp = bench({ candidates: [request([9], { origin: 'generated' })] });
  await madeUp.warmUp.warmUp(run);
  assert.equal(madeUp.warmUp.report.runs, 1);
});

test('it ends between two runs when the runtime closes, whatever is ignored', async () => {
  const closing = new AbortController();
  const { warmUp, run, ran, slots } = bench(
    { requests: [request([1])], count: 100, signal: closing.signal, ignoresFailures: true },
    async () => {
      if (ran.length === 3) closing.abort();
    },
  );
  await assert.rejects(warmUp.warmUp(run), { code: 'SRV_SHUTTING_DOWN' });
  assert.deepEqual([ran.length, slots.used], [3, 0]);
});

test('made-up requests and batches end early where the model takes long', async () => {
  const slow = bench(
    {
      candidates: [request([1], { origin: 'generated' })],
      count: 50,
      batchSizes: [1, 2, 4, 8],
      timeoutMs: 0,
    },
    async (rows) => {
      await slow.clock.advance(rows.length * 40);
    },
  );
  await slow.warmUp.warmUp(slow.run);
  // 100 ms of single rows; then 40, 80, 160 and 320 ms, which a second has room for.
  assert.deepEqual(
    slow.ran.map(({ rows }) => rows.length),
    [1, 1, 1, 1, 2, 4, 8],
  );
  const slower = bench(
    {
      candidates: [request([1], { origin: 'generated' })],
      count: 50,
      batchSizes: [1, 2, 4, 8],
      timeoutMs: 0,
    },
    async (rows) => {
      await slower.clock.advance(rows.length * 300);
    },
  );
  await slower.warmUp.warmUp(slower.run);
  assert.deepEqual(
    slower.ran.map(({ rows }) => rows.length),
    [1, 1, 2],
  );
  assert.deepEqual(slower.notes, []);
});
