import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Compiled to dist/bench/.
const root = fileURLToPath(new URL('../../', import.meta.url));

/** Places that the bench reads and writes. Everything under `cache` can be deleted. */
export const paths = {
  root,
  cli: join(root, 'bin', 'onnx-serving.js'),
  cache: join(root, 'bench', '.cache'),
  results: join(root, 'bench', 'results'),
  /** Absent in a checkout of its own. */
  sharedMnist: join(root, '..', 'shared', 'models', 'mnist-cntk', 'model.onnx'),
} as const;

/** A compiled program of this folder. */
export function program(name: string): string {
  return fileURLToPath(new URL(`./${name}.js`, import.meta.url));
}

/** Makes a new directory under the cache. The caller removes it. */
export async function scratchDir(prefix: string): Promise<string> {
  await mkdir(paths.cache, { recursive: true });
  return mkdtemp(join(paths.cache, `${prefix}-`));
}
