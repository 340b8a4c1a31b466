/** Versions of a table that are made of other versions: compacted snapshots, and the delta between two tables. */
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { ServingError } from '../errors.js';
import {
  compareTables,
  startTableBuild,
  type TableBuildProgress,
  type TableDifference,
  type TableScan,
} from '../native/tables.js';
import { type BuiltVersion, defaultMemoryLimit, shardFilesOf } from './builder.js';
import type { LocalTable } from './local-table.js';
import { digestOfVersion, listVersions, type Manifest, readManifest } from './manifest.js';
import { newestVersion, openResolved, openVerified, type ResolvedTable, resolveTable } from './table.js';
import { VersionWork } from './version-work.js';

/** How a version is made of others. */
export interface RebuildOptions {
  /** Bytes for buffers and partitions in work. @default 1 GiB, at most a quarter of the memory */
  readonly memoryLimit?: number;
  /** @default as many as processors */
  readonly threads?: number;
  /** Whether its threads take only what others of the machine leave. @default false */
  readonly isBackground?: boolean;
  readonly onStart?: (progress: () => TableBuildProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * Folds a version and the deltas below it into a new snapshot, as the next version of the table. What serves the old
 * versions goes on with them. All blocks are compared with their checksums first: damage must not get new ones.
 *
 * @param directory of the table, or of the version to fold
 * @throws SRV_BAD_CONFIG when there are no deltas to fold, or the snapshot would hide a newer version; SRV_TABLE_CORRUPT;
 *   and what opening and building throw
 */
export async function compactTable(
  directory: string,
  options: RebuildOptions & { readonly version?: number } = {},
): Promise<BuiltVersion> {
  const { version } = options;
  const resolved = await resolveTable(directory, version === undefined ? {} : { version });
  const { manifest, label } = resolved;
  if (manifest.kind === 'snapshot') {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `table ${label} is a snapshot already: there is nothing to fold`,
    );
  }
  const root = dirname(resolved.directory);
  requireGoOn(options);
  // Taken before the look at what is newest: what is published from now on has a larger number, and is not hidden.
  await using work = await openNextVersion(root);
  const newest = await newestVersion(root, resolved.model);
  if (newest !== manifest.version) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `version ${manifest.version} of ${root} cannot be compacted: the snapshot would hide the newer version ${newest}`,
    );
  }
  using table = await openVerified(resolved, false, options);
  const scans: TableScan[] = [{ table: table.handle, what: 'all', areDeletes: false }];
  return await rebuild(work, manifest, scans, options, (next) => ({
    ...next,
    kind: 'snapshot',
    compacts: manifest.version,
    ...(resolved.model ? { model: resolved.model } : {}),
  }));
}

/** Two versions of one kind of rows, and how they differ. */
export interface ComparedTables {
  readonly from: ResolvedTable;
  readonly to: ResolvedTable;
  readonly difference: TableDifference;
}

/**
 * Compares two tables, or two versions of one.
 *
 * @throws SRV_TABLE_MISMATCH when their rows differ in kind, and what opening throws
 */
export async function diffTables(from: string, to: string): Promise<ComparedTables> {
  const pair = await openPair(from, to, (resolved) => openResolved(resolved, false));
  try {
    const difference = await compareTables(pair.fromTable.handle, pair.toTable.handle);
    return { from: pair.from, to: pair.to, difference };
  } finally {
    pair.close();
  }
}

/**
 * Writes the delta that turns one table into another. All blocks of both are compared with their checksums first.
 *
 * @param from the table, or version, that the delta changes
 * @param to what it becomes
 * @param output directory of a table that holds the version `from`; the delta becomes its next version. Usually that
 *   of `from` itself
 * @throws SRV_TABLE_MISMATCH when the tables differ in kind or shards, or `output` does not hold the version `from`
 */
export async function writeDelta(
  from: string,
  to: string,
  output: string,
  options: RebuildOptions = {},
): Promise<BuiltVersion> {
  const pair = await openPair(from, to, (resolved) => openVerified(resolved, false, options));
  try {
    const { from: base, fromTable, toTable } = pair;
    if (base.manifest.shard_num !== pair.to.manifest.shard_num) {
      throw new ServingError(
        'SRV_TABLE_MISMATCH',
        `table ${base.label} has ${base.manifest.shard_num} shards, ${pair.to.label} has ${pair.to.manifest.shard_num}: ` +
          'a delta has those of its parent',
      );
    }
    const place = await resolveTable(output, { version: base.manifest.version });
    const parent = place.manifest;
    if (digestOfVersion(parent) !== digestOfVersion(base.manifest)) {
      throw new ServingError(
        'SRV_TABLE_MISMATCH',
        `version ${parent.version} in ${output} is not the one in ${base.directory}: its digest is ` +
          `${digestOfVersion(parent)}, expected ${digestOfVersion(base.manifest)}`,
      );
    }
    const scans: TableScan[] = [
      { table: toTable.handle, what: 'changed', other: fromTable.handle, areDeletes: false },
      { table: fromTable.handle, what: 'absent', other: toTable.handle, areDeletes: true },
    ];
    const { compacts: _, default_row: __, model: ___, ...shape } = base.manifest;
    const { default_row: defaultRow } = pair.to.manifest;
    await using work = await openNextVersion(dirname(place.directory));
    return await rebuild(work, shape, scans, options, (next) => ({
      ...next,
      kind: 'delta',
      parent: base.manifest.version,
      parent_digest: digestOfVersion(base.manifest),
      ...(defaultRow ? { default_row: defaultRow } : {}),
      ...(pair.to.model ? { model: pair.to.model } : {}),
    }));
  } finally {
    pair.close();
  }
}

async function openNextVersion(root: string): Promise<VersionWork> {
  return await VersionWork.open(root, ((await listVersions(root)).at(-1) ?? 0) + 1);
}

async function rebuild(
  work: VersionWork,
  like: Manifest,
  scans: readonly TableScan[],
  options: RebuildOptions,
  finish: (manifest: Manifest) => Manifest,
): Promise<BuiltVersion> {
  requireGoOn(options);
  const kind = finish(like).kind;
  const build = startTableBuild({
    directory: work.directory,
    kind,
    dtype: like.dtype,
    dim: like.dim,
    shards: like.shard_num,
    threads: options.threads ?? availableParallelism(),
    memoryLimit: options.memoryLimit ?? defaultMemoryLimit(),
    wantsMean: false,
    paths: [],
    format: { format: 'auto' },
    isStored: true,
    deletePaths: [],
    scans,
    allowsNoRows: true,
    isBackground: options.isBackground ?? false,
  });
  const cancel = (): void => build.cancel();
  options.signal?.addEventListener('abort', cancel);
  try {
    options.onStart?.(build.progress);
    const facts = await build.done;
    const { parent: _, parent_digest: __, source: ___, ...kept } = like;
    const manifest = finish({
      ...kept,
      version: work.version,
      hash_seed: String(facts.hashSeed),
      rows: facts.rows,
      deletes: facts.deletes,
      created: new Date().toISOString(),
      files: shardFilesOf(facts),
    });
    return { directory: await work.publish(manifest), manifest, facts };
  } finally {
    options.signal?.removeEventListener('abort', cancel);
  }
}

function requireGoOn({ signal }: RebuildOptions): void {
  if (signal?.aborted) throw new ServingError('SRV_CANCELLED', 'the work on the table was cancelled');
}

interface OpenPair {
  readonly from: ResolvedTable;
  readonly to: ResolvedTable;
  readonly fromTable: LocalTable;
  readonly toTable: LocalTable;
  close(): void;
}

async function openPair(
  fromDirectory: string,
  toDirectory: string,
  open: (resolved: ResolvedTable) => Promise<LocalTable>,
): Promise<OpenPair> {
  const from = await resolveTable(fromDirectory);
  const to = await resolveTable(toDirectory);
  for (const key of ['dtype', 'dim'] as const) {
    if (from.manifest[key] === to.manifest[key]) continue;
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `table ${from.label} has ${key} ${from.manifest[key]}, ${to.label} has ${to.manifest[key]}`,
    );
  }
  const fromTable = await open(from);
  try {
    const toTable = await open(to);
    return {
      from,
      to,
      fromTable,
      toTable,
      close() {
        fromTable.close();
        toTable.close();
      },
    };
  } catch (error) {
    fromTable.close();
    throw error;
  }
}

/** The rows that a version has in all, deltas counted in. */
export async function countRows(resolved: ResolvedTable): Promise<number> {
  using table = await openResolved(resolved, false);
  return await table.countRows();
}

/** The manifests of a version and of those below it, snapshot first. */
export async function manifestsOf({ files }: ResolvedTable): Promise<readonly Manifest[]> {
  const places = [files.snapshot, ...files.deltas].map((paths) => dirname(paths[0]!));
  return await Promise.all(places.map(readManifest));
}
