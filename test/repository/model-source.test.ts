/** When a version directory is taken, of which others may still write the files. The tests' clock stands still. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger } from '../../src/observe/logger.js';
import { ModelSource } from '../../src/repository/model-source.js';
import { ManualClock } from '../support/manual-clock.js';
import { makeDirectory, placeVersion, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

/** Longer than any test takes: what has been written in it is always taken for being written. */
const settleMs = 3_600_000;

interface Opened {
  /** The directory of a model, whose version 1 was there at the start. */
  readonly model: string;
  /** The versions of the announcements, in their order. */
  readonly announced: readonly string[];
  /** Lets the source look once more, as it planned, and waits until it plans the next look or announces. */
  lookAgain(): Promise<void>;
}

async function open(t: TestContext): Promise<Opened> {
  const repository = makeDirectory('source');
  t.after(() => removeDirectory(repository));
  placeVersion(repository, 'm', 1, scaleModel(1));
  const clock = new ManualClock();
  const announced: string[] = [];
  const source = new ModelSource({
    models: [],
    modelRepository: repository,
    remote: { placeOf: ({ path }) => path, absenceOf: () => undefined, follow: () => undefined },
    modelConfigFile: undefined,
    configPollMs: 0,
    clock,
    logger: silentLogger(),
    pollMs: 0,
    settleMs,
    stampRule: () => ({ meta: undefined, type: 'timestamp_ne' }),
    asWanted: (_, entries) => entries,
    announce: (_, entries = []) => {
      const wanted = entries.filter((entry) => entry.error === undefined && entry.wanted);
      announced.push(wanted.map(({ version }) => version).join());
    },
  });
  t.after(() => source.close());
  await source.start();
  const model = join(repository, 'm');
  return {
    model,
    announced,
    lookAgain: async () => {
      const before = announced.length;
      if (clock.timers === 0) source.look(model);
      else await clock.advance(settleMs);
      await until('it has looked', () => clock.timers > 0 || announced.length > before);
    },
  };
}

test('a version directory is not taken while it changes, and at once when it holds _SUCCESS', async (t) => {
  const { model, announced, lookAgain } = await open(t);
  const version = placeVersion(model, '', 2, scaleModel(2));
  for (let part = 0; part < 3; part++) {
    writeFileSync(join(version, `part-${part}`), 'rows');
    await lookAgain();
    assert.deepEqual(announced, ['1']);
  }
  writeFileSync(join(version, '_SUCCESS'), '');
  writeFileSync(join(version, 'part-3'), 'rows');
  await lookAgain();
  assert.deepEqual(announced, ['1', '2']);
});

test('a _SUCCESS beside a version directory, or in another one, says nothing of it', async (t) => {
  const { model, announced, lookAgain } = await open(t);
  const version = placeVersion(model, '', 2, scaleModel(2));
  writeFileSync(join(model, '_SUCCESS'), '');
  writeFileSync(join(model, '1/_SUCCESS'), '');
  mkdirSync(join(version, 'assets'));
  writeFileSync(join(version, 'assets/_SUCCESS'), '');
  await lookAgain();
  assert.deepEqual(announced, ['1']);
});
