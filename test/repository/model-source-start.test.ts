/** What a source announces of places that become known while it starts. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger } from '../../src/observe/logger.js';
import { ModelSource } from '../../src/repository/model-source.js';
import { ManualClock } from '../support/manual-clock.js';
import { makeDirectory, placeVersion, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

/** A source of a repository with one model `m`; `onFollow` is called in the middle of its start. */
function setUp(t: TestContext, pollMs: number, onFollow: (repository: string) => void = () => {}) {
  const repository = join(makeDirectory('source'), 'models');
  t.after(() => removeDirectory(join(repository, '..')));
  placeVersion(repository, 'm', 1, scaleModel(1));
  const clock = new ManualClock();
  const announced: { name: string; versions: number[] }[] = [];
  const source = new ModelSource({
    models: [],
    modelRepository: repository,
    remote: {
      placeOf: ({ path }) => path,
      absenceOf: () => undefined,
      follow: () => onFollow(repository),
    },
    modelConfigFile: undefined,
    configPollMs: 0,
    clock,
    logger: silentLogger(),
    pollMs,
    settleMs: 0,
    stampRule: () => ({ meta: undefined, type: 'none' }),
    asWanted: (_, entries) => entries,
    announce: (name, entries) =>
      void announced.push({ name, versions: entries?.map(({ version }) => version ?? 0) ?? [] }),
  });
  t.after(() => source.close());
  const versionsOf = (model: string): number[][] =>
    announced.filter(({ name }) => name === model).map(({ versions }) => versions);
  return { source, clock, place: join(repository, 'm'), versionsOf };
}

test('a look before the start has ended finds nothing on its own, and one meanwhile comes after it', async (t) => {
  const { source, place, versionsOf } = setUp(t, 0, () => source.look(place));
  source.look(place);
  await new Promise((resolve) => setImmediate(resolve));
  const started = source.start();
  assert.deepEqual(versionsOf('m'), []);
  await started;
  await until('it was looked at again', () => versionsOf('m').length >= 2);
  assert.deepEqual(versionsOf('m'), [[1], [1]]);
});

test('a place that the watch sees during the start is announced once at a time from then on', async (t) => {
  const { source, clock, place, versionsOf } = setUp(t, 100, (repository) => {
    // Behind the first picture that the watch takes of the repository.
    queueMicrotask(() => {
      mkdirSync(join(repository, 'late'));
      void clock.advance(100);
    });
  });
  await source.start();
  const before = versionsOf('m').length;
  source.look(place);
  await until('it was looked at again', () => versionsOf('m').length > before);
  assert.ok(
    versionsOf('m').every((versions) => versions.length === 1),
    JSON.stringify(versionsOf('m')),
  );
});
