/** The addon's sparse tables: opening, gathering, building; and the keys of ids. */
import { addon } from './addon.js';
import { plainFormat, type RowFormat } from './row-files.js';
import { stopAtExit } from './stop-at-exit.js';

declare const handleKind: unique symbol;
/** A table that is open in this process; made by `openTable`, of one thread. */
export interface TableHandle {
  readonly [handleKind]: 'table';
}

/** The files of a table version: of its snapshot, then of each delta on top, the shards in order. */
export interface TableFiles {
  readonly snapshot: readonly string[];
  readonly deltas: readonly (readonly string[])[];
}

/** How a row is stored; the order is the addon's. */
export const rowTypes = ['f32', 'f16', 'int8', 'bytes'] as const;
/** What becomes of the rows of a bag; the order is the addon's. */
export const combiners = ['none', 'sum', 'mean', 'sqrtn'] as const;
/** Functions that make keys of text; the order is the addon's. */
export const idHashes = ['none', 'xxh64', 'murmur3', 'fnv1a', 'python2'] as const;

/** How two tables differ, in keys. */
export interface TableDifference {
  /** Only the new one has them. */
  readonly added: number;
  /** Only the old one has them. */
  readonly removed: number;
  /** Both have them, with different rows. */
  readonly changed: number;
}

/** Which rows of a table a scan gives; the order is the addon's. */
export const tableScans = ['all', 'changed', 'absent'] as const;

/** Rows of an open table as inputs of a build. */
export interface TableScan {
  readonly table: TableHandle;
  /** All, those that `other` lacks or has otherwise, or those whose key `other` lacks. */
  readonly what: (typeof tableScans)[number];
  /** Not for `all`. */
  readonly other?: TableHandle;
  /** Whether the keys are deletes, not rows. */
  readonly areDeletes: boolean;
}

/** What an open table is. */
export interface TableFacts {
  /** Index into `rowTypes`. */
  readonly rowType: number;
  /** Elements of a row; 0 for rows of bytes. */
  readonly dim: number;
  readonly shards: number;
  /** Memory that deltas take on top of their files. */
  readonly overlayBytes: number;
}

/** What the header of a shard file says. */
export interface TableShard {
  /** The hash of the header, which covers all else. */
  readonly digest: bigint;
  readonly hashSeed: bigint;
  readonly rows: number;
  readonly deletes: number;
}

/** Whether the files of a table version are everything, or changes on top of another; the order is the addon's. */
export const tableKinds = ['snapshot', 'delta'] as const;
/** What a build does now; the order is the addon's. */
export const buildPhases = ['reading', 'writing', 'done'] as const;

/** The shard files to build, and what from. */
export interface TableBuildOptions {
  /** An existing directory without shard files: they go there, and meanwhile as many bytes of temporary ones. */
  readonly directory: string;
  readonly kind: (typeof tableKinds)[number];
  readonly dtype: (typeof rowTypes)[number];
  /** Elements of a row; 0 for bytes, or to take that of the first row. */
  readonly dim: number;
  /** 1 to 65,536. */
  readonly shards: number;
  readonly threads: number;
  /** Bytes for buffers and partitions in work. */
  readonly memoryLimit: number;
  /** Whether to compute the mean of all rows; not for bytes. */
  readonly wantsMean: boolean;
  /** Files of rows, \`-\` for standard input. A row replaces an earlier one of the same key. */
  readonly paths: readonly string[];
  /** How to read them; \`auto\` asks each file for its format. */
  readonly format: Omit<RowFormat, 'format'> & { readonly format: RowFormat['format'] | 'auto' };
  /** Whether values are rows as the table stores them, not floats. */
  readonly isStored: boolean;
  /** Files of keys, one a line, that are deleted behind all rows. */
  readonly deletePaths: readonly string[];
  /** Rows of open tables, before those of files. They may be closed once the build has started. */
  readonly scans?: readonly TableScan[];
  /** Whether a snapshot without any row is allowed. @default false */
  readonly allowsNoRows?: boolean;
  /** Whether its threads take only what others leave. @default false */
  readonly isBackground?: boolean;
}

/** What a build made. */
export interface BuiltTable {
  readonly dim: number;
  readonly hashSeed: bigint;
  readonly rows: number;
  readonly deletes: number;
  /** Rows of the inputs, and those of them that a later row of the same key replaced. */
  readonly rowsRead: number;
  readonly duplicates: number;
  readonly deletesRead: number;
  readonly partitions: number;
  readonly spilledBytes: number;
  readonly readingMs: number;
  readonly writingMs: number;
  /** By shard; names are within the directory, digests in hex. */
  readonly shards: readonly {
    readonly name: string;
    readonly rows: number;
    readonly deletes: number;
    readonly bytes: number;
    readonly digest: string;
  }[];
  /** Empty unless asked for. */
  readonly mean: readonly number[];
}

/** How far a build is. */
export interface TableBuildProgress {
  readonly phase: (typeof buildPhases)[number];
  readonly rowsRead: number;
  readonly bytesRead: number;
  /** Of the inputs; 0 until they are listed, and for standard input. */
  readonly bytesTotal: number;
  readonly partitionsDone: number;
  readonly partitionsTotal: number;
}

/** A build that runs in threads of its own. */
export interface TableBuild {
  /**
   * @throws SRV_IO, SRV_BAD_INPUT_FILE, SRV_TABLE_MISMATCH (rows that do not fit), SRV_OUT_OF_MEMORY, SRV_CANCELLED;
   *   no shard file is left then
   */
  readonly done: Promise<BuiltTable>;
  progress(): TableBuildProgress;
  /** Asks for an early end, which \`done\` then tells of. */
  cancel(): void;
}

interface TableBuildHandle {
  readonly [handleKind]: 'table build';
}

interface Tables {
  openTable(
    snapshot: readonly string[],
    deltas: readonly (readonly string[])[],
    inMemory: boolean,
  ): Promise<TableHandle>;
  closeTable(table: TableHandle): void;
  tableFacts(table: TableHandle): TableFacts;
  tableShards(table: TableHandle): TableShard[];
  tableRows(table: TableHandle): Promise<number>;
  tableRow(table: TableHandle, key: bigint): Uint8Array | null;
  tableGather(
    table: TableHandle,
    keys: BigUint64Array | BigInt64Array,
    out: Float32Array,
    combiner: number,
    bagEnds?: BigUint64Array | null,
    weights?: Float32Array | null,
    defaultRow?: Float32Array | null,
    missing?: Uint8Array | null,
  ): number;
  verifyShard(path: string): Promise<{ readonly bytes: number; readonly digest: bigint }>;
  verifyTableFile(table: TableHandle, file: number, isBackground: boolean, stop: Int32Array): Promise<number>;
  compareTables(from: TableHandle, to: TableHandle): Promise<TableDifference>;
  gatherInstructions(): string;
  hashIds(
    texts: readonly string[],
    hash: number,
    seed: bigint,
    modulus: number,
    column: number,
    slots: number,
    out: BigUint64Array,
  ): void;
  placeIds(
    ids: BigInt64Array | BigUint64Array | Int32Array,
    stride: number,
    column: number,
    out: BigUint64Array,
    outStride: number,
    outColumn: number,
    modulus: number,
    rows: number,
  ): void;
  createTableBuild(options: object, format: object): TableBuildHandle;
  addTableScan(
    build: TableBuildHandle,
    table: TableHandle,
    what: number,
    other: TableHandle | null,
    areDeletes: boolean,
  ): void;
  runTableBuild(build: TableBuildHandle): Promise<BuiltTable>;
  tableBuildProgress(build: TableBuildHandle): Omit<TableBuildProgress, 'phase'> & { readonly phase: number };
  cancelTableBuild(build: TableBuildHandle): void;
}

/**
 * Opens a table version, once for all threads of this process: whoever names the same files gets the same mapping.
 *
 * @param inMemory reads the files into memory of huge pages instead of mapping them
 * @throws SRV_IO, SRV_TABLE_CORRUPT, SRV_TABLE_UNSUPPORTED, SRV_TABLE_MISMATCH (files of different tables),
 *   SRV_OUT_OF_MEMORY
 */
export function openTable(files: TableFiles, inMemory: boolean): Promise<TableHandle> {
  return addon<Tables>().openTable(files.snapshot, files.deltas, inMemory);
}

/** Gives a handle back. The files are closed with the last handle of all threads. */
export function closeTable(table: TableHandle): void {
  addon<Tables>().closeTable(table);
}

/** @throws SRV_INTERNAL when the handle was closed, as do all functions below that take one */
export function tableFacts(table: TableHandle): TableFacts {
  return addon<Tables>().tableFacts(table);
}

/** The files of a table: snapshot first, then each delta, shards in order. */
export function tableShards(table: TableHandle): readonly TableShard[] {
  return addon<Tables>().tableShards(table);
}

/** Counts the keys that have a row, in a pool thread: deltas are looked up in the snapshot. */
export function tableRows(table: TableHandle): Promise<number> {
  return addon<Tables>().tableRows(table);
}

/** A copy of a row as it is stored; null for a missing key. */
export function tableRow(table: TableHandle, key: bigint): Uint8Array | null {
  return addon<Tables>().tableRow(table, key);
}

/**
 * Gathers rows as floats, on the calling thread. On failure `out` holds anything.
 *
 * @param keys 64-bit keys; a BigInt64Array is read as the unsigned numbers of the same bits
 * @param out exactly (keys, or bags with a combiner) x dim floats
 * @param combiner index into `combiners`
 * @param bagEnds with a combiner: where each bag ends; not descending, the last one is the number of keys
 * @param weights as many as keys
 * @param defaultRow the row of missing keys; zeros when absent
 * @param missing zeroed bytes, a bit for each key: receives a 1 at bit i % 8 of byte i / 8 for a missing key i
 * @returns how many keys were missing
 * @throws SRV_BAD_BAGS, SRV_TABLE_MISMATCH for rows of bytes, SRV_TABLE_CORRUPT when a file was damaged or cut
 */
export function tableGather(
  table: TableHandle,
  keys: BigUint64Array | BigInt64Array,
  out: Float32Array,
  combiner: number,
  bagEnds?: BigUint64Array | null,
  weights?: Float32Array | null,
  defaultRow?: Float32Array | null,
  missing?: Uint8Array | null,
): number {
  return addon<Tables>().tableGather(table, keys, out, combiner, bagEnds, weights, defaultRow, missing);
}

/**
 * Compares all blocks of a shard file with their checksums and looks at every bucket, in a pool thread.
 *
 * @throws SRV_TABLE_CORRUPT with file and byte offset of the first fault, SRV_TABLE_UNSUPPORTED, SRV_IO
 */
export function verifyShard(path: string): Promise<{ readonly bytes: number; readonly digest: bigint }> {
  return addon<Tables>().verifyShard(path);
}

/**
 * Does what `verifyShard` does to a file of an open table: to the bytes that are mapped, or in memory, whatever lies at
 * its path by now. The table may be closed meanwhile.
 *
 * @param file index into what `tableShards` gives
 * @param isBackground whether the work takes only what other threads of the machine leave
 * @returns bytes of the file
 * @throws SRV_TABLE_CORRUPT with file and byte offset of the first fault, SRV_CANCELLED after `signal`
 */
export async function verifyTableFile(
  table: TableHandle,
  file: number,
  isBackground: boolean,
  signal: AbortSignal,
): Promise<number> {
  const stop = new Int32Array(1);
  const end = (): void => void Atomics.store(stop, 0, 1);
  if (signal.aborted) end();
  signal.addEventListener('abort', end);
  const leaveExit = stopAtExit(end);
  try {
    return await addon<Tables>().verifyTableFile(table, file, isBackground, stop);
  } finally {
    leaveExit();
    signal.removeEventListener('abort', end);
  }
}

/** How two open tables of the same row type and dim differ; looks every key of both up, in a pool thread. */
export function compareTables(from: TableHandle, to: TableHandle): Promise<TableDifference> {
  return addon<Tables>().compareTables(from, to);
}

/** The instruction set that gathers run with on this machine: avx512, avx2 or scalar. */
export function gatherInstructions(): string {
  return addon<Tables>().gatherInstructions();
}

/**
 * The keys of texts.
 *
 * @param hash index into `idHashes`, not 0
 * @param modulus 0 for none
 * @param column -1 for none; otherwise text i has the decimal number column + i % slots put before
 * @param out one element for each text
 */
export function hashIds(
  texts: readonly string[],
  hash: number,
  seed: bigint,
  modulus: number,
  column: number,
  slots: number,
  out: BigUint64Array,
): void {
  addon<Tables>().hashIds(texts, hash, seed, modulus, column, slots, out);
}

/**
 * The keys of one column of ids: `ids[i * stride + column]` goes to `out[i * outStride + outColumn]`.
 *
 * @param modulus 0 for none; otherwise the remainder, that of Python and ONNX Mod
 * @param rows 0 for none; otherwise ids are positions in that many rows, negative ones from the end, and those
 *   outside get the key 2^64 - 1
 */
export function placeIds(
  ids: BigInt64Array | BigUint64Array | Int32Array,
  stride: number,
  column: number,
  out: BigUint64Array,
  outStride: number,
  outColumn: number,
  modulus: number,
  rows: number,
): void {
  addon<Tables>().placeIds(ids, stride, column, out, outStride, outColumn, modulus, rows);
}

/** Starts to build the shard files of a table version. */
export function startTableBuild(options: TableBuildOptions): TableBuild {
  const { format, kind, dtype, scans = [], allowsNoRows = false, isBackground = false, ...others } = options;
  const build = addon<Tables>().createTableBuild(
    {
      ...others,
      kind: tableKinds.indexOf(kind),
      rowType: rowTypes.indexOf(dtype),
      guessesFormat: format.format === 'auto',
      allowsNoRows,
      isBackground,
    },
    plainFormat({ ...format, format: format.format === 'auto' ? 'seqfile' : format.format }),
  );
  for (const { table, what, other, areDeletes } of scans) {
    addon<Tables>().addTableScan(build, table, tableScans.indexOf(what), other ?? null, areDeletes);
  }
  const cancel = (): void => addon<Tables>().cancelTableBuild(build);
  const leaveExit = stopAtExit(cancel);
  return {
    done: addon<Tables>().runTableBuild(build).finally(leaveExit),
    progress() {
      const progress = addon<Tables>().tableBuildProgress(build);
      return { ...progress, phase: buildPhases[progress.phase]! };
    },
    cancel,
  };
}
