import type { Clock } from './batching/clock.js';
import { type ErrorCode, errorToData, messageOf, ServingError } from './errors.js';
import type { ModelLoader } from './model/model-loader.js';
import type { ModelRegistry } from './model/model-registry.js';
import { ModelVersion } from './model/model-version.js';
import type { TableUpkeep } from './model/table-upkeep.js';
import type { Logger } from './observe/logger.js';
import type { ModelStats } from './observe/model-stats.js';
import type { ModelEntry, RepositoryEntry } from './repository/layout.js';
import type {
  InferAnswer,
  InferCall,
  InferenceService,
  ModelStatus,
  ModelView,
  NamedTensor,
} from './server/service.js';

/** What the service works with. */
export interface ModelServiceOptions {
  readonly registry: ModelRegistry;
  readonly loader: ModelLoader;
  /** Gets the tables of every version that is ready. */
  readonly upkeep: TableUpkeep;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether requests may load and unload models. */
  readonly modelControl: 'none' | 'explicit';
  /** Looks a model up in the configured places again. Empty when it is not there. */
  readonly findEntries: (name: string) => Promise<readonly RepositoryEntry[]>;
  readonly metrics: () => Promise<string>;
}

/** The models of a runtime as its front ends see them. */
export class ModelService implements InferenceService {
  readonly #options: ModelServiceOptions;
  readonly #refusals = new Map<string, number>();
  /** The last load or unload of each model: they go one after the other. */
  readonly #changes = new Map<string, Promise<unknown>>();
  #nextId = 1;
  #isDraining = false;

  constructor(options: ModelServiceOptions) {
    this.#options = options;
  }

  get isReady(): boolean {
    return !this.#isDraining && this.#options.registry.hasReady;
  }

  /** Requests refused before a version was found, by protocol and code. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals;
  }

  /** Reports not ready from now on; requests are still answered. */
  drain(): void {
    this.#isDraining = true;
  }

  async infer(call: InferCall): Promise<InferAnswer> {
    const startedAt = this.#options.clock.now();
    const decode = call.decodeSeconds ?? 0;
    const version = this.#find(call);
    const { stats } = version;
    version.leases.lease();
    try {
      const running = version.infer(call);
      const tensors = await running.result;
      // Its rows were found to be damaged while it ran.
      if (version.error) throw version.error;
      const specs = version.served!.rules.signature.outputs;
      const seconds = (this.#options.clock.now() - startedAt) / 1000;
      if (call.decodeSeconds !== undefined) stats.stages.decode.record(decode);
      stats.recordRequest(call.protocol, 'ok', seconds, Date.now());
      return new Answer(
        version,
        running.fetch.map((index, position) => ({ name: specs[index]!.name, tensor: tensors[position]! })),
        decode + seconds,
      );
    } catch (error) {
      const seconds = (this.#options.clock.now() - startedAt) / 1000;
      const { code } = errorToData(error);
      stats.recordRequest(call.protocol, code, seconds, Date.now());
      if (code === 'SRV_MODEL_CORRUPT') this.#replaceCorrupt(version);
      if (code === 'SRV_TABLE_CORRUPT') this.#retire(version, error as ServingError);
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
    return [...registry.versions().map(statusOf), ...broken];
  }

  model(name: string, number?: number): ModelView {
    const { registry } = this.#options;
    const version = registry.find(name, number);
    const served = version.served!;
    return {
      ...statusOf(version),
      signature: served.rules.signature,
      anyRank: served.rules.anyRank,
      readyVersions: registry
        .readyVersions(name)
        .map((ready) => ready.version)
        .reverse(),
      maxBatchSize: served.rules.canMerge ? served.maxBatchSize : 0,
      maxQueueDelayUs: served.maxQueueDelayUs,
      instances: served.groups.map((group) => ({ device: group.device.name, count: group.size })),
      stats: version.stats,
      fileBytes: served.prepared.fileBytes,
    };
  }

  async loadModel(name: string): Promise<void> {
    this.#requireControl();
    await this.#change(name, async () => {
      const entries = await this.#options.findEntries(name);
      if (entries.length === 0) {
        throw new ServingError(
          'SRV_MODEL_NOT_FOUND',
          `failed to load '${name}', no model of this name is in the repository`,
        );
      }
      await this.loadEntries(name, entries);
    });
  }

  async unloadModel(name: string): Promise<void> {
    this.#requireControl();
    await this.#change(name, async () => {
      const { registry } = this.#options;
      if (!registry.has(name)) {
        throw new ServingError('SRV_MODEL_NOT_FOUND', `failed to unload '${name}': unknown model`);
      }
      await Promise.all(registry.versionsOf(name).map((version) => this.#unload(version)));
    });
  }

  recordRefusal(model: string, number: number | undefined, protocol: string, code: ErrorCode): void {
    const stats = this.#statsOf(model, number);
    if (stats) {
      stats.recordRequest(protocol, code, 0, Date.now());
      return;
    }
    const key = `${protocol} ${code}`;
    this.#refusals.set(key, (this.#refusals.get(key) ?? 0) + 1);
  }

  metrics(): Promise<string> {
    return this.#options.metrics();
  }

  /**
   * Loads what was found of a model and unloads what it replaces. Versions that serve go on until the new ones are
   * ready; a version that cannot be loaded leaves the one before it in place.
   *
   * @throws why the first wanted version could not be loaded
   */
  async loadEntries(name: string, entries: readonly RepositoryEntry[]): Promise<void> {
    const { registry } = this.#options;
    const broken = entries.filter((entry) => entry.error !== undefined);
    registry.setBroken(name, broken);
    for (const entry of broken) {
      this.#options.logger.error({ model: name, code: entry.error.code }, entry.error.message);
    }
    const wanted = entries.filter((entry) => entry.error === undefined && entry.wanted) as ModelEntry[];
    const before = registry.versionsOf(name);
    const results = await Promise.allSettled(wanted.map((entry) => this.#loadEntry(entry)));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    const first = broken[0];
    if (wanted.length === 0 && first) throw first.error;
    await Promise.all(
      before.filter((version) => version.state === 'ready').map((version) => this.#unload(version)),
    );
  }

  /** Takes a version whose mapped files were damaged out of service and loads it anew. */
  #replaceCorrupt(version: ModelVersion): void {
    if (version.state !== 'ready') return;
    const { name } = version;
    this.#options.logger.error(
      { model: name, version: version.version },
      'a mapped file was truncated; the model is loaded anew',
    );
    void this.#change(name, async () => {
      await this.#unload(version);
      await this.loadEntries(name, await this.#options.findEntries(name));
    }).catch(() => undefined);
  }

  /** Ends the serving of a version whose table is damaged: there is no other source that it could be loaded from. */
  #retire(version: ModelVersion, reason: ServingError): void {
    if (version.state !== 'ready') return;
    const { registry, logger, loader } = this.#options;
    const { name } = version;
    version.fail(reason);
    registry.refresh(name);
    logger.error(
      { model: name, version: version.version, code: reason.code },
      `model ${name} version ${version.version} is not served any more: ${reason.message}`,
    );
    void this.#change(name, () => loader.retire(version, reason)).catch((error: unknown) =>
      logger.error({ model: name, version: version.version }, `it could not be closed: ${messageOf(error)}`),
    );
  }

  async #loadEntry(entry: ModelEntry): Promise<void> {
    const { registry, loader, upkeep, clock, logger } = this.#options;
    const version = new ModelVersion(entry, this.#nextId++, clock);
    const old = registry.versionsOf(entry.name).find((other) => other.version === entry.version);
    const hidesOld = old?.state !== 'ready';
    if (hidesOld) registry.add(version);
    try {
      await loader.load(version);
    } catch (error) {
      logger.error(
        { model: entry.name, version: entry.version, code: errorToData(error).code },
        `model ${entry.name} version ${entry.version} cannot be served: ${messageOf(error)}`,
      );
      throw error;
    }
    registry.add(version);
    registry.refresh(entry.name);
    logger.info(
      { model: entry.name, version: entry.version, loadMs: Math.round(version.served!.loadMs) },
      `model ${entry.name} version ${entry.version} is ready`,
    );
    upkeep.begin(version.served!.tables, (fault) => this.#retire(version, fault));
  }

  async #unload(version: ModelVersion): Promise<void> {
    const done = this.#options.loader.unload(version);
    this.#options.registry.refresh(version.name);
    await done;
    this.#options.logger.info({ model: version.name, version: version.version }, 'unloaded');
  }

  async #change(name: string, change: () => Promise<void>): Promise<void> {
    const before = this.#changes.get(name) ?? Promise.resolve();
    const after = before.then(change, change);
    this.#changes.set(name, after);
    try {
      await after;
    } finally {
      if (this.#changes.get(name) === after) this.#changes.delete(name);
    }
  }

  #requireControl(): void {
    if (this.#options.modelControl === 'explicit') return;
    throw new ServingError(
      'SRV_MODEL_CONTROL_OFF',
      'loading and unloading by request is off; start the server with --model_control explicit',
    );
  }

  #find(call: InferCall): ModelVersion {
    try {
      return this.#options.registry.find(call.model, call.version);
    } catch (error) {
      this.recordRefusal(call.model, call.version, call.protocol, errorToData(error).code);
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

  constructor(version: ModelVersion, outputs: readonly NamedTensor[], seconds: number) {
    this.#version = version;
    this.outputs = outputs;
    this.#seconds = seconds;
  }

  get model(): string {
    return this.#version.name;
  }

  get version(): number {
    return this.#version.version;
  }

  recordEncode(seconds: number): void {
    const { stages } = this.#version.stats;
    stages.encode.record(seconds);
    stages.total.record(this.#seconds + seconds);
  }
}

function statusOf(version: ModelVersion): ModelStatus {
  const { served, error } = version;
  return {
    name: version.name,
    version: version.version,
    state: version.state,
    ...(error ? { reason: error.message, error } : {}),
    ...(version.entry.settings.example ? { example: version.entry.settings.example } : {}),
    devices: served?.groups.map((group) => group.device.name) ?? [],
    ...(served
      ? {
          signature: served.rules.signature,
          hiddenOutputs: served.prepared.hiddenOutputs,
          loadMs: served.loadMs,
          form: served.prepared.form,
          formReason: served.prepared.formReason,
        }
      : {}),
  };
}
