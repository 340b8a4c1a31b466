import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { type TableFiles, type TableShard, verifyShard } from '../native/tables.js';
import { LocalTable, type VerifyOptions } from './local-table.js';
import {
  listVersions,
  type Manifest,
  manifestName,
  readManifest,
  resolveChain,
  type TableVersionPlace,
} from './manifest.js';

/** A version of a table as its directory has it: checked, not opened. */
export interface ResolvedTable {
  readonly manifest: Manifest;
  /** The version's own directory. */
  readonly directory: string;
  readonly files: TableFiles;
  /** What messages call it: name and version. */
  readonly label: string;
  /** The version of a model that it, or what it stands on, was published with; absent where none was named. */
  readonly model?: ServedModel;
}

/** The version of a model that a table has to fit. */
export interface ServedModel {
  readonly name: string;
  readonly version: number;
}

/** Options of `openTable`. */
export interface OpenTableOptions {
  /** @default the newest */
  readonly version?: number;
  /** Reads the files into memory of huge pages; otherwise they are mapped. @default false */
  readonly inMem?: boolean;
  /**
   * Whether every block of every file is compared with its checksum: before the table is given out, or while it is used
   * already, at low priority; from a fault on the table then answers SRV_TABLE_CORRUPT. @default false
   */
  readonly verify?: boolean | 'background';
  /** With verify `background`: called once when a fault was found; not after the table was closed. */
  readonly onCorrupt?: (fault: ServingError) => void;
}

/**
 * Opens a table for gathers in this process. Whoever opens the same version again, in any thread, shares its mapping.
 *
 * @param directory of the table, or of one of its versions
 * @throws SRV_TABLE_NOT_FOUND; SRV_TABLE_CORRUPT for files that are not what manifest and checksums say;
 *   SRV_TABLE_UNSUPPORTED for other formats; SRV_TABLE_MISMATCH; SRV_IO; SRV_OUT_OF_MEMORY
 */
export async function openTable(directory: string, options: OpenTableOptions = {}): Promise<LocalTable> {
  const { version, inMem = false, verify = false, onCorrupt } = options;
  const resolved = await resolveTable(directory, version === undefined ? {} : { version });
  if (verify === true) return await openVerified(resolved, inMem);
  const table = await openResolved(resolved, inMem);
  if (verify === 'background') {
    table.verify({ isBackground: true }).catch((error: unknown) => {
      const fault = asServingError(error);
      if (fault.code !== 'SRV_CANCELLED') onCorrupt?.(fault);
    });
  }
  return table;
}

/** `openResolved`, and no table is given out before all its blocks were compared with their checksums. */
export async function openVerified(
  resolved: ResolvedTable,
  inMemory: boolean,
  options: VerifyOptions = {},
): Promise<LocalTable> {
  const table = await openResolved(resolved, inMemory);
  try {
    await table.verify(options);
    return table;
  } catch (error) {
    table.close();
    throw error;
  }
}

function asServingError(error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  return new ServingError('SRV_INTERNAL', messageOf(error), { cause: error });
}

/**
 * Opens what `resolveTable` found.
 *
 * @throws SRV_TABLE_CORRUPT also when a file is not the one that its manifest was written for
 */
export async function openResolved(resolved: ResolvedTable, inMemory: boolean): Promise<LocalTable> {
  const { files, label, manifest } = resolved;
  const table = await LocalTable.open(files, {
    inMemory,
    label,
    version: manifest.version,
    ...(manifest.default_row ? { defaultRow: manifest.default_row } : {}),
  });
  try {
    requireForm(manifest, table, label);
    const files = await filesOf(resolved);
    const shards = table.files();
    requireDigests(
      files,
      shards.map(({ digest }) => digest),
    );
    requireCounts(files, shards);
    return table;
  } catch (error) {
    table.close();
    throw error;
  }
}

/**
 * Finds a version of a table and the files of the snapshot and deltas that it is made of.
 *
 * @param wanted `version`: that one. `model`: one that was published with this version of the model, or with none;
 *   the newest where none is named
 * @throws SRV_TABLE_NOT_FOUND, SRV_TABLE_CORRUPT, SRV_TABLE_MISMATCH when the named version belongs to another version
 *   of the model
 */
export async function resolveTable(
  directory: string,
  wanted: { readonly version?: number; readonly model?: ServedModel } = {},
): Promise<ResolvedTable> {
  const place = resolve(directory);
  const isVersion = existsSync(join(place, manifestName));
  const root = isVersion ? dirname(place) : place;
  const version = wanted.version ?? (isVersion ? versionOf(place) : await newestVersion(root, wanted.model));
  const chain = await resolveChain(root, version);
  const top = chain.at(-1)!;
  const label = `${top.manifest.table} version ${top.manifest.version}`;
  const model = modelOfChain(chain);
  if (wanted.model && model && !isSame(model, wanted.model)) {
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `table ${label} in ${root} was published with version ${model.version} of model ${model.name}, ` +
        `not with version ${wanted.model.version} of ${wanted.model.name}`,
    );
  }
  const paths = chain.map(({ directory, manifest }) =>
    manifest.files.map(({ name }) => join(directory, name)),
  );
  return {
    manifest: top.manifest,
    directory: top.directory,
    files: { snapshot: paths[0]!, deltas: paths.slice(1) },
    label,
    ...(model ? { model } : {}),
  };
}

/**
 * Compares every block of every file of a version, and of those below it, with its checksum.
 *
 * @returns bytes that were read
 * @throws SRV_TABLE_CORRUPT with file and byte offset of the first fault
 */
export async function verifyTable(
  resolved: ResolvedTable,
  onFile: (path: string, bytes: number) => void = () => undefined,
): Promise<number> {
  let total = 0;
  const paths = [resolved.files.snapshot, ...resolved.files.deltas].flat();
  const digests: bigint[] = [];
  for (const path of paths) {
    const { bytes, digest } = await verifyShard(path);
    digests.push(digest);
    total += bytes;
    onFile(path, bytes);
  }
  requireDigests(await filesOf(resolved), digests);
  return total;
}

/**
 * The newest version of a table, of those that were published with this version of a model or with none.
 *
 * @param model absent: any version
 * @throws SRV_TABLE_NOT_FOUND, and what reading manifests throws
 */
export async function newestVersion(root: string, model: ServedModel | undefined): Promise<number> {
  const versions = await listVersions(root);
  for (const version of versions.toReversed()) {
    if (!model) return version;
    const published = await modelOf(root, version);
    if (!published || isSame(published, model)) return version;
  }
  const what = versions.length === 0 ? 'no version of a table' : `versions [${versions}], none of which`;
  throw new ServingError(
    'SRV_TABLE_NOT_FOUND',
    versions.length === 0
      ? `${root} holds ${what}: expected directories <number>/${manifestName}`
      : `${root} holds ${what} was published with version ${model!.version} of model ${model!.name}`,
  );
}

function versionOf(place: string): number {
  const name = basename(place);
  if (/^[1-9][0-9]{0,15}$/.test(name)) return Number(name);
  throw new ServingError(
    'SRV_TABLE_NOT_FOUND',
    `${place} holds a ${manifestName}, but is not named by the number of a version, so that its table is not known`,
  );
}

async function modelOf(root: string, version: number): Promise<ServedModel | undefined> {
  const { model } = await readManifest(join(root, String(version)));
  return model ?? modelOfChain(await resolveChain(root, version));
}

/** A delta whose manifest names no model belongs to that of the version below it: it is made of its rows. */
function modelOfChain(chain: readonly TableVersionPlace[]): ServedModel | undefined {
  return chain.findLast(({ manifest }) => manifest.model)?.manifest.model;
}

function isSame(one: ServedModel, other: ServedModel): boolean {
  return one.name === other.name && one.version === other.version;
}

/** A shard file, and what the manifest of its version says of it. */
interface DescribedFile {
  readonly path: string;
  readonly digest: string;
  readonly hashSeed: string;
  readonly rows: number;
  readonly deletes: number;
}

async function filesOf({ files }: ResolvedTable): Promise<readonly DescribedFile[]> {
  const all: DescribedFile[] = [];
  for (const paths of [files.snapshot, ...files.deltas]) {
    const { files, hash_seed: hashSeed } = await readManifest(dirname(paths[0]!));
    paths.forEach((path, shard) => {
      const { digest, rows, deletes } = files[shard]!;
      all.push({ path, digest, hashSeed, rows, deletes });
    });
  }
  return all;
}

function requireDigests(files: readonly DescribedFile[], digests: readonly bigint[]): void {
  for (const [index, { path, digest }] of files.entries()) {
    const got = digests[index]!.toString(16).padStart(16, '0');
    if (got !== digest) throw notAsDescribed(path, `the digest ${got}`, digest);
  }
}

function requireCounts(files: readonly DescribedFile[], shards: readonly TableShard[]): void {
  for (const [index, { path, hashSeed, rows, deletes }] of files.entries()) {
    const shard = shards[index]!;
    if (shard.rows !== rows) throw notAsDescribed(path, `${shard.rows} rows`, rows);
    if (shard.deletes !== deletes) throw notAsDescribed(path, `${shard.deletes} deletes`, deletes);
    if (shard.hashSeed !== BigInt(hashSeed)) {
      throw notAsDescribed(path, `the hash seed ${shard.hashSeed}`, hashSeed);
    }
  }
}

function notAsDescribed(path: string, has: string, expected: string | number): ServingError {
  return new ServingError(
    'SRV_TABLE_CORRUPT',
    `${path} has ${has}; its manifest was written for ${expected}`,
  );
}

function requireForm(manifest: Manifest, table: LocalTable, label: string): void {
  const { dtype, dim, shard_num: shards } = manifest;
  if (dtype === table.dtype && dim === table.dim && shards === table.shards) return;
  throw new ServingError(
    'SRV_TABLE_CORRUPT',
    `table ${label}: the manifest says ${dtype} rows of dim ${dim} in ${shards} shards, the files hold ${table.dtype} ` +
      `rows of dim ${table.dim} in ${table.shards}`,
  );
}
