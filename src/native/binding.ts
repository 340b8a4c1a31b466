/**
 * The one door to the C++ addon: typed functions, the same on the main thread and in workers.
 *
 * The addon is loaded by the first call. Arguments are checked there for memory safety only; a violation is
 * `SRV_INTERNAL`, because it is a defect of the caller.
 */

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { markAsUntransferable } from 'node:worker_threads';
import { type ErrorCode, messageOf, ServingError } from '../errors.js';

/** Elements of a tensor as the addon takes them: the typed array of the datatype, as in `fixedDatatypes`. */
export type Elements = NodeJS.TypedArray;

/** An inference request's JSON text, taken apart by `scanInferBody`. */
export interface InferBodyScan {
  /** The text with every `inputs[i].data` value replaced by its ordinal number 0, 1, 2, ... For JSON.parse. */
  readonly envelope: string;
  /** Byte offsets of the cut values, brackets and quotes included: start of 0, end of 0, start of 1, ... */
  readonly sections: Float64Array;
}

/** What is mapped for slabs in this process. */
export interface SlabStats {
  readonly slabs: number;
  readonly bytes: number;
}

/** How a mapped file is going to be read; the order is the addon's. */
export const mapAdvice = ['normal', 'sequential', 'random', 'willneed'] as const;

/** Options of `mapFile`. */
export interface MapFileOptions {
  /** How the kernel should read ahead. @default 'normal' */
  readonly advice?: (typeof mapAdvice)[number];
  /** Whether to bring all pages in now; blocks on the disk, unless `prefaultFile` ran before. @default false */
  readonly prefault?: boolean;
  /** Whether to ask for huge pages, where the kernel has them for files. @default false */
  readonly hugePages?: boolean;
}

/** Kinds of files that rows are read from; the order is the addon's, as in the lists below. */
export const inputFormats = ['seqfile', 'text', 'csv', 'npy'] as const;
/** Whether keys and values of a sequence file begin with a length of their own; auto asks the first record. */
export const innerLengthChoices = ['auto', 'yes', 'no'] as const;
/** How the bytes of a value are written as text. */
export const valueTexts = ['floats', 'text', 'hex'] as const;
/** Whether the first line of a CSV file names its columns. */
export const headerLineChoices = ['auto', 'yes', 'no'] as const;

/** How to read a file of rows. Each option counts only for the format it names. */
export interface RowFormat {
  readonly format: (typeof inputFormats)[number];
  /** seqfile. @default 'auto' */
  readonly innerLengths?: (typeof innerLengthChoices)[number];
  /** text. @default 'floats' */
  readonly values?: (typeof valueTexts)[number];
  /** csv: one character of ASCII. @default ',' */
  readonly delimiter?: string;
  /** csv. @default 'auto' */
  readonly header?: (typeof headerLineChoices)[number];
  /** csv: the key's column, as a number from 1 or by its name in the header line. @default the first */
  readonly keyColumn?: string;
  /** npy: key of the first row. @default 0n */
  readonly firstKey?: bigint;
  /** npy: a 1-D array of integers, the keys of the rows. @default keys count from `firstKey` */
  readonly keysPath?: string;
  /** npy: values of u1 arrays are their bytes, not floats. @default false */
  readonly rawBytes?: boolean;
}

/** Rows in memory. */
export interface RowBatch {
  readonly keys: BigUint64Array;
  /** Where the value of each row ends in `bytes`; it begins where the one before ends. */
  readonly ends: Float64Array;
  readonly bytes: Uint8Array;
}

declare const handleKind: unique symbol;
/** A file that rows are read from; made by `openRowReader`, of one thread. */
export interface RowReader {
  readonly [handleKind]: 'row reader';
}
/** A sequence file that is being made; made by `openSequenceWriter`, of one thread. */
export interface SequenceWriter {
  readonly [handleKind]: 'sequence writer';
}

/** What a sequence file holds, up to its end or its first damage. */
export interface SequenceStatistics {
  readonly keyClass: string;
  readonly valueClass: string;
  readonly metadata: readonly { readonly name: string; readonly value: string }[];
  readonly hasInnerLengths: boolean;
  readonly fileBytes: number;
  readonly records: number;
  /** Sync escapes: places where a reader can begin. */
  readonly escapes: number;
  /** Bytes of all values. */
  readonly valueBytes: number;
  /** Absent, as the next three, when there are no records. */
  readonly smallestKey?: bigint;
  readonly largestKey?: bigint;
  readonly shortestValue?: number;
  readonly longestValue?: number;
  /** Why the reading ended before the end of the file; absent for a whole one. */
  readonly damage?: ServingError;
}

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

interface Addon {
  init(makeError: (code: ErrorCode, message: string) => ServingError): void;
  openCrashJournal(path: string): void;
  enterRun(model: number): void;
  leaveRun(): void;
  closeCrashJournal(): void;
  createSlab(bytes: number): number;
  viewSlab(id: number): ArrayBuffer;
  releaseSlab(id: number): boolean;
  slabStats(): SlabStats;
  externalBuffersAllowed(): boolean;
  mapFile(path: string, advice: number, prefault: boolean, hugePages: boolean): ArrayBuffer;
  hashFile(path: string): Promise<string>;
  prefaultFile(path: string): Promise<number>;
  hashBytes(bytes: Uint8Array): string;
  installMappedFileGuard(): void;
  mappedFileFaults(): number;
  faultedInodes(): bigint[];
  scanInferBody(body: Uint8Array, found: Float64Array): string;
  scanInferBodyAsync(body: Uint8Array): Promise<InferBodyScan>;
  parseTensor(
    body: Uint8Array,
    start: number,
    end: number,
    onnxType: number,
    shape: readonly number[],
    out: Elements,
  ): void;
  parseTensorAsync: (...args: Parameters<Addon['parseTensor']>) => Promise<void>;
  printTensor(data: Elements, onnxType: number, start: number, count: number): string;
  printTensorAsync: (...args: Parameters<Addon['printTensor']>) => Promise<ArrayBuffer>;
  openTable(
    snapshot: readonly string[],
    deltas: readonly (readonly string[])[],
    inMemory: boolean,
  ): Promise<TableHandle>;
  closeTable(table: TableHandle): void;
  tableFacts(table: TableHandle): TableFacts;
  tableDigests(table: TableHandle): bigint[];
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
  openRowReader(path: string, format: object): Promise<RowReader>;
  readRows(reader: RowReader, maxRows: number): Promise<RowBatch | null>;
  readRowLines(
    reader: RowReader,
    maxRows: number,
    values: number,
  ): Promise<{ rows: number; text: ArrayBuffer } | null>;
  closeRowReader(reader: RowReader): void;
  measureSequenceFile(path: string, innerLengths: number): Promise<SequenceStatistics>;
  openSequenceWriter(path: string, marker?: Uint8Array): Promise<SequenceWriter>;
  writeSequenceRows(
    writer: SequenceWriter,
    keys: BigUint64Array,
    ends: Float64Array,
    bytes: Uint8Array,
  ): Promise<void>;
  finishSequenceWriter(writer: SequenceWriter): Promise<{ records: number; bytes: number }>;
  abandonSequenceWriter(writer: SequenceWriter): void;
}

// From dist/src/native/ to the root of the package.
const addonUrl = new URL('../../../build/Release/onnx_serving.node', import.meta.url);

let loaded: Addon | undefined;

function addon(): Addon {
  loaded ??= load();
  return loaded;
}

function load(): Addon {
  const path = fileURLToPath(addonUrl);
  let exports: Addon;
  try {
    exports = createRequire(import.meta.url)(path);
  } catch (cause) {
    throw new ServingError(
      'SRV_INTERNAL',
      `the native addon cannot be loaded from ${path}: ${messageOf(cause)}; build it with "npm run build"`,
      { cause },
    );
  }
  exports.init((code, message) => new ServingError(code, message));
  return exports;
}

/** Whether this runtime lets an ArrayBuffer lie over the addon's memory. Where not, slabs and mapped files fail. */
export function externalBuffersAllowed(): boolean {
  return addon().externalBuffersAllowed();
}

/**
 * Maps zeroed memory that every thread of this process can view.
 *
 * @param bytes 1 to 2^32 - 1
 * @returns the slab's number, valid in all threads. The caller owns the slab and ends it with `releaseSlab`; the end
 *   of the calling thread does too.
 * @throws SRV_OUT_OF_MEMORY
 */
export function createSlab(bytes: number): number {
  return addon().createSlab(bytes);
}

/**
 * The slab as an ArrayBuffer: one per thread and slab, the same at every call while it is reachable. It cannot be
 * transferred. Its memory stays mapped as long as the ArrayBuffer lives.
 *
 * @throws SRV_INTERNAL when the slab is unknown or released
 */
export function viewSlab(id: number): ArrayBuffer {
  const view = addon().viewSlab(id);
  markAsUntransferable(view);
  return view;
}

/**
 * Ends the creator's hold of a slab. No new views are given; the memory goes when the views of all threads are gone.
 *
 * @returns false when it was released before
 */
export function releaseSlab(id: number): boolean {
  return addon().releaseSlab(id);
}

/** Slabs and bytes still mapped in this process, those included that only a view keeps. */
export function slabStats(): SlabStats {
  return addon().slabStats();
}

/**
 * Maps a whole file into memory. Unmapped when the ArrayBuffer is collected; it cannot be transferred.
 *
 * The mapping is copy-on-write: a write from JavaScript stays in this ArrayBuffer and never reaches the file, where
 * a read-only mapping would end the process. A file that is truncated meanwhile ends the process too, unless
 * `installMappedFileGuard` ran: replace files by rename.
 *
 * @throws SRV_IO with path and reason; also for a file of 4 GiB and more
 */
export function mapFile(path: string, options: MapFileOptions = {}): ArrayBuffer {
  const { advice = 'normal', prefault = false, hugePages = false } = options;
  const buffer = addon().mapFile(path, mapAdvice.indexOf(advice), prefault, hugePages);
  markAsUntransferable(buffer);
  return buffer;
}

/**
 * Content hash of a file: XXH64 in 16 hex digits. Reads in a pool thread, never through a mapping.
 *
 * @throws SRV_IO with path and reason; also when the file changes while it is read
 */
export function hashFile(path: string): Promise<string> {
  return addon().hashFile(path);
}

/** The hash of `hashFile` for bytes in memory. */
export function hashBytes(bytes: Uint8Array): string {
  return addon().hashBytes(bytes);
}

/**
 * Brings a file into the page cache, in a pool thread.
 *
 * @returns the bytes of the file, once all are there
 * @throws SRV_IO
 */
export function prefaultFile(path: string): Promise<number> {
  return addon().prefaultFile(path);
}

/**
 * Lets the process survive reading a mapped file that was truncated, also one that the engine mapped: the missing
 * pages read as zeros, and `mappedFileFaults` grows. Process-wide, once; Linux only, elsewhere without effect.
 */
export function installMappedFileGuard(): void {
  addon().installMappedFileGuard();
}

/** Pages of mapped files that were replaced by zeros since the process started. */
export function mappedFileFaults(): number {
  return addon().mappedFileFaults();
}

/** Inode numbers (`ino` of a bigint stat) of the files that lost pages, of the last 64 pages, each file once. */
export function faultedInodes(): readonly bigint[] {
  return addon().faultedInodes();
}

// Count, then start and end of each section: room for 32 inputs, grown when a request has more.
let found = new Float64Array(65);

/**
 * Cuts the tensor data out of an inference request, so that JSON.parse sees only the small rest.
 *
 * Every value at `inputs[i].data` becomes its ordinal number in the envelope; since no other value can stand there,
 * what JSON.parse finds at that place is a valid index of `sections`. The grammar of the envelope is left to
 * JSON.parse, that of the sections to `parseTensor`.
 *
 * @throws SRV_BAD_JSON with a byte offset: brackets that do not match, text that ends too early, more than 128
 *   levels, or bytes outside the sections that are not UTF-8
 */
export function scanInferBody(body: Uint8Array): InferBodyScan {
  let envelope = addon().scanInferBody(body, found);
  const end = 1 + 2 * found[0]!;
  if (end > found.length) {
    found = new Float64Array(end);
    envelope = addon().scanInferBody(body, found);
  }
  return { envelope, sections: found.slice(1, end) };
}

/**
 * `scanInferBody` in a pool thread.
 *
 * @param body must not be changed or transferred until the promise settles
 */
export function scanInferBodyAsync(body: Uint8Array): Promise<InferBodyScan> {
  return addon().scanInferBodyAsync(body);
}

/**
 * Reads the JSON text of a tensor, `body[start, end)`, into `out`, row-major.
 *
 * The text is a flat array or arrays nested exactly as the shape; for the shape [] also a bare value. Floats also
 * take NaN, Infinity and -Infinity, bare or quoted; INT64 and UINT64 also quoted digits; BOOL takes true, false, 1
 * and 0. FP32 gets the float nearest to the decimal, rounded once.
 *
 * @param onnxType element type of onnx.proto; not FP16, BF16 or BYTES
 * @param shape at most 64 dimensions
 * @param out the datatype's typed array, with exactly the product of `shape` elements; partly written on failure
 * @throws SRV_BAD_TENSOR saying which element, at which byte, and what was expected
 */
export function parseTensor(
  body: Uint8Array,
  start: number,
  end: number,
  onnxType: number,
  shape: readonly number[],
  out: Elements,
): void {
  addon().parseTensor(body, start, end, onnxType, shape, out);
}

/**
 * `parseTensor` in a pool thread.
 *
 * @param body must not be changed or transferred until the promise settles; neither may `out`
 */
export function parseTensorAsync(
  body: Uint8Array,
  start: number,
  end: number,
  onnxType: number,
  shape: readonly number[],
  out: Elements,
): Promise<void> {
  return addon().parseTensorAsync(body, start, end, onnxType, shape, out);
}

/**
 * Prints elements as a flat JSON array: the shortest digits that read back equal, exact 64-bit integers, -0 as -0.0,
 * and NaN, Infinity and -Infinity as bare words, which strict JSON does not have.
 *
 * @param data the datatype's typed array
 * @param onnxType element type of onnx.proto; not FP16, BF16 or BYTES
 * @param start index of the first element
 * @param count number of elements
 */
export function printTensor(data: Elements, onnxType: number, start: number, count: number): string {
  return addon().printTensor(data, onnxType, start, count);
}

/**
 * `printTensor` in a pool thread, as UTF-8 bytes that the caller owns.
 *
 * @param data must not be changed or transferred until the promise settles
 */
export async function printTensorAsync(
  data: Elements,
  onnxType: number,
  start: number,
  count: number,
): Promise<Buffer> {
  return Buffer.from(await addon().printTensorAsync(data, onnxType, start, count));
}

/**
 * Opens the journal of what this process runs: after a native crash the file says which model was in flight. Once
 * for a process; its form is described in `native/crash_journal.h`.
 *
 * @throws SRV_IO when the file cannot be made, SRV_INTERNAL when a journal is open
 */
export function openCrashJournal(path: string): void {
  addon().openCrashJournal(path);
}

/** Notes that this thread runs a model (1 to 2^32 - 1) until `leaveRun`. Without a journal: nothing. */
export function enterRun(model: number): void {
  addon().enterRun(model);
}

/** Takes `enterRun` back. */
export function leaveRun(): void {
  addon().leaveRun();
}

/** Ends the journal: from now on the process may end in any way without blaming a model. */
export function closeCrashJournal(): void {
  addon().closeCrashJournal();
}

/**
 * Opens a file of rows and reads its head.
 *
 * @param path `-` for standard input
 * @throws SRV_IO; SRV_BAD_INPUT_FILE with file and place when the head is not what the format says
 */
export function openRowReader(path: string, format: RowFormat): Promise<RowReader> {
  return addon().openRowReader(path, plainFormat(format));
}

/** The form in which the addon takes a format: everything there, choices as numbers. */
function plainFormat(format: RowFormat): object {
  return {
    format: inputFormats.indexOf(format.format),
    innerLengths: innerLengthChoices.indexOf(format.innerLengths ?? 'auto'),
    values: valueTexts.indexOf(format.values ?? 'floats'),
    delimiter: format.delimiter ?? ',',
    header: headerLineChoices.indexOf(format.header ?? 'auto'),
    keyColumn: format.keyColumn ?? '',
    firstKey: format.firstKey ?? 0n,
    keysPath: format.keysPath ?? '',
    rawBytes: format.rawBytes ?? false,
  };
}

/**
 * Reads the next rows, in a pool thread. One call at a time.
 *
 * @param maxRows at least 1; fewer come when their values pass 16 MiB
 * @returns rows that the caller owns, or null at the end
 * @throws SRV_IO, SRV_BAD_INPUT_FILE: once all rows before the damage were given
 */
export function readRows(reader: RowReader, maxRows: number): Promise<RowBatch | null> {
  return addon().readRows(reader, maxRows);
}

/**
 * Reads the next rows as lines `key:value` in UTF-8, each with its line feed.
 *
 * @param values how values are written; auto looks at those of the first call, and that holds for all later ones
 * @returns null at the end
 * @throws as `readRows`; SRV_BAD_INPUT_FILE also for a value that cannot be written so, after the lines before it
 */
export async function readRowLines(
  reader: RowReader,
  maxRows: number,
  values: (typeof valueTexts)[number] | 'auto',
): Promise<{ readonly rows: number; readonly text: Uint8Array } | null> {
  const choice = values === 'auto' ? valueTexts.length : valueTexts.indexOf(values);
  const lines = await addon().readRowLines(reader, maxRows, choice);
  return lines && { rows: lines.rows, text: new Uint8Array(lines.text) };
}

/** Ends the reading; a call that is under way is finished first. */
export function closeRowReader(reader: RowReader): void {
  addon().closeRowReader(reader);
}

/**
 * Reads a whole sequence file and counts, in a pool thread.
 *
 * @param path `-` for standard input
 * @throws SRV_IO, SRV_BAD_INPUT_FILE when its header cannot be read; later damage is told in the result
 */
export function measureSequenceFile(
  path: string,
  innerLengths: (typeof innerLengthChoices)[number],
): Promise<SequenceStatistics> {
  return addon().measureSequenceFile(path, innerLengthChoices.indexOf(innerLengths));
}

/**
 * Begins a sequence file. It is made under another name beside `path`, which it takes when it is finished.
 *
 * @param marker the sync marker, 16 bytes, for files that must come out equal; random when absent
 * @returns a writer that ends with `finishSequenceWriter` or `abandonSequenceWriter`
 * @throws SRV_IO
 */
export function openSequenceWriter(path: string, marker?: Uint8Array): Promise<SequenceWriter> {
  return addon().openSequenceWriter(path, marker);
}

/**
 * Adds rows to a sequence file, in a pool thread. One call at a time.
 *
 * @param rows must not be changed or transferred until the promise settles
 * @throws SRV_IO; SRV_BAD_INPUT_FILE for a value of 64 MiB
 */
export function writeSequenceRows(writer: SequenceWriter, rows: RowBatch): Promise<void> {
  return addon().writeSequenceRows(writer, rows.keys, rows.ends, rows.bytes);
}

/**
 * Brings the file to the disk and gives it its name, over one that is there.
 *
 * @returns its records and bytes
 * @throws SRV_IO; then nothing is left of the new file
 */
export function finishSequenceWriter(
  writer: SequenceWriter,
): Promise<{ readonly records: number; readonly bytes: number }> {
  return addon().finishSequenceWriter(writer);
}

/** Removes a file that was not finished; without effect on one that was. */
export function abandonSequenceWriter(writer: SequenceWriter): void {
  addon().abandonSequenceWriter(writer);
}

/**
 * Opens a table version, once for all threads of this process: whoever names the same files gets the same mapping.
 *
 * @param inMemory reads the files into memory of huge pages instead of mapping them
 * @throws SRV_IO, SRV_TABLE_CORRUPT, SRV_TABLE_UNSUPPORTED, SRV_TABLE_MISMATCH (files of different tables),
 *   SRV_OUT_OF_MEMORY
 */
export function openTable(files: TableFiles, inMemory: boolean): Promise<TableHandle> {
  return addon().openTable(files.snapshot, files.deltas, inMemory);
}

/** Gives a handle back. The files are closed with the last handle of all threads. */
export function closeTable(table: TableHandle): void {
  addon().closeTable(table);
}

/** @throws SRV_INTERNAL when the handle was closed, as do all functions below that take one */
export function tableFacts(table: TableHandle): TableFacts {
  return addon().tableFacts(table);
}

/** The digests of the files of a table: snapshot first, then each delta, shards in order. */
export function tableDigests(table: TableHandle): readonly bigint[] {
  return addon().tableDigests(table);
}

/** Counts the keys that have a row, in a pool thread: deltas are looked up in the snapshot. */
export function tableRows(table: TableHandle): Promise<number> {
  return addon().tableRows(table);
}

/** A copy of a row as it is stored; null for a missing key. */
export function tableRow(table: TableHandle, key: bigint): Uint8Array | null {
  return addon().tableRow(table, key);
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
  return addon().tableGather(table, keys, out, combiner, bagEnds, weights, defaultRow, missing);
}

/**
 * Compares all blocks of a shard file with their checksums and looks at every bucket, in a pool thread.
 *
 * @throws SRV_TABLE_CORRUPT with file and byte offset of the first fault, SRV_TABLE_UNSUPPORTED, SRV_IO
 */
export function verifyShard(path: string): Promise<{ readonly bytes: number; readonly digest: bigint }> {
  return addon().verifyShard(path);
}

/** How two open tables of the same row type and dim differ; looks every key of both up, in a pool thread. */
export function compareTables(from: TableHandle, to: TableHandle): Promise<TableDifference> {
  return addon().compareTables(from, to);
}

/** The instruction set that gathers run with on this machine: avx512, avx2 or scalar. */
export function gatherInstructions(): string {
  return addon().gatherInstructions();
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
  addon().hashIds(texts, hash, seed, modulus, column, slots, out);
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
  addon().placeIds(ids, stride, column, out, outStride, outColumn, modulus, rows);
}

/** Starts to build the shard files of a table version. */
export function startTableBuild(options: TableBuildOptions): TableBuild {
  const { format, kind, dtype, scans = [], allowsNoRows = false, ...others } = options;
  const build = addon().createTableBuild(
    {
      ...others,
      kind: tableKinds.indexOf(kind),
      rowType: rowTypes.indexOf(dtype),
      guessesFormat: format.format === 'auto',
      allowsNoRows,
    },
    plainFormat({ ...format, format: format.format === 'auto' ? 'seqfile' : format.format }),
  );
  for (const { table, what, other, areDeletes } of scans) {
    addon().addTableScan(build, table, tableScans.indexOf(what), other ?? null, areDeletes);
  }
  return {
    done: addon().runTableBuild(build),
    progress() {
      const progress = addon().tableBuildProgress(build);
      return { ...progress, phase: buildPhases[progress.phase]! };
    },
    cancel: () => addon().cancelTableBuild(build),
  };
}
