/** What `model split` is asked for, and what it tells of the tables it made. */
import type { FindOptions } from './find-embeddings.js';
import type { SplitRowType } from './split-tools.js';

/** What to split, and how. */
export interface SplitOptions extends FindOptions {
  /** A `.onnx` file. */
  readonly modelFile: string;
  /** The directory to be made; it may be there if it is empty. */
  readonly directory: string;
  readonly dtype: SplitRowType;
  /** Shards of a table; absent: the builder's choice. */
  readonly shards?: number | undefined;
  /** Whether rows are written as sequence files too. */
  readonly sequenceFiles: boolean;
  /**
   * A table to be used instead of a new one; with several initialisers, a directory of tables as an earlier split
   * wrote it.
   */
  readonly reuse?: string | undefined;
  /** Bytes that opening the original for the proof may take; absent: what is free. */
  readonly memoryBytes?: number | undefined;
  /** Takes a line for each step. */
  readonly onStep?: ((text: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A table of a split model. */
export interface SplitTable {
  /** The initialiser that its rows were. */
  readonly initializer: string;
  readonly rows: number;
  readonly dim: number;
  /** Absolute path. */
  readonly directory: string;
  /** Whether it was there before. */
  readonly isReused: boolean;
  /** A reused table: the one version of a model that may use it; absent where any may. */
  readonly publishedWith?: string;
  /** Rows that were read back from it and compared. */
  readonly rowsRead: number;
  /** Rows among them that are not those of the model; only a reused table may have them. */
  readonly rowsDifferent: number;
}
