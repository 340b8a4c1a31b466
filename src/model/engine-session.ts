/** The engine as the prepare steps see it. Only `prepare-process.ts` knows the real one. */
import type { TensorMap } from '../tensor/tensor.js';

/** An input or output as the engine tells it after shape inference. */
export interface EngineValue {
  readonly name: string;
  readonly isTensor: boolean;
  /** Sizes, -1 for free ones; `[]` for a scalar and for an unknown rank alike. */
  readonly shape: readonly number[];
}

/** An open model. */
export interface EngineSession {
  readonly inputs: readonly EngineValue[];
  readonly outputs: readonly EngineValue[];
  /** Runs the model for the named outputs only. Rejects with the engine's own error. */
  run(inputs: TensorMap, outputs: readonly string[]): Promise<TensorMap>;
  close(): Promise<void>;
}

/** How a session is opened. */
export interface EngineOpenOptions {
  /** Session config entries with dotted keys. */
  readonly extra?: Readonly<Record<string, string>>;
  /** Where the engine writes the optimised model. */
  readonly optimizedFile?: string;
  /** Whether the graph is run node by node as it is written. @default false */
  readonly unoptimized?: boolean;
}

/** The engine: opens a model by path, or from bytes. */
export interface Engine {
  open(model: string | Uint8Array, options?: EngineOpenOptions): Promise<EngineSession>;
}

/** Session config entries that every session of a one-threaded instance has. */
export const baseSessionExtra: Readonly<Record<string, string>> = { 'session.intra_op.allow_spinning': '0' };
