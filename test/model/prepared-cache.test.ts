import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { takeLock } from '../../src/file-lock.js';
import { PreparedCache } from '../../src/model/prepared-cache.js';
import { isAlive, processIdentity } from '../../src/process-identity.js';
import { temporaryDirectory } from './model-fixtures.js';

/** A process that ended: no Linux process has this start time. */
const endedProcess = '1-99999999999';

const hashFile = async (path: string): Promise<string> =>
  createHash('sha256').update(readFileSync(path)).digest('hex');

function openCache(directory: string, maxBytes = 1_000_000, owner = processIdentity(process.pid)) {
  return new PreparedCache<string>({ directory, maxBytes, hashFile, owner });
}

async function addForm(cache: PreparedCache<string>, key: string, bytes: number): Promise<string> {
  const work = cache.newWork();
  writeFileSync(join(work, 'model.onnx'), 'model');
  writeFileSync(join(work, 'model.weights'), Buffer.alloc(bytes, 7));
  return (await cache.commit(key, `value of ${key}`, work)).directory!;
}

test('an entry comes back with its files, which only their owner may read', async (t) => {
  const directory = temporaryDirectory(t);
  const forms = await addForm(openCache(directory), 'a', 1000);
  assert.deepEqual(await openCache(directory).read('a'), { value: 'value of a', directory: forms });
  assert.equal(statSync(join(forms, 'model.weights')).mode & 0o777, 0o400);
  assert.equal(statSync(join(directory, 'prepared-a.json')).mode & 0o777, 0o600);
});

test('an entry whose files were cut or changed is discarded', async (t) => {
  const directory = temporaryDirectory(t);
  const cache = openCache(directory);
  const cut = await addForm(cache, 'cut', 1000);
  const changed = await addForm(cache, 'changed', 1000);
  truncateSync(join(cut, 'model.weights'), 500);
  chmodSync(join(changed, 'model.weights'), 0o600);
  writeFileSync(join(changed, 'model.weights'), Buffer.alloc(1000, 8));
  assert.equal(await cache.read('cut'), undefined);
  assert.equal(await cache.read('changed'), undefined);
  assert.equal(existsSync(join(directory, 'prepared-cut.json')), false);
});

test('a manifest that was cut or changed is not believed', async (t) => {
  const directory = temporaryDirectory(t);
  const cache = openCache(directory);
  await cache.commit('a', 'value');
  const path = join(directory, 'prepared-a.json');
  const text = readFileSync(path, 'utf8');
  for (const damaged of ['', text.slice(0, 80), text.replace('value', 'velue')]) {
    writeFileSync(path, damaged);
    assert.equal(await cache.read('a'), undefined);
  }
});

test('over the limit the entry used longest ago goes, and never one that a living process was handed', async (t) => {
  const directory = temporaryDirectory(t);
  const old = openCache(directory, 1_000_000, endedProcess);
  await addForm(old, 'oldest', 1000);
  await addForm(old, 'older', 1000);
  const living = openCache(directory, 1_000_000);
  await addForm(living, 'handed-out', 1000);
  for (const [at, key] of ['handed-out', 'oldest', 'older'].entries()) {
    utimesSync(join(directory, `prepared-${key}.json`), at + 1, at + 1);
  }
  openCache(directory, 3000);
  const left = readdirSync(directory).filter((name) => name.endsWith('.json'));
  assert.deepEqual(left.sort(), ['prepared-handed-out.json', 'prepared-older.json']);
});

test('what an ended process left half made is removed at the next start, and nothing else', (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, `work.${endedProcess}.${endedProcess}.abcdefabcdef`));
  mkdirSync(join(directory, 'prepared-key.abcdabcd.d'));
  writeFileSync(join(directory, `prepared-key.json.${endedProcess}.abcdabcd.tmp`), '');
  const mine = join(directory, `work.${endedProcess}.${processIdentity(process.pid)}.abcdefabcdef`);
  mkdirSync(mine);
  for (const foreign of ['conf.d', 'work.notes']) mkdirSync(join(directory, foreign));
  writeFileSync(join(directory, 'config.json'), '{}');
  openCache(directory, 0);
  const kept = ['conf.d', 'config.json', 'work.notes', mine.slice(directory.length + 1)];
  assert.deepEqual(readdirSync(directory).sort(), kept.sort());
});

test('a cache that cannot be written says why', (t) => {
  const file = join(temporaryDirectory(t), 'a-file');
  writeFileSync(file, '');
  assert.match(openCache(join(file, 'cache')).unwritable!, /cannot be written: ENOTDIR/);
});

test('a lock is waited for while its holder lives and broken when it ended', async (t) => {
  const path = join(temporaryDirectory(t), 'key.lock');
  const release = await takeLock(path, 0);
  assert.ok(release);
  assert.equal(await takeLock(path, 0), undefined);
  release();
  writeFileSync(path, endedProcess);
  const second = await takeLock(path, 0);
  assert.ok(second);
  second();
  assert.equal(existsSync(path), false);
});

test('a process id that was given to another process is not taken for the first one', () => {
  assert.equal(isAlive(processIdentity(process.pid)), true);
  if (process.platform === 'linux') assert.equal(isAlive(`${process.pid}-1`), false);
  assert.equal(isAlive('not a process'), false);
});

test('a lock where no file can be says so', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  await assert.rejects(takeLock(join(file, 'lock'), 0), {
    code: 'SRV_IO',
    message: /file\/lock cannot be taken: ENOTDIR/,
  });
});
