import assert from 'node:assert/strict';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { rowsFile } from '../../examples/ctr/artefacts.js';
import { unpackRows } from '../../examples/ctr/rows-file.js';
import { prepareTable } from '../../examples/ctr/sample-table.js';
import { openTable } from '../../src/index.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const directory = makeDirectory('ctr-table');
after(() => removeDirectory(directory));
const table = join(directory, 'table');
const rows = join(directory, 'rows.bin');
copyFileSync(rowsFile, rows);

describe('the table of the CTR sample', () => {
  test('is built once, whoever is at it, and holds the packed rows', async () => {
    // One that was killed long ago, and one that works now.
    for (const name of ['.making-old', '.making-now']) mkdirSync(join(table, name), { recursive: true });
    utimesSync(join(table, '.making-old'), 1, 1);
    const seconds = await Promise.all([1, 2, 3].map(() => prepareTable(table, rows)));
    for (const each of seconds) assert.ok(each! > 0);
    assert.deepEqual(readdirSync(table).sort(), ['.making-now', '1']);
    assert.equal(await prepareTable(table, rows), undefined);

    const { count, dim, values } = unpackRows(readFileSync(rows));
    using opened = await openTable(table, { verify: true });
    const gathered = opened.gather(BigUint64Array.from({ length: count }, (_, key) => BigInt(key)));
    assert.equal(opened.dim, dim);
    assert.equal(gathered.missing, 0);
    assert.ok(Buffer.from(gathered.rows.buffer).equals(Buffer.from(values.buffer)));
  });

  test('gets a new version when its rows are newer', async () => {
    const soon = statSync(join(table, '1')).mtimeMs / 1000 + 1;
    utimesSync(rows, soon, soon);
    assert.ok((await prepareTable(table, rows))! > 0);
    assert.ok(readdirSync(table).includes('2'));
  });

  test('cannot be made where one may not write, which is said', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, '');
    await assert.rejects(
      prepareTable(join(file, 'table'), rows),
      /cannot be made in .*file\/table: ENOTDIR.*\n.*may write/,
    );
  });

  test('is not made of rows that are damaged, and leaves nothing behind', async () => {
    const damaged = join(directory, 'damaged.bin');
    writeFileSync(damaged, readFileSync(rowsFile).subarray(0, 5000));
    const other = join(directory, 'other');
    await assert.rejects(prepareTable(other, damaged), /unexpected end of file/);
    assert.deepEqual(readdirSync(other), []);
  });
});
