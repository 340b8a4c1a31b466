import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type BuildTableOptions, type BuiltVersion, buildTable } from '../../src/sparse/builder.js';
import { listVersions, readManifest } from '../../src/sparse/manifest.js';
import { openTable } from '../../src/sparse/table.js';
import { floatBytes, type TestRow, writeCsv, writeKeyValue, writeNpy, writeSequence } from './row-files.js';

const root = mkdtempSync(join(tmpdir(), 'table-builder-'));
after(() => rmSync(root, { recursive: true }));

let made = 0;
/** A new directory for a table. */
const newTable = (): string => join(root, `table-${++made}`);
const file = (name: string): string => join(root, `${++made}-${name}`);

const rows: readonly TestRow[] = [
  [0n, [1, 2, 3]],
  [18446744073709551615n, [4, 5, 6]],
  [7n, [-1, 0.5, 0.25]],
];

function build(
  options: Partial<BuildTableOptions> & { readonly inputs: readonly string[] },
): Promise<BuiltVersion> {
  return buildTable({ output: newTable(), threads: 2, ...options });
}

async function gathered(built: BuiltVersion, keys: readonly bigint[]): Promise<(readonly number[])[]> {
  const table = await openTable(built.directory, { verify: true });
  try {
    const flat = [...table.gather(BigUint64Array.from(keys)).rows];
    return keys.map((_, index) => flat.slice(index * table.dim, (index + 1) * table.dim));
  } finally {
    table.close();
  }
}

async function holdsRows(built: BuiltVersion, expected: readonly TestRow[] = rows): Promise<void> {
  assert.equal(built.manifest.rows, expected.length);
  assert.deepEqual(
    await gathered(
      built,
      expected.map(([key]) => key),
    ),
    expected.map(([, row]) => row),
  );
}

test('a table is built from each format, which the file itself tells', async () => {
  const bytes = rows.map(([key, row]) => [key, floatBytes(row)] as const);
  await holdsRows(await build({ inputs: [writeSequence(file('part-0'), bytes)] }));
  await holdsRows(await build({ inputs: [writeKeyValue(file('rows.txt'), rows)] }));
  await holdsRows(await build({ inputs: [writeCsv(file('rows.csv'), rows)] }));
  const npy = writeNpy(
    file('rows.npy'),
    rows.map(([, row]) => row),
  );
  await holdsRows(
    await build({ inputs: [npy], firstKey: 40n }),
    rows.map(([, row], index) => [40n + BigInt(index), row]),
  );
  const keys = writeNpy(file('keys.npy'), BigUint64Array.from(rows.map(([key]) => key)));
  await holdsRows(await build({ inputs: [npy], keysPath: keys, format: 'npy' }));
});

test('shards, types and the row of missing keys are as asked for', async () => {
  const input = writeKeyValue(file('rows.txt'), rows);
  for (const dtype of ['f16', 'f32'] as const) {
    const built = await build({ inputs: [input], dtype, shardNum: 5, defaultRow: 'mean', name: 'user' });
    await holdsRows(built);
    const { manifest } = built;
    assert.equal(manifest.table, 'user');
    assert.equal(manifest.files.length, 5);
    assert.deepEqual(manifest.default_row, [4 / 3, 2.5, 9.25 / 3].map(Math.fround));
    assert.deepEqual(manifest, await readManifest(built.directory));
  }
  const small = await build({ inputs: [input], dtype: 'int8', defaultRow: [1, 2, 3] });
  const [first] = await gathered(small, [0n]);
  assert.ok(
    first!.every((value, index) => Math.abs(value - (index + 1)) < 0.01),
    String(first),
  );
  assert.deepEqual(small.manifest.default_row, [1, 2, 3]);
});

test('rows that are quantised already go in as they are', async () => {
  const value = new Uint8Array(8 + 3);
  value.set(floatBytes([0, 255]));
  value.set([0, 10, 255], 8);
  const built = await build({
    inputs: [writeSequence(file('q'), [[5n, value]])],
    dtype: 'int8',
    values: 'stored',
  });
  assert.equal(built.manifest.dim, 3);
  const [row] = await gathered(built, [5n]);
  assert.ok(
    row!.every((element, index) => Math.abs(element - [0, 10, 255][index]!) < 1e-3),
    String(row),
  );
  const hex = file('q.txt');
  writeFileSync(hex, `5:${Buffer.from(value).toString('hex')}\n`);
  const same = await build({ inputs: [hex], dtype: 'int8', values: 'stored' });
  assert.equal(same.manifest.files[0]!.digest, built.manifest.files[0]!.digest);
});

test('rows of bytes keep their lengths', async () => {
  const input = file('rows.txt');
  writeFileSync(input, '1:one\n2:\n3:a longer text\n');
  const built = await build({ inputs: [input], dtype: 'bytes' });
  assert.equal(built.manifest.dim, 0);
  const table = await openTable(built.directory);
  assert.deepEqual(
    [1n, 2n, 3n].map((key) => Buffer.from(table.storedRow(key)!).toString()),
    ['one', '', 'a longer text'],
  );
  table.close();
});

test('the last row of a key wins, in the order of the files; the others are counted', async () => {
  const directory = file('inputs');
  mkdirSync(join(directory, 'b'), { recursive: true });
  writeKeyValue(join(directory, 'b', '1.txt'), [[1n, [3]]]);
  writeKeyValue(join(directory, 'b.txt'), [
    [1n, [1]],
    [1n, [2]],
    [2n, [2]],
  ]);
  writeKeyValue(join(directory, '.hidden'), [[1n, [9]]]);
  symlinkSync(join(directory, 'b.txt'), join(directory, 'z-link'));
  const built = await build({ inputs: [directory] });
  await holdsRows(built, [
    [1n, [3]],
    [2n, [2]],
  ]);
  assert.deepEqual(built.manifest.source, { inputs: [directory], rows_read: 4, duplicates: 2 });
});

test('a delta changes and deletes rows of its parent, and takes its form', async () => {
  const output = newTable();
  const base = await buildTable({
    output,
    inputs: [writeKeyValue(file('base.txt'), rows)],
    shardNum: 2,
    dtype: 'f16',
    defaultRow: 'zeros',
  });
  const gone = file('gone.txt');
  writeFileSync(gone, '7\n99\n');
  const changes = writeKeyValue(file('changes.txt'), [
    [0n, [9, 9, 9]],
    [7n, [8, 8, 8]],
  ]);
  const delta = await buildTable({ output, inputs: [changes], mode: 'delta', deleteKeys: gone });
  const { version, parent, kind, dtype, dim, rows: upserts, deletes } = delta.manifest;
  assert.deepEqual(
    { version, parent, kind, dtype, dim, upserts, deletes },
    { version: 2, parent: 1, kind: 'delta', dtype: 'f16', dim: 3, upserts: 1, deletes: 2 },
  );
  assert.deepEqual(delta.manifest.default_row, base.manifest.default_row);
  assert.deepEqual(await gathered(delta, [0n, 7n]), [
    [9, 9, 9],
    [0, 0, 0],
  ]);
  assert.deepEqual(await gathered(base, [7n]), [[-1, 0.5, 0.25]]);
  const empty = await buildTable({ output, inputs: [], mode: 'delta' });
  assert.equal(empty.manifest.parent, 2);
  assert.deepEqual(await gathered(empty, [0n]), [[9, 9, 9]]);

  await assert.rejects(buildTable({ output, inputs: [changes], mode: 'delta', dim: 4 }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /has dim 3, and so has a delta on it; got 4/,
  });
  await assert.rejects(buildTable({ output, inputs: [changes], mode: 'delta', shardNum: 3 }), {
    code: 'SRV_TABLE_MISMATCH',
  });
  await assert.rejects(buildTable({ output, inputs: [changes], mode: 'delta', parent: 8 }), {
    code: 'SRV_TABLE_NOT_FOUND',
  });
  await assert.rejects(buildTable({ output, inputs: [changes], mode: 'delta', version: 3, parent: 3 }), {
    code: 'SRV_BAD_CONFIG',
  });
  assert.deepEqual(await listVersions(output), [1, 2, 3]);
});

test('bad inputs fail the build with file and reason, and leave nothing', async () => {
  const output = newTable();
  const attempt = (options: Partial<BuildTableOptions> & { inputs: readonly string[] }): Promise<unknown> =>
    buildTable({ output, threads: 2, ...options });
  const good = writeKeyValue(file('good.txt'), rows);
  const short = writeKeyValue(file('short.txt'), [[3n, [1, 2]]]);
  await assert.rejects(attempt({ inputs: [good, short] }), {
    code: 'SRV_TABLE_MISMATCH',
    message: `${short}: the value of key 3 has 8 bytes, expected 12: 3 floats`,
  });
  await assert.rejects(attempt({ inputs: [good], dim: 4 }), { message: /12 bytes, expected 16: 4 floats/ });
  const damaged = writeSequence(file('damaged'), [[3n, floatBytes([1, 2, 3])]]);
  writeFileSync(damaged, 'x', { flag: 'a' });
  await assert.rejects(attempt({ inputs: [damaged] }), {
    code: 'SRV_BAD_INPUT_FILE',
    message: /damaged, byte 124/,
  });
  const empty = file('empty.txt');
  writeFileSync(empty, '');
  await assert.rejects(attempt({ inputs: [empty] }), { code: 'SRV_BAD_INPUT_FILE', message: /no rows/ });
  await assert.rejects(attempt({ inputs: [empty], dim: 3 }), {
    code: 'SRV_BAD_INPUT_FILE',
    message: /no rows/,
  });
  await assert.rejects(attempt({ inputs: [file('absent')] }), { code: 'SRV_IO' });
  const nothing = file('nothing');
  mkdirSync(nothing);
  await assert.rejects(attempt({ inputs: [nothing] }), {
    code: 'SRV_BAD_INPUT_FILE',
    message: /holds no files/,
  });
  const wrong = writeKeyValue(file('nan.txt'), [[3n, [1, Number.NaN, 1]]]);
  await assert.rejects(attempt({ inputs: [wrong], dtype: 'int8' }), {
    code: 'SRV_BAD_INPUT_FILE',
    message: /key 3 is NaN or infinite in element 1/,
  });
  await assert.rejects(attempt({ inputs: [wrong], defaultRow: 'mean' }), { code: 'SRV_TABLE_MISMATCH' });
  await assert.rejects(attempt({ inputs: [good], defaultRow: [1, 2] }), { code: 'SRV_TABLE_MISMATCH' });
  await assert.rejects(attempt({ inputs: [good], mode: 'delta' }), { code: 'SRV_TABLE_NOT_FOUND' });
  for (const options of [
    { inputs: [] },
    { inputs: ['-', '-'] },
    { inputs: [good], parent: 1 },
    { inputs: [good], deleteKeys: good },
    { inputs: [good], dtype: 'bytes', dim: 3 },
    { inputs: [good], dtype: 'bytes', defaultRow: 'zeros' },
    { inputs: [good], values: 'text' },
    { inputs: [good, good], keysPath: good },
    { inputs: [good], dim: 3, defaultRow: [1] },
    { inputs: [good], model: { name: '', version: 1 } },
    { inputs: [good], model: { name: 'm', version: 0.5 } },
  ] as const) {
    await assert.rejects(attempt(options), { code: 'SRV_BAD_CONFIG' }, JSON.stringify(options));
  }
  await assert.rejects(attempt({ inputs: [good], signal: AbortSignal.abort() }), { code: 'SRV_CANCELLED' });
  assert.deepEqual(existsSync(output) ? readdirSync(output) : [], []);
});

test('keys to delete are checked line by line', async () => {
  const output = newTable();
  await buildTable({ output, inputs: [writeKeyValue(file('base.txt'), rows)] });
  for (const [text, problem] of [
    ['1\n2 3\n', /line 2\b.*expected one decimal key/s],
    ['1\n\n-3\n', /line 3\b/],
    ['18446744073709551616\n', /larger than 18446744073709551615/],
  ] as const) {
    const gone = file('gone.txt');
    writeFileSync(gone, text);
    await assert.rejects(buildTable({ output, inputs: [], mode: 'delta', deleteKeys: gone }), {
      code: 'SRV_BAD_INPUT_FILE',
      message: problem,
    });
  }
  assert.deepEqual(readdirSync(output), ['1']);
});

test('a version that exists is not built again', async () => {
  const output = newTable();
  const inputs = [writeKeyValue(file('rows.txt'), rows)];
  await buildTable({ output, inputs, version: 5 });
  await assert.rejects(buildTable({ output, inputs, version: 5 }), {
    code: 'SRV_BAD_CONFIG',
    message: /version 5 of .* exists already/,
  });
  await buildTable({ output, inputs });
  assert.deepEqual(await listVersions(output), [5, 6]);
});
