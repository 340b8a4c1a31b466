/** What passes between the preparer and the prepare process. */
import type { ErrorData } from '../errors.js';
import type { TensorMap } from '../tensor/tensor.js';
import type { PreparedModel, PrepareRequest } from './prepared-model.js';

/** How the process is set up: its first argument, as JSON. */
export interface PrepareProcessOptions {
  /** Absent: nothing is cached. */
  readonly cacheDirectory?: string;
  /** Bytes that the cache may take. */
  readonly cacheMaxBytes: number;
}

/** What the process is doing, so that its parent can tell what a crash means. */
export type PreparePhase = 'reading' | 'original' | 'prepared' | 'prepacked';

/** A form that ended the process and must not be tried again, and why. */
export interface ExcludedForm {
  readonly form: 'prepared' | 'prepacked';
  readonly reason: string;
}

/** To the process: one model. */
export interface PrepareTask {
  readonly id: number;
  readonly request: PrepareRequest;
  readonly excluded: readonly ExcludedForm[];
}

/** To the process: a model to be opened as it is, without optimising, and run on inputs one after the other. */
export interface RunModelTask {
  readonly id: number;
  readonly runModel: string;
  readonly runs: readonly TensorMap[];
  readonly outputs: readonly string[];
}

/** What a run gave, or why the engine refused it. */
export type RunModelResult = { readonly outputs: TensorMap } | { readonly refused: string };

/** From the process, of a {@link RunModelTask}. */
export type RunModelReply =
  | { readonly id: number; readonly results: readonly RunModelResult[] }
  | { readonly id: number; readonly error: ErrorData };

/** From the process: what it does now, then the answer. */
export type PrepareReply =
  | { readonly id: number; readonly phase: PreparePhase }
  | { readonly id: number; readonly model: PreparedModel }
  | { readonly id: number; readonly error: ErrorData };
