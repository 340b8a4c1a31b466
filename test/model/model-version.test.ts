import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/batching/clock.js';
import type { JobRequest } from '../../src/batching/job.js';
import { ModelVersion, type Served } from '../../src/model/model-version.js';
import { defaultPriority } from '../../src/model/queue-rules.js';
import type { ModelEntry } from '../../src/repository/layout.js';

/** The jobs of requests with these priorities, in a version that was published with such settings. */
function jobsOf(
  settings: Partial<Served>,
  wishes: readonly (number | undefined)[],
  timeoutMs?: number,
): readonly JobRequest[] {
  const jobs: JobRequest[] = [];
  const version = new ModelVersion({ name: 'm', version: 1 } as ModelEntry, 1, systemClock);
  version.publish({
    ...settings,
    rules: {
      label: "'m'",
      signature: { inputs: [], outputs: [] },
      anyRank: new Set(),
      canMerge: false,
      padding: [],
      freeAxes: [],
      ragged: new Set(),
    },
    batcher: {
      submit: (job: JobRequest) => {
        jobs.push(job);
        return { result: Promise.resolve([]), cancel: () => undefined };
      },
    },
  } as unknown as Served);
  for (const priority of wishes) {
    version.infer({ model: 'm', inputs: [], priority, timeoutMs, protocol: 'http', origin: 'socket' });
  }
  return jobs;
}

function prioritiesOf(settings: Partial<Served>, wishes: readonly (number | undefined)[]): readonly number[] {
  return jobsOf(settings, wishes).map(({ priority }) => priority);
}

test('a request has the priority that it names, else the default of its model', () => {
  assert.deepEqual(
    prioritiesOf({ defaultPriority, priorityLevels: Number.POSITIVE_INFINITY }, [undefined, 0, 1, 900]),
    [5, 5, 1, 900],
  );
});

test('a priority beyond the levels of the model is its default', () => {
  assert.deepEqual(
    prioritiesOf({ defaultPriority: 2, priorityLevels: 3 }, [undefined, 1, 3, 4]),
    [2, 1, 3, 2],
  );
});

test('a request is delayed instead where its priority or model says so, unless it names a timeout itself', () => {
  const settings: Partial<Served> = {
    defaultPriority: 2,
    priorityLevels: 9,
    requestTimeoutMs: 1000,
    timeoutAction: 'delay',
    timeoutActions: new Map([[1, 'reject']]),
  };
  const areSet = ({ deadlineAt, delayAt }: JobRequest): boolean[] =>
    [deadlineAt, delayAt].map(Number.isFinite);
  assert.deepEqual(jobsOf(settings, [1, 2]).map(areSet), [
    [true, false],
    [false, true],
  ]);
  assert.deepEqual(jobsOf(settings, [2], 500).map(areSet), [[true, false]]);
});

test('a request waits as long as its priority may, where that is said, else as long as its model says', () => {
  const settings = {
    defaultPriority: 2,
    priorityLevels: 9,
    requestTimeoutMs: 1000,
    timeoutsMs: new Map([
      [1, 50_000],
      [2, 0],
    ]),
  };
  const before = systemClock.now();
  const left = jobsOf(settings, [1, 2, 3]).map(({ deadlineAt }) => deadlineAt - before);
  const after = systemClock.now() - before;
  assert.ok(left[0]! >= 50_000 && left[0]! <= 50_000 + after, String(left));
  assert.equal(left[1], Number.POSITIVE_INFINITY);
  assert.ok(left[2]! >= 1000 && left[2]! <= 1000 + after, String(left));
});
