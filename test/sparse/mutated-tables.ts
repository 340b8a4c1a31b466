/**
 * Opens and gathers hundreds of damaged copies of small tables, and prints how many could be opened. A program of its
 * own: a read outside of a file would end it.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServingError } from '../../src/errors.js';
import { type BuildTableOptions, buildTable } from '../../src/sparse/builder.js';
import { openTable } from '../../src/sparse/table.js';
import { writeKeyValue } from './row-files.js';

const root = mkdtempSync(join(tmpdir(), 'mutated-tables-'));
const rows = join(root, 'rows.txt');
const wide = join(root, 'wide.txt');
const text = join(root, 'text.txt');
const gone = join(root, 'gone.txt');
const keys = Array.from(
  { length: 60 },
  (_, index) => (BigInt(index) * 0x9e3779b97f4a7c15n) & (2n ** 64n - 1n),
);
writeKeyValue(
  rows,
  keys.map((key, index) => [key, [index, 1, 2, 3]]),
);
writeKeyValue(
  wide,
  keys.slice(0, 12).map((key, index) => [key, Array.from({ length: 120 }, () => index)]),
);
writeFileSync(text, keys.map((key, index) => `${key}:${'x'.repeat(index * 3)}\n`).join(''));
writeFileSync(gone, keys.slice(20, 40).join('\n'));

const result = { opened: 0, refused: 0, unnoticed: [] as string[] };
const wanted = BigUint64Array.from([...keys, 0n, 1n, 2n ** 64n - 1n]);

/** Whether the table at a place can be opened; if so, everything is read that can be. */
async function isOpened(table: string, inMem: boolean): Promise<boolean> {
  try {
    using opened = await openTable(table, { inMem });
    await opened.countRows();
    try {
      for (const key of wanted) opened.storedRow(key);
      if (opened.dim > 0) {
        opened.gather(wanted);
        opened.gather(wanted, { combiner: 'mean', offsets: Int32Array.of(0, 7, 7, 30) });
      }
    } catch (error) {
      if (!(error instanceof ServingError && error.code === 'SRV_TABLE_CORRUPT')) throw error;
    }
    return true;
  } catch (error) {
    if (error instanceof ServingError && error.kind !== 'internal' && error.message !== '') return false;
    throw error;
  }
}

async function isSound(table: string): Promise<boolean> {
  try {
    (await openTable(table, { verify: true })).close();
    return true;
  } catch {
    return false;
  }
}

/** Every damage that `change` gives, of the one shard of a version: `undefined` ends them. */
async function tryAll(
  what: string,
  table: string,
  version: number,
  changes: Iterable<readonly [string, Buffer]>,
): Promise<void> {
  const directory = join(table, String(version));
  const path = join(directory, 'part-00000-of-00001.shard');
  const manifestPath = join(directory, 'manifest.json');
  const whole = readFileSync(path);
  const manifest = readFileSync(manifestPath, 'utf8');
  let turn = 0;
  for (const [name, bytes] of changes) {
    writeFileSync(path, bytes);
    // The size is not what must save us.
    writeFileSync(manifestPath, manifest.replace(`"bytes": ${whole.length}`, `"bytes": ${bytes.length}`));
    if (await isOpened(table, turn++ % 2 === 0)) {
      result.opened += 1;
      if (await isSound(table)) result.unnoticed.push(`${what}: ${name}`);
    } else {
      result.refused += 1;
    }
  }
  writeFileSync(path, whole);
  writeFileSync(manifestPath, manifest);
}

function* truncations(whole: Buffer): Generator<readonly [string, Buffer]> {
  const lengths = new Set([
    0,
    1,
    7,
    8,
    4088,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    whole.length - 1,
    whole.length - 8,
  ]);
  for (let at = 512; at < whole.length; at += 1531) lengths.add(at);
  for (const length of lengths)
    if (length < whole.length) yield [`cut to ${length}`, whole.subarray(0, length)];
  yield ['one byte more', Buffer.concat([whole, Buffer.alloc(1)])];
  yield ['a page more', Buffer.concat([whole, Buffer.alloc(4096)])];
}

function* flips(whole: Buffer): Generator<readonly [string, Buffer]> {
  const places = new Set<number>();
  // Every field of the header, then its hash, then bytes all over, then the checksums.
  for (let at = 0; at < 160; at += 3) places.add(at);
  for (let at = 160; at < 4096; at += 509) places.add(at);
  for (let at = 4088; at < 4096; at++) places.add(at);
  for (let at = 4096; at < whole.length; at += 193) places.add(at);
  for (let at = whole.length - 8; at < whole.length; at++) places.add(at);
  for (const at of places) {
    const bytes = Buffer.from(whole);
    bytes[at] = bytes[at]! ^ (1 << (at % 8));
    yield [`bit ${at % 8} of byte ${at}`, bytes];
  }
}

async function damage(name: string, options: Omit<BuildTableOptions, 'output'>): Promise<void> {
  const table = join(root, name);
  mkdirSync(table);
  const { manifest } = await buildTable({ threads: 1, ...options, output: table });
  await tryFile(name, table, manifest.version);
}

async function tryFile(name: string, table: string, version: number): Promise<void> {
  const whole = readFileSync(join(table, String(version), 'part-00000-of-00001.shard'));
  await tryAll(name, table, version, truncations(whole));
  await tryAll(name, table, version, flips(whole));
}

await damage('f32', { inputs: [rows] });
await damage('int8', { inputs: [rows], dtype: 'int8' });
await damage('wide', { inputs: [wide] });
await damage('bytes', { inputs: [text], dtype: 'bytes' });
const deltas = join(root, 'f32');
await buildTable({ output: deltas, inputs: [rows], mode: 'delta', deleteKeys: gone, threads: 1 });
await tryFile('delta', deltas, 2);
// What lies below a delta is damaged.
await tryFile('below a delta', deltas, 1);
rmSync(root, { recursive: true });
process.stdout.write(JSON.stringify(result));
