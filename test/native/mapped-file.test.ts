import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import {
  faultedInodes,
  hashBytes,
  hashFile,
  installMappedFileGuard,
  mapAdvice,
  mapFile,
  mappedFileFaults,
  prefaultFile,
} from '../../src/native/binding.js';
import { runInWorker } from './run-in-worker.js';

const directory = await mkdtemp(join(tmpdir(), 'mapped-file-'));
after(() => rm(directory, { recursive: true }));

const bindingUrl = new URL('../../src/native/binding.js', import.meta.url).href;
const missing = join(directory, 'missing.bin');

async function makeFile(name: string, bytes: number): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, Buffer.alloc(bytes, 'x'));
  return path;
}

/** Maps a file of 4 pages, truncates it to half a page, and prints the sum of the bytes that are left. */
const truncateUnderneath = `
  const { mapFile, installMappedFileGuard, mappedFileFaults, faultedInodes } = await import(process.argv[1]);
  const { statSync, truncateSync } = await import('node:fs');
  if (process.argv[3] === 'guarded') installMappedFileGuard();
  const bytes = new Uint8Array(mapFile(process.argv[2]));
  truncateSync(process.argv[2], 2048);
  const kept = bytes.filter((byte) => byte !== 0).length;
  const isThisFile = faultedInodes()[0] === statSync(process.argv[2], { bigint: true }).ino;
  console.log(JSON.stringify({ length: bytes.length, kept, faults: mappedFileFaults(), isThisFile }));`;

function runTruncating(path: string, mode: string): Promise<{ stdout: string }> {
  const args = ['--input-type=module', '-e', truncateUnderneath, bindingUrl, path, mode];
  return promisify(execFile)(process.execPath, args);
}

test('a mapped file holds the bytes of the file under every advice', async () => {
  const path = await makeFile('bytes.bin', 10_000);
  for (const advice of mapAdvice) {
    const bytes = new Uint8Array(mapFile(path, { advice, prefault: true, hugePages: true }));
    assert.equal(bytes.length, 10_000);
    assert.ok(bytes.every((byte) => byte === 0x78));
  }
});

test('a write to a mapped file neither crashes nor reaches the file', async () => {
  const path = await makeFile('private.bin', 5000);
  const bytes = new Uint8Array(mapFile(path));
  bytes.fill(1);
  assert.equal(bytes[4999], 1);
  assert.deepEqual(await readFile(path), Buffer.alloc(5000, 'x'));
  assert.equal(new Uint8Array(mapFile(path))[0], 0x78);
});

test('an empty file maps to an empty buffer', async () => {
  assert.equal(mapFile(await makeFile('empty.bin', 0)).byteLength, 0);
});

test('a path that cannot be mapped is an error with path and reason', () => {
  assert.throws(() => mapFile(missing), {
    code: 'SRV_IO',
    message: `cannot open ${missing}: No such file or directory`,
  });
  assert.throws(() => mapFile(directory), {
    code: 'SRV_IO',
    message: `cannot open ${directory}: Is a directory`,
  });
  assert.throws(() => mapFile('/dev/null'), { code: 'SRV_IO', message: /not a regular file/ });
  assert.throws(() => mapFile(`${missing}\0`), { code: 'SRV_INTERNAL', message: /NUL/ });
});

test('a file of 4 GiB is refused with its size', async () => {
  const path = await makeFile('huge.bin', 0);
  await truncate(path, 2 ** 32);
  assert.throws(() => mapFile(path), {
    code: 'SRV_IO',
    message: /has 4294967296 bytes, expected at most 4294967295/,
  });
});

test('a worker maps a file and ends without harm to another mapping of it', async () => {
  const path = await makeFile('shared.bin', 4096);
  const bytes = new Uint8Array(mapFile(path));
  assert.equal(await runInWorker('return new Uint8Array(binding.mapFile(input))[7];', path), 0x78);
  assert.equal(bytes[4095], 0x78);
});

test('hashBytes agrees with the published XXH64 values', () => {
  assert.equal(hashBytes(new Uint8Array()), 'ef46db3751d8e999');
  assert.equal(hashBytes(Buffer.from('a')), 'd24ec4f1a98c6e5b');
  assert.equal(hashBytes(Buffer.from('abc')), '44bc2cf5ad770999');
  assert.equal(hashBytes(Buffer.from('Nobody inspects the spammish repetition')), 'fbcea83c8a378bf1');
});

test('hashFile gives the hash of the bytes, whatever the number of pieces', async () => {
  for (const bytes of [0, 1, 31, 4096, 2 ** 20, 2 ** 20 + 1, 3 * 2 ** 20 + 5]) {
    const path = await makeFile('hashed.bin', bytes);
    assert.equal(await hashFile(path), hashBytes(Buffer.alloc(bytes, 'x')));
  }
});

test('hashFile and prefaultFile reject with path and reason', async () => {
  for (const read of [hashFile, prefaultFile]) {
    await assert.rejects(read(missing), {
      name: 'ServingError',
      code: 'SRV_IO',
      message: /missing.bin: No such file/,
    });
    await assert.rejects(read(directory), { code: 'SRV_IO', message: /Is a directory/ });
    await assert.rejects(read(7 as unknown as string), {
      code: 'SRV_INTERNAL',
      message: /path is not a string/,
    });
  }
});

test('prefaultFile tells the size of the file', async () => {
  assert.equal(await prefaultFile(await makeFile('prefaulted.bin', 3_000_000)), 3_000_000);
});

test('the guard can be installed again and again and counts nothing by itself', () => {
  installMappedFileGuard();
  installMappedFileGuard();
  assert.equal(mappedFileFaults(), 0);
  assert.deepEqual(faultedInodes(), []);
});

test('under the guard, a mapped file that is truncated reads as zeros and is counted', {
  skip: process.platform !== 'linux',
}, async () => {
  const path = await makeFile('truncated.bin', 16_384);
  const { stdout } = await runTruncating(path, 'guarded');
  const result = JSON.parse(stdout);
  assert.equal((await stat(path)).size, 2048);
  assert.equal(result.length, 16_384);
  assert.equal(result.kept, 2048);
  assert.equal(result.faults, 3);
  assert.equal(result.isThisFile, true);
});

test('without the guard, reading a truncated file ends the process', {
  skip: process.platform !== 'linux',
}, async () => {
  const path = await makeFile('unguarded.bin', 16_384);
  await assert.rejects(runTruncating(path, 'unguarded'), { signal: 'SIGBUS' });
});
