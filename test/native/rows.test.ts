import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  abandonSequenceWriter,
  closeRowReader,
  finishSequenceWriter,
  openRowReader,
  openSequenceWriter,
  type RowFormat,
  type RowReader,
  readRowLines,
  readRows,
  type SequenceWriter,
  writeSequenceRows,
} from '../../src/native/row-files.js';

const root = mkdtempSync(join(tmpdir(), 'rows-'));
after(() => rmSync(root, { recursive: true }));

function fileOf(name: string, content: string | Buffer): string {
  const path = join(root, name);
  writeFileSync(path, content);
  return path;
}

async function rowsOf(path: string, format: RowFormat): Promise<[bigint, string][]> {
  const reader = await openRowReader(path, format);
  const rows: [bigint, string][] = [];
  for (;;) {
    const batch = await readRows(reader, 2);
    if (!batch) break;
    let begin = 0;
    for (const [row, end] of batch.ends.entries()) {
      rows.push([batch.keys[row]!, Buffer.from(batch.bytes.subarray(begin, end)).toString('hex')]);
      begin = end;
    }
  }
  closeRowReader(reader);
  return rows;
}

const internal = { code: 'SRV_INTERNAL' };

test('rows of each format come with exact keys and their bytes', async () => {
  assert.deepEqual(
    await rowsOf(fileOf('a.txt', '18446744073709551615:ff\n0:\n3:0102'), { format: 'text', values: 'hex' }),
    [
      [2n ** 64n - 1n, 'ff'],
      [0n, ''],
      [3n, '0102'],
    ],
  );
  const table = fileOf('a.csv', 'x;id\n1;9007199254740993\n-2;4\n');
  assert.deepEqual(await rowsOf(table, { format: 'csv', delimiter: ';', keyColumn: 'id' }), [
    [9007199254740993n, '0000803f'],
    [4n, '000000c0'],
  ]);
  const described = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }".padEnd(117);
  const array = fileOf(
    'a.npy',
    Buffer.concat([
      Buffer.from('\x93NUMPY\x01\0v\0', 'latin1'),
      Buffer.from(`${described}\n`),
      Buffer.from([1, 2, 3, 4]),
    ]),
  );
  assert.deepEqual(await rowsOf(array, { format: 'npy', rawBytes: true, firstKey: 2n ** 63n }), [
    [2n ** 63n, '0102'],
    [2n ** 63n + 1n, '0304'],
  ]);
});

test('a wrong, a closed and a busy handle are refused', async () => {
  const path = fileOf('b.txt', '1:1\n');
  const reader = await openRowReader(path, { format: 'text' });
  const writer = await openSequenceWriter(join(root, 'b.seq'));
  for (const wrong of [undefined, 1, {}, writer, [], 'reader']) {
    await assert.rejects(readRows(wrong as RowReader, 1), internal);
    await assert.rejects(readRowLines(wrong as RowReader, 1, 'auto'), internal);
    assert.throws(() => closeRowReader(wrong as RowReader), internal);
  }
  for (const wrong of [undefined, 1, {}, reader]) {
    await assert.rejects(finishSequenceWriter(wrong as unknown as SequenceWriter), internal);
    assert.throws(() => abandonSequenceWriter(wrong as unknown as SequenceWriter), internal);
  }
  const first = readRows(reader, 1);
  await assert.rejects(readRows(reader, 1), /busy/);
  closeRowReader(reader);
  assert.equal((await first)?.keys[0], 1n);
  await assert.rejects(readRows(reader, 1), /closed/);
  closeRowReader(reader);
  await assert.rejects(readRows(await openRowReader(path, { format: 'text' }), 0), internal);
  abandonSequenceWriter(writer);
  await assert.rejects(finishSequenceWriter(writer), /closed/);
  assert.ok(!readdirSync(root).some((name) => name.startsWith('b.seq')));
});

test('a format and rows that are not what they should be are refused', async () => {
  const path = fileOf('c.txt', '1:1\n');
  const bad: object[] = [
    { format: 'xml' },
    { format: 'csv', delimiter: '::' },
    { format: 'csv', delimiter: '' },
    { format: 'npy', firstKey: -1n },
    { format: 'npy', firstKey: 2n ** 64n },
    { format: 'npy', keysPath: 'a\0b' },
  ];
  for (const format of bad) await assert.rejects(openRowReader(path, format as RowFormat), internal);
  await assert.rejects(openRowReader('a\0b', { format: 'text' }), internal);
  const writer = await openSequenceWriter(join(root, 'c.seq'));
  const bytes = new Uint8Array(4);
  const rows: [number, number[]][] = [
    [1, [5]],
    [2, [3, 2]],
    [1, [-1]],
    [1, [Number.NaN]],
    [2, [1]],
  ];
  for (const [count, ends] of rows) {
    const batch = { keys: new BigUint64Array(count), ends: new Float64Array(ends), bytes };
    await assert.rejects(writeSequenceRows(writer, batch), internal);
  }
  abandonSequenceWriter(writer);
  await assert.rejects(openSequenceWriter(join(root, 'c.seq'), new Uint8Array(15)), internal);
});

test('a writer is invisible until it is finished', async () => {
  const directory = mkdtempSync(join(root, 'd-'));
  const path = join(directory, 'd.seq');
  const writer = await openSequenceWriter(path);
  const rows = {
    keys: new BigUint64Array([1n]),
    ends: new Float64Array([3]),
    bytes: new Uint8Array([1, 2, 3]),
  };
  await writeSequenceRows(writer, rows);
  assert.ok(!readdirSync(directory).includes('d.seq'));
  const writing = writeSequenceRows(writer, rows);
  await assert.rejects(finishSequenceWriter(writer), /busy/);
  await writing;
  assert.deepEqual(await finishSequenceWriter(writer), { records: 2, bytes: 96 + 2 * 19 });
  assert.deepEqual(readdirSync(directory), ['d.seq']);
  abandonSequenceWriter(writer);
  assert.deepEqual(await rowsOf(path, { format: 'seqfile' }), [
    [1n, '010203'],
    [1n, '010203'],
  ]);
});
