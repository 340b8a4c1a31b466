/** What a split reaches sparse tables through; `cli/model-split.ts` hands the real ones in. */
import type { RowLookup } from './stage-rows.js';

/** How the elements of a table's rows are stored. */
export type SplitRowType = 'f32' | 'f16' | 'int8';

/** Rows to be made a table: row i of a `.npy` file becomes key i. */
export interface WriteTableTask {
  /** A [rows, dim] matrix of little-endian 32-bit floats in C order. */
  readonly npyFile: string;
  /** The directory to be made. */
  readonly directory: string;
  readonly rows: number;
  readonly dim: number;
  readonly dtype: SplitRowType;
  /** Absent: the builder's choice. */
  readonly shards?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A table that rows are read back from. */
export interface OpenedTable extends RowLookup {
  readonly version: number;
  readonly dtype: SplitRowType;
  /** The version of a model that it was published with, as messages name it; absent where any may use it. */
  readonly publishedWith?: string;
  countRows(): Promise<number>;
  close(): void;
}

/** Tables and sequence files. */
export interface SplitTools {
  writeTable(task: WriteTableTask): Promise<void>;
  /** Opens the newest version of a table. */
  openTable(directory: string): Promise<OpenedTable>;
  /** Writes the rows as sequence files into a directory that is to be made. */
  writeSequenceFiles(task: Omit<WriteTableTask, 'dtype'>): Promise<void>;
}
