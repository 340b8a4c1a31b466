import type { GuardSettings, SplitSettings, TrafficStep } from '../config/traffic-settings.js';
import type { ErrorCode, ServingError } from '../errors.js';
import type { VersionState } from '../lifecycle/version.js';
import type { ModelStats } from '../observe/model-stats.js';
import type { VariantStats } from '../observe/variant-stats.js';
import type { Signature, Tensor } from '../tensor/tensor.js';

/** A tensor under the name of an input or output. */
export interface NamedTensor {
  readonly name: string;
  readonly tensor: Tensor;
}

/** What the choice of a variant may look at. Read only where a public name asks for it. */
export interface RequestRouting {
  /** The id of the request, if it has one. */
  readonly id: string | undefined;
  /** A member of the request's parameters, as it came. */
  parameter(name: string): unknown;
  /** A header of the request, whatever the case of its name. */
  header(name: string): string | undefined;
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
  /** Absent: the request has no key, so that chance decides where variants are. */
  readonly routing?: RequestRouting | undefined;
  /**
   * Takes how the request is to be counted where its model could not be loaded for it: it may be answered elsewhere.
   * Absent: it is counted at once.
   */
  readonly deferRefusal?: ((count: () => void) => void) | undefined;
  /** Counts the request for the variant that it was given to; absent where its name is not split. */
  readonly variantStats?: VariantStats | undefined;
}

/** An answered inference. The tensors are the caller's own. */
export interface InferAnswer {
  /** The name that was asked for. */
  readonly model: string;
  readonly version: number;
  /** The tag of the variant that answered; absent where the name is not split. */
  readonly variant?: string | undefined;
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

/** Which sample of the requests of a model is wanted: see `InferenceService.sampleTraffic`. */
export interface SampleOptions {
  readonly count: number;
  readonly ms?: number;
  readonly signal?: AbortSignal;
  readonly keeps?: boolean;
}

/** A sample of the requests of a model. */
export interface SampledTraffic {
  /** Binary bodies, one behind the other; empty when there were no requests. */
  readonly bytes: Buffer;
  readonly requests: number;
  /** Requests that it was drawn from. */
  readonly seen: number;
  /** Where it was kept for the next version; absent where that was not asked for or did not work, or it is empty. */
  readonly file?: string;
  /** Why it could not be kept. */
  readonly failure?: string;
}

/** A variant whose target is ready. */
export interface VariantRef {
  readonly tag: string;
  readonly model: string;
  readonly version: number;
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
  /** What stands behind a public name, which has no versions of its own; absent for a model. */
  readonly variants?: readonly VariantRef[];
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

/** What a variant or shadow stands for. */
interface TargetStatus {
  readonly tag: string;
  readonly model: string;
  /** The version that answers now; null while none is ready. */
  readonly version: number | null;
  readonly label?: string;
}

/** A variant as operators see it. Counts are since the start, `recent` is what its guard looks at. */
export interface VariantStatus extends TargetStatus {
  readonly weight: number;
  /** Its part of all weights, 0 to 1. */
  readonly share: number;
  readonly requests: number;
  readonly errors: number;
  /** Requests meant for it that went to others, or failed, because it was not ready. */
  readonly not_ready: number;
  readonly recent: {
    readonly requests: number;
    readonly errors: number;
    readonly p50_ms: number | null;
    readonly p99_ms: number | null;
  };
}

/** A shadow as operators see it. */
export interface ShadowStatus extends TargetStatus {
  readonly sample: number;
  /** Copies whose answer was compared, that failed, and that were dropped unsent. */
  readonly compared: number;
  readonly failed: number;
  readonly shed: number;
  /** Why the last one failed. */
  readonly last_failure: string | null;
  /** The largest since the start; null before the first, and where it is infinite as text. */
  readonly max_abs_difference: number | 'Infinity' | null;
  readonly argmax_flips: number;
  readonly argmax_rows: number;
  /** Mean of the shadow's latency less that of the served answer. */
  readonly latency_difference_ms: number | null;
}

/** Why and when a variant was taken out. */
export interface RollbackStatus {
  readonly variant: string;
  readonly limit: 'error_rate' | 'p99';
  readonly reason: string;
  /** ISO 8601. */
  readonly at: string;
}

/** What is split under a public name, as operators see it: the document of the routes, key by key. */
export interface TrafficStatus {
  readonly name: string;
  /** The tag of the variant that stands for the others: in metadata, and for the guard. */
  readonly control: string;
  readonly phase: 'steady' | 'stepping' | 'done' | 'rolled_back';
  readonly variants: readonly VariantStatus[];
  readonly shadow: readonly ShadowStatus[];
  readonly sticky: SplitSettings['sticky'] | null;
  readonly guard: GuardSettings | null;
  readonly steps: readonly TrafficStep[];
  /** Which step holds now, from 1; null without steps. */
  readonly step: number | null;
  readonly rollback: RollbackStatus | null;
}

/** A change of what is split: new weights for all variants, or new steps from the first on. */
export type TrafficChange =
  | { readonly weights: Readonly<Record<string, number>>; readonly steps?: undefined }
  | { readonly steps: readonly TrafficStep[]; readonly weights?: undefined };

/** Public names and what they are split over. */
export interface TrafficControl {
  list(): readonly TrafficStatus[];
  /** @throws SRV_TRAFFIC_NOT_FOUND */
  get(name: string): TrafficStatus;
  /**
   * Changes weights or steps. The next request is chosen by them.
   *
   * @param change as it came, to be checked
   * @throws SRV_TRAFFIC_NOT_FOUND, SRV_BAD_REQUEST, SRV_MODEL_CONTROL_OFF at a front end
   */
  set(name: string, change: unknown): Promise<TrafficStatus>;
}

/** What a front end needs of a runtime. Errors are `ServingError`s. */
export interface InferenceService {
  /** Whether new requests may come: at least one version is ready and no drain has begun. */
  readonly isReady: boolean;
  /** Public names; absent where nothing can be split. */
  readonly traffic?: TrafficControl;
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
   * Reads `model_config_file` again: the new set takes the place of the old one. The loads that follow are not awaited.
   *
   * @throws SRV_MODEL_CONTROL_OFF, SRV_BAD_CONFIG, SRV_IO; the old set is served on then
   */
  readModelsConfig(): Promise<void>;
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
   * @param options.keeps writes it where the next version of the model finds it, in the place of what lies there
   * @throws SRV_MODEL_CONTROL_OFF, SRV_MODEL_NOT_FOUND; SRV_BAD_REQUEST when no sample is kept, or one is being drawn
   */
  sampleTraffic(model: string, options: SampleOptions): Promise<SampledTraffic>;
  /** Counts a request that was refused before `infer` was reached. */
  recordRefusal(model: string, version: number | undefined, protocol: string, code: ErrorCode): void;
  /** All metrics in Prometheus' text format. */
  metrics(): Promise<string>;
}
