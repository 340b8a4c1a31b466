import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { ServingError } from '../../../src/errors.js';
import { type OnnxModel, type OnnxNode, writeOnnxModel } from '../../../src/model/onnx-writer.js';
import { type FindOptions, findEmbeddings } from '../../../src/model/split/find-embeddings.js';
import { readGraph } from '../../../src/model/split/wire-graph.js';
import { ByteSource } from '../../../src/protobuf-wire.js';
import { temporaryDirectory, writeModel } from '../model-fixtures.js';
import { embeddingModel, factor, head, integers, matrix, split, splitDefaults } from './split-fixtures.js';

function find(model: OnnxModel, options: Partial<FindOptions> = {}) {
  const source = ByteSource.ofBytes(writeOnnxModel(model));
  return findEmbeddings(source, readGraph(source, 'm.onnx'), 'm.onnx', { ...splitDefaults, ...options });
}

function refusal(model: OnnxModel, options: Partial<FindOptions> = {}): string {
  try {
    find(model, options);
  } catch (error) {
    assert.ok(error instanceof ServingError);
    assert.match(error.code, /SRV_MODEL_UNSUPPORTED|SRV_BAD_CONFIG/);
    return error.message;
  }
  assert.fail('it was not refused');
}

const wide = { name: 'ids', datatype: 'INT64', shape: ['batch', 6] } as const;
const free = { name: 'ids', datatype: 'INT64', shape: ['batch', 'words'] } as const;

function before(node: Partial<OnnxNode> & { readonly op: string }, more: Partial<OnnxModel> = {}): OnnxModel {
  return embeddingModel({
    at: 'a',
    before: [{ name: 'culprit', inputs: ['ids'], outputs: ['a'], ...node }],
    ...more,
  });
}

const refused: Readonly<Record<string, readonly [model: OnnxModel, text: RegExp]>> = {
  'a matrix that another node uses': [
    embeddingModel({
      nodes: [
        { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
        { op: 'MatMul', name: 'logits', inputs: ['rows', 'table'], outputs: ['y'] },
      ],
    }),
    /'table' \[50,4\]: MatMul 'logits' uses it too \(tied weights\?\)/,
  ],
  'a matrix that is an output': [
    embeddingModel({
      outputs: [
        { name: 'y', datatype: 'FP32' },
        { name: 'table', datatype: 'FP32' },
      ],
    }),
    /'table' \[50,4\]: is given out as the output 'table'/,
  ],
  'a matrix that a branch uses': [
    embeddingModel({
      nodes: [
        { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
        {
          op: 'If',
          name: 'either',
          inputs: ['flag'],
          outputs: ['y'],
          attributes: {
            then_branch: {
              graph: {
                nodes: [{ op: 'Gather', inputs: ['table', 'ids'], outputs: ['t'] }],
                inputs: [],
                outputs: [{ name: 't', datatype: 'FP32' }],
              },
            },
          },
        },
      ],
    }),
    /If 'either' uses it inside its body or a branch/,
  ],
  'a Gather over columns of the matrix': [
    embeddingModel({
      nodes: [
        {
          op: 'Gather',
          name: 'sideways',
          inputs: ['table', 'ids'],
          outputs: ['rows'],
          attributes: { axis: { int: 1 } },
        },
        ...head(),
      ],
    }),
    /Gather 'sideways' takes slices of axis 1, not rows \(axis 0\)/,
  ],
  GatherND: [
    embeddingModel({ nodes: [{ op: 'GatherND', inputs: ['table', 'ids'], outputs: ['rows'] }, ...head()] }),
    /GatherND 'rows': indices of GatherND point at elements of several axes/,
  ],
  'a fused lookup': [
    embeddingModel({
      nodes: [
        {
          op: 'EmbedLayerNormalization',
          domain: 'com.microsoft',
          inputs: ['ids', '', 'table'],
          outputs: ['y'],
        },
      ],
    }),
    /com.microsoft:EmbedLayerNormalization 'y': the optimiser has fused the lookup/,
  ],
  'a tensor of three axes': [
    {
      ...embeddingModel(),
      initializers: [factor, { ...matrix('table', 50, 4), shape: [10, 5, 4] }],
    },
    /'table' \[10,5,4\]: has rank 3; expected a matrix/,
  ],
  'a quantised matrix': [
    {
      ...embeddingModel(),
      initializers: [{ name: 'table', datatype: 'INT8', shape: [50, 4], data: new Int8Array(200) }],
    },
    /'table' \[50,4\]: has element type 3; expected FLOAT, FLOAT16 or DOUBLE \(a quantised table/,
  ],
  'computed ids': [
    before({ op: 'Add', inputs: ['ids', 'ids'] }),
    /Gather 'rows': its ids are computed by Add 'culprit', which a stage cannot do/,
  ],
  'constant ids': [
    embeddingModel({ at: 'fixed', initializers: [integers('fixed', [1, 2])] }),
    /its ids are the constant 'fixed', not an input/,
  ],
  'ids that are numbers with a fraction': [
    embeddingModel({
      ids: { name: 'ids', datatype: 'FP32', shape: ['batch', 3] },
      before: [{ op: 'Cast', inputs: ['ids'], outputs: ['a'], attributes: { to: { int: 7 } } }],
      at: 'a',
    }),
    /its ids 'ids' are FP32; expected an input of INT64 or INT32/,
  ],
  'ids through numbers with a fraction': [
    before({ op: 'Cast', attributes: { to: { int: 1 } } }),
    /Cast 'culprit' makes its ids other than INT32 or INT64/,
  ],
  'ids of unknown shape': [
    embeddingModel({ ids: { name: 'ids', datatype: 'INT64' } }),
    /the file does not tell the shape of 'ids'/,
  ],
  'ids of rank 3': [
    embeddingModel({ ids: { name: 'ids', datatype: 'INT64', shape: ['b', 2, 2] } }),
    /its ids 'ids' have rank 3/,
  ],
  'ids without their batch axis': [
    before(
      { op: 'Squeeze', inputs: ['ids', 'axes'] },
      { initializers: [matrix('table', 50, 4), factor, integers('axes', [0])] },
    ),
    /Squeeze 'culprit' removes the batch axis of its ids/,
  ],
  'ids in a computed shape': [
    embeddingModel({
      at: 'a',
      before: [
        { op: 'Shape', inputs: ['ids'], outputs: ['s'] },
        { op: 'Reshape', name: 'culprit', inputs: ['ids', 's'], outputs: ['a'] },
      ],
    }),
    /Reshape 'culprit' brings its ids to a computed shape/,
  ],
  'ids across rows': [
    before({ op: 'Transpose', attributes: { perm: { ints: [1, 0] } } }),
    /computed by Transpose 'culprit'/,
  ],
  'columns of ids of free width': [
    before(
      { op: 'Gather', inputs: ['ids', 'column'], attributes: { axis: { int: 1 } } },
      { inputs: [free], initializers: [matrix('table', 50, 4), factor, integers('column', [0])] },
    ),
    /Gather 'culprit' takes columns of ids whose width is free/,
  ],
  'some of the rows of ids': [
    before(
      { op: 'Gather', inputs: ['ids', 'column'], attributes: { axis: { int: 0 } } },
      { inputs: [wide], initializers: [matrix('table', 50, 4), factor, integers('column', [0])] },
    ),
    /Gather 'culprit' works on axis 0 of its ids/,
  ],
  'a remainder with a sign': [
    before(
      { op: 'Mod', inputs: ['ids', 'm'], attributes: { fmod: { int: 1 } } },
      { initializers: [matrix('table', 50, 4), factor, integers('m', [7], [])] },
    ),
    /Mod 'culprit' has fmod=1/,
  ],
  'inputs of several ids each that are joined': [
    embeddingModel({
      inputs: [wide, { ...wide, name: 'more' }],
      before: [{ op: 'Concat', inputs: ['ids', 'more'], outputs: ['a'], attributes: { axis: { int: 1 } } }],
      at: 'a',
    }),
    /its ids are joined of the inputs \[ids, more\], which are not one id a row each/,
  ],
};

for (const [what, [model, text]] of Object.entries(refused)) {
  test(`${what} cannot be split off, and the refusal names the node`, () => {
    assert.match(refusal(model), text);
  });
}

test('all refusals are told at once, and how to split off the rest', () => {
  const model = embeddingModel({
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
      { op: 'Gather', inputs: ['bad', 'ids'], outputs: ['r2'], attributes: { axis: { int: 1 } } },
      { op: 'Neg', inputs: ['bad'], outputs: ['r3'] },
      ...head(),
    ],
    initializers: [matrix('bad', 9, 3)],
  });
  const text = refusal(model);
  assert.match(text, /'bad' \[9,3\]: Gather 'r2' takes slices of axis 1/);
  assert.match(text, /'bad' \[9,3\]: Neg 'r3' uses it too/);
  assert.match(text, /To split off only what can be: --initializer table$/);
  assert.deepEqual(
    find(model, { initializers: ['table'] }).map(({ tensor }) => tensor.name),
    ['table'],
  );
});

test('matrices are found by size, or by name whatever their size', () => {
  const model = embeddingModel();
  assert.equal(find(model, { minBytes: 800 }).length, 1);
  assert.match(refusal(model, { minBytes: 801 }), /no matrix of 801 bytes or more \(--min_bytes\)/);
  assert.equal(find(model, { minBytes: 1e9, initializers: ['table'] }).length, 1);
});

test('where nothing is found the largest initialisers are listed with their users', () => {
  const model: OnnxModel = {
    nodes: [{ op: 'MatMul', name: 'dense', inputs: ['x', 'w'], outputs: ['y'] }],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['b', 50] }],
    outputs: [{ name: 'y', datatype: 'FP32' }],
    initializers: [matrix('w', 50, 4), factor],
  };
  const text = refusal(model);
  assert.match(text, /'w' \[50,4\], 800 bytes, used by MatMul 'dense'/);
  assert.match(text, /'factor' \[1\], 4 bytes, used by nothing/);
  assert.match(text, /--initializer/);
});

test('a name that the model does not have is refused with the nearest one', () => {
  assert.match(
    refusal(embeddingModel(), { initializers: ['tabel'] }),
    /no initialiser 'tabel'; did you mean "table"/,
  );
});

test('a refused model leaves nothing behind', async (t) => {
  const directory = temporaryDirectory(t);
  const source = writeModel(temporaryDirectory(t), refused.GatherND![0]);
  await assert.rejects(split(t, embeddingModel(), { modelFile: source, directory: `${directory}/out` }), {
    code: 'SRV_MODEL_UNSUPPORTED',
  });
  assert.deepEqual(readdirSync(directory), []);
});

test('a file that is no model is refused as such', async (t) => {
  const directory = temporaryDirectory(t);
  const modelFile = writeModel(directory, embeddingModel());
  const { truncateSync, statSync } = await import('node:fs');
  truncateSync(modelFile, statSync(modelFile).size - 10);
  await assert.rejects(split(t, embeddingModel(), { modelFile }), { code: 'SRV_MODEL_INVALID' });
});
