/** What the prepare process is asked and what it answers: plain data that crosses the process boundary. */
import type { Signature } from '../tensor/tensor.js';

/** Whether prepacked weights may be saved in the prepared form: measured, wanted or not wanted. */
export type Prepacking = 'auto' | 'on' | 'off';

/** One model to prepare. */
export interface PrepareRequest {
  /** The model file. */
  readonly path: string;
  /**
   * Engine providers in the order of preference. Prepared forms are made for `cpu` alone.
   *
   * @default ['cpu']
   */
  readonly executionProviders?: readonly string[];
  /** @default 'auto' */
  readonly prepacking?: Prepacking;
  /** `off` serves the model's own file and shares no weights. @default 'on' */
  readonly prepared?: 'on' | 'off';
}

/**
 * The form that predictors load: the model's own file; `prepared`, optimised with its large weights in a file that
 * the engine maps; or `prepacked`, the same with the weights in the layout of this CPU's kernels.
 */
export type ModelForm = 'original' | 'prepared' | 'prepacked';

/** What is known about merging rows of several requests. */
export interface BatchingVerdict {
  /** Whether a batch of two rows gave what two single rows gave. */
  readonly rowsIndependent: boolean;
  /** Why, for operators. */
  readonly reason: string;
  /**
   * The shape of one row of each output, without the leading dimension: exact for every request. Absent when rows
   * interact, or when an output's shape depends on the values or on free dimensions.
   */
  readonly rowShapes?: Readonly<Record<string, readonly number[]>>;
}

/** What running the model on generated inputs showed. */
export interface ModelTrial {
  readonly ran: boolean;
  /** Why it did not run: the engine's words. Not a failure of the model. */
  readonly reason?: string;
  /** Duration of a run of one row in this process, us. */
  readonly p50Us?: number;
  readonly p99Us?: number;
}

/** What was measured of one prepared form. */
export interface FormMeasure {
  readonly form: Exclude<ModelForm, 'original'>;
  /** Why it cannot be served: it differs, does not load or crashed. Absent when it can. */
  readonly refused?: string;
  /** Loading a second clone, ms. */
  readonly loadMs: number;
  /** The quickest run of one row, us. */
  readonly oneRowUs: number;
  /** The quickest run of `batchRows` rows, us. */
  readonly batchUs: number;
  /** Rows of the batch that `batchUs` is of: 32, or 1 where rows interact. */
  readonly batchRows: number;
  /** Anonymous memory that the second clone added, bytes: what is not shared. */
  readonly privateBytes: number;
}

/** A model that is ready to be loaded by instances. Plain data. */
export interface PreparedModel {
  /** The file that was asked for. */
  readonly source: string;
  /** The file to load: `source`, or the prepared form in the cache. It is not removed while this process lives. */
  readonly file: string;
  readonly form: ModelForm;
  /** Why this form, for operators. */
  readonly formReason: string;
  /** Session config entries (dotted keys, string values) that `file` must be loaded with. */
  readonly sessionExtra: Readonly<Record<string, string>>;
  readonly signature: Signature;
  /** Inputs and outputs whose rank the model does not tell; their shape in the signature is `[]` and means nothing. */
  readonly anyRank: readonly string[];
  /** Outputs that are no dense tensors of a protocol datatype; the model is served without them. */
  readonly hiddenOutputs: readonly string[];
  /** Operator set version by domain; ONNX's own is `ai.onnx`. */
  readonly opsets: Readonly<Record<string, number>>;
  readonly batching: BatchingVerdict;
  /** Exact shapes of all outputs; present when every input is of fixed shape and no value decides a shape. */
  readonly outputShapes?: Readonly<Record<string, readonly number[]>>;
  readonly trial: ModelTrial;
  /** The prepared forms of this model that were measured; empty when none was. */
  readonly measures: readonly FormMeasure[];
  /** Bytes of the constants of 1 MiB and more. */
  readonly weightBytes: number;
  /** Bytes of the model file and its external data. */
  readonly fileBytes: number;
  /** Loading `file`, ms. */
  readonly loadMs: number;
  /** Whether the answer came from the cache without opening the model. */
  readonly cached: boolean;
  /** Content hash of the model file and its external data. */
  readonly digest: string;
}
