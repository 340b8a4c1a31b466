import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JobRequest } from '../src/batching/job.js';
import type { ModelSettings } from '../src/config/model-settings.js';
import { ModelRegistry } from '../src/model/model-registry.js';
import { ModelVersion, type Served } from '../src/model/model-version.js';
import { queueRulesOf } from '../src/model/queue-rules.js';
import { ModelService, type ModelServiceOptions } from '../src/model-service.js';
import type { ModelEntry } from '../src/repository/layout.js';
import type { InferCall } from '../src/server/service.js';
import { ManualClock } from './support/manual-clock.js';

const queueDefaults = { maxQueueSize: 1024, requestTimeoutMs: 30_000 };

/** A service with one model that is dormant until `finish`; `jobs` are what was then queued. */
function openDormant(settings: ModelSettings) {
  const clock = new ManualClock();
  const registry = new ModelRegistry({});
  const version = new ModelVersion({ name: 'm', version: 1, settings } as ModelEntry, 1, clock);
  version.state = 'unloaded';
  version.isDormant = true;
  registry.add(version);
  const jobs: JobRequest[] = [];
  let end!: () => void;
  const loading = new Promise<void>((resolve) => {
    end = resolve;
  });
  const lifecycle = { isDormant: () => version.isDormant, wake: () => loading };
  const service = new ModelService({
    clock,
    registry,
    lifecycle,
    queueDefaults,
    recorder: { isListening: false },
    modelControl: 'none',
  } as unknown as ModelServiceOptions);
  const finish = (): void => {
    version.isDormant = false;
    version.publish({
      ...queueRulesOf(settings, queueDefaults),
      rules: {
        label: "'m'",
        signature: { inputs: [], outputs: [] },
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
    registry.refresh('m');
    end();
  };
  const infer = (wishes: Partial<InferCall> = {}) =>
    service.infer({ model: 'm', inputs: [], protocol: 'http', origin: 'socket', ...wishes });
  return { clock, service, jobs, finish, infer, version };
}

test('the time that a request waits for the load of its model counts into its deadline', async () => {
  const { clock, jobs, finish, infer, version } = openDormant({});
  const startedAt = clock.now();
  const answers = [infer({ timeoutMs: 500 }), infer()];
  await clock.advance(400);
  finish();
  const [first] = await Promise.all(answers);
  assert.equal(first!.version, 1);
  assert.deepEqual(
    jobs.map(({ deadlineAt }) => deadlineAt - startedAt),
    [500, 30_000],
  );
  assert.equal(version.stats.requests.get('http')?.get('ok'), 2);
});

test('settings of a model that is not loaded yet hold for those who wait for it; refusals are counted', async () => {
  const { clock, service, jobs, finish, infer } = openDormant({ requestTimeoutMs: 50, maxQueueSize: 2 });
  const withdraw = new AbortController();
  const late = assert.rejects(infer(), { code: 'SRV_DEADLINE_EXCEEDED', message: /\bm\b.* 50 ms/ });
  const withdrawn = assert.rejects(infer({ signal: withdraw.signal }), { code: 'SRV_CANCELLED' });
  await assert.rejects(infer(), { code: 'SRV_QUEUE_FULL', message: /2 requests.*max_queue_size/ });
  withdraw.abort();
  await withdrawn;
  const patient = infer({ timeoutMs: 60 });
  await clock.advance(50);
  await late;
  assert.deepEqual(Object.fromEntries(service.refusals), {
    'http SRV_QUEUE_FULL': 1,
    'http SRV_CANCELLED': 1,
    'http SRV_DEADLINE_EXCEEDED': 1,
  });
  finish();
  await patient;
  assert.equal(jobs.length, 1);
});

test('a request for a version that is not there waits as its model says, and is told when that is loaded', async () => {
  const { clock, finish, infer } = openDormant({ requestTimeoutMs: 50 });
  const late = assert.rejects(infer({ version: 9 }), { code: 'SRV_DEADLINE_EXCEEDED' });
  await clock.advance(50);
  await late;
  const told = assert.rejects(infer({ version: 9 }), { code: 'SRV_MODEL_NOT_FOUND' });
  finish();
  await told;
});
