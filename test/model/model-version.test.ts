import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/batching/clock.js';
import type { JobRequest } from '../../src/batching/job.js';
import { defaultPriority, ModelVersion, type Served } from '../../src/model/model-version.js';
import type { ModelEntry } from '../../src/repository/layout.js';

/** The priorities that jobs get for these wishes, in a version that was published with such settings. */
function prioritiesOf(
  settings: Pick<Served, 'defaultPriority' | 'priorityLevels'>,
  wishes: readonly (number | undefined)[],
): readonly number[] {
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
    version.infer({ model: 'm', inputs: [], priority, protocol: 'http', origin: 'socket' });
  }
  return jobs.map(({ priority }) => priority);
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
