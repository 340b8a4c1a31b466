/** Building a version of a table from files of rows. */
import { availableParallelism, totalmem } from 'node:os';
import { basename, resolve } from 'node:path';
import { findProblems } from '../config/problems.js';
import { modelNameSchema } from '../config/schema.js';
import { ServingError } from '../errors.js';
import type { RowFormat } from '../native/row-files.js';
import {
  type BuiltTable,
  type rowTypes,
  startTableBuild,
  type TableBuildProgress,
} from '../native/tables.js';
import { listInputFiles, standardInput } from './input-files.js';
import { digestOfVersion, listVersions, type Manifest, resolveChain } from './manifest.js';
import { VersionWork } from './version-work.js';

/** How far a build is. */
export type BuildProgress = TableBuildProgress;

/** What to build, and of what. */
export interface BuildTableOptions {
  /** Directory of the table; made if need be. */
  readonly output: string;
  /** Files, directories of files, or `-` for standard input; of several rows of a key the last one counts. */
  readonly inputs: readonly string[];
  /** `base` makes a snapshot, `delta` changes on top of `parent`. @default 'base' */
  readonly mode?: 'base' | 'delta';
  /** How rows are stored. @default 'f32', or as in the parent */
  readonly dtype?: (typeof rowTypes)[number];
  /** Elements of a row. @default those of the first row, or as in the parent */
  readonly dim?: number;
  /** A key is in shard key mod shardNum. @default 1, or as in the parent */
  readonly shardNum?: number;
  /** @default 'auto': each file's content and name tell */
  readonly format?: RowFormat['format'] | 'auto';
  /**
   * What values are. Text files have floats, text (for `bytes`) or hex digits; `stored` says that values are rows as
   * the table stores them, such as quantised ones (hex digits in text files). @default 'text' for bytes, else 'floats'
   */
  readonly values?: 'floats' | 'text' | 'hex' | 'stored';
  /** Sequence files: whether keys and values begin with a length of their own. @default 'auto' */
  readonly innerLengths?: RowFormat['innerLengths'];
  /** NumPy files: key of the first row. @default 0n */
  readonly firstKey?: bigint;
  /** A NumPy file: a 1-D array with the keys of its rows. @default keys count from `firstKey` */
  readonly keysPath?: string;
  /** CSV files: the key's column, by name or number from 1. @default the first */
  readonly keyColumn?: string;
  /** A delta: a file of keys to delete, one a line, behind all rows. */
  readonly deleteKeys?: string;
  /** @default the newest + 1 */
  readonly version?: number;
  /** A delta: the version that it changes. @default the newest */
  readonly parent?: number;
  /** The row of missing keys, where a stage asks for it. @default none, or that of the parent */
  readonly defaultRow?: 'mean' | 'zeros' | readonly number[];
  /** Name of the table, for people. @default that of its directory */
  readonly name?: string;
  /** The version of a model that it is published with: no other one uses it. @default any may use it */
  readonly model?: { readonly name: string; readonly version: number };
  /** Bytes for buffers and partitions in work. @default 1 GiB, at most a quarter of the memory */
  readonly memoryLimit?: number;
  /** @default as many as processors */
  readonly threads?: number;
  /** Called once, with a function that tells how far the build is. */
  readonly onStart?: (progress: () => BuildProgress) => void;
  readonly signal?: AbortSignal;
}

/** A version that was built. */
export interface BuiltVersion {
  readonly directory: string;
  readonly manifest: Manifest;
  readonly facts: BuiltTable;
}

/** What a version's rows look like; for a delta its parent decides. */
interface Form {
  readonly name: string;
  readonly dtype: (typeof rowTypes)[number];
  /** 0: not known yet. */
  readonly dim: number;
  readonly shards: number;
  readonly parent?: Manifest;
}

const defaultMemory = 1 << 30;

/** Memory of a build that names no limit, in bytes. */
export function defaultMemoryLimit(): number {
  return Math.min(defaultMemory, totalmem() / 4);
}

/**
 * Builds a version of a table and makes it visible as a whole, or not at all.
 *
 * Blocks no thread of JavaScript; needs as much room on the disk as the inputs have rows, beside the version itself.
 *
 * @throws SRV_BAD_CONFIG for options that contradict each other, or a version that exists; SRV_TABLE_NOT_FOUND when the
 *   parent is absent; SRV_TABLE_MISMATCH for rows that do not fit; SRV_BAD_INPUT_FILE with file and place, also when there
 *   are no rows; SRV_IO; SRV_OUT_OF_MEMORY; SRV_CANCELLED after `signal`
 */
export async function buildTable(options: BuildTableOptions): Promise<BuiltVersion> {
  requireSense(options);
  const table = resolve(options.output);
  const form = await formOf(table, options);
  requireFit(options, form);
  const paths = await listInputFiles(options.inputs);
  const versions = await listVersions(table).catch(() => []);
  const version = options.version ?? (versions.at(-1) ?? 0) + 1;
  if (form.parent && form.parent.version >= version) {
    throw badOption(
      `a delta needs a version above that of its parent, ${form.parent.version}; got ${version}`,
    );
  }
  await using work = await VersionWork.open(table, version);
  const facts = await runBuild(options, form, work.directory, paths);
  const manifest = manifestOf(options, form, version, facts);
  return { directory: await work.publish(manifest), manifest, facts };
}

async function runBuild(
  options: BuildTableOptions,
  form: Form,
  directory: string,
  paths: readonly string[],
): Promise<BuiltTable> {
  const { values = form.dtype === 'bytes' ? 'text' : 'floats', signal } = options;
  if (signal?.aborted) throw new ServingError('SRV_CANCELLED', 'the build was cancelled');
  const build = startTableBuild({
    directory,
    kind: form.parent ? 'delta' : 'snapshot',
    dtype: form.dtype,
    dim: form.dim,
    shards: form.shards,
    threads: options.threads ?? availableParallelism(),
    memoryLimit: options.memoryLimit ?? defaultMemoryLimit(),
    wantsMean: options.defaultRow === 'mean',
    paths,
    format: {
      format: options.format ?? 'auto',
      values: values === 'stored' ? 'hex' : values,
      rawBytes: form.dtype === 'bytes' || values === 'stored',
      innerLengths: options.innerLengths ?? 'auto',
      firstKey: options.firstKey ?? 0n,
      keysPath: options.keysPath ?? '',
      keyColumn: options.keyColumn ?? '',
    },
    isStored: values === 'stored',
    deletePaths: options.deleteKeys === undefined ? [] : [options.deleteKeys],
  });
  const cancel = (): void => build.cancel();
  signal?.addEventListener('abort', cancel);
  try {
    options.onStart?.(build.progress);
    return await build.done;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

async function formOf(table: string, options: BuildTableOptions): Promise<Form> {
  const { mode = 'base', dtype, dim, shardNum, name } = options;
  if (mode === 'base') {
    return {
      name: name ?? basename(table),
      dtype: dtype ?? 'f32',
      dim: dim ?? 0,
      shards: shardNum ?? 1,
    };
  }
  const parent = (await resolveChain(table, options.parent)).at(-1)!.manifest;
  const asked = { dtype, dim, shard_num: shardNum };
  for (const key of ['dtype', 'dim', 'shard_num'] as const) {
    if (asked[key] === undefined || asked[key] === parent[key]) continue;
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `version ${parent.version} of ${table} has ${key} ${parent[key]}, and so has a delta on it; got ${asked[key]}`,
    );
  }
  return {
    name: name ?? parent.table,
    dtype: parent.dtype,
    dim: parent.dim,
    shards: parent.shard_num,
    parent,
  };
}

function manifestOf(
  options: BuildTableOptions,
  { name, dtype, shards, parent }: Form,
  version: number,
  facts: BuiltTable,
): Manifest {
  const defaultRow = defaultRowOf(options, facts) ?? parent?.default_row;
  return {
    format: 1,
    table: name,
    version,
    kind: parent ? 'delta' : 'snapshot',
    ...(parent ? { parent: parent.version, parent_digest: digestOfVersion(parent) } : {}),
    dtype,
    dim: facts.dim,
    shard_num: shards,
    hash_seed: String(facts.hashSeed),
    rows: facts.rows,
    deletes: facts.deletes,
    created: new Date().toISOString(),
    files: shardFilesOf(facts),
    source: { inputs: [...options.inputs], rows_read: facts.rowsRead, duplicates: facts.duplicates },
    ...(defaultRow ? { default_row: defaultRow } : {}),
    ...(options.model ? { model: options.model } : {}),
  };
}

/** The built shards as a manifest lists them. */
export function shardFilesOf({ shards }: BuiltTable): Manifest['files'] {
  return shards.map(({ name, bytes, digest, rows, deletes }, shard) => ({
    name,
    shard,
    bytes,
    digest,
    rows,
    deletes,
  }));
}

function defaultRowOf({ defaultRow }: BuildTableOptions, facts: BuiltTable): readonly number[] | undefined {
  if (defaultRow === 'zeros') return new Array<number>(facts.dim).fill(0);
  if (defaultRow === 'mean') {
    if (facts.mean.every(Number.isFinite)) return facts.mean;
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      'the mean of the rows is not finite, so it cannot be the row of missing keys: some rows hold NaN or infinities',
    );
  }
  if (defaultRow && defaultRow.length !== facts.dim) {
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `the row of missing keys has ${defaultRow.length} numbers, the rows of the table have ${facts.dim}`,
    );
  }
  return defaultRow;
}

function requireSense(options: BuildTableOptions): void {
  const { mode = 'base', inputs, defaultRow, parent, deleteKeys, keysPath, model } = options;
  if (mode === 'base' && inputs.length === 0) throw badOption('a base table needs inputs');
  if (mode === 'base' && parent !== undefined) throw badOption('a parent is for mode delta');
  if (mode === 'base' && deleteKeys !== undefined) throw badOption('keys to delete are for mode delta');
  if (mode === 'delta' && defaultRow === 'mean')
    throw badOption('the mean of a delta is not that of its table');
  if (inputs.filter((input) => input === standardInput).length > 1)
    throw badOption('standard input is there twice');
  if (keysPath !== undefined && inputs.length !== 1)
    throw badOption('a file of keys is for one NumPy file of rows');
  if (model) requireModel(model);
}

function requireModel({ name, version }: NonNullable<BuildTableOptions['model']>): void {
  const [problem] = findProblems(modelNameSchema, name);
  if (problem) throw badOption(`the name of the model: ${problem.text}`);
  if (Number.isSafeInteger(version) && version >= 1) return;
  throw badOption(`the version of the model: expected a whole number of at least 1, got ${version}`);
}

function requireFit({ values, defaultRow }: BuildTableOptions, { dtype, dim }: Form): void {
  if (dtype === 'bytes' && dim > 0) throw badOption('rows of bytes have no dim');
  if (dtype === 'bytes' && defaultRow !== undefined)
    throw badOption('rows of bytes have no row of missing keys');
  if (values === 'text' && dtype !== 'bytes') throw badOption('text values are for rows of bytes');
  if (Array.isArray(defaultRow) && dim > 0 && defaultRow.length !== dim) {
    throw badOption(`the row of missing keys has ${defaultRow.length} numbers, rows have ${dim}`);
  }
}

function badOption(problem: string): ServingError {
  return new ServingError('SRV_BAD_CONFIG', `table build: ${problem}`);
}
