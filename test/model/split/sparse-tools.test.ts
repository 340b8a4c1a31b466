import assert from 'node:assert/strict';
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { npyHeader } from '../../../src/model/split/npy-file.js';
import { sparseTools } from '../../../src/model/split/sparse-tools.js';
import { openStageTables } from '../../../src/model/stage-tables.js';
import { findModels, type ModelEntry } from '../../../src/repository/layout.js';
import { buildTable } from '../../../src/sparse/builder.js';
import { printSequenceFile } from '../../../src/sparse/seqfile.js';
import { writeKeyValue } from '../../sparse/row-files.js';
import { temporaryDirectory } from '../model-fixtures.js';
import { embeddingModel, matrix, split } from './split-fixtures.js';

test('rows become a sequence file with their positions as keys', async (t) => {
  const directory = temporaryDirectory(t);
  const npyFile = join(directory, 'rows.npy');
  const values = Float32Array.of(1, 2, 3, 4, 5, 6);
  writeFileSync(npyFile, Buffer.concat([npyHeader(3, 2), new Uint8Array(values.buffer)]));
  const made = join(directory, 'rows');
  await sparseTools.writeSequenceFiles({ npyFile, directory: made, rows: 3, dim: 2 });
  let text = '';
  await printSequenceFile(join(made, 'part-00000'), { values: 'floats' }, async (lines) => {
    text += Buffer.from(lines).toString('utf8');
    return true;
  });
  assert.deepEqual(text.trim().split('\n'), ['0:1 2', '1:3 4', '2:5 6']);
});

test('rows become a table that gives them back', async (t) => {
  const result = await split(t, embeddingModel(), { shards: 3 }, sparseTools);
  const { report } = result;
  assert.deepEqual(readdirSync(join(report.directory, 'tables/table')), ['1']);
  assert.equal(report.tables[0]?.rowsRead, 50);
  assert.ok('proof' in report.proof);
  assert.equal(report.proof.proof.comparison, 'exact');
  const table = await sparseTools.openTable(join(report.directory, 'tables/table'));
  t.after(() => table.close());
  assert.deepEqual([table.dim, table.version, table.dtype, await table.countRows()], [4, 1, 'f32', 50]);
  const { rows, missing } = table.gather(BigUint64Array.of(49n, 0n, 50n), {});
  const { data } = matrix('table', 50, 4);
  assert.deepEqual([...rows], [...data!.slice(196, 200), ...data!.slice(0, 4), 0, 0, 0, 0]);
  assert.equal(missing, 1);
});

for (const dtype of ['f16', 'int8'] as const) {
  test(`rows stored as ${dtype} pass within their rounding, and what it does to the outputs is told`, async (t) => {
    const { report } = await split(t, embeddingModel(), { dtype }, sparseTools);
    assert.equal(report.tables[0]?.rowsDifferent, 0);
    assert.ok('proof' in report.proof);
    const { comparison, drift } = report.proof.proof;
    assert.equal(comparison, 'exact');
    assert.ok(drift !== undefined && drift > 0 && drift < 0.05, `drift ${drift}`);
  });
}

test('pooling by the table agrees with that of the network', async (t) => {
  const model = embeddingModel({
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['each'] },
      {
        op: 'ReduceMean',
        inputs: ['each'],
        outputs: ['y'],
        attributes: { axes: { ints: [1] }, keepdims: { int: 0 } },
      },
    ],
  });
  const { stages } = await split(t, model, { fusePooling: true }, sparseTools);
  assert.equal(stages[0]?.combiner, 'mean');
});

test('the network keeps the rows that it was split from, whatever becomes of table and directory', async (t) => {
  const { report } = await split(t, embeddingModel(), {}, sparseTools);
  const table = join(report.directory, 'tables/table');
  const rows = writeKeyValue(join(report.directory, 'retrained.txt'), [[0n, [9, 9, 9, 9]]]);
  await buildTable({ output: table, inputs: [rows], threads: 1 });
  await buildTable({ output: table, inputs: [rows], threads: 1, mode: 'delta', parent: 1 });
  const moved = `${report.directory}-renamed`;
  renameSync(report.directory, moved);
  const [entry] = await findModels(moved, { name: 'another' });
  const tables = await openStageTables(entry as ModelEntry);
  tables.close();
  assert.deepEqual(
    tables.perStage.map(({ version }) => version),
    [1],
  );
});

test('a reused table that belongs to a model is told with the report', async (t) => {
  const first = await split(t, embeddingModel(), {}, sparseTools);
  const table = join(first.report.directory, 'tables/table');
  const rows = writeKeyValue(
    join(first.report.directory, 'rows.txt'),
    Array.from({ length: 50 }, (_, key) => [BigInt(key), [1, 2, 3, 4]] as const),
  );
  const model = { name: 'ranker', version: 3 };
  await buildTable({ output: table, inputs: [rows], threads: 1, model });
  const { report } = await split(t, embeddingModel(), { reuse: table }, sparseTools);
  assert.equal(report.tables[0]?.publishedWith, 'version 3 of model ranker');
  assert.equal(first.report.tables[0]?.publishedWith, undefined);
});

test('a table of an earlier split is used again, pinned to its version', async (t) => {
  const first = await split(t, embeddingModel(), { dtype: 'f16' }, sparseTools);
  const reuse = join(first.report.directory, 'tables/table');
  const { stages, report } = await split(t, embeddingModel(), { reuse }, sparseTools);
  assert.equal(stages[0]?.version, 1);
  assert.equal(report.tables[0]?.rowsDifferent, 0);
});
