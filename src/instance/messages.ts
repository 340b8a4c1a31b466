import type { ErrorData } from '../errors.js';
import type { Datatype, FixedData } from '../tensor/datatype.js';
import type { FilePrint } from './file-print.js';

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

/** The files of a table version as an instance opens them; all instances of a process share one mapping. */
export interface StageTable {
  /** Of the snapshot, then of each delta on top, the shards in order. */
  readonly files: { readonly snapshot: readonly string[]; readonly deltas: readonly (readonly string[])[] };
  readonly inMemory: boolean;
  /** What messages call it. */
  readonly label: string;
  readonly version: number;
}

/** Turns keys of a batch into rows of a table, which become an input of the network. */
export interface GatherStage {
  /** Index into the load message's tables. */
  readonly table: number;
  /** Index of the keys among the inputs of a run: UINT64 [rows, slots], or [keys] with `lengths`. */
  readonly keys: number;
  /** Index of the INT32 [rows] input that says how many keys each row has; absent where all rows have as many. */
  readonly lengths?: number;
  /** Index of the FP32 input with a factor for each key. */
  readonly weights?: number;
  readonly combiner: 'none' | 'sum' | 'mean' | 'sqrtn';
  /** Whether a request with a missing key fails. */
  readonly failsOnMissing: boolean;
  /** The row of a missing key; zeros when absent. */
  readonly defaultRow?: readonly number[];
  /** The network's input. */
  readonly target: string;
  /** Its dimensions behind the first; one may be -1: as many as the keys ask for. */
  readonly targetShape: readonly number[];
}

/** Opens a predictor in one instance. */
export interface LoadMessage {
  /** Identity of the version within this process; never reused. */
  readonly versionId: number;
  /** Number that runs are noted under in the crash journal; 0 for not at all. */
  readonly journalId: number;
  /** The model file to open; its weights file, if any, lies beside it. */
  readonly file: string;
  /** Files that others may overwrite: it is opened only while they are as they were when the version was prepared. */
  readonly sources: readonly FilePrint[];
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
  readonly tables: readonly StageTable[];
  readonly stages: readonly GatherStage[];
  /** A version of the same file and session options: where its predictor is open, its session is shared. */
  readonly sessionOf?: number;
  /** Whether to open it with what others leave of the processor. */
  readonly lowPriority?: boolean;
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
  /** In the order of the load message's inputs; those of its stages behind. */
  readonly inputs: readonly RunInput[];
  /** For each stage, where its rows go within the slab. */
  readonly targets: readonly number[];
  /** Indices into the load message's outputs. */
  readonly fetch: readonly number[];
  /** Where outputs may be written, and how many bytes there are. */
  readonly replyOffset: number;
  readonly replyBytes: number;
  /** Whether to run it with what others leave of the processor. */
  readonly lowPriority?: boolean;
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
  /** Keys that were looked up, and those that a table lacked; absent without stages. */
  readonly gathered?: { readonly keys: number; readonly missing: number };
  /** Rows of the batch that a stage fails for a missing key; absent when there are none. */
  readonly failedRows?: readonly FailedRow[];
}

/** A row whose request fails, though the batch ran. */
export interface FailedRow {
  readonly row: number;
  readonly error: ErrorData;
}

/** What opening a predictor cost. */
export interface LoadResult {
  readonly loadMs: number;
}
