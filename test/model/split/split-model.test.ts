/**
 * Whole models become a network and tables, and answer as before; what cannot be split is named. One file: all of it
 * is compared in the same way.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { readOnnxFile } from '../../../src/model/onnx-file.js';
import type { OnnxModel } from '../../../src/model/onnx-writer.js';
import { temporaryDirectory, writeModel } from '../model-fixtures.js';
import { npyTables } from './npy-tables.js';
import {
  embeddingModel,
  factor,
  head,
  inputsOf,
  integers,
  matrix,
  split,
  writtenRows,
} from './split-fixtures.js';

const stage = {
  table: 'tables/table',
  // That of the tables of npy-tables.ts.
  version: 7,
  ids: 'ids',
  datatype: 'INT64',
  slots: 3,
  rows: 50,
  missing: 'error',
  target: 'rows',
};

test('a Gather over a matrix becomes a stage, a table and an input of the network', async (t) => {
  const result = await split(t, embeddingModel());
  assert.deepEqual(result.stages, [stage]);
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', ['batch', 3, 4]]]);
  assert.deepEqual(result.dense.operators, { Tanh: 1, Mul: 1 });
  assert.deepEqual(
    result.dense.constants.map(({ name }) => name),
    ['factor'],
  );
  const written = writtenRows(result);
  assert.deepEqual(written?.values, matrix('table', 50, 4).data);
  assert.deepEqual([written?.rows, written?.dim], [50, 4]);
  assert.deepEqual(readdirSync(result.report.directory).sort(), ['model.json', 'model.onnx', 'tables']);
  assert.ok('proof' in result.report.proof);
  const { proof } = result.report.proof;
  assert.equal(proof.comparison, 'exact');
  assert.equal(proof.ids, 'all');
  assert.equal(proof.runs, 4);
  assert.equal(proof.largestBatch, 64);
});

test('all that a split does not touch stays to the byte: versions, metadata, names, outputs', async (t) => {
  const model = embeddingModel({
    irVersion: 9,
    opsets: { '': 17, 'com.microsoft': 1 },
    producer: 'somebody',
    name: 'my graph',
    inputs: [
      { name: 'other', datatype: 'FP32', shape: ['batch', 2] },
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
    ],
    outputs: [
      { name: 'z', datatype: 'FP32', shape: ['batch', 2] },
      { name: 'y', datatype: 'FP32', shape: ['batch', 3, 4] },
    ],
    nodes: [
      { op: 'Neg', name: 'minus', inputs: ['other'], outputs: ['z'] },
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      ...head(),
    ],
  });
  const { dense, source } = await split(t, model);
  const before = readOnnxFile(source);
  for (const key of ['irVersion', 'opsets', 'producer', 'graphName', 'outputs'] as const) {
    assert.deepEqual(dense[key], before[key], key);
  }
  assert.deepEqual(
    dense.inputs.map(({ name }) => name),
    ['other', 'rows'],
  );
});

test('ids of INT32, and one id a row', async (t) => {
  const ids = { name: 'ids', datatype: 'INT32', shape: ['N'] } as const;
  const result = await split(t, embeddingModel({ ids }));
  const { slots: _, ...rest } = stage;
  assert.deepEqual(result.stages, [{ ...rest, datatype: 'INT32' }]);
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', ['N', 4]]]);
});

test('ids of free width', async (t) => {
  const ids = { name: 'ids', datatype: 'INT64', shape: ['batch', 'words'] } as const;
  const result = await split(t, embeddingModel({ ids }));
  assert.deepEqual(result.stages, [{ ...stage, slots: -1 }]);
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', ['batch', 'words', 4]]]);
});

test('a fixed batch keeps its size', async (t) => {
  const ids = { name: 'ids', datatype: 'INT64', shape: [2, 3] } as const;
  const result = await split(t, embeddingModel({ ids }));
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', [2, 3, 4]]]);
});

test('ids that the network uses too stay one of its inputs', async (t) => {
  const model = embeddingModel({
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      { op: 'Cast', inputs: ['ids'], outputs: ['z'], attributes: { to: { int: 1 } } },
      ...head(),
    ],
    outputs: [
      { name: 'y', datatype: 'FP32' },
      { name: 'z', datatype: 'FP32' },
    ],
  });
  const result = await split(t, model);
  assert.deepEqual(inputsOf(result), [
    ['ids', 'INT64', ['batch', 3]],
    ['rows', 'FP32', ['batch', 3, 4]],
  ]);
  assert.deepEqual(result.stages, [stage]);
});

/** The nodes before a Gather that a stage can do without, each with what it makes of the stage and of the input. */
const chains: Readonly<
  Record<
    string,
    readonly [
      model: Parameters<typeof embeddingModel>[0],
      stage: Readonly<Record<string, unknown>>,
      shape: readonly (number | string)[],
    ]
  >
> = {
  Identity: [
    { at: 'a', before: [{ op: 'Identity', inputs: ['ids'], outputs: ['a'] }] },
    { slots: 3 },
    ['batch', 3, 4],
  ],
  'Cast between integers': [
    {
      at: 'b',
      before: [
        { op: 'Cast', inputs: ['ids'], outputs: ['a'], attributes: { to: { int: 6 } } },
        { op: 'Cast', inputs: ['a'], outputs: ['b'], attributes: { to: { int: 7 } } },
      ],
    },
    { slots: 3 },
    ['batch', 3, 4],
  ],
  'Squeeze of the only slot': [
    {
      ids: { name: 'ids', datatype: 'INT64', shape: ['batch', 1] },
      at: 'a',
      before: [{ op: 'Squeeze', inputs: ['ids', 'axes'], outputs: ['a'] }],
      initializers: [integers('axes', [-1])],
    },
    { slots: 1 },
    ['batch', 4],
  ],
  'Unsqueeze behind the batch': [
    {
      at: 'a',
      before: [{ op: 'Unsqueeze', inputs: ['ids', 'axes'], outputs: ['a'] }],
      initializers: [integers('axes', [1])],
    },
    { slots: 3 },
    ['batch', 1, 3, 4],
  ],
  Flatten: [
    { at: 'a', before: [{ op: 'Flatten', inputs: ['ids'], outputs: ['a'] }] },
    { slots: 3 },
    ['batch', 3, 4],
  ],
  'Reshape that keeps the batch': [
    {
      ids: { name: 'ids', datatype: 'INT64', shape: ['batch', 6] },
      at: 'a',
      before: [{ op: 'Reshape', inputs: ['ids', 'shape'], outputs: ['a'] }],
      initializers: [integers('shape', [-1, 2, 3])],
    },
    { slots: 6 },
    ['batch', 2, 3, 4],
  ],
  'Reshape to one flat list': [
    {
      at: 'a',
      before: [{ op: 'Reshape', inputs: ['ids', 'shape'], outputs: ['a'] }],
      initializers: [integers('shape', [-1])],
    },
    { slots: 3, target: 'rows_rows' },
    ['batch', 3, 4],
  ],
  'Slice of columns': [
    {
      ids: { name: 'ids', datatype: 'INT64', shape: ['batch', 6] },
      at: 'a',
      before: [{ op: 'Slice', inputs: ['ids', 'from', 'to', 'axes', 'steps'], outputs: ['a'] }],
      initializers: [
        integers('from', [-1]),
        integers('to', [0]),
        integers('axes', [1]),
        integers('steps', [-2]),
      ],
    },
    { slots: 6, columns: [5, 3, 1] },
    ['batch', 3, 4],
  ],
  'Gather of one column': [
    {
      at: 'a',
      before: [{ op: 'Gather', inputs: ['ids', 'column'], outputs: ['a'], attributes: { axis: { int: 1 } } }],
      initializers: [integers('column', [2], [])],
    },
    { slots: 3, columns: [2] },
    ['batch', 4],
  ],
  Mod: [
    {
      at: 'a',
      before: [{ op: 'Mod', inputs: ['ids', 'divisor'], outputs: ['a'] }],
      initializers: [integers('divisor', [37], [])],
    },
    { slots: 3, hash: { modulus: 37 } },
    ['batch', 3, 4],
  ],
};

for (const [what, [model, more, shape]] of Object.entries(chains)) {
  test(`ids may pass ${what}`, async (t) => {
    const result = await split(t, embeddingModel(model));
    assert.deepEqual(result.stages, [{ ...stage, ...more }]);
    assert.deepEqual(inputsOf(result), [[more.target ?? 'rows', 'FP32', shape]]);
    assert.equal(result.dense.operators.Mod, undefined);
    assert.ok('proof' in result.report.proof);
    assert.equal(result.report.proof.proof.ids, 'all');
  });
}

test('columns of one matrix feed tables of their own', async (t) => {
  const columns = ['a', 'b', 'c'];
  const model: OnnxModel = {
    nodes: [
      { op: 'Split', inputs: ['ids', 'sizes'], outputs: columns, attributes: { axis: { int: 1 } } },
      ...columns.map((name) => ({
        op: 'Gather',
        inputs: [`table_${name}`, name],
        outputs: [`rows_${name}`],
      })),
      {
        op: 'Concat',
        inputs: columns.map((name) => `rows_${name}`),
        outputs: ['rows'],
        attributes: { axis: { int: 2 } },
      },
      ...head(),
    ],
    inputs: [{ name: 'ids', datatype: 'INT64', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32' }],
    initializers: [
      ...columns.map((name, at) => matrix(`table_${name}`, 10 + at, 2)),
      integers('sizes', [1, 2, 1]),
      factor,
    ],
  };
  // The parts have one width only here, so that their rows can be joined.
  const equal = { ...model, inputs: [{ ...model.inputs[0]!, shape: ['batch', 3] }] };
  equal.initializers = [...model.initializers!.slice(0, 3), integers('sizes', [1, 1, 1]), factor];
  const result = await split(t, equal);
  assert.deepEqual(
    result.stages.map(({ table, columns, rows, target }) => [table, columns, rows, target]),
    columns.map((name, at) => [`tables/table_${name}`, [at], 10 + at, `rows_${name}`]),
  );
  assert.deepEqual(result.dense.operators, { Concat: 1, Tanh: 1, Mul: 1 });
});

test('an ids input for each slot, joined before the Gather', async (t) => {
  const names = ['C1', 'C2', 'C3'];
  const model = embeddingModel({
    inputs: names.map((name) => ({ name, datatype: 'INT64', shape: ['batch', 1] })),
    before: [{ op: 'Concat', inputs: names, outputs: ['joined'], attributes: { axis: { int: 1 } } }],
    at: 'joined',
  });
  const result = await split(t, model);
  assert.deepEqual(result.stages, [{ ...stage, ids: names, slots: 1 }]);
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', ['batch', 3, 4]]]);
});

test('two lookups in one table by other ids are two stages; by the same ids one', async (t) => {
  const model = embeddingModel({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
      { name: 'more', datatype: 'INT64', shape: ['batch', 3] },
    ],
    nodes: [
      { op: 'Identity', inputs: ['table'], outputs: ['same'] },
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['r1'] },
      { op: 'Gather', inputs: ['same', 'more'], outputs: ['r2'] },
      { op: 'Gather', inputs: ['same', 'ids'], outputs: ['r3'] },
      { op: 'Sub', inputs: ['r1', 'r2'], outputs: ['r12'] },
      { op: 'Add', inputs: ['r12', 'r3'], outputs: ['rows'] },
      ...head(),
    ],
  });
  const result = await split(t, model);
  assert.deepEqual(
    result.stages.map(({ ids, target, table }) => [ids, target, table]),
    [
      ['ids', 'r1', 'tables/table'],
      ['more', 'r2', 'tables/table'],
    ],
  );
  assert.equal(result.tools.written.length, 1);
});

test('rows that are an output of the model stay one', async (t) => {
  const model = embeddingModel({
    outputs: [
      { name: 'y', datatype: 'FP32' },
      { name: 'rows', datatype: 'FP32' },
    ],
  });
  const result = await split(t, model);
  assert.deepEqual(inputsOf(result), [['rows_rows', 'FP32', ['batch', 3, 4]]]);
  assert.deepEqual(
    result.dense.outputs.map(({ name }) => name),
    ['y', 'rows'],
  );
});

test('rows that a branch uses are there for it', async (t) => {
  const branch = (op: string) => ({
    nodes: [{ op, inputs: ['rows'], outputs: [`${op}_out`] }],
    inputs: [],
    outputs: [{ name: `${op}_out`, datatype: 'FP32' as const }],
  });
  const model = embeddingModel({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
      { name: 'flag', datatype: 'BOOL', shape: [] },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      {
        op: 'If',
        inputs: ['flag'],
        outputs: ['y'],
        attributes: { then_branch: { graph: branch('Neg') }, else_branch: { graph: branch('Tanh') } },
      },
    ],
  });
  const result = await split(t, model);
  assert.deepEqual(result.stages, [stage]);
});

test('the matrix of a Constant node is a table too', async (t) => {
  const { name: _, ...tensor } = matrix('table', 50, 4);
  const model = embeddingModel();
  const result = await split(t, {
    ...model,
    nodes: [
      { op: 'Constant', inputs: [], outputs: ['table'], attributes: { value: { tensor } } },
      ...model.nodes,
    ],
    initializers: [factor],
  });
  assert.deepEqual(result.stages, [stage]);
  assert.deepEqual(result.dense.operators, { Tanh: 1, Mul: 1 });
});

test('a matrix that is also an input of the graph goes with its input', async (t) => {
  const model = embeddingModel();
  const result = await split(t, {
    ...model,
    irVersion: 3,
    opsets: { '': 8 },
    inputs: [
      ...model.inputs,
      { name: 'table', datatype: 'FP32', shape: [50, 4] },
      { name: 'factor', datatype: 'FP32', shape: [1] },
    ],
  });
  assert.deepEqual(result.dense.optionalInputs, ['factor']);
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', ['batch', 3, 4]]]);
});

test('rows of half precision become a table of 32 bits, and the network gets halves', async (t) => {
  const halves = Uint16Array.from({ length: 200 }, (_, at) => 0x3800 + at * 7 + (at % 2) * 0x8000);
  const model = embeddingModel({
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      { op: 'Cast', inputs: ['rows'], outputs: ['y'], attributes: { to: { int: 1 } } },
    ],
  });
  const result = await split(t, {
    ...model,
    initializers: [{ name: 'table', datatype: 'FP16', shape: [50, 4], data: halves }],
  });
  assert.deepEqual(inputsOf(result), [['rows_rows', 'FP32', ['batch', 3, 4]]]);
  assert.deepEqual(result.dense.operators, { Cast: 2 });
});

test('rows of double precision are taken where 32 bits hold them, and refused by row where not', async (t) => {
  const model = (value: number): OnnxModel => ({
    ...embeddingModel({
      nodes: [
        { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
        { op: 'Neg', inputs: ['rows'], outputs: ['y'] },
      ],
      outputs: [{ name: 'y', datatype: 'FP64' }],
    }),
    initializers: [
      {
        name: 'table',
        datatype: 'FP64',
        shape: [50, 4],
        data: Float64Array.from({ length: 200 }, (_, at) => (at === 9 ? value : at / 8)),
      },
    ],
  });
  const result = await split(t, model(0.25));
  assert.deepEqual(inputsOf(result), [['rows_rows', 'FP32', ['batch', 3, 4]]]);
  await assert.rejects(split(t, model(0.1)), {
    code: 'SRV_MODEL_UNSUPPORTED',
    message: /row 2 of 'table' holds 64-bit numbers/,
  });
});

const pooled = (reduce: string, keepdims: number): OnnxModel =>
  embeddingModel({
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['each'] },
      reduce === 'ReduceSum'
        ? {
            op: reduce,
            inputs: ['each', 'axes'],
            outputs: ['rows'],
            attributes: { keepdims: { int: keepdims } },
          }
        : {
            op: reduce,
            inputs: ['each'],
            outputs: ['rows'],
            attributes: { axes: { ints: [-2] }, keepdims: { int: keepdims } },
          },
      ...head(),
    ],
    initializers: [integers('axes', [1])],
  });

test('pooling stays in the network, or goes to the stage with --fuse_pooling', async (t) => {
  const apart = await split(t, pooled('ReduceSum', 0));
  assert.deepEqual(apart.stages, [{ ...stage, target: 'each' }]);
  assert.equal(apart.dense.operators.ReduceSum, 1);

  const sum = await split(t, pooled('ReduceSum', 0), { fusePooling: true });
  assert.deepEqual(sum.stages, [{ ...stage, combiner: 'sum' }]);
  assert.deepEqual(inputsOf(sum), [['rows', 'FP32', ['batch', 4]]]);
  assert.equal(sum.dense.operators.ReduceSum, undefined);

  const mean = await split(t, pooled('ReduceMean', 1), { fusePooling: true });
  assert.deepEqual(mean.stages, [{ ...stage, combiner: 'mean' }]);
  assert.deepEqual(inputsOf(mean), [['rows', 'FP32', ['batch', 1, 4]]]);
});

test('weights of an input that rows are multiplied by go to the stage with the pooling', async (t) => {
  const model = embeddingModel({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
      { name: 'w', datatype: 'FP32', shape: ['batch', 3] },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['each'] },
      { op: 'Unsqueeze', inputs: ['w', 'last'], outputs: ['w3'] },
      { op: 'Mul', inputs: ['w3', 'each'], outputs: ['scaled'] },
      {
        op: 'ReduceSum',
        inputs: ['scaled', 'axes'],
        outputs: ['rows'],
        attributes: { keepdims: { int: 0 } },
      },
      ...head(),
    ],
    initializers: [integers('axes', [1]), integers('last', [-1])],
  });
  const result = await split(t, model, { fusePooling: true });
  assert.deepEqual(result.stages, [{ ...stage, weights: 'w', combiner: 'sum' }]);
  assert.deepEqual(inputsOf(result), [['rows', 'FP32', ['batch', 4]]]);
});

test('external data: rows come from it, other weights move to a file of their own', async (t) => {
  const directory = temporaryDirectory(t);
  const table = matrix('table', 50, 4).data as Float32Array;
  const other = Float32Array.from({ length: 16 }, (_, at) => Math.cos(at));
  const bytes = Buffer.alloc(2000);
  Buffer.from(table.buffer).copy(bytes, 100);
  Buffer.from(other.buffer).copy(bytes, 1500);
  writeFileSync(join(directory, 'weights.bin'), bytes);
  const branch = (name: string) => ({
    nodes: [{ op: 'MatMul', inputs: ['rows', 'inner'], outputs: [`${name}_out`] }],
    inputs: [],
    outputs: [{ name: `${name}_out`, datatype: 'FP32' as const }],
    initializers: [external('inner', [4, 4], 1500, 64)],
  });
  const model = embeddingModel({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
      { name: 'flag', datatype: 'BOOL', shape: [] },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['each'] },
      { op: 'MatMul', inputs: ['each', 'outer'], outputs: ['rows'] },
      {
        op: 'If',
        inputs: ['flag'],
        outputs: ['y'],
        attributes: { then_branch: { graph: branch('a') }, else_branch: { graph: branch('b') } },
      },
    ],
  });
  const source = writeModel(directory, {
    ...model,
    initializers: [external('table', [50, 4], 100, 800), external('outer', [4, 4], 1500, 64)],
  });
  const result = await split(t, model, { modelFile: source });
  assert.deepEqual(writtenRows(result)?.values, table);
  const data = readFileSync(join(result.report.directory, 'model.onnx.data'));
  assert.deepEqual(data, Buffer.from(other.buffer), 'tensors that share a place are written once');
  assert.equal(result.dense.constants[0]?.externalFile, 'model.onnx.data');
});

function external(name: string, shape: readonly number[], offset: number, length: number) {
  return { name, datatype: 'FP32' as const, shape, external: { location: 'weights.bin', offset, length } };
}

test('settings beside the source are kept, public names stay', async (t) => {
  const directory = temporaryDirectory(t);
  const source = writeModel(directory, embeddingModel());
  const settings = {
    name: 'ranker',
    max_batch_size: 16,
    inputs: { Ids: 'ids' },
    outputs: { Score: 'y' },
    padding: { Ids: { axes: [1] } },
  };
  writeFileSync(join(directory, 'model.json'), JSON.stringify(settings));
  const result = await split(t, embeddingModel(), { modelFile: source });
  assert.deepEqual(result.settings, {
    name: 'ranker',
    max_batch_size: 16,
    outputs: { Score: 'y' },
    embeddings: [{ ...stage, ids: 'Ids' }],
  });
  assert.match(result.report.notices[0] ?? '', /padding of 'Ids' was left out/);
});

test('a split model can be split again, and its tables are found from the new place', async (t) => {
  const two = embeddingModel({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
      { name: 'ids2', datatype: 'INT64', shape: ['batch', 3] },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['r1'] },
      { op: 'Gather', inputs: ['table2', 'ids2'], outputs: ['r2'] },
      { op: 'Add', inputs: ['r1', 'r2'], outputs: ['rows'] },
      ...head(),
    ],
    initializers: [matrix('table2', 20, 4)],
  });
  const root = temporaryDirectory(t);
  const first = await split(t, two, { initializers: ['table2'], directory: join(root, 'one') });
  assert.deepEqual(
    first.stages.map(({ target }) => target),
    ['r2'],
  );
  const again = await split(t, two, {
    modelFile: join(first.report.directory, 'model.onnx'),
    directory: join(root, 'two'),
  });
  assert.deepEqual(
    again.stages.map(({ table, target }) => [table, target]),
    [
      ['../one/tables/table2', 'r2'],
      ['tables/table', 'r1'],
    ],
  );
});

test('a table that was written before is used again when it fits', async (t) => {
  const first = await split(t, embeddingModel());
  const table = join(first.report.directory, 'tables/table');
  const out = join(dirname(first.report.directory), 'again');
  const again = await split(t, embeddingModel(), { reuse: table, directory: out });
  assert.deepEqual(again.stages, [{ ...stage, table: '../out/tables/table' }]);
  assert.equal(existsSync(join(out, 'tables')), false);
  assert.deepEqual(again.report.tables[0]?.rowsDifferent, 0);

  const trained = npyTables((row, key) => {
    if (key === 3) row[0] = 9;
  });
  const other = await split(t, embeddingModel(), { reuse: table, directory: `${out}2` }, trained);
  assert.equal(other.report.tables[0]?.rowsDifferent, 1);

  const wider = { ...embeddingModel(), initializers: [matrix('table', 51, 4), factor] };
  await assert.rejects(split(t, wider, { reuse: table, directory: `${out}3` }), {
    code: 'SRV_TABLE_MISMATCH',
    message: /does not fit 'table' \[51,4\]: it has 50 rows of 4/,
  });
});

test('rows can be written as sequence files too, and storage is passed on', async (t) => {
  const result = await split(t, embeddingModel(), { sequenceFiles: true, dtype: 'f16', shards: 3 });
  assert.deepEqual(
    result.tools.written.map(({ rows, dim, dtype, shards }) => [rows, dim, dtype, shards]),
    [[50, 4, 'f16', 3]],
  );
  assert.deepEqual(readdirSync(join(result.report.directory, 'seqfiles')), ['table']);
  assert.ok('proof' in result.report.proof);
  assert.equal(result.report.proof.proof.drift, 0);
});

test('a table that gives other rows than were written fails the split, which leaves nothing', async (t) => {
  const directory = temporaryDirectory(t);
  const wrong = npyTables((row, key) => {
    if (key === 17) row[1] = 0.5;
  });
  await assert.rejects(split(t, embeddingModel(), { directory: join(directory, 'out') }, wrong), {
    code: 'SRV_INTERNAL',
    message: /1 of 50 that were read back are not the model's/,
  });
  assert.deepEqual(readdirSync(directory), []);
});

test('outputs that the original draws by lot are left out of the comparison', async (t) => {
  const model = embeddingModel({
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      { op: 'RandomNormalLike', inputs: ['rows'], outputs: ['z'] },
      ...head(),
    ],
    outputs: [
      { name: 'y', datatype: 'FP32' },
      { name: 'z', datatype: 'FP32' },
    ],
  });
  const { report } = await split(t, model);
  assert.ok('proof' in report.proof);
  assert.deepEqual(report.proof.proof.unstable, ['z']);
});

test('a directory that holds something is not written to', async (t) => {
  const directory = temporaryDirectory(t);
  writeFileSync(join(directory, 'mine'), '');
  await assert.rejects(split(t, embeddingModel(), { directory }), { code: 'SRV_BAD_CONFIG' });
  const empty = join(directory, 'empty');
  mkdirSync(empty);
  await split(t, embeddingModel(), { directory: empty });
});

test('a split that is withdrawn leaves nothing', async (t) => {
  const directory = temporaryDirectory(t);
  const abort = new AbortController();
  const tools = npyTables();
  const { writeTable } = tools;
  tools.writeTable = async (task) => {
    await writeTable(task);
    abort.abort();
  };
  await assert.rejects(
    split(t, embeddingModel(), { directory: join(directory, 'out'), signal: abort.signal }, tools),
    { code: 'SRV_CANCELLED' },
  );
  assert.deepEqual(readdirSync(directory), []);
});

test('what a killed split left is removed by the next one', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, '.out.split-999999999-1'));
  mkdirSync(join(directory, '.out.split-notes'));
  await split(t, embeddingModel(), { directory: join(directory, 'out') });
  assert.deepEqual(readdirSync(directory).sort(), ['out']);
});

test('a split whose results differ from the original fails', async (t) => {
  let reads = 0;
  const wrong = npyTables((row) => {
    // All 50 rows are read back and compared first; what follows is the proof.
    if (++reads > 50) row[0]! += 0.25;
  });
  await assert.rejects(split(t, embeddingModel(), {}, wrong), {
    code: 'SRV_INTERNAL',
    message:
      /the split model does not give what the original gives, so it is not kept: y differs in its bits/,
  });
});

test('an original that is too large to be opened is not run, and the rows alone are compared', async (t) => {
  const { report } = await split(t, embeddingModel(), { memoryBytes: 100 });
  assert.ok('notRun' in report.proof);
  assert.match(report.proof.notRun, /opening it takes some \d+ bytes of memory, and 100 are free/);
  assert.equal(report.tables[0]?.rowsRead, 50);
});

test('a model that the engine refuses on all generated inputs cannot be proved, so it is not split', async (t) => {
  const model = embeddingModel({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['batch', 3] },
      { name: 'x', datatype: 'FP32', shape: ['n', 7] },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      { op: 'Reshape', inputs: ['x', 'odd'], outputs: ['z'] },
      ...head(),
    ],
    outputs: [
      { name: 'y', datatype: 'FP32' },
      { name: 'z', datatype: 'FP32' },
    ],
    initializers: [integers('odd', [5, 11])],
  });
  await assert.rejects(split(t, model), {
    code: 'SRV_MODEL_UNSUPPORTED',
    message: /cannot be proved, because the engine refused all \d+ generated inputs/,
  });
});
