// Longer than most files: it is the one place where everything is wired, and the embedder's door to all of it.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Batcher } from './batching/batcher.js';
import { ByteBudget } from './batching/byte-budget.js';
import { type Clock, systemClock } from './batching/clock.js';
import { Scheduler } from './batching/scheduler.js';
import { resolveRuntimeConfig } from './config/load.js';
import { isAddress } from './config/place.js';
import type { RuntimeConfig, RuntimeOptions } from './config/schema.js';
import type { SplitSettings } from './config/traffic-settings.js';
import { ServingError } from './errors.js';
import { CrashMemory } from './instance/crash-journal.js';
import { openGroups, requireProviders } from './instance/device-groups.js';
import type { InstanceGroup } from './instance/instance-group.js';
import { MainInstance } from './instance/main-instance.js';
import { type SlabMemory, SlotAllocator } from './instance/slab.js';
import { MemoryState, StateFile } from './lifecycle/state-file.js';
import { ModelLifecycle } from './model/model-lifecycle.js';
import { ModelLoader } from './model/model-loader.js';
import { ModelRegistry } from './model/model-registry.js';
import type { ModelVersion } from './model/model-version.js';
import { Preparer } from './model/preparer.js';
import { TableUpkeep } from './model/table-upkeep.js';
import { TakenFiles } from './model/taken-files.js';
import { readKeptLabels } from './model/version-labels.js';
import { ModelService } from './model-service.js';
import type { Monitor } from './monitor/monitor.js';
import { Monitors, type MonitorsOptions } from './monitor/monitors.js';
import { RemoteModels } from './monitor/remote-models.js';
import { RemoteRepository } from './monitor/remote-repository.js';
import { installMappedFileGuard } from './native/binding.js';
import { type Logger, silentLogger } from './observe/logger.js';
import { MetricsPage, type RuntimeMetrics } from './observe/metrics.js';
import { isAlive, processIdentity } from './process-identity.js';
import { fingerprintOf } from './repository/fingerprint.js';
import { type ModelEntry, policyIn } from './repository/layout.js';
import { ModelSource } from './repository/model-source.js';
import { StampReader, type StampRule, stampFileOf, stampRuleOf } from './repository/stamp-file.js';
import { type VersionPolicy, wantedVersions } from './repository/version-policy.js';
import type { ModelStatus, RequestRouting, TrafficControl } from './server/service.js';
import type { Tensor, TensorMap } from './tensor/tensor.js';
import { ModelTargets } from './traffic/model-targets.js';
import { TrafficService } from './traffic/traffic-service.js';
import { TrafficRecorder } from './warmup/traffic-recorder.js';

/** How long new files must have been left alone before they are taken for whole, ms. */
const settleMs = 300;

/** What a runtime may be handed instead of making it itself. */
export interface RuntimeDependencies {
  /** @default no log */
  readonly logger?: Logger;
  /** @default the system's clock */
  readonly clock?: Clock;
  /** Gives the opening up: models that are being prepared are left, and the promise is rejected. */
  readonly signal?: AbortSignal;
  /** What is being fetched before the start can go on; undefined when that has ended. @default nobody looks at it */
  readonly onFetch?: MonitorsOptions['onProgress'];
  /** What slabs are made of. @default addon memory where the runtime allows it */
  readonly slabMemory?: SlabMemory;
  /** Module of the worker's tasks; for tests of what happens when a worker fails. */
  readonly workerFile?: string;
}

/** Options of one inference. */
export interface InferOptions {
  /** Version to run. @default the newest that is ready */
  readonly version?: number;
  /** A label, in the place of a version. @default none */
  readonly label?: string;
  /** Names of the wanted outputs. @default all */
  readonly outputs?: readonly string[];
  /** How long the request may wait for its run, in ms. @default the model's, else request_timeout_ms */
  readonly timeoutMs?: number;
  /** 1 is the most urgent; each level is worth a second of waiting. @default 5 */
  readonly priority?: number;
  /** Withdraws the request while it waits; once it runs, its result is dropped. */
  readonly signal?: AbortSignal;
  /**
   * Who or what the request is about, such as a user's id: a public name that is split by a key looks at it, whatever
   * it calls its key. @default chance decides
   */
  readonly routingKey?: string;
}

/** What an inference gives back. */
export interface InferResult {
  readonly model: string;
  readonly version: number;
  /** The tag of the variant that answered; absent where the model's name is not split. */
  readonly variant?: string;
  /** Output tensors by name; the caller owns them. */
  readonly outputs: TensorMap;
}

/**
 * Opens a runtime: finds the models, prepares them, loads them into the instances of each device.
 *
 * A model that cannot be loaded does not stop the others: it is listed as `failed` with its reason.
 *
 * @example
 * const rt = await openRuntime({ models: [{ path: './model.onnx', name: 'mlp' }] });
 * const { outputs } = await rt.infer('mlp', { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) });
 * await rt.close();
 * @throws SRV_BAD_CONFIG for options that are not valid, SRV_PROVIDER_MISSING when a card's provider is not
 * installed, SRV_IO when the repository cannot be read, SRV_CANCELLED when `signal` was aborted
 */
export async function openRuntime(
  options: RuntimeOptions,
  dependencies: RuntimeDependencies = {},
): Promise<Runtime> {
  const { signal } = dependencies;
  const runtime = new Runtime(resolveRuntimeConfig(options), dependencies);
  const giveUp = (): void => void runtime.close({ timeoutMs: 0 });
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    await runtime.start();
    if (signal?.aborted) throw new ServingError('SRV_CANCELLED', 'the opening was given up');
    return runtime;
  } catch (error) {
    await runtime.close({ timeoutMs: 0 });
    throw error;
  } finally {
    signal?.removeEventListener('abort', giveUp);
  }
}

/** An open runtime: models, their queues and the instances that run them. Made by `openRuntime`. */
export class Runtime {
  readonly config: RuntimeConfig;
  /** What a front end needs: the same models, queue and limits as `infer`. */
  readonly service: TrafficService;
  /** Public names whose requests are split: their state, and the door to change their weights. */
  readonly traffic: TrafficControl;
  readonly #models: ModelService;
  readonly #logger: Logger;
  readonly #onFetch: RuntimeDependencies['onFetch'];
  readonly #groups: readonly InstanceGroup[];
  readonly #mainInstance: MainInstance | undefined;
  readonly #scheduler: Scheduler;
  readonly #slots: SlotAllocator;
  readonly #queueBytes: ByteBudget;
  readonly #preparer: Preparer;
  readonly #upkeep: TableUpkeep;
  readonly #monitors: Monitors;
  readonly #remoteModels: RemoteModels<VersionPolicy>;
  readonly #remoteRepository: RemoteRepository | undefined;
  readonly #taken: TakenFiles;
  readonly #lifecycle: ModelLifecycle;
  readonly #source: ModelSource;
  readonly #stop = new AbortController();
  readonly #crashes: CrashMemory;
  readonly #registry: ModelRegistry;
  readonly #metrics: MetricsPage;
  readonly #recorder: TrafficRecorder;
  /** Holds the event loop while callers of this process wait: threads, and the timers of queues, do not. */
  readonly #holdLoop = setInterval(() => undefined, 2 ** 31 - 1).unref();
  /** Monitors of the configuration, which begin with the start. */
  readonly #configured: Monitor[] = [];
  /** The loads of the start, which it waits for. */
  readonly #atStart: Promise<void>[] = [];
  #isStarted = false;
  #waiting = 0;
  #closing: Promise<void> | undefined;

  /** @internal Use `openRuntime`. */
  constructor(config: RuntimeConfig, dependencies: RuntimeDependencies) {
    const clock = dependencies.clock ?? systemClock;
    this.config = config;
    this.#onFetch = dependencies.onFetch;
    this.#logger = dependencies.logger ?? silentLogger();
    const state =
      config.stateFile === undefined ? new MemoryState() : new StateFile(config.stateFile, this.#logger);
    this.#registry = new ModelRegistry({
      allowUnavailableLabels: config.allowVersionLabelsForUnavailableModels,
      keptLabels: readKeptLabels(state.get('labels')),
      onLabels: (labels) => state.set('labels', labels),
    });
    this.#scheduler = new Scheduler(clock);
    this.#slots = new SlotAllocator({ maxBytes: config.maxSlabBytes, memory: dependencies.slabMemory });
    this.#queueBytes = new ByteBudget(config.maxQueueBytes);
    this.#groups = openGroups(config, {
      workerFile: dependencies.workerFile,
      events: {
        onIdle: () => this.#scheduler.onIdle(),
        onInstanceLost: (group, index, reason) =>
          this.#logger.error({ device: group.device.name, instance: index }, `instance lost: ${reason}`),
        onInstanceReplaced: (group, index, failures) =>
          this.#logger.warn({ device: group.device.name, instance: index, failures }, 'instance replaced'),
      },
    });
    this.#preparer = new Preparer({
      cacheDirectory: config.cacheDir,
      cacheMaxBytes: config.cacheBytes,
      modelTimeoutMs: config.prepareTimeoutMs,
      onEngineLine: (line, path) => this.#logger.debug({ path }, `engine: ${line}`),
    });
    this.#crashes = new CrashMemory({
      directory: join(config.cacheDir, 'journal'),
      identity: processIdentity(process.pid),
      isAlive,
    });
    this.#mainInstance = config.idlePath === 'auto' ? new MainInstance() : undefined;
    const serverRule: StampRule = {
      meta: config.reloadableMeta === undefined ? undefined : resolve(config.reloadableMeta),
      type: config.reloadableType,
    };
    const stampRule = (entry: ModelEntry): StampRule => stampRuleOf(entry, serverRule);
    this.#taken = new TakenFiles({ directory: join(config.cacheDir, 'taken'), settleMs });
    const loader = new ModelLoader({
      config,
      takeOver: async (entry) => {
        const stamp = stampFileOf(entry, stampRule(entry));
        return stamp !== undefined && existsSync(stamp) ? this.#taken.take(entry.modelFile) : undefined;
      },
      groups: this.#groups,
      mainInstance: this.#mainInstance,
      preparer: this.#preparer,
      scheduler: this.#scheduler,
      slots: this.#slots,
      queueBytes: this.#queueBytes,
      clock,
      crashes: this.#crashes,
      closing: this.#stop.signal,
      isServing: () => this.#registry.hasReady,
      onNote: ({ name, version }, note, level = 'warn') =>
        this.#logger[level]({ model: name, version }, note),
    });
    this.#monitors = new Monitors({
      logger: this.#logger,
      clock,
      onProgress: (progress) => {
        if (!this.#isStarted) this.#onFetch?.(progress);
      },
      onAbsence: (directory) => this.#source.look(directory),
    });
    for (const monitor of config.monitors) this.#configured.push(this.#monitors.make(monitor));
    const remote = {
      directory: join(resolve(config.cacheDir), 'remote'),
      intervalS: config.reloadIntervalS,
      monitors: this.#monitors,
      chooseVersions: chooseRemoteVersions,
    };
    this.#remoteModels = new RemoteModels(remote);
    const listedModels = new RemoteModels<VersionPolicy>(remote);
    const { modelRepository } = config;
    this.#remoteRepository =
      modelRepository !== undefined && isAddress(modelRepository)
        ? new RemoteRepository({
            ...remote,
            address: modelRepository,
            logger: this.#logger,
            clock,
            chooseVersions: (directory, present) => chooseRemoteVersions(directory, undefined, present),
          })
        : undefined;
    this.#upkeep = new TableUpkeep({
      verifies: config.verifyTables === 'background',
      compactFrom: config.compactTables,
      logger: this.#logger,
    });
    const stamps = new StampReader();
    this.#lifecycle = new ModelLifecycle({
      registry: this.#registry,
      loader,
      upkeep: this.#upkeep,
      clock,
      logger: this.#logger,
      fingerprintOf: (entry: ModelEntry) => fingerprintOf(entry, stamps, stampRule(entry)),
      findEntries: (name) => this.#source.find(name),
      onWanted: (name) => this.#source.watchAgain(name),
      keepPrevious: config.keepPrevious,
      order: config.reload,
      retries: config.fileSystemPollWaitSeconds > 0,
      state,
      onFirstUse: config.loadModels === 'on_first_use',
      memoryLimitBytes: config.modelMemoryLimitBytes,
    });
    this.#source = new ModelSource({
      models: config.models.map((model) =>
        isAddress(model.path) ? { ...model, ...this.#remoteModels.placedAt(model) } : model,
      ),
      modelRepository: this.#remoteRepository?.directory ?? modelRepository,
      remote: {
        placeOf: (model) => listedModels.placedAt(model).path,
        absenceOf: (directory) => this.#monitors.absenceOf(directory),
        follow: (models) => listedModels.follow(models),
      },
      modelConfigFile: config.modelConfigFile,
      configPollMs: config.modelConfigFilePollWaitSeconds * 1000,
      clock,
      logger: this.#logger,
      pollMs: Math.min(config.fileSystemPollWaitSeconds, config.reloadIntervalS) * 1000,
      settleMs,
      stampRule,
      asWanted: (name, entries) => this.#lifecycle.asWanted(name, entries),
      announce: (name, entries) => {
        const followed = this.#lifecycle.announce(name, entries);
        if (!this.#isStarted) this.#atStart.push(followed);
      },
    });
    this.#metrics = new MetricsPage(() => this.#collectMetrics());
    this.#recorder = new TrafficRecorder({
      count: config.recordWarmup,
      maxBytes: config.recordWarmupBytes,
      intervalMs: config.recordWarmupIntervalMs,
      directory: config.recordWarmupDir,
      clock,
      onFailure: (model, message) =>
        this.#logger.warn({ model }, `its sample of traffic is lost: ${message}`),
    });
    this.#models = new ModelService({
      recorder: this.#recorder,
      registry: this.#registry,
      lifecycle: this.#lifecycle,
      queueDefaults: config,
      readModelsConfig: () => this.readModelsConfig(),
      clock,
      modelControl: config.modelControl,
      metrics: () => this.#metrics.text(),
    });
    this.service = new TrafficService({
      models: this.#models,
      traffic: config.traffic,
      targets: new ModelTargets(this.#registry, (model) => this.#lifecycle.mayWake(model)),
      clock,
      logger: this.#logger,
      state,
      modelControl: config.modelControl,
      hasRoom: () => this.#scheduler.isDrained && this.#groups.some((group) => group.hasIdle),
    });
    this.traffic = this.service.control;
  }

  /** @internal Finds and loads the models of the configuration. */
  async start(): Promise<void> {
    installMappedFileGuard();
    const notRemembered = this.#crashes.open();
    if (notRemembered !== undefined) {
      this.#logger.warn(`native crashes will not be remembered over restarts: ${notRemembered}`);
    }
    // Ending threads inside the engine aborts the process; a caller who exits so blames no model for it.
    process.on('exit', this.#forgetCrashes);
    await requireProviders(this.#groups);
    await this.#taken.removeLeftovers();
    try {
      await this.#bringModels();
      this.#logger.info('loading models');
      await this.#source.start();
    } finally {
      this.#isStarted = true;
      // A fetch that goes on is none of the start any more.
      this.#onFetch?.(undefined);
    }
    // Why a model cannot be served is kept with it; the others go on.
    await Promise.all(this.#atStart.splice(0));
    if (this.#stop.signal.aborted) return;
    this.service.start();
    void this.#lifecycle.wakeAsBefore();
  }

  /** Whether models are brought here from elsewhere, so that what is not here, or cannot be loaded, may still come. */
  get bringsModels(): boolean {
    return this.#remoteRepository !== undefined || this.#monitors.hasAny;
  }

  /** Whether requests may come: no drain has begun and at least one version is ready. */
  get isReady(): boolean {
    return this.service.isReady;
  }

  /** Reports not ready from now on, so that load balancers go elsewhere; requests are still answered. */
  drain(): void {
    this.service.drain();
  }

  /** Every version that is known, failed ones with their reason. */
  listModels(): readonly ModelStatus[] {
    return this.service.listModels();
  }

  /**
   * Takes another `traffic` over, as if it had been configured at the start: all of it, or nothing. A public name that
   * is configured as before keeps what was changed since.
   *
   * @throws SRV_BAD_CONFIG
   */
  async configureTraffic(traffic: Readonly<Record<string, SplitSettings>>): Promise<void> {
    this.service.configure(resolveRuntimeConfig({ traffic }).traffic);
  }

  /** All metrics in Prometheus' text format. */
  metrics(): Promise<string> {
    return this.service.metrics();
  }

  /**
   * Loads a model of the configured places, or loads it again. Requests go on meanwhile.
   *
   * @param options.config what wins over the model's files until the next load: settings as in `model.json` (its keys), or
   * Triton's model configuration in its JSON form
   * @throws SRV_MODEL_NOT_FOUND, SRV_BAD_CONFIG, SRV_MODEL_UNSUPPORTED, or why it could not be loaded; what was served is served on then
   */
  async load(
    model: string,
    options: { readonly config?: Readonly<Record<string, unknown>> } = {},
  ): Promise<void> {
    const { config } = options;
    await this.#lifecycle.load(model, config && JSON.stringify(config));
  }

  /**
   * Reads `modelConfigFile` again: the new set takes the place of the old one.
   *
   * @throws SRV_BAD_CONFIG, also without such a file, SRV_IO; the old set is served on then
   */
  async readModelsConfig(): Promise<void> {
    if (this.config.modelConfigFile === undefined) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        'there is no models.config to read: model_config_file is not set',
      );
    }
    await this.#source.readConfigAgain();
  }

  /**
   * Unloads all versions of a model, until it is loaded by `load` or a request. Waits for its running requests.
   *
   * @throws SRV_MODEL_NOT_FOUND
   */
  async unload(model: string): Promise<void> {
    await this.#lifecycle.unload(model);
  }

  /**
   * Puts the version that served before in the place of the one that serves; at once with `keepPrevious`.
   *
   * @returns the version that serves now
   * @throws SRV_MODEL_NOT_FOUND where there is none to go back to, or why it could not be loaded
   */
  async rollback(model: string): Promise<number> {
    return this.#lifecycle.rollback(model);
  }

  /**
   * The versions of a model by label.
   *
   * @throws SRV_MODEL_NOT_FOUND
   */
  labels(model: string): Readonly<Record<string, number>> {
    return this.service.labels(model);
  }

  /**
   * Points labels of a model to ready versions, and `null` to none; all of them or, when one is refused, none.
   *
   * @throws SRV_MODEL_NOT_FOUND, SRV_MODEL_NOT_READY, SRV_BAD_REQUEST for a text that can be no label
   */
  setLabels(model: string, changes: Readonly<Record<string, number | null>>): void {
    this.#lifecycle.moveLabels(model, changes);
  }

  /**
   * Runs a model in this process, through the same queue as every other request. The event loop is not held.
   *
   * @param inputs tensors by name, see `tensor()`; they must not change until the promise is settled
   * @throws SRV_MODEL_NOT_FOUND, SRV_MODEL_NOT_READY, SRV_BAD_SIGNATURE, SRV_QUEUE_FULL, SRV_DEADLINE_EXCEEDED,
   * SRV_CANCELLED, SRV_MODEL_RUN_FAILED, SRV_SHUTTING_DOWN
   */
  async infer(model: string, inputs: TensorMap, options: InferOptions = {}): Promise<InferResult> {
    if (this.#closing) throw new ServingError('SRV_SHUTTING_DOWN', 'the runtime is closed');
    if (this.#waiting++ === 0) this.#holdLoop.ref();
    try {
      const answer = await this.service.infer({
        model,
        version: options.version,
        label: options.label,
        inputs: Object.entries(inputs).map(([name, tensor]) => ({ name, tensor })),
        outputs: options.outputs,
        timeoutMs: options.timeoutMs,
        priority: options.priority,
        signal: options.signal,
        protocol: 'process',
        origin: 'process',
        routing: options.routingKey === undefined ? undefined : routingBy(options.routingKey),
      });
      answer.recordEncode(0);
      const outputs: Record<string, Tensor> = {};
      for (const { name, tensor } of answer.outputs) outputs[name] = tensor;
      const { model: name, version, variant } = answer;
      return { model: name, version, ...(variant === undefined ? {} : { variant }), outputs };
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#holdLoop.unref();
    }
  }

  /**
   * Drains: takes no new requests, answers the accepted ones, then ends the instances. Further calls wait for the
   * same end and may shorten the time.
   *
   * @param options.timeoutMs after which waiting requests are answered with SRV_SHUTTING_DOWN; running ones are
   * always awaited, because ending a thread inside the engine aborts the process. @default drain_timeout_ms
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#close();
    const timer = setTimeout(() => this.#giveUpWaiting(), options.timeoutMs ?? this.config.drainTimeoutMs);
    try {
      await this.#closing;
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.service.drain();
    this.#source.close();
    this.#lifecycle.close();
    this.service.close();
    this.#stop.abort();
    await Promise.all([
      this.#preparer.close(),
      this.#upkeep.close(),
      this.#remoteRepository?.close(),
      this.#monitors.close(),
    ]);
    await Promise.all(this.#batchers().map((batcher) => batcher.close()));
    await this.#recorder.close();
    this.#scheduler.close();
    for (const version of this.#versions()) if (version.served) version.state = 'unloaded';
    await Promise.all(this.#groups.map((group) => group.close()));
    for (const version of this.#versions()) {
      await this.#mainInstance?.unload(version.id);
      version.served?.tables.close();
    }
    await this.#taken.close();
    this.#slots.close();
    clearInterval(this.#holdLoop);
    this.#metrics.close();
    process.off('exit', this.#forgetCrashes);
    this.#crashes.close();
  }

  /** Waits, whatever comes of it, until each model that lies elsewhere and is not here yet was looked for, or says nothing. */
  async #bringModels(): Promise<void> {
    for (const monitor of this.#configured) this.#monitors.begin(monitor);
    this.#remoteModels.follow(this.config.models.filter(({ path }) => isAddress(path)));
    await this.#source.bring();
    const looks = async (): Promise<void> => {
      await this.#remoteRepository?.start();
      await this.#monitors.firstLooks();
    };
    await this.#monitors.whileHeard(looks());
  }

  readonly #forgetCrashes = (): void => this.#crashes.close();

  #giveUpWaiting(): void {
    const reason = new ServingError(
      'SRV_SHUTTING_DOWN',
      'the server drains and its drain timeout has passed',
    );
    for (const batcher of this.#batchers()) void batcher.close(reason);
  }

  #batchers(): readonly Batcher[] {
    return this.#versions().flatMap(({ served }) => (served ? [served.batcher] : []));
  }

  #versions(): readonly ModelVersion[] {
    return [...new Set([...this.#registry.versions(), ...this.#lifecycle.kept])];
  }

  #collectMetrics(): RuntimeMetrics {
    return {
      versions: this.#registry.versions().flatMap((version) => {
        const { served } = version;
        if (!served) return [];
        return [
          {
            model: version.name,
            version: version.version,
            stats: version.stats,
            queueSize: served.batcher.queueSize,
            inFlight: served.batcher.inFlight,
            fileBytes: served.prepared.fileBytes,
            warmUp: served.warmUp,
          },
        ];
      }),
      devices: this.#groups.map((group) => ({
        device: group.device.name,
        instances: group.size,
        ...group.usage,
      })),
      queueBytes: this.#queueBytes.used,
      slabBytes: this.#slots.bytes,
      refusals: this.#models.refusals,
      upkeep: this.#upkeep.counts,
      monitors: this.#monitors.counts,
      lifecycle: this.#lifecycle.counts,
      failed: this.#lifecycle.failed,
      traffic: this.service.collect(),
    };
  }
}

/**
 * Of the versions at an address those are fetched that would be served, were they here.
 *
 * @throws as `policyIn`
 */
async function chooseRemoteVersions(
  directory: string,
  policy: VersionPolicy | undefined,
  present: readonly number[],
): Promise<ReadonlySet<number>> {
  return wantedVersions(present, policy ?? (await policyIn(directory)));
}

/** A caller in this process has one key, and no headers or parameters to look for it in. */
function routingBy(key: string): RequestRouting {
  return { id: key, parameter: () => key, header: () => key };
}
