import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { liftIrVersion } from '../../src/model/ir-lift.js';
import { readOnnxBytes, readOnnxFile } from '../../src/model/onnx-file.js';
import { type OnnxModel, writeOnnxModel } from '../../src/model/onnx-writer.js';
import { WireWriter } from '../../src/protobuf-wire.js';
import { rowModel, temporaryDirectory, writeModel } from './model-fixtures.js';

const twoInputs: OnnxModel = {
  name: 'two',
  nodes: [
    { op: 'Add', inputs: ['x', 'w'], outputs: ['s'] },
    { op: 'Constant', inputs: [], outputs: ['k'], attributes: { value: { tensor: small(3) } } },
    {
      op: 'Normalizer',
      domain: 'ai.onnx.ml',
      inputs: ['s'],
      outputs: ['y'],
      attributes: { norm: { string: 'L2' } },
    },
  ],
  inputs: [
    { name: 'x', datatype: 'FP32', shape: ['N', -1, 3] },
    { name: 'w', datatype: 'FP32', shape: [3] },
    { name: 'ids', datatype: 'INT64' },
  ],
  outputs: [
    { name: 'y', datatype: 'FP32', shape: ['N', 3] },
    { name: 'q', datatype: 22, shape: [5] },
    { name: 'list', datatype: 'FP32', kind: 'sequence' },
  ],
  initializers: [
    { name: 'w', datatype: 'FP32', shape: [3], data: new Float32Array(3) },
    {
      name: 'far',
      datatype: 'FP64',
      shape: [2, 2],
      external: { location: 'far.bin', offset: 0, length: 32 },
    },
  ],
  opsets: { '': 17, 'ai.onnx.ml': 3 },
  irVersion: 9,
};

function small(count: number) {
  return { datatype: 'FP32', shape: [count], data: new Float32Array(count) } as const;
}

test('a written model is read back with all that it declares', () => {
  const summary = readOnnxBytes(writeOnnxModel(twoInputs));
  assert.equal(summary.irVersion, 9);
  assert.equal(summary.graphName, 'two');
  assert.deepEqual(summary.opsets, { 'ai.onnx': 17, 'ai.onnx.ml': 3 });
  assert.deepEqual(
    summary.inputs.map(({ name, datatype, shape, dimNames }) => [name, datatype, shape, dimNames]),
    [
      ['x', 'FP32', [-1, -1, 3], ['N', '', '']],
      ['ids', 'INT64', undefined, []],
    ],
  );
  assert.deepEqual(summary.optionalInputs, ['w']);
  assert.deepEqual(
    summary.outputs.map(({ name, kind, datatype }) => [name, kind, datatype]),
    [
      ['y', 'tensor', 'FP32'],
      ['q', 'tensor', undefined],
      ['list', 'sequence', undefined],
    ],
  );
  assert.deepEqual(summary.operators, { Add: 1, Constant: 1, 'ai.onnx.ml:Normalizer': 1 });
  assert.deepEqual(
    summary.constants.map(({ name, bytes, externalFile }) => [name, bytes, externalFile]),
    [
      ['k', 12, undefined],
      ['w', 12, undefined],
      ['far', 32, 'far.bin'],
    ],
  );
});

test('weights inside a branch are told apart from those of the graph', () => {
  const branch = (name: string) => ({
    nodes: [{ op: 'Identity', inputs: [name], outputs: [`${name}_out`] }],
    inputs: [],
    outputs: [{ name: `${name}_out`, datatype: 'FP32' as const }],
    initializers: [{ name, ...small(1000) }],
  });
  const model: OnnxModel = {
    nodes: [
      {
        op: 'If',
        inputs: ['c'],
        outputs: ['y'],
        attributes: { then_branch: { graph: branch('a') }, else_branch: { graph: branch('b') } },
      },
    ],
    inputs: [{ name: 'c', datatype: 'BOOL', shape: [] }],
    outputs: [{ name: 'y', datatype: 'FP32' }],
  };
  const summary = readOnnxBytes(writeOnnxModel(model));
  assert.equal(summary.largestSubgraphConstantBytes, 4000);
  assert.deepEqual(summary.constants, []);
  assert.deepEqual(summary.operators, { If: 1, Identity: 2 });
});

test('a file larger than the window is read as its bytes are', (t) => {
  const directory = temporaryDirectory(t);
  const initializers = ['a', 'b', 'c'].map((name) => ({ name, ...small(100_003) }));
  const path = writeModel(directory, { ...twoInputs, initializers });
  assert.deepEqual(readOnnxFile(path), readOnnxBytes(readFileSync(path)));
});

test('a file that is empty, cut or of another format is refused with its path and size', (t) => {
  const directory = temporaryDirectory(t);
  const bytes = writeOnnxModel(twoInputs);
  const path = join(directory, 'bad.onnx');
  const refusal = (content: Uint8Array | string): ServingError => {
    writeFileSync(path, content);
    try {
      readOnnxFile(path);
    } catch (error) {
      assert.ok(error instanceof ServingError);
      return error;
    }
    throw new assert.AssertionError({ message: `${content.length} bytes were taken for a model` });
  };
  const contents = [
    '',
    'PK\x03\x04 a zip file',
    '{"json": true}',
    '\x80\x05\x95 a pickle',
    Buffer.alloc(500, 0xff),
  ];
  const cuts = [1, 2, 10, 30, bytes.length >> 1, bytes.length - 40].map((length) =>
    bytes.subarray(0, length),
  );
  for (const content of [...contents, ...cuts]) {
    const error = refusal(content);
    assert.equal(error.code, 'SRV_MODEL_INVALID');
    assert.match(error.message, /bad\.onnx/);
    assert.equal(error.details?.bytes, Buffer.byteLength(content));
    assert.match(error.message, /\d+ bytes/);
  }
});

test('a path that cannot be opened is an error of reading, not of the model', () => {
  assert.throws(() => readOnnxFile('/nowhere/model.onnx'), { code: 'SRV_IO' });
});

test('lifting an old model changes its version and optional inputs and nothing else', () => {
  const unknownField = new WireWriter().string(1000, 'kept as it is');
  const old = Buffer.concat([writeOnnxModel({ ...twoInputs, irVersion: 3 }), unknownField.toBytes()]);
  const withoutOptional = {
    ...twoInputs,
    irVersion: 8,
    inputs: twoInputs.inputs.filter((input) => input.name !== 'w'),
  };
  const lifted = liftIrVersion(old);
  const expected = Buffer.concat([writeOnnxModel(withoutOptional), unknownField.toBytes()]);
  assert.deepEqual(Buffer.from(lifted), expected);
});

test('a model of IR version 4 or later is not changed by lifting', () => {
  const bytes = writeOnnxModel({ ...rowModel({ op: 'Relu' }), irVersion: 4 });
  assert.equal(liftIrVersion(bytes), bytes);
});
