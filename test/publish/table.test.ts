import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { Publisher } from '../../src/publish/publisher.js';
import { buildTable } from '../../src/sparse/builder.js';
import { openTable } from '../../src/sparse/table.js';
import { writeKeyValue } from '../sparse/row-files.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const root = makeDirectory('publish-table');
after(() => removeDirectory(root));

let made = 0;
const newPlace = (): string => join(root, String(++made));

async function build(
  table: string,
  value: number,
  mode: 'base' | 'delta' = 'base',
  version?: number,
): Promise<void> {
  const inputs = [writeKeyValue(join(root, `rows-${++made}.txt`), [[BigInt(value), [value, 1]]])];
  await buildTable({ output: table, inputs, mode, threads: 1, shardNum: 2, ...(version ? { version } : {}) });
}

const publisherOf = (table: string, place: string): Publisher =>
  new Publisher(table, { to: 'file', remotePath: place, remoteModelName: 'user' });

const text = (place: string, name: string): string => readFileSync(join(place, name), 'utf8');

function conflict(...texts: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ServingError && error.code === 'SRV_PUBLISH_CONFLICT', String(error));
    for (const said of texts) assert.ok(error.message.includes(said), error.message);
    return true;
  };
}

test('snapshots and deltas get their lines in the done files of Cube, once, and a monitor fetches them all', async () => {
  const [table, place] = [newPlace(), newPlace()];
  await build(table, 7);
  const publisher = publisherOf(table, place);
  assert.equal(await publisher.look(), 'published');
  assert.equal(text(place, 'base.txt'), `{"id":"1","key":"1","input":"${place}/user/1"}\n`);
  assert.ok(!existsSync(join(place, 'patch.txt')));
  await build(table, 8, 'delta');
  await build(table, 9, 'delta');
  assert.equal(await publisher.look(), 'published');
  assert.equal(await publisher.look(), 'unchanged');
  await publisher.publish();
  const patches = [2, 3].map((id) => `{"id":"${id}","key":"1","input":"${place}/user/${id}"}\n`).join('');
  assert.equal(text(place, 'patch.txt'), patches);
  assert.equal(text(place, 'base.txt').split('\n').length, 2);

  const localPath = newPlace();
  const monitor = new Monitor({
    type: 'local',
    remotePath: place,
    remoteModelName: 'user',
    remoteDonefileName: `${table.slice(root.length + 1)}.done`,
    localPath,
    localModelName: 'user',
  });
  assert.equal(await monitor.look(), 'installed');
  const opened = await openTable(join(localPath, 'user'), { verify: true });
  try {
    assert.deepEqual([...opened.gather(BigUint64Array.of(7n, 8n, 9n)).rows], [7, 1, 8, 1, 9, 1]);
  } finally {
    opened.close();
  }
  // A new snapshot begins a new chain: the lines of the old one stay.
  await build(table, 10);
  await build(table, 11, 'delta');
  await publisher.publish();
  assert.match(text(place, 'base.txt'), /"id":"1".*\n.*"id":"4","key":"4"/);
  assert.equal(text(place, 'patch.txt'), `${patches}{"id":"5","key":"4","input":"${place}/user/5"}\n`);
});

test('a version directory is published with what it stands on, and no later one', async () => {
  const [table, place] = [newPlace(), newPlace()];
  await build(table, 1);
  await build(table, 2, 'delta');
  await build(table, 3, 'delta');
  assert.equal((await publisherOf(join(table, '2'), place).publish()).version, 2);
  assert.ok(existsSync(join(place, 'user/2/manifest.json')) && !existsSync(join(place, 'user/3')));
});

test('an upload that was cut off before its line is made again', async () => {
  const [table, place] = [newPlace(), newPlace()];
  await build(table, 1);
  await publisherOf(table, place).publish();
  rmSync(join(place, 'base.txt'));
  rmSync(join(place, 'user/1'), { recursive: true });
  await publisherOf(table, place).publish();
  assert.ok(existsSync(join(place, 'user/1/manifest.json')));
  assert.equal(text(place, 'base.txt').split('\n').length, 2);
});

test('what is at the target and newer, or another one, is not published over', async () => {
  const [table, place] = [newPlace(), newPlace()];
  await build(table, 1);
  await publisherOf(table, place).publish();
  const rebuilt = newPlace();
  await build(rebuilt, 2);
  await assert.rejects(publisherOf(rebuilt, place).publish(), conflict('user/1 holds another version 1'));
  writeFileSync(join(place, 'base.txt'), '{"id":"5","key":"5","input":"/x"}\n');
  await assert.rejects(publisherOf(table, place).publish(), conflict('the snapshot 5 already', 'version 1'));
  writeFileSync(join(place, 'base.txt'), 'hello\n');
  await assert.rejects(publisherOf(table, place).publish(), conflict('base.txt', 'got "hello"'));
});

test('a damaged table is not published', async () => {
  const [table, place] = [newPlace(), newPlace()];
  await build(table, 1);
  const manifest = JSON.parse(text(table, '1/manifest.json')) as { files: { name: string }[] };
  writeFileSync(join(table, '1', manifest.files[0]!.name), 'cut');
  await assert.rejects(
    publisherOf(table, place).publish(),
    (error) => error instanceof ServingError && error.code === 'SRV_TABLE_CORRUPT',
  );
  assert.ok(!existsSync(join(place, 'base.txt')));
});
