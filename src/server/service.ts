import type { ErrorCode, ServingError } from '../errors.js';
import type { VersionState } from '../lifecycle/version.js';
import type { ModelStats } from '../observe/model-stats.js';
import type { Signature, Tensor } from '../tensor/tensor.js';

/** A tensor under the name of an input or output. */
export interface NamedTensor {
  readonly name: string;
  readonly tensor: Tensor;
}

/** One inference as a protocol hands it to the service. */
export interface InferCall {
  readonly model: string;
  /** Absent without a label: the newest ready version. */
  readonly version?: number | undefined;
  /** A label of the model, in the place of a version. */
  readonly label?: string | undefined;
  readonly inputs: readonly NamedTensor[];
  /** Names of the wanted outputs; absent: all. */
  readonly outputs?: readonly string[] | undefined;
  /** How long the request may wait for its run, in ms; absent: the model's default. */
  readonly timeoutMs?: number | undefined;
  /** 1 is the most urgent; absent or 0: the model's default. */
  readonly priority?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Tells whether the caller went away; asked before the request is run. */
  readonly isAbandoned?: (() => boolean) | undefined;
  /** Label of metrics: `http`, `process`. */
  readonly protocol: string;
  readonly origin: 'process' | 'socket';
  /** What reading the request took, in seconds; absent where nothing was read. */
  readonly decodeSeconds?: number | undefined;
}

/** An answered inference. The tensors are the caller's own. */
export interface InferAnswer {
  readonly model: string;
  readonly version: number;
  readonly outputs: readonly NamedTensor[];
  /** Records what writing the reply took, in seconds. */
  recordEncode(seconds: number): void;
}

/** What the warm-up of a version did. */
export interface WarmUpStatus {
  /** Requests that each instance ran. */
  readonly requests: number;
  /** Whether they were recorded or declared, and not made up. */
  readonly isRecorded: boolean;
  /** Batches that all instances ran. */
  readonly runs: number;
  /** Requests that failed or did not fit, and were passed over. */
  readonly failed: number;
  /** What the slowest instance took, in ms. */
  readonly ms: number;
}

/** A sample of the requests of a model. */
export interface SampledTraffic {
  /** Binary bodies, one behind the other; empty when there were no requests. */
  readonly bytes: Buffer;
  readonly requests: number;
  /** Requests that it was drawn from. */
  readonly seen: number;
}

/** A version as operators see it. */
export interface ModelStatus {
  readonly name: string;
  readonly version: number;
  readonly state: VersionState;
  /** Why it failed, or what an operator should know; absent when there is nothing to say. */
  readonly reason?: string;
  readonly error?: ServingError;
  /** Devices that hold it, such as `cpu` or `cuda:0`. */
  readonly devices: readonly string[];
  readonly signature?: Signature;
  /** Outputs that no protocol type carries; the model is served without them. */
  readonly hiddenOutputs?: readonly string[];
  /** Slowest instance's load time in ms; absent before the load. */
  readonly loadMs?: number;
  /** What its warm-up did; absent before the load, and where it is switched off. */
  readonly warmUp?: WarmUpStatus;
  /** How predictors load it: `original`, `prepared`, `prepacked`. */
  readonly form?: string;
  readonly formReason?: string;
  /** Labels that stand for it; absent when none does. */
  readonly labels?: readonly string[];
  /** A request to try it with, from its settings; absent when they have none. */
  readonly example?: { readonly request: object; readonly meaning: string };
}

/** A ready version in full. */
export interface ModelView extends ModelStatus {
  readonly signature: Signature;
  /** Names of inputs and outputs of unknown rank. */
  readonly anyRank: ReadonlySet<string>;
  /** All ready versions of the model, ascending. */
  readonly readyVersions: readonly number[];
  /** The model's versions by label, those that are not ready too. */
  readonly modelLabels: Readonly<Record<string, number>>;
  /** Which versions are wanted, in the JSON form of Triton's message. */
  readonly versionPolicy: object;
  /** Parameters of the model's configuration. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Rows of a batch at most; 0 where rows of different requests do not merge. */
  readonly maxBatchSize: number;
  readonly maxQueueDelayUs: number;
  /** Numbers of rows whose smallest ends the wait for more; empty: only a full batch does. */
  readonly preferredBatchSizes: readonly number[];
  /** Instances that hold it, by device. */
  readonly instances: readonly { readonly device: string; readonly count: number }[];
  readonly stats: ModelStats;
  readonly fileBytes: number;
}

/** What a front end needs of a runtime. Errors are `ServingError`s. */
export interface InferenceService {
  /** Whether new requests may come: at least one version is ready and no drain has begun. */
  readonly isReady: boolean;
  infer(call: InferCall): Promise<InferAnswer>;
  /** Every version that is known, failed ones included. */
  listModels(): readonly ModelStatus[];
  /**
   * A ready version: the one of a number or a label, without both the newest.
   *
   * @throws SRV_MODEL_NOT_FOUND when the name, version or label is unknown, SRV_MODEL_NOT_READY when none is ready
   */
  model(name: string, version?: number, label?: string): ModelView;
  /**
   * The versions of a model by label.
   *
   * @throws SRV_MODEL_NOT_FOUND for an unknown name
   */
  labels(name: string): Readonly<Record<string, number>>;
  /**
   * Points labels of a model to ready versions, and `null` to none; all of them or, when one is refused, none.
   *
   * @throws SRV_MODEL_CONTROL_OFF, SRV_MODEL_NOT_FOUND, SRV_MODEL_NOT_READY, SRV_BAD_REQUEST for what can be no label
   */
  setLabels(name: string, changes: Readonly<Record<string, number | null>>): void;
  /**
   * Loads, or loads again, a model of the repository. Settled when it is ready or has failed.
   *
   * @param config the text of a `model.json`, whose keys win over those of the model's files until its next load
   * @throws SRV_MODEL_CONTROL_OFF, SRV_MODEL_NOT_FOUND, SRV_BAD_CONFIG, or why the load failed
   */
  loadModel(name: string, config?: string): Promise<void>;
  /** Unloads all versions of a model, until it is loaded by request. Waits for its running requests. */
  unloadModel(name: string): Promise<void>;
  /**
   * Puts the version that served before in the place of the one that serves.
   *
   * @returns the version that serves now
   * @throws SRV_MODEL_CONTROL_OFF, SRV_MODEL_NOT_FOUND where there is none to go back to, or why it failed
   */
  rollbackModel(name: string): Promise<number>;
  /**
   * A uniform sample of the requests that a model answers, as a file for `warm_up_data_path`.
   *
   * @param options.count requests at most; without `ms` the sample is the one that is kept on disk
   * @param options.ms how long to take part in what comes; absent: what was kept so far (`record_warmup`)
   * @throws SRV_MODEL_CONTROL_OFF, SRV_MODEL_NOT_FOUND; SRV_BAD_REQUEST when no sample is kept, or one is being drawn
   */
  sampleTraffic(
    model: string,
    options: { readonly count: number; readonly ms?: number; readonly signal?: AbortSignal },
  ): Promise<SampledTraffic>;
  /** Counts a request that was refused before `infer` was reached. */
  recordRefusal(model: string, version: number | undefined, protocol: string, code: ErrorCode): void;
  /** All metrics in Prometheus' text format. */
  metrics(): Promise<string>;
}
