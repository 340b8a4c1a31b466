/**
 * The addon's memory, files, JSON tensors and crash journal.
 *
 * Arguments are checked there for memory safety only; a violation is `SRV_INTERNAL`, because it is a defect of the
 * caller.
 */

import { markAsUntransferable } from 'node:worker_threads';
import { addon } from './addon.js';

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

interface Memory {
  openCrashJournal(path: string): void;
  enterRun(model: number): void;
  leaveRun(): void;
  closeCrashJournal(): void;
  createSlab(bytes: number): number;
  viewSlab(id: number): ArrayBuffer;
  releaseSlab(id: number): boolean;
  slabStats(): SlabStats;
  externalBuffersAllowed(): boolean;
  exchangePaths(first: string, second: string): boolean;
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
  parseTensorAsync: (...args: Parameters<Memory['parseTensor']>) => Promise<void>;
  printTensor(data: Elements, onnxType: number, start: number, count: number): string;
  printTensorAsync: (...args: Parameters<Memory['printTensor']>) => Promise<ArrayBuffer>;
}

/** Whether this runtime lets an ArrayBuffer lie over the addon's memory. Where not, slabs and mapped files fail. */
export function externalBuffersAllowed(): boolean {
  return addon<Memory>().externalBuffersAllowed();
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
  return addon<Memory>().createSlab(bytes);
}

/**
 * The slab as an ArrayBuffer: one per thread and slab, the same at every call while it is reachable. It cannot be
 * transferred. Its memory stays mapped as long as the ArrayBuffer lives.
 *
 * @throws SRV_INTERNAL when the slab is unknown or released
 */
export function viewSlab(id: number): ArrayBuffer {
  const view = addon<Memory>().viewSlab(id);
  markAsUntransferable(view);
  return view;
}

/**
 * Ends the creator's hold of a slab. No new views are given; the memory goes when the views of all threads are gone.
 *
 * @returns false when it was released before
 */
export function releaseSlab(id: number): boolean {
  return addon<Memory>().releaseSlab(id);
}

/** Slabs and bytes still mapped in this process, those included that only a view keeps. */
export function slabStats(): SlabStats {
  return addon<Memory>().slabStats();
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
  const buffer = addon<Memory>().mapFile(path, mapAdvice.indexOf(advice), prefault, hugePages);
  markAsUntransferable(buffer);
  return buffer;
}

/**
 * Content hash of a file: XXH64 in 16 hex digits. Reads in a pool thread, never through a mapping.
 *
 * @throws SRV_IO with path and reason; also when the file changes while it is read
 */
export function hashFile(path: string): Promise<string> {
  return addon<Memory>().hashFile(path);
}

/** The hash of `hashFile` for bytes in memory. */
export function hashBytes(bytes: Uint8Array): string {
  return addon<Memory>().hashBytes(bytes);
}

/**
 * Brings a file into the page cache, in a pool thread.
 *
 * @returns the bytes of the file, once all are there
 * @throws SRV_IO
 */
export function prefaultFile(path: string): Promise<number> {
  return addon<Memory>().prefaultFile(path);
}

/**
 * Lets the process survive reading a mapped file that was truncated, also one that the engine mapped: the missing
 * pages read as zeros, and `mappedFileFaults` grows. Process-wide, once; Linux only, elsewhere without effect.
 */
export function installMappedFileGuard(): void {
  addon<Memory>().installMappedFileGuard();
}

/** Pages of mapped files that were replaced by zeros since the process started. */
export function mappedFileFaults(): number {
  return addon<Memory>().mappedFileFaults();
}

/** Inode numbers (`ino` of a bigint stat) of the files that lost pages, of the last 64 pages, each file once. */
export function faultedInodes(): readonly bigint[] {
  return addon<Memory>().faultedInodes();
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
  let envelope = addon<Memory>().scanInferBody(body, found);
  const end = 1 + 2 * found[0]!;
  if (end > found.length) {
    found = new Float64Array(end);
    envelope = addon<Memory>().scanInferBody(body, found);
  }
  return { envelope, sections: found.slice(1, end) };
}

/**
 * `scanInferBody` in a pool thread.
 *
 * @param body must not be changed or transferred until the promise settles
 */
export function scanInferBodyAsync(body: Uint8Array): Promise<InferBodyScan> {
  return addon<Memory>().scanInferBodyAsync(body);
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
  addon<Memory>().parseTensor(body, start, end, onnxType, shape, out);
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
  return addon<Memory>().parseTensorAsync(body, start, end, onnxType, shape, out);
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
  return addon<Memory>().printTensor(data, onnxType, start, count);
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
  return Buffer.from(await addon<Memory>().printTensorAsync(data, onnxType, start, count));
}

/**
 * Opens the journal of what this process runs: after a native crash the file says which model was in flight. Once
 * for a process; its form is described in `native/crash_journal.h`.
 *
 * @throws SRV_IO when the file cannot be made, SRV_INTERNAL when a journal is open
 */
export function openCrashJournal(path: string): void {
  addon<Memory>().openCrashJournal(path);
}

/** Notes that this thread runs a model (1 to 2^32 - 1) until `leaveRun`. Without a journal: nothing. */
export function enterRun(model: number): void {
  addon<Memory>().enterRun(model);
}

/** Takes `enterRun` back. */
export function leaveRun(): void {
  addon<Memory>().leaveRun();
}

/** Ends the journal: from now on the process may end in any way without blaming a model. */
export function closeCrashJournal(): void {
  addon<Memory>().closeCrashJournal();
}

/**
 * Lets two files or directories of one file system change places in one step, so that at no time one of the names is
 * missing. False, and nothing done, where the operating system or the file system has no such step.
 *
 * @throws SRV_IO when it has, but one of them is missing or must not be moved
 */
export function exchangePaths(first: string, second: string): boolean {
  return addon<Memory>().exchangePaths(first, second);
}
