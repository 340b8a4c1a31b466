/** A table as programs open it: gathers, versions, and everything that is refused. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type BuildTableOptions, buildTable } from '../../src/sparse/builder.js';
import type { Combiner, LocalTable } from '../../src/sparse/local-table.js';
import { digestOfVersion, readManifest } from '../../src/sparse/manifest.js';
import { compactTable, diffTables, writeDelta } from '../../src/sparse/rebuild.js';
import { openTable, resolveTable, verifyTable } from '../../src/sparse/table.js';
import { VersionWork } from '../../src/sparse/version-work.js';
import { type TestRow, writeKeyValue } from './row-files.js';

const root = mkdtempSync(join(tmpdir(), 'table-'));
after(() => rmSync(root, { recursive: true }));

const max = 2n ** 64n - 1n;
/** Elsewhere reading a file that was cut ends the process. */
const linuxOnly = { skip: process.platform !== 'linux' };
let files = 0;

/** A table of its own, or the next version of one. */
async function build(
  rows: readonly TestRow[],
  options: Partial<BuildTableOptions> = {},
): Promise<{ readonly table: string; readonly version: string }> {
  const table = options.output ?? join(root, `table-${files}`);
  const inputs = [writeKeyValue(join(root, `rows-${files++}.txt`), rows)];
  const { directory } = await buildTable({ threads: 1, ...options, output: table, inputs });
  return { table, version: directory };
}

/** Row `key` of tests: `[key, key / 2]`. */
const rowOf = (key: bigint): number[] => [Number(key), Number(key) / 2];
const rowsOf = (...keys: readonly bigint[]): TestRow[] => keys.map((key) => [key, rowOf(key)]);
const upTo = (count: number): bigint[] => Array.from({ length: count }, (_, key) => BigInt(key));
const shardOf = (version: string, shard = 0, shards = 1): string =>
  join(version, `part-${String(shard).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.shard`);

function gathered(
  table: LocalTable,
  keys: readonly bigint[],
  ...rest: [Parameters<LocalTable['gather']>[1]?]
): number[] {
  return [...table.gather(BigUint64Array.from(keys), ...rest).rows];
}

const small = await build(rowsOf(0n, 1n, 2n, 3n, 1000n), { defaultRow: [7, 8] });
writeFileSync(join(root, 'text.txt'), '1:one\n2:\n18446744073709551615:last\n');
const text = join(root, 'text');
await buildTable({ output: text, inputs: [join(root, 'text.txt')], dtype: 'bytes' });

test('a gather gives the rows of its keys, zeros where there are none', async () => {
  using table = await openTable(small.table);
  assert.deepEqual(
    [table.dtype, table.dim, table.shards, table.version, table.overlayBytes],
    ['f32', 2, 1, 1, 0],
  );
  const { rows, missing } = table.gather(BigUint64Array.of(3n, 5n, 1000n, 3n));
  assert.deepEqual([...rows], [3, 1.5, 0, 0, 1000, 500, 3, 1.5]);
  assert.equal(missing, 1);
  assert.deepEqual(table.gather(new BigUint64Array(0)), { rows: new Float32Array(0), missing: 0 });
  assert.equal(await table.countRows(), 5);
});

test('0 and 2^64 - 1 are keys as others are, signed arrays the same bits', async () => {
  const { table: directory } = await build([
    [0n, [1, 2]],
    [max, [3, 4]],
    [2n ** 63n, [5, 6]],
  ]);
  using table = await openTable(directory);
  assert.deepEqual(gathered(table, [max, 0n, 2n ** 63n]), [3, 4, 1, 2, 5, 6]);
  assert.deepEqual([...table.gather(BigInt64Array.of(-1n, 0n, -(2n ** 63n))).rows], [3, 4, 1, 2, 5, 6]);
  assert.throws(() => table.gather(BigInt64Array.of(-2n), { missing: 'error' }), {
    code: 'SRV_MISSING_KEY',
    message: /18446744073709551614/,
    details: { missing: 1, position: 0, key: '18446744073709551614' },
  });
  assert.deepEqual(table.storedRow(-1n), table.storedRow(max));
  const { table: without } = await build(rowsOf(1n, 2n));
  using other = await openTable(without);
  assert.equal(other.gather(BigUint64Array.of(0n, max)).missing, 2);
});

test('out is written in place and must fit', async () => {
  using table = await openTable(small.table);
  const memory = new Float32Array(8).fill(-1);
  const out = memory.subarray(2, 6);
  assert.equal(table.gather(BigUint64Array.of(1n, 9n), { out }).rows, out);
  assert.deepEqual([...memory], [-1, -1, 1, 0.5, 0, 0, -1, -1]);
  const shared = new Float32Array(new SharedArrayBuffer(16));
  assert.equal(table.gather(BigUint64Array.of(1n, 2n), { out: shared }).rows, shared);
  assert.deepEqual([...shared], [1, 0.5, 2, 1]);
  const refused = (length: number, keys: number, more: object = {}): void =>
    assert.throws(() => table.gather(new BigUint64Array(keys), { out: new Float32Array(length), ...more }), {
      code: 'SRV_TABLE_MISMATCH',
      message: new RegExp(`out has ${length} elements`),
    });
  refused(3, 2);
  refused(6, 2);
  refused(1, 0);
  refused(4, 2, { combiner: 'sum', offsets: Int32Array.of(0) });
});

test('missing keys get zeros, the default row, or an error', async () => {
  using table = await openTable(small.table);
  assert.deepEqual(gathered(table, [9n, 1n], { missing: 'zeros' }), [0, 0, 1, 0.5]);
  assert.deepEqual(gathered(table, [9n, 1n], { missing: 'default' }), [7, 8, 1, 0.5]);
  const defaultRow = Float32Array.of(-1, -2);
  assert.deepEqual(gathered(table, [9n, 1n], { missing: 'default', defaultRow }), [-1, -2, 1, 0.5]);
  // The default row is for the policy that names it.
  assert.deepEqual(gathered(table, [9n], { defaultRow }), [0, 0]);
  assert.throws(() => gathered(table, [9n], { missing: 'default', defaultRow: Float32Array.of(1) }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /default row has 1 elements, rows have 2/,
  });
  assert.throws(() => gathered(table, [1n, 2n, 77n, 3n, 78n], { missing: 'error' }), {
    code: 'SRV_MISSING_KEY',
    message: /lacks 2 of 5 keys; the first is 77 at position 2/,
    details: { missing: 2, position: 2, key: '77' },
  });
  assert.deepEqual(gathered(table, [1n], { missing: 'error' }), [1, 0.5]);
});

test('missingBits has a bit for each key', async () => {
  using table = await openTable(small.table);
  const keys = BigUint64Array.from(upTo(20));
  const missingBits = new Uint8Array(4);
  assert.equal(table.gather(keys, { missingBits }).missing, 16);
  assert.deepEqual([...missingBits], [0xf0, 0xff, 0x0f, 0]);
  assert.throws(() => table.gather(keys, { missingBits: new Uint8Array(2) }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /missingBits has 2 bytes, expected 3/,
  });
  const more = new Uint8Array(3);
  assert.throws(() => table.gather(keys, { missing: 'error', missingBits: more }), {
    code: 'SRV_MISSING_KEY',
  });
  assert.deepEqual([...more], [0xf0, 0xff, 0x0f]);
});

/** What a bag should give, in the arithmetic of the table. */
function bagOf(
  combiner: Combiner,
  keys: readonly bigint[],
  weights: readonly number[],
  has: (key: bigint) => boolean,
): number[] {
  const sum = [0, 0];
  let norm = 0;
  keys.forEach((key, index) => {
    const weight = Math.fround(weights[index]!);
    norm = Math.fround(norm + (combiner === 'sqrtn' ? Math.fround(weight * weight) : weight));
    const row = has(key) ? rowOf(key) : [0, 0];
    for (const i of [0, 1]) sum[i] = Math.fround(sum[i]! + Math.fround(row[i]! * weight));
  });
  if (combiner === 'sum' || norm === 0) return sum;
  const by = combiner === 'mean' ? norm : Math.fround(Math.sqrt(norm));
  return sum.map((value) => Math.fround(value / by));
}

for (const combiner of ['sum', 'mean', 'sqrtn'] as const) {
  test(`bags become their ${combiner}, whatever the array of offsets`, async () => {
    using table = await openTable(small.table);
    const has = (key: bigint): boolean => key < 4n || key === 1000n;
    const keys = [3n, 1n, 2n, 9n, 1000n, 1n];
    const starts = [0, 2, 2, 5, 6];
    const ones = keys.map(() => 1);
    const weights = [0.5, 2, 0.25, 3, 1.5, 0.1];
    const expected = (factors: readonly number[]): number[] =>
      starts.flatMap((start, bag) => {
        const end = starts[bag + 1] ?? keys.length;
        return bagOf(combiner, keys.slice(start, end), factors.slice(start, end), has);
      });
    for (const offsets of [
      Int32Array.from(starts),
      Uint32Array.from(starts),
      BigInt64Array.from(starts.map(BigInt)),
      BigUint64Array.from(starts.map(BigInt)),
    ]) {
      assert.deepEqual(gathered(table, keys, { combiner, offsets }), expected(ones));
      assert.deepEqual(
        gathered(table, keys, { combiner, offsets, weights: Float32Array.from(weights) }),
        expected(weights),
      );
    }
    const out = new Float32Array(10).fill(9);
    table.gather(BigUint64Array.from(keys), { combiner, offsets: Int32Array.from(starts), out });
    assert.deepEqual([...out], expected(ones));
    assert.deepEqual(gathered(table, [], { combiner, offsets: new Int32Array(0) }), []);
    assert.deepEqual(gathered(table, [], { combiner, offsets: Int32Array.of(0, 0) }), [0, 0, 0, 0]);
    assert.deepEqual(
      gathered(table, [5n], { combiner: 'sum', offsets: Int32Array.of(0), missing: 'default' }),
      [7, 8],
    );
  });
}

test('bags that descend, overrun or do not begin at 0 are refused; so are offsets without a combiner', async () => {
  using table = await openTable(small.table);
  const refused = (options: object, message: RegExp, keys = [1n, 2n, 3n]): void =>
    assert.throws(() => gathered(table, keys, options), { code: 'SRV_BAD_BAGS', message });
  const sum = (offsets: object): object => ({ combiner: 'sum', offsets });
  refused(sum(Int32Array.of(0, 2, 1)), /bag 1 ends at 1, expected 2 to 3/);
  refused(sum(Int32Array.of(0, 4)), /bag 0 ends at 4, expected 0 to 3/);
  refused(sum(Int32Array.of(1, 2)), /the first offset is 1, expected 0/);
  refused(sum(Int32Array.of(0, -1)), /bag 0 ends at/);
  refused(sum(BigInt64Array.of(0n, -1n)), /bag 0 ends at/);
  refused(sum(BigUint64Array.of(0n, max)), /bag 0 ends at 18446744073709551615/);
  refused(sum(new Int32Array(0)), /no bag holds the 3 keys/);
  refused(sum(Int32Array.of(5)), /the first offset is 5/, []);
  refused({ combiner: 'sum' }, /a combiner needs offsets/);
  refused({ offsets: Int32Array.of(0) }, /offsets and weights need a combiner/);
  refused({ weights: new Float32Array(3) }, /offsets and weights need a combiner/);
  assert.throws(() => gathered(table, [1n], { ...sum(Int32Array.of(0)), weights: new Float32Array(2) }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /2 weights for 1 keys/,
  });
  assert.deepEqual(gathered(table, [1n]), [1, 0.5]);
});

test('what is no array of keys or floats is refused by the addon', async () => {
  using table = await openTable(small.table);
  const gather = (keys: unknown, options: unknown = {}): unknown =>
    table.gather(keys as never, options as never);
  const refused = { code: 'SRV_INTERNAL' };
  assert.throws(() => gather([1n, 2n]), refused);
  assert.throws(() => gather(new Float64Array(2)), refused);
  assert.throws(() => gather(BigUint64Array.of(1n), { out: new Float64Array(2) }), refused);
  assert.throws(
    () => gather(BigUint64Array.of(1n), { combiner: 'most', offsets: Int32Array.of(0) }),
    refused,
  );
  assert.throws(
    () => gather(BigUint64Array.of(1n), { combiner: 'sum', offsets: Int32Array.of(0), weights: [1] }),
    refused,
  );
});

test('rows of bytes come back as they are, and are not gathered', async () => {
  using table = await openTable(text);
  const read = (key: bigint): string | undefined => {
    const row = table.storedRow(key);
    return row && Buffer.from(row).toString();
  };
  assert.deepEqual([table.dtype, table.dim], ['bytes', 0]);
  assert.deepEqual([1n, 2n, 3n, max].map(read), ['one', '', undefined, 'last']);
  assert.throws(() => table.gather(BigUint64Array.of(1n)), {
    code: 'SRV_TABLE_MISMATCH',
    message: /rows are bytes/,
  });
});

test('a closed table says so, and closing again does nothing', async () => {
  const table = await openTable(small.table);
  const counting = table.countRows();
  table.close();
  table.close();
  assert.equal(await counting, 5);
  const closed = { code: 'SRV_TABLE_NOT_FOUND', message: /was closed/ };
  assert.throws(() => table.gather(BigUint64Array.of(1n)), closed);
  assert.throws(() => table.storedRow(1n), closed);
  assert.throws(() => table.handle, closed);
  assert.equal(table.version, 1);
});

for (const dtype of ['f32', 'f16', 'int8'] as const) {
  test(`a table of ${dtype} gives the same mapped and in memory, in one shard and in many`, async () => {
    const keys = upTo(300).map((key) => key * 7919n);
    const halves = keys.map((key): TestRow => [key, [0, 255, Number(key % 256n)]]);
    for (const shardNum of [1, 3]) {
      const { table: directory } = await build(halves, { dtype, shardNum });
      using mapped = await openTable(directory);
      using inMemory = await openTable(directory, { inMem: true, verify: true });
      const wanted = [...keys, 1n, 2n];
      const expected = [...halves.flatMap(([, row]) => row), 0, 0, 0, 0, 0, 0];
      assert.equal(mapped.shards, shardNum);
      assert.deepEqual(gathered(mapped, wanted), expected);
      assert.deepEqual(gathered(inMemory, wanted), expected);
      assert.equal(await inMemory.countRows(), 300);
    }
  });
}

test('many shards may be without a row', async () => {
  const { table: directory } = await build(rowsOf(5n, 21n, max), { shardNum: 16 });
  using table = await openTable(directory, { verify: true });
  assert.deepEqual(gathered(table, [21n, 6n, 5n, 0n]), [21, 10.5, 0, 0, 5, 2.5, 0, 0]);
  assert.equal(table.gather(BigUint64Array.from(upTo(64))).missing, 62);
  assert.equal(await table.countRows(), 3);
});

test('deltas lie over their snapshot, in order, and every version stays what it was', async () => {
  const { table } = await build(rowsOf(1n, 2n, 3n), { shardNum: 2 });
  const gone = join(root, 'gone.txt');
  writeFileSync(gone, '2\n55\n');
  await build(
    [
      [1n, [10, 10]],
      [4n, [40, 40]],
    ],
    { output: table, mode: 'delta', deleteKeys: gone },
  );
  await build([[2n, [20, 20]]], { output: table, mode: 'delta' });
  const seen = async (version?: number): Promise<unknown> => {
    using opened = await openTable(table, version === undefined ? { verify: true } : { version });
    return [gathered(opened, [1n, 2n, 3n, 4n, 55n]), await opened.countRows(), opened.overlayBytes > 0];
  };
  assert.deepEqual(await seen(1), [[1, 0.5, 2, 1, 3, 1.5, 0, 0, 0, 0], 3, false]);
  assert.deepEqual(await seen(2), [[10, 10, 0, 0, 3, 1.5, 40, 40, 0, 0], 3, true]);
  assert.deepEqual(await seen(3), [[10, 10, 20, 20, 3, 1.5, 40, 40, 0, 0], 4, true]);
  assert.deepEqual(await seen(), await seen(3));
  // The directory of a version stands for that version.
  using second = await openTable(join(table, '2'));
  assert.equal(second.version, 2);
  await assert.rejects(openTable(table, { version: 9 }), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /no version 9/,
  });
});

test('a directory that holds a manifest but is not named by a version says so', async () => {
  const copy = join(root, 'copy-of-a-version');
  cpSync(small.version, copy, { recursive: true });
  await assert.rejects(openTable(copy), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /copy-of-a-version.*named by .*number/,
  });
});

test('what is not there is named', async () => {
  await assert.rejects(openTable(join(root, 'nowhere')), { code: 'SRV_TABLE_NOT_FOUND', message: /nowhere/ });
  await assert.rejects(openTable(join(root, 'text.txt')), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /text\.txt/,
  });
  const empty = join(root, 'empty');
  mkdirSync(empty);
  await assert.rejects(openTable(empty), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /empty holds no version of a table/,
  });
  const { table } = await build(rowsOf(1n));
  const { version } = await build(rowsOf(2n), { output: table, mode: 'delta' });
  renameSync(join(table, '1'), join(table, 'one'));
  await assert.rejects(openTable(table), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /version 2 is a delta on version 1, which is not there/,
  });
  await assert.rejects(openTable(version), { code: 'SRV_TABLE_NOT_FOUND' });
});

/** A copy of the table `small` whose files are changed by `change`. */
async function changed(change: (version: string) => unknown, of = small.version): Promise<string> {
  const table = join(root, `changed-${files++}`);
  cpSync(of, join(table, '1'), { recursive: true });
  await change(join(table, '1'));
  return table;
}

function rewriteManifest(version: string, change: (manifest: Record<string, never>) => object): void {
  const path = join(version, 'manifest.json');
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')))));
}

const firstFile = (manifest: Record<string, never>, change: object): object => ({
  ...manifest,
  files: [{ ...(manifest.files as unknown as object[])[0], ...change }],
});

test('a manifest that tells another story than its files is refused', async () => {
  const lies: readonly (readonly [(manifest: Record<string, never>) => object, RegExp])[] = [
    [
      (m) => ({ ...m, dim: 3, default_row: [1, 2, 3] }),
      /the manifest says f32 rows of dim 3 in 1 shards, the files hold f32/,
    ],
    [(m) => ({ ...m, dtype: 'f16' }), /the manifest says f16 rows/],
    [(m) => firstFile(m, { digest: '0123456789abcdef' }), /has the digest [0-9a-f]{16}; .* 0123456789abcdef/],
    [(m) => firstFile({ ...m, rows: 9 } as never, { rows: 9 }), /has 5 rows; its manifest was written for 9/],
    [(m) => ({ ...m, hash_seed: '123' }), /has the hash seed \d+; its manifest was written for 123/],
  ];
  for (const [lie, message] of lies) {
    const table = await changed((version) => rewriteManifest(version, lie));
    await assert.rejects(openTable(table), { code: 'SRV_TABLE_CORRUPT', message });
    await assert.rejects(openTable(table, { verify: true }), { code: 'SRV_TABLE_CORRUPT', message });
  }
});

test('a delta under the name of a snapshot, and the other way round, are refused', async () => {
  const { table } = await build(rowsOf(1n));
  const delta = await build(rowsOf(2n), { output: table, mode: 'delta' });
  const asSnapshot = await changed(
    (version) =>
      rewriteManifest(version, ({ parent: _, parent_digest: __, ...m }) => ({
        ...m,
        version: 1,
        kind: 'snapshot',
      })),
    delta.version,
  );
  await assert.rejects(openTable(asSnapshot), {
    code: 'SRV_TABLE_MISMATCH',
    message: /is the file of a delta/,
  });
  const lying = await build(rowsOf(2n), { output: table, version: 3 });
  const parentDigest = digestOfVersion(await readManifest(join(table, '1')));
  rewriteManifest(lying.version, (m) => ({ ...m, kind: 'delta', parent: 1, parent_digest: parentDigest }));
  await assert.rejects(openTable(table, { version: 3 }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /is the file of a snapshot/,
  });
});

test('a file that was swapped for another sound one is found', async () => {
  const { version: other } = await build(rowsOf(0n, 1n, 2n, 3n, 2000n));
  const table = await changed((version) => cpSync(shardOf(other), shardOf(version)));
  const refused = { code: 'SRV_TABLE_CORRUPT', message: /part-00000-of-00001\.shard has the digest/ };
  await assert.rejects(openTable(table), refused);
  await assert.rejects(verifyTable(await resolveTable(table)), refused);

  const { table: sharded, version } = await build(rowsOf(0n, 1n, 2n, 3n), { shardNum: 2 });
  renameSync(shardOf(version, 0, 2), join(version, 'kept'));
  renameSync(shardOf(version, 1, 2), shardOf(version, 0, 2));
  renameSync(join(version, 'kept'), shardOf(version, 1, 2));
  await assert.rejects(openTable(sharded), {
    code: 'SRV_TABLE_MISMATCH',
    message: /is shard 1, expected shard 0/,
  });
});

test('a missing shard, a shard of another size and a directory in its place are refused', async () => {
  const { version } = await build(rowsOf(0n, 1n, 2n), { shardNum: 3 });
  const copy = (change: (file: string) => unknown): Promise<string> =>
    changed((place) => change(shardOf(place, 1, 3)), version);
  const refused = (message: RegExp): object => ({ code: 'SRV_TABLE_CORRUPT', message });
  await assert.rejects(openTable(await copy((file) => rmSync(file))), refused(/files\[1\]: .* is missing/));
  await assert.rejects(
    openTable(await copy((file) => truncateSync(file, 100))),
    refused(/has 100 bytes, not/),
  );
  const directory = await copy((file) => {
    rmSync(file);
    mkdirSync(file);
  });
  await assert.rejects(openTable(directory), refused(/is missing/));
});

test('whatever is cut or flipped in a file is refused, or found by verify, and the process lives', () => {
  const program = fileURLToPath(new URL('./mutated-tables.js', import.meta.url));
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [program], {
    encoding: 'utf8',
    timeout: 240_000,
  });
  assert.equal(signal, null, stderr);
  assert.equal(status, 0, stderr);
  const { opened, refused, unnoticed } = JSON.parse(stdout);
  assert.deepEqual(unnoticed, []);
  assert.ok(opened > 100 && refused > 100, stdout);
});

test('another format version and another byte order are unsupported', async () => {
  const patched = (at: number, ...bytes: readonly number[]): Promise<string> =>
    changed((version) => {
      const file = readFileSync(shardOf(version));
      file.set(bytes, at);
      writeFileSync(shardOf(version), file);
    });
  await assert.rejects(openTable(await patched(12, 2, 0, 0, 0)), {
    code: 'SRV_TABLE_UNSUPPORTED',
    message: /has format version 2; this software reads version 1/,
  });
  await assert.rejects(openTable(await patched(8, 1, 2, 3, 4)), {
    code: 'SRV_TABLE_UNSUPPORTED',
    message: /big-endian/,
  });
  await assert.rejects(openTable(await patched(0, 0x50)), {
    code: 'SRV_TABLE_CORRUPT',
    message: /byte 0: no shard/,
  });
});

test(
  'a file that is cut while it is open fails gathers, and its place is good again afterwards',
  linuxOnly,
  async () => {
    const { table: directory, version } = await build(upTo(20_000).map((key): TestRow => [key, rowOf(key)]));
    const path = shardOf(version);
    const whole = readFileSync(path);
    const keys = BigUint64Array.from(upTo(20_000));
    {
      using table = await openTable(directory);
      table.gather(keys.subarray(0, 10));
      truncateSync(path, 8192);
      const corrupt = { code: 'SRV_TABLE_CORRUPT', message: /was truncated while it was mapped/ };
      assert.throws(() => table.gather(keys), corrupt);
      // The pages are zeros now and raise nothing any more.
      assert.throws(() => table.gather(keys), corrupt);
      assert.throws(() => {
        for (const key of keys) table.storedRow(key);
      }, corrupt);
      await assert.rejects(table.countRows(), corrupt);
      // The same inode, whole again: whoever opens it now has a mapping of its own.
      writeFileSync(path, whole);
      using again = await openTable(directory, { verify: true });
      assert.equal(again.gather(keys).missing, 0);
      assert.throws(() => table.gather(keys), corrupt);
    }
    using later = await openTable(directory);
    assert.equal(later.gather(keys).missing, 0);
  },
);

test('a model gets the version that was published with it, or with none', async () => {
  const { table } = await build(rowsOf(1n), { model: { name: 'm', version: 1 } });
  await build(rowsOf(1n, 2n), { output: table, model: { name: 'm', version: 2 } });
  const versionFor = async (version: number, name = 'm'): Promise<number> =>
    (await resolveTable(table, { model: { name, version } })).manifest.version;
  assert.equal(await versionFor(1), 1);
  assert.equal(await versionFor(2), 2);
  await assert.rejects(versionFor(3), {
    code: 'SRV_TABLE_NOT_FOUND',
    message: /versions \[1,2\], none of which was published with version 3 of model m/,
  });
  await assert.rejects(versionFor(1, 'other'), { code: 'SRV_TABLE_NOT_FOUND' });
  assert.equal((await resolveTable(table)).manifest.version, 2);
  await assert.rejects(resolveTable(table, { version: 2, model: { name: 'm', version: 1 } }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /was published with version 2 of model m, not with version 1 of m/,
  });
  await build(rowsOf(9n), { output: table });
  assert.deepEqual([await versionFor(1), await versionFor(3)], [3, 3]);
});

test('a delta belongs to the model of what it stands on', async () => {
  const { table } = await build(rowsOf(1n), { model: { name: 'm', version: 1 } });
  await build(rowsOf(1n, 2n), { output: table, model: { name: 'm', version: 2 } });
  await build(rowsOf(3n), { output: table, mode: 'delta' });
  const versionFor = async (version: number): Promise<number> =>
    (await resolveTable(table, { model: { name: 'm', version } })).manifest.version;
  assert.equal(await versionFor(2), 3);
  assert.equal(await versionFor(1), 1);
  await assert.rejects(resolveTable(table, { version: 3, model: { name: 'm', version: 1 } }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /version 2 of model m/,
  });
  const { manifest } = await compactTable(table, { threads: 1 });
  assert.deepEqual(manifest.model, { name: 'm', version: 2 });
  assert.equal(await versionFor(1), 1);
});

test('compacting folds the deltas below a version into the next one', async () => {
  const { table } = await build(rowsOf(1n, 2n, 3n), { shardNum: 2, defaultRow: [1, 1] });
  const gone = join(root, 'gone-too.txt');
  writeFileSync(gone, '3\n');
  await build([[1n, [9, 9]]], { output: table, mode: 'delta', deleteKeys: gone });
  const { manifest, directory } = await compactTable(table, { threads: 1 });
  assert.deepEqual(
    [manifest.version, manifest.kind, manifest.compacts, manifest.rows, manifest.deletes, manifest.shard_num],
    [3, 'snapshot', 2, 2, 0, 2],
  );
  assert.deepEqual([manifest.default_row, manifest.parent, manifest.source], [[1, 1], undefined, undefined]);
  assert.deepEqual(await readManifest(directory), manifest);
  using folded = await openTable(table, { verify: true });
  assert.deepEqual(gathered(folded, [1n, 2n, 3n]), [9, 9, 2, 1, 0, 0]);
  assert.deepEqual((await diffTables(join(table, '2'), join(table, '3'))).difference, {
    added: 0,
    changed: 0,
    removed: 0,
  });
  await assert.rejects(compactTable(table), { code: 'SRV_BAD_CONFIG', message: /is a snapshot already/ });
  // A version below the newest: what it gives must not become what is served next.
  await assert.rejects(compactTable(join(table, '2'), { threads: 1 }), {
    code: 'SRV_BAD_CONFIG',
    message: /version 2 .* newer version 3/,
  });
});

test('the next version is taken while a table is compacted, and nothing is compacted while it is', async () => {
  const { table } = await build(rowsOf(1n));
  await build(rowsOf(2n), { output: table, mode: 'delta' });
  {
    await using work = await VersionWork.open(table, 3);
    assert.equal(work.version, 3);
    await assert.rejects(compactTable(table, { threads: 1 }), { code: 'SRV_IO', message: /is being made/ });
  }
  let taken: readonly string[] = [];
  const onStart = (): void => {
    taken = readdirSync(table).filter((name) => name.startsWith('.building-3-'));
  };
  const { manifest } = await compactTable(table, { threads: 1, onStart });
  assert.deepEqual([taken.length, manifest.version], [1, 3]);
  // What is refused takes nothing with it.
  await assert.rejects(compactTable(table), { code: 'SRV_BAD_CONFIG' });
  assert.equal((await build(rowsOf(3n), { output: table, mode: 'delta' })).version, join(table, '4'));
});

test('a table that lost all its rows can be compacted', async () => {
  const { table } = await build(rowsOf(1n));
  const gone = join(root, 'all-gone.txt');
  writeFileSync(gone, '1\n');
  await buildTable({ output: table, inputs: [], mode: 'delta', deleteKeys: gone });
  const { manifest } = await compactTable(table, { threads: 1 });
  assert.equal(manifest.rows, 0);
  using empty = await openTable(table, { verify: true });
  assert.equal(empty.gather(BigUint64Array.of(0n, 1n, max)).missing, 3);
});

test('rows of bytes are compacted as they are', async () => {
  const table = join(root, 'bytes-deltas');
  await buildTable({ output: table, inputs: [join(root, 'text.txt')], dtype: 'bytes', shardNum: 2 });
  const more = join(root, 'more.txt');
  writeFileSync(more, '1:another\n7:\n');
  await buildTable({ output: table, inputs: [more], mode: 'delta' });
  await compactTable(table, { threads: 1 });
  using folded = await openTable(table, { verify: true });
  const read = (key: bigint): string => Buffer.from(folded.storedRow(key)!).toString();
  assert.deepEqual([1n, 2n, 7n, max].map(read), ['another', '', '', 'last']);
  assert.equal(await folded.countRows(), 4);
});

test('damage is not folded into a sound-looking snapshot, nor into a delta', async () => {
  const { table, version } = await build(upTo(500).map((key): TestRow => [key, rowOf(key)]));
  await build(rowsOf(9n), { output: table, mode: 'delta' });
  const file = readFileSync(shardOf(version));
  file[4096 + 70] = file[4096 + 70]! ^ 0x10;
  writeFileSync(shardOf(version), file);
  const corrupt = { code: 'SRV_TABLE_CORRUPT', message: /checksum/ };
  await assert.rejects(compactTable(table, { threads: 1 }), corrupt);
  const { table: other } = await build(rowsOf(1n));
  await assert.rejects(writeDelta(other, table, other, { threads: 1 }), corrupt);
  await assert.rejects(openTable(table, { version: 3 }), { code: 'SRV_TABLE_NOT_FOUND' });
});

test('a rebuild that was cancelled before it began makes nothing', async () => {
  const { table } = await build(rowsOf(1n));
  await build(rowsOf(2n), { output: table, mode: 'delta' });
  const signal = AbortSignal.abort();
  await assert.rejects(compactTable(table, { signal }), { code: 'SRV_CANCELLED' });
  await assert.rejects(writeDelta(join(table, '1'), table, table, { signal }), { code: 'SRV_CANCELLED' });
  await assert.rejects(openTable(table, { version: 3 }), { code: 'SRV_TABLE_NOT_FOUND' });
});

test('the delta of two tables turns one into the other, default row included', async () => {
  const { table: a } = await build(rowsOf(1n, 2n, 3n, max), { defaultRow: [1, 1], shardNum: 2 });
  const { table: b } = await build([...rowsOf(2n, 4n, 0n), [3n, [5, 5]]], {
    defaultRow: [2, 2],
    shardNum: 2,
  });
  const { difference } = await diffTables(a, b);
  assert.deepEqual(difference, { added: 2, changed: 1, removed: 2 });
  const { manifest } = await writeDelta(a, b, a, { threads: 1 });
  assert.deepEqual(
    [manifest.version, manifest.kind, manifest.parent, manifest.rows, manifest.deletes, manifest.default_row],
    [2, 'delta', 1, 3, 2, [2, 2]],
  );
  assert.deepEqual((await diffTables(a, b)).difference, { added: 0, changed: 0, removed: 0 });
  using turned = await openTable(a);
  assert.deepEqual(gathered(turned, [0n, 1n, 2n, 3n, 4n, max]), [0, 0, 0, 0, 2, 1, 5, 5, 4, 2, 0, 0]);
  assert.deepEqual(gathered(turned, [1n], { missing: 'default' }), [2, 2]);
  // No difference is a delta too.
  assert.equal((await writeDelta(a, b, a, { threads: 1 })).manifest.rows, 0);
});

test('a delta goes into the table of its parent, also where a version of it is named', async () => {
  const { table: a, version } = await build(rowsOf(1n));
  const { table: b } = await build(rowsOf(2n));
  const { directory } = await writeDelta(version, b, version, { threads: 1 });
  assert.equal(directory, join(a, '2'));
  await assert.rejects(writeDelta(a, b, b, { threads: 1 }), { code: 'SRV_TABLE_NOT_FOUND' });
  await assert.rejects(writeDelta(join(a, '1'), b, b, { threads: 1 }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /version 1 in \S+ is not the one in \S+: its digest is/,
  });
});

test('tables of unlike rows or shards have no delta', async () => {
  const { table: a } = await build(rowsOf(1n));
  const { table: half } = await build(rowsOf(1n), { dtype: 'f16' });
  const { table: wide } = await build([[1n, [1, 2, 3]]]);
  const { table: sharded } = await build(rowsOf(1n), { shardNum: 2 });
  await assert.rejects(diffTables(a, half), { code: 'SRV_TABLE_MISMATCH', message: /dtype f32, .* f16/ });
  await assert.rejects(diffTables(a, wide), { code: 'SRV_TABLE_MISMATCH', message: /dim 2, .* 3/ });
  await assert.rejects(writeDelta(a, sharded, a), {
    code: 'SRV_TABLE_MISMATCH',
    message: /1 shards, .* has 2/,
  });
  // Shards do not matter for what they hold.
  assert.deepEqual((await diffTables(a, sharded)).difference, { added: 0, changed: 0, removed: 0 });
});
