import { existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { seededRandom } from '../src/loadtest/load.js';
import { type OnnxModel, writeOnnxModel } from '../src/model/onnx-writer.js';
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

/** Fills a repository with copies of one small model: mnist-cntk of the shared models, else our own network. */
export async function fillRepository(
  repository: string,
  count: number,
): Promise<{ source: string; name(index: number): string }> {
  const isShared = existsSync(paths.sharedMnist);
  const source = isShared ? paths.sharedMnist : join(await mlpDir(), '1', 'model.onnx');
  const name = (index: number): string => `small-${String(index).padStart(4, '0')}`;
  for (let i = 0; i < count; i++) {
    const to = join(repository, name(i), '1', 'model.onnx');
    await mkdir(dirname(to), { recursive: true });
    await copyFile(source, to);
  }
  return { source: isShared ? 'mnist-cntk' : 'mlp 400-512-256-1', name };
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
