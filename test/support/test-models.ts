/** Small models, made on the spot, each with one behaviour that a test is about. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type OnnxModel, type OnnxTensor, writeOnnxModel } from '../../src/model/onnx-writer.js';
import type { Datatype } from '../../src/tensor/datatype.js';

/** Contents of a `model.json`. */
export type SettingsFile = Readonly<Record<string, unknown>>;

/** A directory of its own below the temporary directory; the caller removes it. */
export function makeDirectory(label = 'test'): string {
  return mkdtempSync(join(tmpdir(), `onnx-serving-${label}-`));
}

/** Removes a directory and what is in it. */
export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

/** Writes `<root>/<name>/model.onnx`, and a `model.json` where settings are given. Returns the model's directory. */
export function placeModel(root: string, name: string, model: OnnxModel, settings?: SettingsFile): string {
  const directory = join(root, name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'model.onnx'), writeOnnxModel(model));
  if (settings) writeFileSync(join(directory, 'model.json'), JSON.stringify(settings));
  return directory;
}

/** Writes `<root>/<name>/<version>/model.onnx`. Returns the version's directory. */
export function placeVersion(root: string, name: string, version: number, model: OnnxModel): string {
  const directory = join(root, name, String(version));
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'model.onnx'), writeOnnxModel(model));
  return directory;
}

/** `y = factor * x`, rows of four floats. */
export function scaleModel(factor = 2): OnnxModel {
  return {
    nodes: [{ op: 'Mul', inputs: ['x', 'factor'], outputs: ['y'] }],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
    initializers: [floats('factor', [1], [factor])],
  };
}

/** Two inputs of four floats; `sum` and `difference` of them. */
export function pairModel(): OnnxModel {
  return {
    nodes: [
      { op: 'Add', inputs: ['a', 'b'], outputs: ['sum'] },
      { op: 'Sub', inputs: ['a', 'b'], outputs: ['difference'] },
    ],
    inputs: ['a', 'b'].map((name) => ({ name, datatype: 'FP32', shape: ['batch', 4] })),
    outputs: ['sum', 'difference'].map((name) => ({ name, datatype: 'FP32', shape: ['batch', 4] })),
  };
}

/** Gives its input back. */
export function identityModel(
  datatype: Datatype,
  shape: readonly (number | string)[] = ['batch', 3],
): OnnxModel {
  return {
    nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    inputs: [{ name: 'x', datatype, shape }],
    outputs: [{ name: 'y', datatype, shape }],
  };
}

/** Looks ids up in a table of four rows `[id, 10 * id]`; the engine refuses an id outside of -4 to 3. */
export function lookupModel(): OnnxModel {
  return {
    nodes: [
      { op: 'Gather', inputs: ['table', 'id'], outputs: ['rows'] },
      { op: 'Squeeze', inputs: ['rows', 'axis'], outputs: ['row'] },
    ],
    inputs: [{ name: 'id', datatype: 'INT64', shape: ['batch', 1] }],
    outputs: [{ name: 'row', datatype: 'FP32', shape: ['batch', 2] }],
    initializers: [
      floats('table', [4, 2], [0, 0, 1, 10, 2, 20, 3, 30]),
      { name: 'axis', datatype: 'INT64', shape: [1], data: BigInt64Array.of(1n) },
    ],
  };
}

/**
 * Takes a while, whatever its rows: `y = x` after `layers` products of matrices of `size` x `size` that depend on the
 * input, so that the engine cannot fold them away. About 5 ms a layer at size 512 on one core.
 */
export function slowModel(layers = 8, size = 512): OnnxModel {
  const numbers = [...Array(layers).keys()];
  return {
    nodes: [
      { op: 'ReduceMax', inputs: ['x'], outputs: ['top'], attributes: { keepdims: { int: 0 } } },
      { op: 'Mul', inputs: ['top', 'zero'], outputs: ['nothing'] },
      { op: 'Add', inputs: ['weight', 'nothing'], outputs: ['m0'] },
      ...numbers.map((layer) => ({
        op: 'MatMul',
        inputs: [`m${layer}`, 'weight'],
        outputs: [`m${layer + 1}`],
      })),
      { op: 'ReduceMax', inputs: [`m${layers}`], outputs: ['most'], attributes: { keepdims: { int: 0 } } },
      { op: 'Mul', inputs: ['most', 'zero'], outputs: ['nought'] },
      { op: 'Add', inputs: ['x', 'nought'], outputs: ['y'] },
    ],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
    initializers: [
      floats('zero', [], [0]),
      {
        name: 'weight',
        datatype: 'FP32',
        shape: [size, size],
        data: new Float32Array(size * size).fill(1 / size),
      },
    ],
  };
}

/** Rows that interact: every row gets the sum over all rows. */
export function rowSumModel(): OnnxModel {
  return {
    nodes: [
      { op: 'ReduceSum', inputs: ['x', 'axes'], outputs: ['sum'], attributes: { keepdims: { int: 1 } } },
      { op: 'Add', inputs: ['x', 'sum'], outputs: ['y'] },
    ],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
    initializers: [{ name: 'axes', datatype: 'INT64', shape: [1], data: BigInt64Array.of(0n) }],
  };
}

/** A dense output `y` and a sequence `pair` beside it. */
export function sequenceOutputModel(): OnnxModel {
  return {
    nodes: [
      { op: 'Neg', inputs: ['x'], outputs: ['y'] },
      { op: 'SequenceConstruct', inputs: ['x', 'y'], outputs: ['pair'] },
    ],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [
      { name: 'y', datatype: 'FP32', shape: ['batch', 4] },
      { name: 'pair', datatype: 'FP32', shape: ['batch', 4], kind: 'sequence' },
    ],
  };
}

/** A constant of floats. */
export function floats(name: string, shape: readonly number[], values: readonly number[]): OnnxTensor {
  return { name, datatype: 'FP32', shape, data: Float32Array.from(values) };
}
