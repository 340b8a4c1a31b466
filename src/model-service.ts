import type { Clock } from './batching/clock.js';
import { type ErrorCode, errorToData, ServingError } from './errors.js';
import { FirstUseQueue } from './model/first-use-queue.js';
import type { ModelLifecycle } from './model/model-lifecycle.js';
import type { ModelRegistry } from './model/model-registry.js';
import type { ModelVersion } from './model/model-version.js';
import { type QueueDefaults, type QueueRules, queueRulesOf } from './model/queue-rules.js';
import type { ModelStats, RequestStats } from './observe/model-stats.js';
import type {
  InferAnswer,
  InferCall,
  InferenceService,
  ModelStatus,
  ModelView,
  NamedTensor,
  SampledTraffic,
  SampleOptions,
} from './server/service.js';
import type { TrafficRecorder } from './warmup/traffic-recorder.js';

/** What the service works with. */
export interface ModelServiceOptions {
  readonly registry: ModelRegistry;
  readonly lifecycle: ModelLifecycle;
  readonly clock: Clock;
  /** What holds for the requests of models that do not say so themselves. */
  readonly queueDefaults: QueueDefaults;
  /** Reads the `models.config` again, where there is one. */
  readonly readModelsConfig: () => Promise<void>;
  /** Whether requests may load and unload models. */
  readonly modelControl: 'none' | 'explicit';
  readonly metrics: () => Promise<string>;
  /** Takes what was answered. */
  readonly recorder: TrafficRecorder;
}

/** The models of a runtime as its front ends see them. */
export class ModelService implements InferenceService {
  readonly #options: ModelServiceOptions;
  readonly #firstUses: FirstUseQueue;
  readonly #refusals = new Map<string, number>();
  #isDraining = false;

  constructor(options: ModelServiceOptions) {
    this.#options = options;
    const { clock, lifecycle } = options;
    this.#firstUses = new FirstUseQueue({ clock, load: (model) => lifecycle.wake(model) });
  }

  get isReady(): boolean {
    const { registry, lifecycle } = this.#options;
    return !this.#isDraining && (registry.hasReady || lifecycle.hasDormant);
  }

  /** Requests refused before a version was found, by protocol and code. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals;
  }

  /** Reports not ready from now on; requests are still answered. */
  drain(): void {
    this.#isDraining = true;
    this.#options.recorder.drain();
  }

  async infer(call: InferCall): Promise<InferAnswer> {
    const startedAt = this.#options.clock.now();
    const decode = call.decodeSeconds ?? 0;
    const { lifecycle } = this.#options;
    const version = lifecycle.isDormant(call.model) ? await this.#wake(call, startedAt) : this.#find(call);
    const { stats } = version;
    const counted = call.variantStats?.of(stats) ?? stats;
    version.lastUsedAt = startedAt;
    version.leases.lease();
    try {
      const running = version.infer(call, startedAt);
      const tensors = await running.result;
      // Its rows were found to be damaged while it ran.
      if (version.error) throw version.error;
      const specs = version.served!.rules.signature.outputs;
      const seconds = (this.#options.clock.now() - startedAt) / 1000;
      if (call.decodeSeconds !== undefined) counted.stages.decode.record(decode);
      stats.recordRequest(call.protocol, 'ok', seconds, Date.now(), counted);
      // A copy for a shadow was sent by nobody.
      if (this.#options.recorder.isListening && call.protocol !== 'shadow') this.#sample(version, call);
      return new Answer(
        version,
        running.fetch.map((index, position) => ({ name: specs[index]!.name, tensor: tensors[position]! })),
        decode + seconds,
        counted,
      );
    } catch (error) {
      const seconds = (this.#options.clock.now() - startedAt) / 1000;
      const { code } = errorToData(error);
      stats.recordRequest(call.protocol, code, seconds, Date.now(), counted);
      if (code === 'SRV_MODEL_CORRUPT') this.#options.lifecycle.replaceCorrupt(version);
      if (code === 'SRV_TABLE_CORRUPT') this.#options.lifecycle.fail(version, error as ServingError);
      throw error;
    } finally {
      version.leases.release();
    }
  }

  listModels(): readonly ModelStatus[] {
    const { registry } = this.#options;
    const broken = registry.broken().map(
      ({ name, version, error }): ModelStatus => ({
        name,
        version: version ?? 1,
        state: 'failed',
        reason: error.message,
        error,
        devices: [],
      }),
    );
    return [...registry.versions().map((version) => this.#statusOf(version)), ...broken];
  }

  model(name: string, number?: number, label?: string): ModelView {
    const { registry } = this.#options;
    const version = registry.find(name, number, label);
    const served = version.served!;
    return {
      ...this.#statusOf(version),
      modelLabels: registry.labelsOf(name),
      versionPolicy: version.policyJson,
      parameters: version.entry.tritonConfig?.parameters ?? {},
      signature: served.rules.signature,
      anyRank: served.rules.anyRank,
      readyVersions: registry
        .readyVersions(name)
        .map((ready) => ready.version)
        .reverse(),
      maxBatchSize: served.rules.canMerge ? served.maxBatchSize : 0,
      maxQueueDelayUs: served.maxQueueDelayUs,
      preferredBatchSizes: version.entry.settings.preferredBatchSize ?? [],
      instances: served.groups.map((group) => ({ device: group.device.name, count: group.size })),
      stats: version.stats,
      fileBytes: served.prepared.fileBytes,
    };
  }

  labels(name: string): Readonly<Record<string, number>> {
    const { registry } = this.#options;
    if (registry.has(name)) return registry.labelsOf(name);
    throw new ServingError('SRV_MODEL_NOT_FOUND', `Request for unknown model: '${name}' is not found`);
  }

  setLabels(name: string, changes: Readonly<Record<string, number | null>>): void {
    this.#requireControl();
    this.#options.lifecycle.moveLabels(name, changes);
  }

  async loadModel(name: string, config?: string): Promise<void> {
    this.#requireControl();
    await this.#options.lifecycle.load(name, config);
  }

  async unloadModel(name: string): Promise<void> {
    this.#requireControl();
    await this.#options.lifecycle.unload(name);
  }

  async readModelsConfig(): Promise<void> {
    this.#requireControl();
    await this.#options.readModelsConfig();
  }

  async rollbackModel(name: string): Promise<number> {
    this.#requireControl();
    return this.#options.lifecycle.rollback(name);
  }

  async sampleTraffic(
    model: string,
    { count, ms, signal, keeps = false }: SampleOptions,
  ): Promise<SampledTraffic> {
    this.#requireControl();
    const { registry, recorder } = this.#options;
    const { name, entry } = registry.find(model, undefined);
    const sample =
      ms === undefined ? recorder.sampleOf(name) : await recorder.listen(name, { count, ms, signal });
    if (!sample) {
      throw new ServingError(
        'SRV_BAD_REQUEST',
        `no sample of the requests of '${model}' is kept; start the server with --record_warmup N and send it requests, or ask for those to come (seconds)`,
      );
    }
    if (!keeps || sample.requests === 0 || signal?.aborted) return sample;
    try {
      return { ...sample, file: await recorder.keep(name, entry.directory, sample) };
    } catch (error) {
      return { ...sample, failure: errorToData(error).message };
    }
  }

  recordRefusal(model: string, number: number | undefined, protocol: string, code: ErrorCode): void {
    this.#refuse({ model, version: number, protocol }, code);
  }

  #refuse(
    {
      model,
      version,
      protocol,
      variantStats,
    }: Pick<InferCall, 'model' | 'version' | 'protocol' | 'variantStats'>,
    code: ErrorCode,
  ): void {
    const stats = this.#statsOf(model, version);
    if (stats) stats.recordRequest(protocol, code, 0, Date.now(), variantStats?.of(stats));
    else this.#countRefusal(protocol, code);
  }

  #countRefusal(protocol: string, code: ErrorCode): void {
    const key = `${protocol} ${code}`;
    this.#refusals.set(key, (this.#refusals.get(key) ?? 0) + 1);
  }

  metrics(): Promise<string> {
    return this.#options.metrics();
  }

  #statusOf(version: ModelVersion): ModelStatus {
    const labels = Object.entries(this.#options.registry.labelsOf(version.name));
    return statusOf(
      version,
      labels.flatMap(([label, number]) => (number === version.version ? [label] : [])),
    );
  }

  #sample({ name, entry, stats }: ModelVersion, call: InferCall): void {
    this.#options.recorder.offer({ name, directory: entry.directory, batchSizes: stats.batchSizes }, call);
  }

  #requireControl(): void {
    if (this.#options.modelControl === 'explicit') return;
    throw new ServingError(
      'SRV_MODEL_CONTROL_OFF',
      'loading and unloading by request is off; start the server with --model_control explicit',
    );
  }

  /** Loads a model with the first request for it. */
  async #wake(call: InferCall, arrivedAt: number): Promise<ModelVersion> {
    try {
      await this.#firstUses.wait(call, this.#queueRulesOf(call), arrivedAt);
    } catch (error) {
      const count = (): void => this.#refuse(call, errorToData(error).code);
      if (call.deferRefusal) call.deferRefusal(count);
      else count();
      throw error;
    }
    return this.#find(call);
  }

  /** The rules of the version that a request to a dormant model is for. */
  #queueRulesOf({ model, version, label }: InferCall): QueueRules {
    const { registry, queueDefaults } = this.#options;
    const number = label === undefined ? version : registry.labelsOf(model)[label];
    const newest = registry.versionsOf(model).toSorted((a, b) => b.version - a.version);
    const wanted =
      newest.find((one) => one.version === number) ?? newest.find(({ isDormant }) => isDormant) ?? newest[0];
    return queueRulesOf(wanted?.entry.settings ?? {}, queueDefaults);
  }

  #find(call: InferCall): ModelVersion {
    try {
      return this.#options.registry.find(call.model, call.version, call.label);
    } catch (error) {
      const { code } = errorToData(error);
      if (call.label === undefined) this.#refuse(call, code);
      else this.#countRefusal(call.protocol, code);
      throw error;
    }
  }

  #statsOf(model: string, number: number | undefined): ModelStats | undefined {
    const { registry } = this.#options;
    return number === undefined
      ? registry.readyVersions(model)[0]?.stats
      : registry.versionsOf(model).find((version) => version.version === number)?.stats;
  }
}

class Answer implements InferAnswer {
  readonly outputs: readonly NamedTensor[];
  readonly #version: ModelVersion;
  readonly #seconds: number;
  readonly #counted: RequestStats;

  constructor(
    version: ModelVersion,
    outputs: readonly NamedTensor[],
    seconds: number,
    counted: RequestStats,
  ) {
    this.#version = version;
    this.outputs = outputs;
    this.#seconds = seconds;
    this.#counted = counted;
  }

  get model(): string {
    return this.#version.name;
  }

  get version(): number {
    return this.#version.version;
  }

  recordEncode(seconds: number): void {
    const { stages } = this.#counted;
    stages.encode.record(seconds);
    stages.total.record(this.#seconds + seconds);
  }
}

function statusOf(version: ModelVersion, labels: readonly string[]): ModelStatus {
  const { served, error, reloadError } = version;
  return {
    name: version.name,
    version: version.version,
    state: version.state,
    ...(version.isDormant ? { reason: 'it is loaded when it is used' } : {}),
    ...(version.isKept && version.state === 'ready' ? { reason: 'kept for a rollback' } : {}),
    ...(reloadError ? { reason: `its new content is not served: ${reloadError.message}` } : {}),
    ...(error ? { reason: error.message, error } : {}),
    ...(labels.length > 0 ? { labels } : {}),
    ...(version.entry.settings.example ? { example: version.entry.settings.example } : {}),
    devices: served?.groups.map((group) => group.device.name) ?? [],
    ...(served
      ? {
          signature: served.rules.signature,
          hiddenOutputs: served.prepared.hiddenOutputs,
          loadMs: served.loadMs,
          ...(served.warmUp ? { warmUp: { ...served.warmUp } } : {}),
          form: served.prepared.form,
          formReason: served.prepared.formReason,
        }
      : {}),
  };
}
