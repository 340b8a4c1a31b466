/** Small models and places that the tests of this folder share. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type OnnxGraph, type OnnxModel, writeOnnxModel } from '../../src/model/onnx-writer.js';

/** A directory that is removed after the test. */
export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-model-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Writes a model into a directory and gives its path. */
export function writeModel(directory: string, model: OnnxModel, name = 'model.onnx'): string {
  const path = join(directory, name);
  writeFileSync(path, writeOnnxModel(model));
  return path;
}

/** Paths of the models below `shared/<folder>` beside the package; undefined and a diagnostic where it is absent. */
export function sharedModels(t: TestContext, folder: string): string[] | undefined {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, 'package.json'))) root = dirname(root);
  const directory = join(root, '..', 'shared', folder);
  if (!existsSync(directory)) {
    t.skip(`${directory} is not there: its models are not tried`);
    return undefined;
  }
  return readdirSync(directory)
    .map((name) => join(directory, name, 'model.onnx'))
    .filter((path) => existsSync(path));
}

/** One operator from `x` to `y`, both float rows of four. */
export function rowModel(node: Partial<OnnxGraph['nodes'][number]> & { readonly op: string }): OnnxModel {
  return {
    nodes: [{ inputs: ['x'], outputs: ['y'], ...node }],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
  };
}

/** MatMuls in a row, each with a weight of `size` x `size` of its own: equal weights would be stored once. */
export function denseModel(layers: number, size: number): OnnxModel {
  const name = (layer: number): string => (layer === 0 ? 'x' : layer === layers ? 'y' : `h${layer}`);
  const numbers = [...Array(layers).keys()];
  return {
    nodes: numbers.map((layer) => ({
      op: 'MatMul',
      inputs: [name(layer), `w${layer}`],
      outputs: [name(layer + 1)],
    })),
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', size] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', size] }],
    initializers: numbers.map((layer) => ({
      name: `w${layer}`,
      datatype: 'FP32',
      shape: [size, size],
      data: noise(size * size, layer + 1, 3 / Math.sqrt(size)),
    })),
  };
}

function noise(count: number, seed: number, scale: number): Float32Array {
  const values = new Float32Array(count);
  let state = seed * 7919;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    values[i] = (state / 0x7fffffff - 0.5) * scale;
  }
  return values;
}
