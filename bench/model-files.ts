import { existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { seededRandom } from '../src/loadtest/load.js';
import { type OnnxModel, type OnnxTensor, writeOnnxModel } from '../src/model/onnx-writer.js';
import { mlpModel } from './mlp.js';
import { paths } from './paths.js';

/** Width of the square matrices of the large models; each is 64 MiB. */
export const matmulWidth = 4096;

/** Directory of the small network, served as `mlp`. Written once. */
export async function mlpDir(): Promise<string> {
  return modelDir('mlp', () => mlpModel());
}

/**
 * Directory of a chain of distinct 4096x4096 matrices: input `x` [-1, 4096], output `y` of the same shape.
 * Six are 402 MB, three 201 MB. Written once.
 */
export async function matmulDir(matrices: number): Promise<string> {
  return modelDir(`matmul${matrices}`, () => matmulModel(matrices));
}

/** Floats of a row of the input of the networks of `denseFile`. */
export const denseInputs = 64;
/** The constant of those networks that is added to the output. */
export const denseBias = 'bias';

/**
 * A network 64-N-N-1 (Gemm, Relu): input `x` [-1, 64], output `y` [-1, 1]. With a width of 5120 it has 106 MB, with
 * 1080 5 MB. Written once.
 */
export async function denseFile(width: number): Promise<string> {
  return join(await modelDir(`dense${width}`, () => denseNetwork(width)), '1', 'model.onnx');
}

/** Fills a repository with copies of one small model: mnist-cntk of the shared models, else our own network. */
export async function fillRepository(
  repository: string,
  count: number,
): Promise<{ source: string; name(index: number): string }> {
  const isShared = existsSync(paths.sharedMnist);
  const source = isShared ? paths.sharedMnist : join(await mlpDir(), '1', 'model.onnx');
  for (let i = 0; i < count; i++) {
    const to = join(repository, smallName(i), '1', 'model.onnx');
    await mkdir(dirname(to), { recursive: true });
    await copyFile(source, to);
  }
  return { source: isShared ? 'mnist-cntk' : 'mlp 400-512-256-1', name: smallName };
}

/** Name of one of the many models of a repository. */
export function smallName(index: number): string {
  return `small-${String(index).padStart(4, '0')}`;
}

async function modelDir(name: string, make: () => OnnxModel): Promise<string> {
  const dir = join(paths.cache, 'models', name);
  const file = join(dir, '1', 'model.onnx');
  if (!existsSync(file)) {
    await mkdir(dirname(file), { recursive: true });
    // Renamed when whole: a bench that was interrupted must not leave half a model for the next one.
    const partial = `${file}.${process.pid}`;
    try {
      await writeFile(partial, writeOnnxModel(make()));
      await rename(partial, file);
    } finally {
      await rm(partial, { force: true });
    }
  }
  return dir;
}

function matmulModel(matrices: number): OnnxModel {
  const shape = [matmulWidth, matmulWidth];
  const bound = Math.sqrt(3 / matmulWidth);
  const indices = Array.from({ length: matrices }, (_, i) => i);
  return {
    initializers: indices.map((i) => {
      const random = seededRandom(i + 1);
      const data = new Float32Array(matmulWidth * matmulWidth);
      for (let at = 0; at < data.length; at++) data[at] = (2 * random() - 1) * bound;
      return { name: `w${i}`, datatype: 'FP32', shape, data };
    }),
    nodes: indices.map((i) => ({
      op: 'MatMul',
      inputs: [i === 0 ? 'x' : `h${i}`, `w${i}`],
      outputs: [i === matrices - 1 ? 'y' : `h${i + 1}`],
    })),
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', matmulWidth] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', matmulWidth] }],
  };
}

function denseNetwork(width: number): OnnxModel {
  const random = seededRandom(width);
  const constant = (name: string, shape: readonly number[], bound: number): OnnxTensor => {
    const data = new Float32Array(shape.reduce((product, size) => product * size, 1));
    for (let at = 0; at < data.length; at++) data[at] = (2 * random() - 1) * bound;
    return { name, datatype: 'FP32', shape, data };
  };
  return {
    initializers: [
      constant('w0', [denseInputs, width], Math.sqrt(3 / denseInputs)),
      constant('b0', [width], 0.1),
      constant('w1', [width, width], Math.sqrt(6 / width)),
      constant('b1', [width], 0.1),
      constant('w2', [width, 1], Math.sqrt(6 / width)),
      constant(denseBias, [1], 0.1),
    ],
    nodes: [
      { op: 'Gemm', inputs: ['x', 'w0', 'b0'], outputs: ['sum0'] },
      { op: 'Relu', inputs: ['sum0'], outputs: ['active0'] },
      { op: 'Gemm', inputs: ['active0', 'w1', 'b1'], outputs: ['sum1'] },
      { op: 'Relu', inputs: ['sum1'], outputs: ['active1'] },
      { op: 'Gemm', inputs: ['active1', 'w2', denseBias], outputs: ['y'] },
    ],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', denseInputs] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 1] }],
  };
}
