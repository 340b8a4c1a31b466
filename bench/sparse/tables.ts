/** The tables, files of rows and files of keys of the sparse scenarios, made once and kept in the cache. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { listVersions, type Manifest } from '../../src/sparse/manifest.js';
import { resolveTable } from '../../src/sparse/table.js';
import { paths } from '../paths.js';
import { type ContestantProcess, startProcess } from './contestant-process.js';
import { nativeProgram } from './native-program.js';

const run = promisify(execFile);

/** Where the sparse scenarios keep their data: about 10 GB of it at 20 M rows. */
export const sparseCache = join(paths.cache, 'sparse');

/** Keys that contestants ask for, in turn. */
export const askedKeys = 4_000_000;

/** Rows of a table; in `make_rows` and the contestants, key and row follow from their number. */
export interface TableSpec {
  readonly rows: number;
  readonly dim: number;
  readonly dtype: 'f32' | 'int8';
}

/** What `table build` took. */
export interface BuildFigures {
  readonly seconds: number;
  readonly rowsPerSecondPerCore: number;
}

export type Residence = 'mapped' | 'memory';

/** Directory of a table, which has one snapshot, version 1. Built where it is not there. */
export async function sparseTable(spec: TableSpec, log: (line: string) => void): Promise<string> {
  const directory = placeOf(spec);
  if (!existsSync(join(directory, '1'))) {
    const { seconds } = await buildSnapshot(spec, log);
    log(`built ${directory} in ${seconds.toFixed(1)} s`);
  }
  return directory;
}

/** Builds a table anew with `onnx-serving table build`, of a sequence file. */
export async function buildSnapshot(spec: TableSpec, log: (line: string) => void): Promise<BuildFigures> {
  const input = await sequenceFile(0, spec.rows, spec.dim, 0, log);
  const directory = placeOf(spec);
  await rm(directory, { recursive: true, force: true });
  const startedAt = performance.now();
  await cli(buildArgs(input, directory, spec.dtype));
  const seconds = (performance.now() - startedAt) / 1000;
  return { seconds, rowsPerSecondPerCore: spec.rows / seconds / availableParallelism() };
}

/** The command line of a build. */
export function buildArgs(input: string, directory: string, dtype: TableSpec['dtype']): string[] {
  return ['table', 'build', input, '--output', directory, '--dtype', dtype];
}

/**
 * Puts deltas on top of version 1, each of another hundredth of the rows, where they are not there: versions 2 to
 * `deltas` + 1.
 */
export async function addDeltas(spec: TableSpec, deltas: number, log: (line: string) => void): Promise<void> {
  const directory = await sparseTable(spec, log);
  const present = (await listVersions(directory)).length - 1;
  const step = Math.floor(spec.rows / 100);
  for (let delta = present; delta < deltas; delta++) {
    const input = await sequenceFile(step * delta, step * (delta + 1), spec.dim, 0.5, log);
    await cli(['table', 'build', input, '--output', directory, '--mode', 'delta']);
  }
  if (present < deltas) log(`built ${deltas - present} deltas of ${step} rows`);
}

/** The manifest of a table's snapshot. */
export async function snapshotOf(directory: string): Promise<Manifest> {
  return (await resolveTable(directory, { version: 1 })).manifest;
}

/** A file of rows that `table build` reads. */
export async function sequenceFile(
  begin: number,
  end: number,
  dim: number,
  add: number,
  log: (line: string) => void,
): Promise<string> {
  return made(join(sparseCache, `rows-${begin}-${end}x${dim}+${add}.seq`), async (file) => {
    log(`writing ${((end - begin) / 1e6).toFixed(2)} M rows of ${dim} floats as a sequence file`);
    await run(await nativeProgram('make_rows'), ['seq', file, ...[begin, end, dim, add].map(String)]);
  });
}

/** A file of keys to ask for, 8 bytes each. */
export async function keyFile(rows: number, distribution: 'uniform' | 'zipf'): Promise<string> {
  return made(join(sparseCache, `keys-${rows}-${distribution}.u64`), async (file) => {
    await run(await nativeProgram('make_rows'), [
      'keys',
      file,
      String(rows),
      distribution,
      String(askedKeys),
    ]);
  });
}

/** Program and arguments of our table in C++; `deltas` on top of the snapshot. */
export async function tableContestant(
  spec: TableSpec,
  directory: string,
  options: {
    readonly residence: Residence;
    readonly keys: string;
    readonly deltas?: number;
  },
): Promise<readonly [file: string, args: readonly string[]]> {
  const { residence, keys, deltas = 0 } = options;
  const { files } = await resolveTable(directory, { version: 1 + deltas });
  const shards = [...files.snapshot, ...files.deltas.flatMap((delta) => ['+', ...delta])];
  return [
    await nativeProgram('table_contestant'),
    [residence, keys, String(spec.rows), String(deltas), ...shards],
  ];
}

/** Starts our table in C++. */
export async function startTable(...args: Parameters<typeof tableContestant>): Promise<ContestantProcess> {
  return startProcess(...(await tableContestant(...args)));
}

/**
 * Starts a process that keeps the files of a table in memory: some machines take idle pages away although there is
 * room. For scenarios whose own processes do not.
 */
export async function holdTable(directory: string): Promise<ContestantProcess> {
  const { rows, dim } = await snapshotOf(directory);
  const keys = await keyFile(rows, 'uniform');
  const holder = await startTable({ rows, dim, dtype: 'f32' }, directory, { residence: 'mapped', keys });
  await holder.ask('hold');
  return holder;
}

function placeOf({ rows, dim, dtype }: TableSpec): string {
  return join(sparseCache, `table-${dtype}-${rows}x${dim}`);
}

async function cli(args: readonly string[]): Promise<void> {
  await run(process.execPath, [paths.cli, ...args]);
}

/** Makes a file where it is not there; an interrupted bench leaves none. */
export async function made(file: string, make: (partial: string) => Promise<void>): Promise<string> {
  if (existsSync(file)) return file;
  await mkdir(sparseCache, { recursive: true });
  const partial = `${file}.partial`;
  try {
    await make(partial);
    await rename(partial, file);
  } finally {
    await rm(partial, { force: true });
  }
  return file;
}
