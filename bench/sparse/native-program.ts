/** The C++ programs of this folder: compiled with the table's own sources when something changed. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rename, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { paths } from '../paths.js';

const run = promisify(execFile);

const flags = [
  ...['-std=c++20', '-O3', '-DNDEBUG', '-Wall', '-Wextra', '-Wpedantic'],
  // As native/CMakeLists.txt has them.
  ...['-fno-exceptions', '-fno-rtti', '-ffp-contract=off', '-pthread'],
];
const native = join(paths.root, 'native');
const own = join(paths.root, 'bench', 'sparse');
const out = join(paths.root, 'build', 'bench');

/** The programs, each with the libraries it is linked with. */
const programs = {
  gather_bench: [],
  make_rows: [],
  table_contestant: [],
  lmdb_contestant: ['-llmdb'],
  redis_client: [],
} as const;
export type NativeProgram = keyof typeof programs;

/**
 * Compiles a program where it is older than its sources; objects are kept in build/bench.
 *
 * @returns its path
 * @throws with the compiler's words
 */
export async function nativeProgram(name: NativeProgram): Promise<string> {
  await mkdir(out, { recursive: true });
  const list = await readFile(join(native, 'sources.txt'), 'utf8');
  const sources = list
    .split('\n')
    .filter((line) => line !== '' && !/_binding\.cc$|^napi_support\.cc$|^addon\.cc$/.test(line))
    .map((line) => join(native, line));
  const headers = await Promise.all(
    [...(await headersBelow(native)), ...(await headersBelow(own))].map(changedAt),
  );
  const newestHeader = Math.max(...headers);
  const objects: string[] = [];
  const queue = [join(own, `${name}.cc`), ...sources];
  const work = async (): Promise<void> => {
    for (let source = queue.shift(); source !== undefined; source = queue.shift()) {
      objects.push(await objectOf(source, newestHeader));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  const file = join(out, name);
  const newestObject = Math.max(...(await Promise.all(objects.map(changedAt))));
  if ((await changedAt(file)) < newestObject) {
    await compile([...objects, ...programs[name]], file);
  }
  return file;
}

async function objectOf(source: string, newestHeader: number): Promise<string> {
  const object = join(out, `${basename(source, '.cc')}.o`);
  if ((await changedAt(object)) < Math.max(newestHeader, await changedAt(source))) {
    await compile(['-c', source], object);
  }
  return object;
}

async function compile(args: readonly string[], file: string): Promise<void> {
  // Renamed when whole: what an interrupted compiler leaves must not count as newer than its source.
  const partial = `${file}.${process.pid}`;
  await run(process.env.CXX ?? 'g++', [...flags, ...args, '-o', partial]);
  await rename(partial, file);
}

async function headersBelow(directory: string): Promise<string[]> {
  const names = await readdir(directory, { recursive: true });
  return names.filter((name) => name.endsWith('.h')).map((name) => join(directory, name));
}

/** Time of the last change, ms; 0 when there is no such file. */
async function changedAt(file: string): Promise<number> {
  try {
    return (await stat(file)).mtimeMs;
  } catch {
    return 0;
  }
}
