import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exactShapes, fixedBatchReason } from '../../src/model/batch-check.js';
import type { EngineSession } from '../../src/model/engine-session.js';
import { generateInputs } from '../../src/model/generated-inputs.js';
import { readOnnxBytes } from '../../src/model/onnx-file.js';
import { type OnnxModel, writeOnnxModel } from '../../src/model/onnx-writer.js';
import { firstDifference } from '../../src/model/tensor-compare.js';
import { tryModel } from '../../src/model/trial.js';
import type { Tensor, TensorMap } from '../../src/tensor/tensor.js';
import { rowModel } from './model-fixtures.js';

const relu = readOnnxBytes(writeOnnxModel(rowModel({ op: 'Relu' })));
const plan = { freeSize: 1, ones: new Set<string>() };

/** A session whose run is a function of the rows of `x`. */
function sessionOf(compute: (x: Float32Array, rows: number) => Float32Array): EngineSession {
  return {
    inputs: [],
    outputs: [],
    run: async (inputs) => {
      const x = inputs.x as Tensor;
      const rows = x.shape[0]!;
      const y = compute(x.data as Float32Array, rows);
      return { y: { datatype: 'FP32', shape: [rows, y.length / rows], data: y } };
    },
    close: async () => {},
  };
}

test('generated integers are never 0, and a row is the same in every batch', () => {
  const model: OnnxModel = {
    nodes: [],
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['N', 3] },
      { name: 'words', datatype: 'BYTES', shape: ['N', 2] },
      { name: 'half', datatype: 'FP16', shape: ['N', 'T'] },
      { name: 'flag', datatype: 'BOOL', shape: ['N', 1] },
    ],
    outputs: [],
  };
  const { inputs } = readOnnxBytes(writeOnnxModel(model));
  const both = generateInputs(inputs, { ...plan, freeSize: 2 }, [0, 1]);
  const second = generateInputs(inputs, { ...plan, freeSize: 2 }, [1]);
  assert.deepEqual(both.ids?.data, BigInt64Array.of(1n, 2n, 1n, 2n, 1n, 2n));
  assert.deepEqual(both.words?.data, ['1', '2', '2', '1']);
  assert.deepEqual(both.flag?.data, Uint8Array.of(1, 1));
  assert.deepEqual(both.half?.shape, [2, 2]);
  assert.deepEqual(both.half?.data.slice(2), second.half?.data);
});

test('rows that do not look at each other are found independent, with the shape of a row', async () => {
  const result = await tryModel(
    sessionOf((x) => x.map((value) => value * 2)),
    relu,
    relu.outputs,
  );
  assert.equal(result.batching.rowsIndependent, true);
  assert.deepEqual(result.batching.rowShapes, { y: [4] });
  assert.equal(result.trial.ran, true);
  assert.ok(result.trial.p99Us! >= result.trial.p50Us!);
});

test('a scale over the whole batch, as dynamic quantisation has it, is found out', async () => {
  const quantise = (x: Float32Array): Float32Array => {
    const step = Math.max(...x) / 127;
    return x.map((value) => Math.round(value / step) * step);
  };
  const { batching } = await tryModel(sessionOf(quantise), relu, relu.outputs);
  assert.equal(batching.rowsIndependent, false);
  assert.match(batching.reason, /not what it is alone/);
});

test('inputs that the engine refuses are tried with other free sizes and integers before giving up', async () => {
  const model: OnnxModel = {
    nodes: [],
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: ['N', 'T'] },
      { name: 'kind', datatype: 'INT64', shape: ['N', 'T'] },
    ],
    outputs: [{ name: 'y', datatype: 'INT64', shape: ['N', 'T'] }],
  };
  const summary = readOnnxBytes(writeOnnxModel(model));
  const run = async (inputs: TensorMap): Promise<TensorMap> => {
    const { ids, kind } = inputs as { ids: Tensor; kind: Tensor };
    if (ids.shape[1]! < 4) throw new Error('too short');
    if ((kind.data as BigInt64Array).some((value) => value > 1n)) throw new Error('index out of range');
    return { y: ids };
  };
  const session = { inputs: [], outputs: [], run, close: async () => {} };
  const result = await tryModel(session, summary, summary.outputs);
  assert.deepEqual(result.plan, { freeSize: 4, ones: new Set(['kind']) });
  assert.equal(result.batching.rowsIndependent, true);

  const never = { ...session, run: () => Promise.reject(new Error('no such thing')) };
  const refused = await tryModel(never, summary, summary.outputs);
  assert.equal(refused.trial.ran, false);
  assert.match(refused.trial.reason!, /no such thing/);
  assert.equal(refused.batching.rowsIndependent, false);
});

test('declared shapes without a common free leading dimension rule merging out', () => {
  const reason = (inputs: OnnxModel['inputs'], outputs: OnnxModel['outputs']): string | undefined => {
    const summary = readOnnxBytes(writeOnnxModel({ nodes: [], inputs, outputs }));
    return fixedBatchReason(summary.inputs, summary.outputs);
  };
  const float = (name: string, shape?: readonly (number | string)[]) =>
    ({ name, datatype: 'FP32', ...(shape ? { shape } : {}) }) as const;
  const y = [float('y', ['N', 2])];
  assert.equal(reason([float('x', ['N', 2]), float('z', [-1, 2])], y), undefined);
  assert.match(reason([float('x', [1, 2])], y)!, /fixed leading dimension 1/);
  assert.match(reason([float('x', [])], y)!, /scalar/);
  assert.match(reason([float('x')], y)!, /rank/);
  assert.match(reason([float('x', ['N']), float('z', ['M'])], y)!, /different names/);
  assert.match(reason([float('x', ['N', 'N'])], y)!, /another place/);
  assert.match(reason([float('x', ['N', 2])], [float('y', [2, 'N'])])!, /another place/);
  assert.match(reason([float('x', ['N', 2])], [float('y', [5, 2])])!, /fixed leading dimension 5/);
  assert.match(reason([], y)!, /no inputs/);
});

test('the shape of an output is only called exact where values cannot change it', () => {
  const seen = { y: { datatype: 'FP32', shape: [1, 3], data: new Float32Array(3) } } as const;
  const shapes = (op: string, output: readonly (number | string)[]) => {
    const model = { ...rowModel({ op }), outputs: [{ name: 'y', datatype: 'FP32' as const, shape: output }] };
    const summary = readOnnxBytes(writeOnnxModel(model));
    return exactShapes(summary, summary.outputs, [seen], 1);
  };
  assert.deepEqual(shapes('Relu', ['batch', 'k']), { y: [3] });
  assert.deepEqual(shapes('Slice', ['batch', 3]), { y: [3] });
  assert.equal(shapes('Slice', ['batch', 'k']), undefined);
  assert.equal(shapes('Relu', ['batch', 5]), undefined);
});

test('NaN equals NaN, infinities must be equal, and floats may differ within the tolerance', () => {
  const tensor = (...values: number[]) =>
    ({ y: { datatype: 'FP32', shape: [values.length], data: Float32Array.from(values) } }) as const;
  const tolerance = { relative: 1e-3, ofLargest: 1e-5 };
  const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
  assert.equal(firstDifference(tensor(nan, infinity), tensor(nan, infinity), tolerance), undefined);
  assert.equal(firstDifference(tensor(1000, 0), tensor(1000.5, 0.005), tolerance), undefined);
  assert.match(firstDifference(tensor(1000, 0), tensor(1000, 0.05), tolerance)!, /at 1/);
  assert.match(firstDifference(tensor(infinity), tensor(-infinity), tolerance)!, /at 0/);
  assert.match(firstDifference(tensor(infinity), tensor(1), tolerance)!, /at 0/);
  assert.match(firstDifference(tensor(1), tensor(nan), tolerance)!, /at 0/);
  assert.match(firstDifference(tensor(1), tensor(1 + 2 ** -23), 'exact')!, /bits/);
});
