// Longer than most files: one load, from the files of a version to its publication, in the order in which it happens.
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Batcher } from '../batching/batcher.js';
import { ByteBudget } from '../batching/byte-budget.js';
import type { Clock } from '../batching/clock.js';
import type { Runner } from '../batching/runner.js';
import type { Scheduler } from '../batching/scheduler.js';
import type { RuntimeConfig } from '../config/schema.js';
import { messageOf, ServingError } from '../errors.js';
import type { CrashMemory } from '../instance/crash-journal.js';
import { type FilePrint, filePrints } from '../instance/file-print.js';
import type { InstanceGroup, LoadOptions } from '../instance/instance-group.js';
import type { MainInstance } from '../instance/main-instance.js';
import type { LoadMessage } from '../instance/messages.js';
import type { SlotAllocator } from '../instance/slab.js';
import { prefaultFile } from '../native/binding.js';
import type { ModelEntry } from '../repository/layout.js';
import type { Signature } from '../tensor/tensor.js';
import { type EmbeddingPlan, planEmbeddings } from './embedding-plan.js';
import { modelFiles } from './model-files.js';
import type { ModelVersion, Served } from './model-version.js';
import { readOnnxFile } from './onnx-file.js';
import { paddedInputs } from './padding-settings.js';
import type { PreparedModel, PrepareRequest } from './prepared-model.js';
import { withPublicNames } from './public-names.js';
import { queueRulesOf } from './queue-rules.js';
import { freeAxesOf, type SignatureRules } from './signature-check.js';
import { openStageTables, type StageTables } from './stage-tables.js';
import type { Taken } from './taken-files.js';
import { checkTritonTensors } from './triton-check.js';
import { VersionWarmUp, type WarmUpNote, type WarmUpReport } from './warm-up.js';
import {
  batchSizesOf,
  type FoundRequests,
  findWarmUp,
  madeUpRequests,
  warmUpSettings,
} from './warm-up-sources.js';

/** What a loader works with; all of it is shared by the versions of a runtime. */
export interface ModelLoaderOptions {
  readonly config: RuntimeConfig;
  readonly groups: readonly InstanceGroup[];
  /** Runs single requests on the main thread; absent when the idle path is off. */
  readonly mainInstance: MainInstance | undefined;
  readonly preparer: { prepare(request: PrepareRequest): Promise<PreparedModel> };
  readonly scheduler: Scheduler;
  readonly slots: SlotAllocator;
  readonly queueBytes: ByteBudget;
  readonly clock: Clock;
  readonly crashes: CrashMemory;
  /** Aborted when the runtime closes: loads that read for minutes end then. */
  readonly closing: AbortSignal;
  /** Copies the files of a model that is overwritten in place; undefined for others. */
  readonly takeOver: (entry: ModelEntry) => Promise<Taken | undefined>;
  /** Whether requests are served now, so that an instance that stands still is noticed. */
  readonly isServing: () => boolean;
  /** Takes what operators should know of a version's warm-up. @default nobody is told */
  readonly onNote?: (version: ModelVersion, ...note: Parameters<WarmUpNote>) => void;
}

// A load of a few milliseconds is over before a spare thread has the other models of the group.
const inPlaceMs = 5;

// What a batch takes on its way to a thread and back, and a run of a model that could not be tried.
const hopMs = 0.1;
const unknownRunUs = 1000;

// Of some twenty trial runs the slowest may only tell of a busy machine: the median decides.
const idlePathMaxUs = 150;

/** What a version is loaded from. */
interface LoadParts {
  readonly before: ModelVersion | undefined;
  readonly tables: StageTables;
  readonly prepared: PreparedModel;
  /** The files that it is opened from, where others may overwrite them, as they were before it was prepared. */
  readonly sources: readonly FilePrint[];
  /** The network's signature under public names. */
  readonly network: Signature;
  readonly journalId: number;
  readonly groups: readonly InstanceGroup[];
  readonly recorded: FoundRequests;
}

/** What its warm-up is made of. */
interface WarmUpParts extends Pick<LoadParts, 'prepared' | 'recorded'> {
  readonly rules: SignatureRules;
  readonly plan: EmbeddingPlan;
  readonly maxBatchSize: number;
  /** Whether its sessions have served another version. */
  readonly isWarmSession: boolean;
}

/** Loads versions into the instances of their devices, and unloads them. */
export class ModelLoader {
  readonly #options: ModelLoaderOptions;
  #loading = 0;

  constructor(options: ModelLoaderOptions) {
    this.#options = options;
  }

  /**
   * Prepares a version, opens it on every instance of its devices and publishes it. An error is kept in the
   * version, as its state `failed`, and thrown.
   *
   * While others are served no instance stands still for it, unless that costs less.
   *
   * @param before the version that it takes the place of; their sessions are one where their files are
   */
  async load(version: ModelVersion, before?: ModelVersion): Promise<void> {
    version.state = 'loading';
    version.error = undefined;
    this.#loading += 1;
    try {
      await this.#load(version, before);
    } catch (error) {
      const reason =
        error instanceof ServingError
          ? error
          : new ServingError('SRV_INTERNAL', messageOf(error), { cause: error });
      await version.taken?.release();
      version.fail(reason);
      throw reason;
    } finally {
      this.#loading -= 1;
    }
  }

  /** Takes no new requests, waits for the running ones and closes the version on every instance. */
  async unload(version: ModelVersion): Promise<void> {
    const { served } = version;
    if (!served) return;
    version.state = 'draining';
    await this.#close(version, served);
    version.state = 'unloaded';
  }

  /** Closes a version that has failed while it served. What waits is answered with the reason; its state stays. */
  async retire(version: ModelVersion, reason: ServingError): Promise<void> {
    const { served } = version;
    if (!served) return;
    await served.batcher.close(reason);
    await this.#close(version, served);
  }

  async #close(version: ModelVersion, served: Served): Promise<void> {
    await version.leases.whenFree();
    await served.batcher.close();
    this.#options.scheduler.remove(served.batcher);
    await Promise.all(served.groups.map((group) => group.unload(version.id)));
    await this.#options.mainInstance?.unload(version.id);
    served.tables.close();
    await version.taken?.release();
    version.served = undefined;
  }

  async #load(version: ModelVersion, before: ModelVersion | undefined): Promise<void> {
    const { preparer } = this.#options;
    const { settings } = version.entry;
    const label = labelOf(version);
    const groups = this.#groupsOf(version);
    const taken = await this.#options.takeOver(version.entry);
    version.taken = taken;
    const sources = taken ? [] : sourcesOf(version.entry.modelFile);
    const prepared = await preparer.prepare({
      path: taken?.file ?? version.entry.modelFile,
      executionProviders: [...new Set(groups.map((group) => group.device.provider))],
      prepacking: settings.prepacking ?? 'auto',
      prepared: settings.prepare === 'off' ? 'off' : 'on',
    });
    // The prepared form is a copy itself.
    if (prepared.form !== 'original') await taken?.release();
    const quarantine = this.#options.crashes.quarantineReason(prepared.digest);
    if (quarantine !== undefined) {
      throw new ServingError('SRV_MODEL_QUARANTINED', `model ${label} is quarantined: ${quarantine}`);
    }
    const journalId = this.#options.crashes.remember(
      { id: version.id, digest: prepared.digest, name: version.name, version: version.version },
      (reason) => this.#options.onNote?.(version, reason),
    );
    const network = withPublicNames(prepared.signature, settings, label);
    const { config, closing } = this.#options;
    const verify = config.verifyTables === 'open' ? { signal: closing } : undefined;
    const recorded = await findWarmUp(version.entry, config, {
      signal: closing,
      onNote: (note) => this.#options.onNote?.(version, note),
    });
    const tables = await openStageTables(version.entry, verify);
    try {
      await this.#loadWith(version, {
        before,
        tables,
        prepared,
        sources: prepared.form === 'original' ? sources : [],
        network,
        journalId,
        groups,
        recorded,
      });
    } catch (error) {
      tables.close();
      throw error;
    }
  }

  async #loadWith(version: ModelVersion, parts: LoadParts): Promise<void> {
    const { before, tables, prepared, sources, network, journalId, groups, recorded } = parts;
    const { config, mainInstance } = this.#options;
    const { settings } = version.entry;
    const label = labelOf(version);
    const plan = planEmbeddings(
      settings.embeddings ?? [],
      network,
      prepared.signature.inputs,
      tables.perStage,
      label,
    );
    const signature = { inputs: plan.inputs, outputs: network.outputs };
    checkTritonTensors(version.entry.tritonConfig, {
      label,
      graph: prepared.signature,
      signature,
      anyRank: new Set(prepared.anyRank),
      hasStages: plan.stages.length > 0,
    });
    const maxBatchSize = settings.maxBatchSize ?? config.maxBatchSize;
    const canMerge = plan.canMerge && mayMerge(prepared, settings.batching ?? 'auto', maxBatchSize);
    const wantedPadding = paddedInputs(signature, plan.stageInputs, settings.padding ?? {}, label);
    const padding = canMerge ? wantedPadding : [];
    const rules: SignatureRules = {
      label: `'${version.name}'`,
      signature,
      anyRank: new Set(prepared.anyRank),
      canMerge,
      padding,
      freeAxes: freeAxesOf(signature, padding),
      ragged: plan.raggedInputs,
    };
    const message = {
      versionId: version.id,
      journalId,
      file: prepared.file,
      sources,
      inputs: prepared.signature.inputs
        .filter(({ name }) => !plan.stages.some((stage) => stage.target === name))
        .map(({ name, datatype }) => ({ name, datatype })),
      outputs: prepared.signature.outputs.map(({ name, datatype }) => ({ name, datatype })),
      intraOpThreads: settings.intraOpThreads ?? config.intraOpThreads,
      graphOptimization: settings.graphOptimization ?? 'all',
      sessionExtra: prepared.sessionExtra,
      mappedInodes: await bringIn(prepared),
      ...(config.gpuMemoryLimitBytes === undefined
        ? {}
        : { gpuMemoryLimitBytes: config.gpuMemoryLimitBytes }),
      tables: plan.tables.map(({ files, inMemory, label, version }) => ({ files, inMemory, label, version })),
      stages: plan.stages,
    } satisfies Omit<LoadMessage, 'device'>;
    const sessionKey = JSON.stringify([
      prepared.digest,
      message.file,
      message.sessionExtra,
      message.intraOpThreads,
      message.graphOptimization,
      groups.map((group) => group.device.name),
    ]);
    const sessionOf = before?.served?.sessionKey === sessionKey ? { sessionOf: before.id } : {};
    const allowSplitRequest = settings.allowSplitRequest ?? config.allowSplitRequest;
    const isWarmSession = 'sessionOf' in sessionOf;
    const warmUp = this.#warmUpOf(version, { prepared, rules, plan, maxBatchSize, recorded, isWarmSession });
    const heldMs =
      (isWarmSession ? 0 : prepared.loadMs) +
      warmUpMs(warmUp, prepared, isWarmSession ? before?.served?.warmUp : undefined);
    const how = heldMs < inPlaceMs || !this.#options.isServing() ? 'inPlace' : 'behind';
    const loadTimes = await loadEverywhere(
      groups,
      { ...message, ...sessionOf },
      { how, warmUp: warmUp?.warmUp },
    );
    const idleRunner = mainInstance && isQuick(prepared) ? mainInstance : undefined;
    try {
      await idleRunner?.load({ ...message, ...sessionOf, device: { name: 'main', provider: 'cpu' } });
      if (idleRunner) await warmUp?.warmUpMain((batch) => idleRunner.run(batch));
    } catch (error) {
      await idleRunner?.unload(version.id);
      await Promise.all(groups.map((group) => group.unload(version.id)));
      throw error;
    }
    const queueRules = queueRulesOf(settings, config);
    const batcher = new Batcher({
      label,
      versionId: version.id,
      signature: prepared.signature,
      runners: groups satisfies readonly Runner[],
      idleRunner,
      canMerge,
      padding,
      targets: plan.targets,
      maxBatchSize,
      maxQueueDelayUs: settings.maxQueueDelayUs ?? config.maxQueueDelayUs,
      enoughRows: settings.preferredBatchSize && Math.min(...settings.preferredBatchSize),
      maxQueueSize: queueRules.maxQueueSize,
      maxQueueSizes: queueRules.maxQueueSizes,
      maxRunning: settings.maxWorkers,
      weight: settings.weight ?? 1,
      scheduler: this.#options.scheduler,
      slots: this.#options.slots,
      queueBytes:
        settings.maxQueueBytes === undefined
          ? this.#options.queueBytes
          : new ByteBudget(settings.maxQueueBytes, this.#options.queueBytes),
      stats: version.stats,
      clock: this.#options.clock,
    });
    version.publish({
      prepared,
      rules,
      plan: plan.stages.length === 0 ? undefined : plan,
      tables,
      batcher,
      groups,
      maxBatchSize,
      maxQueueDelayUs: batcher.options.maxQueueDelayUs,
      allowSplitRequest,
      ...queueRules,
      loadMs: Math.max(...loadTimes),
      sessionKey,
      warmUp: warmUp?.report,
    });
  }

  /** The runs that every instance makes before it takes those of callers; undefined where they are switched off. */
  #warmUpOf(
    version: ModelVersion,
    { prepared, rules, plan, maxBatchSize, recorded, isWarmSession }: WarmUpParts,
  ): VersionWarmUp | undefined {
    const { config, slots, clock, closing, onNote } = this.#options;
    const { settings } = version.entry;
    const label = labelOf(version);
    const { count, batchSizes, timeoutMs, ignoresFailures } = warmUpSettings(version.entry, config);
    if (count === 0) return undefined;
    const wantedSizes = [...recorded.trafficSizes, ...(settings.preferredBatchSize ?? [])];
    const isBatched = rules.canMerge && !isWarmSession;
    return new VersionWarmUp({
      label,
      versionId: version.id,
      network: prepared.signature,
      rules,
      plan: plan.stages.length === 0 ? undefined : plan,
      targets: plan.targets,
      maxBatchSize,
      allowSplitRequest: settings.allowSplitRequest ?? config.allowSplitRequest,
      slots,
      clock,
      requests: recorded.requests,
      candidates: madeUpRequests(rules.signature, rules.anyRank, settings.embeddings ?? [], rules.canMerge),
      // A session that served others has run them.
      ...batchSizesOf(isBatched ? batchSizes : 'off', maxBatchSize, wantedSizes, label),
      loadingNow: () => this.#loading,
      count: isWarmSession ? 1 : count,
      timeoutMs,
      ignoresFailures,
      signal: closing,
      onNote: (...note) => onNote?.(version, ...note),
    });
  }

  /** The devices that a model's settings choose, out of those that are there. */
  #groupsOf(version: ModelVersion): readonly InstanceGroup[] {
    const { settings } = version.entry;
    const chosen = this.#options.groups.filter((group) => {
      if (group.cardId === undefined) return settings.cpu ?? true;
      return settings.gpuIds === undefined || settings.gpuIds.includes(group.cardId);
    });
    const cards = this.#options.groups.flatMap((group) => (group.cardId === undefined ? [] : [group.cardId]));
    const unknown = (settings.gpuIds ?? []).filter((id) => !cards.includes(id));
    if (unknown.length > 0 && cards.length > 0) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `model.json of ${version.name} asks for card ${unknown}; the server was given the cards [${cards}] (--gpu_ids)`,
      );
    }
    const usable = chosen.filter((group) => group.lostReason === undefined);
    if (usable.length > 0) return usable;
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `the settings of ${version.name} leave it no device; there are [${this.#options.groups.map((group) => group.device.name)}]`,
    );
  }
}

function labelOf(version: ModelVersion): string {
  return `${version.name} version ${version.version}`;
}

async function loadEverywhere(
  groups: readonly InstanceGroup[],
  message: Omit<LoadMessage, 'device'>,
  options: LoadOptions,
): Promise<number[]> {
  const results = await Promise.allSettled(
    groups.map((group) => group.load({ ...message, device: group.device }, options)),
  );
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) {
    await Promise.all(groups.map((group) => group.unload(message.versionId)));
    throw failed.reason;
  }
  return results.flatMap((result) => (result.status === 'fulfilled' ? [...result.value] : []));
}

/** The model's own files, which its publisher may overwrite. What cannot be read is told by who prepares it. */
function sourcesOf(file: string): readonly FilePrint[] {
  try {
    return filePrints(modelFiles(file, readOnnxFile(file)).map(({ path }) => path));
  } catch {
    return filePrints([file]);
  }
}

/**
 * Brings the files that the engine will map into the page cache, so that no instance waits for the disk while it
 * loads, and returns their inode numbers.
 */
async function bringIn(prepared: PreparedModel): Promise<readonly string[]> {
  if (prepared.weightBytes === 0) return [];
  const directory = dirname(prepared.file);
  const inodes: string[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(directory, entry.name);
    inodes.push(String((await stat(path, { bigint: true })).ino));
    if (prepared.form !== 'original') await prefaultFile(path);
  }
  return inodes;
}

/**
 * How long a warm-up is going to hold an instance, in ms. Requests of others may take as long as they like, whatever the trial
 * took: only what they took on the same session is known.
 */
function warmUpMs(
  warmUp: VersionWarmUp | undefined,
  { trial }: PreparedModel,
  sameSession: WarmUpReport | undefined,
): number {
  if (!warmUp) return 0;
  if (warmUp.report.isRecorded) return sameSession?.isRecorded ? sameSession.ms : Number.POSITIVE_INFINITY;
  return warmUp.plannedRuns * ((trial.p50Us ?? unknownRunUs) / 1000 + hopMs);
}

function mayMerge(prepared: PreparedModel, batching: 'auto' | 'on' | 'off', maxBatchSize: number): boolean {
  if (batching === 'off' || maxBatchSize === 1 || prepared.anyRank.length > 0) return false;
  const { inputs, outputs } = prepared.signature;
  // Even where the settings insist, rows cannot be laid one behind the other without a free first dimension.
  const hasRows = inputs.length > 0 && [...inputs, ...outputs].every((spec) => spec.shape[0] === -1);
  return hasRows && (batching === 'on' || prepared.batching.rowsIndependent);
}

function isQuick(prepared: PreparedModel): boolean {
  return prepared.trial.p50Us !== undefined && prepared.trial.p50Us < idlePathMaxUs;
}
