import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../src/batching/clock.js';
import { PlacesWatch } from '../../src/repository/places-watch.js';
import { ManualClock } from '../support/manual-clock.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';
import { until } from '../support/until.js';

const pollMs = 1000;

/** A watch that only polls, because the clock by which it answers events stands still between polls. */
function polling(t: TestContext): { watch: PlacesWatch; clock: ManualClock; seen: string[]; root: string } {
  const root = makeDirectory('places');
  const clock = new ManualClock();
  const seen: string[] = [];
  const watch = new PlacesWatch({
    clock,
    pollMs,
    onChange: (place) => seen.push(place),
    onChildren: (directory) => seen.push(`children of ${directory}`),
  });
  t.after(() => {
    watch.close();
    removeDirectory(root);
  });
  return { watch, clock, seen, root };
}

test('a poll tells of the places of which a path came, changed or went, once each, and of no other', async (t) => {
  const { watch, clock, seen, root } = polling(t);
  const paths = ['a', 'b', 'c', 'd'].map((name) => join(root, name));
  const [a, b, c, d] = paths as [string, string, string, string];
  for (const path of [b, c, d]) writeFileSync(path, 'x');
  for (const path of paths) watch.set({ path, paths: [path] });
  writeFileSync(a, 'new');
  appendFileSync(b, 'more');
  rmSync(c);
  await clock.advance(pollMs);
  assert.deepEqual(seen.toSorted(), [a, b, c]);
  await clock.advance(10 * pollMs);
  assert.equal(seen.length, 3);
});

test('what changes between a look and the naming of more paths is not lost', async (t) => {
  const { watch, clock, seen, root } = polling(t);
  const settings = join(root, 'model.json');
  watch.set({ path: root, paths: [settings] });
  writeFileSync(settings, '{}');
  watch.set({ path: root, paths: [settings, join(root, 'table')] });
  await clock.advance(pollMs);
  assert.deepEqual(seen, [root]);
});

test('children of a directory that come and go are told, and nothing after the end', async (t) => {
  const { watch, clock, seen, root } = polling(t);
  watch.addDirectory(root);
  mkdirSync(join(root, 'ranker'));
  await clock.advance(pollMs);
  assert.deepEqual(seen, [`children of ${root}`]);
  watch.lookAgain(join(root, 'ranker'), 10);
  watch.close();
  mkdirSync(join(root, 'other'));
  await clock.advance(10 * pollMs);
  assert.equal(seen.length, 1);
});

test('events come long before the next poll, also of a file that another one was put in the place of', async (t) => {
  const root = makeDirectory('places');
  let seen = 0;
  const watch = new PlacesWatch({
    clock: systemClock,
    pollMs: 3_600_000,
    onChange: () => {
      seen += 1;
    },
    onChildren: () => undefined,
  });
  t.after(() => {
    watch.close();
    removeDirectory(root);
  });
  const file = join(root, 'stamp');
  writeFileSync(file, '1');
  watch.set({ path: root, paths: [file] });
  for (const turn of [1, 2, 3]) {
    writeFileSync(join(root, 'next'), String(turn).repeat(turn + 1));
    renameSync(join(root, 'next'), file);
    await until(`change ${turn} is told`, () => seen === turn);
  }
});
