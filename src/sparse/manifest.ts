/**
 * `manifest.json` of a table version: which files it has, what they hold, and what it changes.
 *
 * A table is a directory; a version is a directory in it, named by its number, that holds the shard files and, written
 * last, the manifest. Without a manifest there is no version.
 */
import { createHash } from 'node:crypto';
import { open, readdir, readFile, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import Type, { type Static } from 'typebox';
import { Compile } from 'typebox/compile';
import { findProblems, formatPath } from '../config/problems.js';
import { messageOf, ServingError } from '../errors.js';
import { rowTypes } from '../native/tables.js';

/** The file's name within the directory of a version. */
export const manifestName = 'manifest.json';

const count = (description: string): Type.TInteger => Type.Integer({ minimum: 0, description });
const version = (description: string): Type.TInteger => Type.Integer({ minimum: 1, description });
const closed = { additionalProperties: false } as const;

const shardFileSchema = Type.Object(
  {
    name: Type.String({ pattern: '^[^/\\\\\\0]+$', description: 'Within the directory of the version.' }),
    shard: count('The shard that it holds.'),
    bytes: count('Its size.'),
    digest: Type.String({ pattern: '^[0-9a-f]{16}$', description: 'The hash of its header, in hex.' }),
    rows: count('Keys with a row.'),
    deletes: count('Keys that it deletes.'),
  },
  closed,
);

/** Schema of `manifest.json`. */
export const manifestSchema = Type.Object(
  {
    format: Type.Integer({ minimum: 1, description: 'Format of this file: 1.' }),
    table: Type.String({ minLength: 1, description: 'Name of the table, for people.' }),
    version: version('Its number; that of its directory.'),
    kind: Type.Enum(['snapshot', 'delta'], {
      description: 'Everything, or changes on top of another version.',
    }),
    parent: Type.Optional(version('A delta: the version it changes, smaller than its own.')),
    parent_digest: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{64}$',
        description: 'A delta: the digest of the version it changes, see `digestOfVersion`.',
      }),
    ),
    dtype: Type.Enum([...rowTypes], { description: 'How rows are stored.' }),
    dim: count('Elements of a row; 0 for bytes.'),
    shard_num: version('Number of shards: a key is in shard key mod shard_num.'),
    hash_seed: Type.String({ pattern: '^[0-9]{1,20}$', description: 'Seed of the hash within shards.' }),
    rows: count('Rows in its files: all rows of a snapshot, the upserts of a delta.'),
    deletes: count('Keys that it deletes.'),
    created: Type.String({ minLength: 1, description: 'When it was built, ISO 8601.' }),
    files: Type.Array(shardFileSchema, { minItems: 1, description: 'One file for each shard, in order.' }),
    source: Type.Optional(
      Type.Object(
        {
          inputs: Type.Array(Type.String(), { description: 'What it was built from.' }),
          rows_read: count('Rows of the inputs.'),
          duplicates: count('Rows that a later one of the same key replaced.'),
        },
        closed,
      ),
    ),
    default_row: Type.Optional(
      Type.Array(Type.Number(), { description: 'The row of missing keys where a stage asks for it.' }),
    ),
    compacts: Type.Optional(version('A compacted snapshot: the version that it equals.')),
    model: Type.Optional(
      Type.Object(
        {
          name: Type.String({ minLength: 1, description: 'Name of the model.' }),
          version: version('Version of the model.'),
        },
        { ...closed, description: 'The model that it was published with; only this version of it uses it.' },
      ),
    ),
  },
  closed,
);

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T;

/** The manifest of a version. */
export type Manifest = DeepReadonly<Static<typeof manifestSchema>>;

/** A version with its place. */
export interface TableVersionPlace {
  readonly directory: string;
  readonly manifest: Manifest;
}

/**
 * Reads the manifest of a version and checks it against itself and its files' sizes.
 *
 * @param directory of the version
 * @throws SRV_TABLE_NOT_FOUND when there is none, SRV_TABLE_UNSUPPORTED for another format, SRV_TABLE_CORRUPT with every
 *   lie that was found, SRV_IO
 */
export async function readManifest(directory: string): Promise<Manifest> {
  const path = join(directory, manifestName);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    if (cause instanceof SyntaxError) {
      throw new ServingError('SRV_TABLE_CORRUPT', `${path} is not JSON: ${messageOf(cause)}`, { cause });
    }
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new ServingError('SRV_TABLE_NOT_FOUND', `${directory} holds no ${manifestName}`, { cause });
    }
    throw new ServingError('SRV_IO', `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  const format = (value as { readonly format?: unknown } | null)?.format;
  if (typeof format === 'number' && format !== 1) {
    throw new ServingError(
      'SRV_TABLE_UNSUPPORTED',
      `${path} has format ${format}; this software reads format 1`,
    );
  }
  const faults = formFaults(value);
  if (faults.length === 0)
    faults.push(...liesOf(value as Manifest), ...(await fileFaults(directory, value as Manifest)));
  if (faults.length > 0) {
    throw new ServingError('SRV_TABLE_CORRUPT', `${path}: ${faults.join('; ')}`, {
      details: { problems: faults },
    });
  }
  return value as Manifest;
}

let compiled: ReturnType<typeof compileSchema> | undefined;

const compileSchema = () => Compile(manifestSchema);

/** What a manifest has that its schema forbids. Loads of models read several, so what is sound is found so at once. */
function formFaults(value: unknown): string[] {
  compiled ??= compileSchema();
  if (compiled.Check(value)) return [];
  return findProblems(manifestSchema, value).map(({ path, text }) => `${formatPath(path)}: ${text}`);
}

/**
 * The digest of a version, by which deltas know their parent: SHA-256 over the digests of its files in order and, of a
 * delta, its own `parent_digest`, as text without separators. It covers every byte of the version and of those below.
 */
export function digestOfVersion({ files, parent_digest: parentDigest = '' }: Manifest): string {
  const hash = createHash('sha256');
  for (const { digest } of files) hash.update(digest);
  return hash.update(parentDigest).digest('hex');
}

/** Writes the manifest of a version under a temporary name, flushes it, and gives it its own. */
export async function writeManifest(directory: string, manifest: Manifest): Promise<void> {
  const path = join(directory, manifestName);
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'wx');
  try {
    await file.writeFile(`${JSON.stringify(manifest, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/**
 * The versions in a table's directory, ascending: numeric directories that hold a manifest.
 *
 * @throws SRV_TABLE_NOT_FOUND when there is no such directory, SRV_IO
 */
export async function listVersions(table: string): Promise<readonly number[]> {
  let names: readonly string[];
  try {
    names = await readdir(table);
  } catch (cause) {
    const isMissing = ['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '');
    throw new ServingError(
      isMissing ? 'SRV_TABLE_NOT_FOUND' : 'SRV_IO',
      isMissing ? `there is no table at ${table}` : `${table} cannot be read: ${messageOf(cause)}`,
      { cause },
    );
  }
  const numbers = names.filter((name) => /^[1-9][0-9]{0,15}$/.test(name)).map(Number);
  const versions: number[] = [];
  for (const number of numbers.sort((a, b) => a - b)) {
    const found = await stat(join(table, String(number), manifestName)).catch(() => undefined);
    if (found?.isFile()) versions.push(number);
  }
  return versions;
}

/**
 * A version with all that it stands on: its snapshot first, then the deltas up to it.
 *
 * @param wanted absent: the newest
 * @throws SRV_TABLE_NOT_FOUND when the version or one below it is absent, SRV_TABLE_MISMATCH when they do not fit each
 *   other, and what `readManifest` throws
 */
export async function resolveChain(table: string, wanted?: number): Promise<readonly TableVersionPlace[]> {
  const newest = wanted ?? (await listVersions(table)).at(-1);
  if (newest === undefined) {
    throw new ServingError(
      'SRV_TABLE_NOT_FOUND',
      `${table} holds no version of a table: expected directories <number>/${manifestName}`,
    );
  }
  const chain: TableVersionPlace[] = [];
  let next: number | undefined = newest;
  while (next !== undefined) {
    const directory = join(table, String(next));
    const manifest: Manifest = await readManifest(directory).catch((error: unknown) => {
      if (!(error instanceof ServingError) || error.code !== 'SRV_TABLE_NOT_FOUND') throw error;
      throw absent(table, newest, chain[0]?.manifest, error);
    });
    const above = chain[0]?.manifest;
    if (above) requireFit(directory, manifest, above);
    chain.unshift({ directory, manifest });
    next = manifest.parent;
  }
  return chain;
}

function absent(
  table: string,
  wanted: number,
  above: Manifest | undefined,
  cause: ServingError,
): ServingError {
  const what = above
    ? `version ${above.version} is a delta on version ${above.parent}, which is not there`
    : `there is no version ${wanted}`;
  return new ServingError('SRV_TABLE_NOT_FOUND', `table ${table}: ${what} (${cause.message})`, { cause });
}

function requireFit(directory: string, below: Manifest, above: Manifest): void {
  for (const key of ['dtype', 'dim', 'shard_num'] as const) {
    if (below[key] === above[key]) continue;
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `version ${above.version} has ${key} ${above[key]}, but version ${below.version} in ${directory}, which it ` +
        `changes, has ${below[key]}`,
    );
  }
  const digest = digestOfVersion(below);
  if (digest === above.parent_digest) return;
  throw new ServingError(
    'SRV_TABLE_MISMATCH',
    `version ${above.version} changes a version ${below.version} with the digest ${above.parent_digest}, but that in ` +
      `${directory} has ${digest}: it was built anew, or is another table's`,
  );
}

/** What in a manifest contradicts something else in it. */
function liesOf(manifest: Manifest): string[] {
  const { kind, parent, parent_digest: parentDigest, version, files, dtype, dim } = manifest;
  const { default_row: defaultRow } = manifest;
  const faults: string[] = [];
  if (kind === 'delta' && (parent === undefined || parent >= version)) {
    faults.push(`parent: a delta needs the version that it changes, smaller than ${version}; got ${parent}`);
  }
  if (kind === 'delta' && parentDigest === undefined)
    faults.push('parent_digest: a delta needs the digest of the version that it changes');
  if (kind === 'snapshot' && (parent !== undefined || parentDigest !== undefined))
    faults.push('parent: a snapshot stands on no other version');
  if ((dim === 0) !== (dtype === 'bytes')) faults.push(`dim: ${dim} does not fit rows of ${dtype}`);
  if (files.length !== manifest.shard_num) {
    faults.push(`files: ${files.length} files for ${manifest.shard_num} shards`);
  }
  for (const [index, { shard }] of files.entries()) {
    if (shard !== index) faults.push(`files[${index}].shard: expected ${index}, got ${shard}`);
  }
  if (new Set(files.map(({ name }) => name)).size !== files.length)
    faults.push('files: a name is there twice');
  for (const key of ['rows', 'deletes'] as const) {
    const sum = files.reduce((total, file) => total + file[key], 0);
    if (sum !== manifest[key]) faults.push(`${key}: the files have ${sum}, not ${manifest[key]}`);
  }
  if (kind === 'snapshot' && manifest.deletes > 0) faults.push('deletes: a snapshot deletes nothing');
  if (defaultRow && defaultRow.length !== dim) {
    faults.push(`default_row: ${defaultRow.length} numbers, rows have ${dim}`);
  }
  return faults;
}

async function fileFaults(directory: string, { files, version }: Manifest): Promise<string[]> {
  const faults: string[] = [];
  const named = /^[0-9]+$/.exec(directory.slice(dirname(directory).length + 1))?.[0];
  if (named !== undefined && Number(named) !== version) {
    faults.push(`version: ${version}, but the directory is ${named}`);
  }
  for (const [index, { name, bytes }] of files.entries()) {
    const found = await stat(join(directory, name)).catch(() => undefined);
    if (!found?.isFile()) faults.push(`files[${index}]: ${name} is missing`);
    else if (found.size !== bytes)
      faults.push(`files[${index}]: ${name} has ${found.size} bytes, not ${bytes}`);
  }
  return faults;
}
