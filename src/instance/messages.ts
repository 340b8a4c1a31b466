import type { ErrorData } from '../errors.js';
import type { Datatype, FixedData } from '../tensor/datatype.js';

/** Where an instance runs its models. Fixed for the life of a group. */
export interface Device {
  /** Name in logs, metrics and tables: `cpu`, `cuda:0`. */
  readonly name: string;
  /** The engine's provider name. */
  readonly provider: string;
  /** The card's number, absent on a CPU. */
  readonly deviceId?: number;
}

/** A named value of a model as the worker needs it. */
export interface ValueInfo {
  readonly name: string;
  readonly datatype: Datatype;
}

/** Opens a predictor in one instance. */
export interface LoadMessage {
  /** Identity of the version within this process; never reused. */
  readonly versionId: number;
  /** Number that runs are noted under in the crash journal; 0 for not at all. */
  readonly journalId: number;
  /** The model file to open; its weights file, if any, lies beside it. */
  readonly file: string;
  readonly device: Device;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly intraOpThreads: number;
  readonly graphOptimization: 'disabled' | 'basic' | 'extended' | 'all';
  /** Session configuration entries by their dotted key. */
  readonly sessionExtra: Readonly<Record<string, string>>;
  /** Inode numbers, in decimal, of files that the engine maps for this model. */
  readonly mappedInodes: readonly string[];
  /** Device memory that the predictor may take, in bytes; absent: no limit. */
  readonly gpuMemoryLimitBytes?: number;
}

/** An input of a batch: a place in the batch's slot, or strings, which are cloned. */
export type RunInput =
  | { readonly shape: readonly number[]; readonly offset: number }
  | { readonly shape: readonly number[]; readonly strings: readonly string[] };

/** Runs one batch. The sender owns the slot again when the reply has come. */
export interface RunMessage {
  readonly versionId: number;
  /** Slab of the batch's slot. */
  readonly slab: number;
  /** The slab itself, where slabs are not addon memory. */
  readonly shared?: SharedArrayBuffer;
  /** In the order of the load message's inputs. */
  readonly inputs: readonly RunInput[];
  /** Indices into the load message's outputs. */
  readonly fetch: readonly number[];
  /** Where outputs may be written, and how many bytes there are. */
  readonly replyOffset: number;
  readonly replyBytes: number;
}

/** An output of a batch: a place in the slot, elements that did not fit there, or strings. */
export type RunOutput =
  | { readonly shape: readonly number[]; readonly offset: number }
  | { readonly shape: readonly number[]; readonly data: FixedData }
  | { readonly shape: readonly number[]; readonly strings: readonly string[] };

/** What a task answers: its value, or the error as plain data. */
export type Reply<T> = { readonly ok: T } | { readonly error: ErrorData };

/** A batch's outputs in the order of `fetch`, and where its time went. */
export interface RunResult {
  readonly outputs: readonly RunOutput[];
  readonly gatherNs: number;
  readonly computeNs: number;
}

/** What opening a predictor cost. */
export interface LoadResult {
  readonly loadMs: number;
}
