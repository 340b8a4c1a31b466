/** Verifying tables that are open, and in use. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ServingError } from '../../src/errors.js';
import { buildTable } from '../../src/sparse/builder.js';
import { compactTable } from '../../src/sparse/rebuild.js';
import { openTable } from '../../src/sparse/table.js';
import { writeKeyValue } from './row-files.js';

const root = mkdtempSync(join(tmpdir(), 'verify-open-table-'));
after(() => rmSync(root, { recursive: true }));

const keys = BigUint64Array.from({ length: 2000 }, (_, key) => BigInt(key));
let tables = 0;

/** A table of two shards and a delta of two on top. */
async function build(): Promise<string> {
  const output = join(root, `table-${tables++}`);
  const rows = writeKeyValue(
    `${output}.txt`,
    Array.from(keys, (key) => [key, [Number(key), 1]]),
  );
  await buildTable({ output, inputs: [rows], threads: 1, shardNum: 2 });
  const changes = writeKeyValue(`${output}.txt`, [
    [1n, [7, 7]],
    [2n, [8, 8]],
  ]);
  await buildTable({ output, inputs: [changes], threads: 1, mode: 'delta' });
  return output;
}

/** Flips a bit of a file where it lies, as a mapping sees it. */
function flipBit(table: string, version: number, shard: number): void {
  const path = join(table, String(version), `part-0000${shard}-of-00002.shard`);
  const at = 4096 + 70;
  const [byte] = readFileSync(path).subarray(at, at + 1);
  const file = openSync(path, 'r+');
  writeSync(file, Uint8Array.of(byte! ^ 4), 0, 1, at);
  closeSync(file);
}

const faultIn = (version: number, shard: number): object => ({
  code: 'SRV_TABLE_CORRUPT',
  message: new RegExp(
    `/${version}/part-0000${shard}-of-00002\\.shard, byte 4096: the block of \\d+ bytes has`,
  ),
});

test('a sound table is verified file by file while it answers', async () => {
  for (const inMem of [false, true]) {
    using table = await openTable(await build(), { inMem });
    const seen: string[] = [];
    const running = table.verify({ isBackground: true, onFile: (path) => void seen.push(path.slice(-27)) });
    assert.equal(table.gather(keys).missing, 0);
    const bytes = await running;
    assert.deepEqual(
      seen,
      ['1', '1', '2', '2'].map((version, index) => `${version}/part-0000${index % 2}-of-00002.shard`),
    );
    assert.ok(bytes > 4 * 4096);
    assert.equal(table.gather(keys).missing, 0);
  }
});

test('a fault in any file of a mapped table is found while it is used, and then it answers nothing else', async () => {
  for (const [version, shard] of [
    [1, 0],
    [1, 1],
    [2, 0],
    [2, 1],
  ] as const) {
    const directory = await build();
    using table = await openTable(directory);
    flipBit(directory, version, shard);
    table.gather(keys);
    const expected = faultIn(version, shard);
    await assert.rejects(table.verify({ isBackground: true }), expected);
    assert.throws(() => table.gather(keys), expected);
    assert.throws(() => table.storedRow(1n), expected);
    assert.throws(() => table.files(), expected);
  }
});

test('openTable verifies behind the back of its caller, and tells of a fault once', async () => {
  const directory = await build();
  flipBit(directory, 1, 1);
  let table!: Awaited<ReturnType<typeof openTable>>;
  const fault = await new Promise<ServingError>((resolve, reject) => {
    openTable(directory, { verify: 'background', onCorrupt: resolve }).then((opened) => {
      table = opened;
    }, reject);
  });
  assert.match(fault.message, /part-00001-of-00002\.shard, byte 4096/);
  assert.throws(() => table.gather(keys), fault);
  table.close();
  await assert.rejects(openTable(directory, { verify: true }), faultIn(1, 1));
});

test('what is verified is the table as it is open: in memory it does not change with its file', async () => {
  const directory = await build();
  {
    using table = await openTable(directory, { inMem: true });
    flipBit(directory, 1, 0);
    await table.verify();
  }
  using damaged = await openTable(directory, { inMem: true });
  await assert.rejects(damaged.verify(), faultIn(1, 0));
});

test('closing a table ends its verification, and a signal does; nobody is told of a fault', async () => {
  const directory = await build();
  flipBit(directory, 2, 1);
  const closed = await openTable(directory, {
    verify: 'background',
    onCorrupt: () => assert.fail('told after it was closed'),
  });
  const verifying = closed.verify({ isBackground: true });
  closed.close();
  await assert.rejects(verifying, { code: 'SRV_CANCELLED' });
  await assert.rejects(closed.verify(), { code: 'SRV_CANCELLED' });

  using table = await openTable(directory);
  const stop = new AbortController();
  const stopped = table.verify({ signal: stop.signal });
  stop.abort();
  await assert.rejects(stopped, { code: 'SRV_CANCELLED' });
  assert.equal(table.gather(keys).missing, 0);
  await assert.rejects(table.verify(), faultIn(2, 1));
});

test('a table can be compacted in the background, and is not when it is damaged', async () => {
  const directory = await build();
  const { manifest } = await compactTable(directory, { isBackground: true, threads: 1 });
  assert.equal(manifest.compacts, 2);
  using folded = await openTable(directory, { verify: true });
  assert.equal(folded.version, 3);

  const damaged = await build();
  flipBit(damaged, 2, 0);
  await assert.rejects(compactTable(damaged, { isBackground: true }), faultIn(2, 0));
  const cancelled = await build();
  const stop = new AbortController();
  const compacting = compactTable(cancelled, { isBackground: true, signal: stop.signal });
  stop.abort();
  await assert.rejects(compacting, { code: 'SRV_CANCELLED' });
  await assert.rejects(openTable(cancelled, { version: 3 }), { code: 'SRV_TABLE_NOT_FOUND' });
});
