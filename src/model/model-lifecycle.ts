/**
 * The life of models: what ought to be served, loaded and unloaded without a caller noticing, whatever fails.
 *
 * Longer than most files: every change moves versions between the registry, those that are kept and those that are
 * dormant, which must agree after each. What can be decided without them is in lifecycle/.
 *
 * Changes of one model go one after the other; each takes the newest that was announced, so of a flood of versions
 * only the last is loaded.
 */
import type { Clock } from '../batching/clock.js';
import { type ErrorCode, errorToData, messageOf, ServingError } from '../errors.js';
import { chooseEvictions } from '../lifecycle/eviction.js';
import { LoadFailures } from '../lifecycle/load-failures.js';
import {
  acceptAgain,
  type Fingerprint,
  isRejected,
  isSameVersion,
  obsoleteVersions,
  rejectionOf,
  staleVersions,
  versionsToLoad,
} from '../lifecycle/policy.js';
import type { StateStore } from '../lifecycle/state-file.js';
import type { Logger } from '../observe/logger.js';
import type { ModelEntry, RepositoryEntry } from '../repository/layout.js';
import { readLoadOverride, withOverride } from '../repository/load-override.js';
import { wantedVersions } from '../repository/version-policy.js';
import { noteConfiguration, reportWaitingLabels } from './configuration-notes.js';
import type { ModelLoader } from './model-loader.js';
import type { ModelRegistry } from './model-registry.js';
import { ModelVersion } from './model-version.js';
import { RequestedState } from './requested-state.js';
import type { TableUpkeep } from './table-upkeep.js';

/** What a lifecycle works with. */
export interface ModelLifecycleOptions {
  readonly registry: ModelRegistry;
  readonly loader: Pick<ModelLoader, 'load' | 'unload' | 'retire'>;
  /** Gets the tables of every version that is ready. */
  readonly upkeep: Pick<TableUpkeep, 'begin'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What tells one content of a version from another. */
  readonly fingerprintOf: (entry: ModelEntry) => Promise<Fingerprint>;
  /** Looks a model up in the configured places again. */
  readonly findEntries: (name: string) => Promise<readonly RepositoryEntry[]>;
  /** A load by request may want other versions and tables of a model than before (`asWanted`). */
  readonly onWanted: (name: string) => void;
  /** Versions that stay loaded behind the one that is served, for a rollback, of models that do not say so themselves. */
  readonly keepPrevious: number;
  /** Whether an old version serves until the new one is ready, or makes room for it first; a model's own wins too. */
  readonly order: 'availability_first' | 'resource_first';
  /** Whether loads that failed are tried again by themselves. */
  readonly retries: boolean;
  /** Whether models are loaded with the first request for them. */
  readonly onFirstUse: boolean;
  /** Bytes of files that loaded models may have together. */
  readonly memoryLimitBytes: number | undefined;
  /** Keeps what was asked for at run time: unloads, rollbacks, settings. */
  readonly state: StateStore;
}

/** What has become of loads, for the metrics. */
export interface LifecycleCounts {
  readonly loaded: number;
  readonly failed: number;
  /** Those that failed, by model and code. */
  readonly failures: ReadonlyMap<string, ReadonlyMap<ErrorCode, number>>;
  readonly unloaded: number;
  readonly rolledBack: number;
  /** Models that were unloaded to make room. */
  readonly evicted: number;
  /** How often a request had a model loaded, and how long those requests waited for it, by model. */
  readonly firstUses: ReadonlyMap<string, { readonly count: number; readonly seconds: number }>;
}

/** A version that cannot be served. */
export interface FailedVersion {
  readonly model: string;
  /** Undefined where the whole model is meant. */
  readonly version: number | undefined;
  /** The reason's. */
  readonly code: ErrorCode;
}

interface Announced {
  readonly entry: ModelEntry;
  readonly version: number;
  readonly fingerprint: Fingerprint;
}

/** How long what is served may go without being written. */
const keepPauseMs = 1000;

/** Versions of a model that are over and still listed. */
const listedOver = 5;

/** What trying again does not help. */
const lastingCodes: readonly ErrorCode[] = [
  'SRV_MODEL_INVALID',
  'SRV_MODEL_UNSUPPORTED',
  'SRV_MODEL_CRASHED',
  'SRV_MODEL_QUARANTINED',
  'SRV_FOREIGN_FORMAT',
];

/** Loads and unloads versions, so that what is served follows what is announced. */
export class ModelLifecycle {
  readonly #options: ModelLifecycleOptions;
  /** The newest that a source said of each model; undefined: its place is gone. */
  readonly #announced = new Map<string, readonly RepositoryEntry[] | undefined>();
  /** The last change of each model: they go one after the other. */
  readonly #changes = new Map<string, Promise<unknown>>();
  readonly #failures: LoadFailures;
  readonly #requested: RequestedState;
  /** Versions that stay loaded behind those that are served, the one that served last first. */
  readonly #kept = new Map<string, readonly ModelVersion[]>();
  /** Models that are not loaded, and are with the next request for them. */
  readonly #dormant = new Set<string>();
  readonly #counts = {
    loaded: 0,
    failed: 0,
    failures: new Map<string, Map<ErrorCode, number>>(),
    unloaded: 0,
    rolledBack: 0,
    evicted: 0,
    firstUses: new Map<string, { count: number; seconds: number }>(),
  };
  #nextId = 1;
  #isClosed = false;
  /** Whether what is announced from now on comes late to be loaded as before. */
  #hasWoken = false;
  /** Until what is served is written. */
  #keeping: { cancel(): void } | undefined;

  constructor(options: ModelLifecycleOptions) {
    this.#options = options;
    this.#requested = new RequestedState(options.state, options.logger);
    this.#failures = new LoadFailures(options.clock, (name) => {
      if (this.#requested.unloaded.has(name)) return;
      void this.#change(name, () => this.#follow(name, false)).catch(() => undefined);
    });
  }

  get counts(): LifecycleCounts {
    return this.#counts;
  }

  /** Versions that ought to be served and cannot be. */
  get failed(): readonly FailedVersion[] {
    const { registry } = this.#options;
    const failed = registry.versions().flatMap(({ name, version, error, reloadError }): FailedVersion[] => {
      const code = (error ?? reloadError)?.code;
      const isWanted = this.#entriesOf(name)?.some((one) => one.version === version && isWantedEntry(one));
      return code !== undefined && isWanted ? [{ model: name, version, code }] : [];
    });
    const broken = registry.broken().flatMap(({ name, version, error }): FailedVersion[] => {
      const isWanted = version === undefined || isWantedNumber(version, this.#entriesOf(name) ?? []);
      return isWanted ? [{ model: name, version, code: error.code }] : [];
    });
    return [...failed, ...broken].filter(({ model }) => !this.#requested.unloaded.has(model));
  }

  /** Versions that stay loaded behind those that are served. */
  get kept(): readonly ModelVersion[] {
    return [...this.#kept.values()].flat();
  }

  /** Whether `wake` would load a model, and did not fail to a moment ago. */
  mayWake(name: string): boolean {
    if (!this.#dormant.has(name)) return false;
    return this.#options.registry.versionsOf(name).some((version) => this.#failures.mayTry(version));
  }

  /** Whether a model is not loaded, and `wake` would load it. */
  isDormant(name: string): boolean {
    return this.#dormant.has(name);
  }

  get hasDormant(): boolean {
    return this.#dormant.size > 0;
  }

  /**
   * Loads a model that is dormant; at once settled where another caller has done so.
   *
   * @throws why it could not be loaded
   */
  async wake(name: string): Promise<void> {
    const startedAt = this.#options.clock.now();
    await this.#change(name, async () => {
      if (!this.#dormant.has(name)) return;
      await this.#follow(name, false);
      if (this.#options.registry.readyVersions(name).length === 0) return;
      this.#requested.noteLoaded(name);
      const seconds = (this.#options.clock.now() - startedAt) / 1000;
      const before = this.#counts.firstUses.get(name) ?? { count: 0, seconds: 0 };
      this.#counts.firstUses.set(name, { count: before.count + 1, seconds: before.seconds + seconds });
      this.#options.logger.info({ model: name, seconds }, `model ${name} was loaded for a request`);
    });
  }

  /**
   * Makes what is served of a model what a source says that there is.
   *
   * @param entries undefined where its place is gone
   * @returns settled when that is so, or cannot be: the reason is in the log and the registry
   */
  async announce(name: string, entries: readonly RepositoryEntry[] | undefined): Promise<void> {
    this.#announced.set(name, entries);
    if (this.#requested.unloaded.has(name)) {
      this.#options.logger.info({ model: name }, `model ${name} stays unloaded, as was asked for`);
      return;
    }
    const { onFirstUse, memoryLimitBytes } = this.#options;
    // Where there is no limit any more, what made room comes back.
    const isAsleep =
      this.#dormant.has(name) || (memoryLimitBytes !== undefined && this.#requested.asleep.has(name));
    const isLate = this.#hasWoken && !this.#dormant.has(name) && this.#requested.loaded.has(name);
    const isWanted = (!onFirstUse && !isAsleep) || isLate;
    const isLoaded = this.#options.registry.readyVersions(name).length > 0;
    const change = (): Promise<void> =>
      isWanted || isLoaded || entries === undefined ? this.#follow(name, false) : this.#list(name);
    // Why a model cannot be served is kept with it; the source goes on.
    await this.#change(name, change).catch(() => undefined);
  }

  /**
   * Loads a model anew from its place, also one that was unloaded, rolled back or is served as it is.
   *
   * @param config wins over what its files say, until it is loaded again: see `readLoadOverride`
   * @throws SRV_MODEL_NOT_FOUND, what `readLoadOverride` throws, or why the first wanted version could not be loaded
   */
  async load(name: string, config?: string): Promise<void> {
    const override = config === undefined ? undefined : readLoadOverride(config, name);
    await this.#change(name, async () => {
      const entries = await this.#options.findEntries(name);
      if (entries.length === 0) {
        throw new ServingError(
          'SRV_MODEL_NOT_FOUND',
          `failed to load '${name}', no model of this name is in the repository`,
        );
      }
      this.#announced.set(name, entries);
      this.#requested.unloaded.delete(name);
      this.#requested.rejected.delete(name);
      if (override) this.#requested.overrides.set(name, override);
      else this.#requested.overrides.delete(name);
      this.#requested.keep();
      // Before they are looked at: what changes from now on is noticed.
      this.#options.onWanted(name);
      await this.#follow(name, true);
      this.#requested.noteLoaded(name);
    });
  }

  /**
   * Loads what an earlier process had loaded because it was asked for, the last one first; requests may come
   * meanwhile. To be called when everything was announced.
   */
  async wakeAsBefore(): Promise<void> {
    this.#hasWoken = true;
    for (const name of [...this.#requested.loaded].reverse()) {
      const wake = async (): Promise<void> => {
        if (this.#dormant.has(name) && !this.#isClosed) await this.#follow(name, false);
      };
      // Why it cannot be served is kept with it.
      await this.#change(name, wake).catch(() => undefined);
    }
  }

  /**
   * Unloads all versions of a model, and keeps it so until it is loaded by request.
   *
   * @throws SRV_MODEL_NOT_FOUND
   */
  async unload(name: string): Promise<void> {
    await this.#change(name, async () => {
      const { registry } = this.#options;
      if (!registry.has(name)) {
        throw new ServingError('SRV_MODEL_NOT_FOUND', `failed to unload '${name}': unknown model`);
      }
      this.#requested.unloaded.add(name);
      this.#requested.loaded.delete(name);
      this.#requested.asleep.delete(name);
      this.#requested.keep();
      this.#dormant.delete(name);
      this.#failures.forget(name);
      const kept = this.#kept.get(name) ?? [];
      this.#kept.delete(name);
      await Promise.all([...registry.versionsOf(name), ...kept].map((version) => this.#unload(version)));
    });
  }

  /**
   * Puts the version that served before back in the place of those that serve. At once where it was kept
   * (`keep_previous`); else it is loaded, if it is still in the repository.
   *
   * What was rolled back from is not loaded again before its content changes, or a load is asked for.
   *
   * @returns the number of the version that serves now
   * @throws SRV_MODEL_NOT_FOUND where there is no version to go back to, or why it could not be loaded
   */
  async rollback(name: string): Promise<number> {
    let version = 0;
    await this.#change(name, async () => {
      const { registry, logger } = this.#options;
      // Where several are served, the one that requests without a number get goes, and the one behind it answers them.
      const [current, behind] = registry.readyVersions(name);
      if (!registry.has(name)) {
        throw new ServingError('SRV_MODEL_NOT_FOUND', `failed to roll back '${name}': unknown model`);
      }
      const rejected = this.#requested.rejectedOf(name);
      const target =
        behind ??
        this.#kept.get(name)?.find(({ fingerprint }) => !isRejected(fingerprint, rejected)) ??
        (await this.#loadOlder(name, current, rejected));
      if (current) rejected.add(rejectionOf(current.fingerprint, target.fingerprint));
      acceptAgain(target.fingerprint, rejected);
      this.#requested.keep();
      this.#serve(target);
      if (current && current !== target) await this.#retire([current]);
      this.#counts.rolledBack += 1;
      version = target.version;
      logger.warn(
        { model: name, version, from: current?.version },
        `model ${name} was rolled back to version ${version}`,
      );
    });
    return version;
  }

  /**
   * Points labels of a model to ready versions, and `null` to none; all of them or none.
   *
   * @throws SRV_MODEL_NOT_FOUND, SRV_MODEL_NOT_READY, SRV_BAD_REQUEST for a text that can be no label
   */
  moveLabels(name: string, changes: Readonly<Record<string, number | null>>): void {
    const { registry, logger } = this.#options;
    registry.setLabels(name, changes);
    logger.info({ model: name, labels: changes }, 'labels moved');
  }

  /** Takes a version whose mapped files were damaged out of service and loads it anew. */
  replaceCorrupt(version: ModelVersion): void {
    if (version.state !== 'ready') return;
    const { name } = version;
    const { logger, findEntries } = this.#options;
    logger.error(
      { model: name, version: version.version },
      'a mapped file was truncated; the model is loaded anew',
    );
    void this.#change(name, async () => {
      await this.#unload(version);
      this.#announced.set(name, await findEntries(name));
      await this.#follow(name, true);
    }).catch(() => undefined);
  }

  /** Ends the serving of a version whose table is damaged: there is no other source that it could be loaded from. */
  fail(version: ModelVersion, reason: ServingError): void {
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

  /** Tries nothing again from now on; idempotent. */
  close(): void {
    this.#isClosed = true;
    if (this.#keeping) this.#requested.keep();
    this.#keeping?.cancel();
    this.#keeping = undefined;
    this.#failures.close();
  }

  /** Loads what is announced and lacks, then unloads what it replaced. */
  async #follow(name: string, isForced: boolean): Promise<void> {
    const { registry } = this.#options;
    const entries = this.#entriesOf(name);
    const broken = (entries ?? []).filter((entry) => entry.error !== undefined);
    registry.setBroken(name, broken);
    for (const entry of broken) {
      this.#options.logger.error({ model: name, code: entry.error.code }, entry.error.message);
    }
    noteConfiguration(name, entries ?? [], registry, this.#options.logger);
    const rejected = this.#requested.rejectedOf(name);
    const announced = entries && (await this.#wantedOf(name, entries, rejected));
    for (const version of registry.versionsOf(name)) {
      // What could not be loaded in its place is not there any more.
      if (announced?.some((one) => isSameVersion(one, version))) version.reloadError = undefined;
    }
    const toLoad = versionsToLoad(announced ?? [], registry.versionsOf(name), {
      isForced,
      rejected,
      mayRetry: (one) => this.#failures.mayTry({ name, ...one }),
    });
    const fallback = toLoad.length === 0 ? await this.#fallback(name, entries, rejected) : undefined;
    const loads = fallback ? [fallback] : toLoad;
    const before = registry.versionsOf(name);
    const leaving = loads.some(({ entry }) => this.#orderOf(entry) === 'resource_first')
      ? staleVersions(announced ?? [], loads, [...before, ...(this.#kept.get(name) ?? [])])
      : [];
    const madeRoom = leaving.filter(({ state }) => state === 'ready');
    if (madeRoom.length > 0) this.#kept.delete(name);
    await Promise.all(madeRoom.map((version) => this.#unload(version)));
    const results = await Promise.allSettled(loads.map((one) => this.#load(one)));
    const lost = loads.filter((_, index) => results[index]?.status === 'rejected');
    const isBack = lost.length > 0 && (await this.#serveAsBefore(name, entries ?? [], lost));
    // Trying again would take it away again.
    if (isBack && madeRoom.length > 0) for (const one of lost) this.#failures.note({ name, ...one }, true);
    if (loads.length > 0) reportWaitingLabels(name, registry, this.#options.logger);
    const obsolete = obsoleteVersions(announced, registry.versionsOf(name), rejected);
    const replaced = before.filter(
      (version) => version.state === 'ready' && !registry.versionsOf(name).includes(version),
    );
    await this.#retire([...replaced, ...obsolete.filter((version) => !version.isKept)]);
    this.#dropOld(name, announced ?? []);
    if (entries === undefined) await this.#remove(name);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    const first = broken[0];
    if (announced?.length === 0 && first) throw first.error;
  }

  /** What is announced; where all of it was rolled back from, the version that is served in its place, with its tables of now. */
  async #wantedOf(
    name: string,
    entries: readonly RepositoryEntry[],
    rejected: ReadonlySet<string>,
  ): Promise<readonly Announced[]> {
    const announced = await this.#announcedOf(entries);
    const [served] = this.#options.registry.readyVersions(name);
    const isAllRejected =
      announced.length > 0 && announced.every(({ fingerprint }) => isRejected(fingerprint, rejected));
    if (!served || !isAllRejected) return announced;
    const standIn = (await this.#announcedAll(entries)).find(
      ({ version, fingerprint }) =>
        version === served.version && fingerprint.content === served.fingerprint.content,
    );
    return standIn ? [standIn] : announced;
  }

  /** What to load where all that is wanted was rolled back from and nothing is served, as after a restart. */
  async #fallback(
    name: string,
    entries: readonly RepositoryEntry[] | undefined,
    rejected: Set<string>,
  ): Promise<Announced | undefined> {
    if (!entries || rejected.size === 0 || this.#options.registry.readyVersions(name).length > 0)
      return undefined;
    const newestFirst = (await this.#announcedAll(entries)).toSorted((a, b) => b.version - a.version);
    const sound = newestFirst.find(({ fingerprint }) => !isRejected(fingerprint, rejected));
    if (sound) return sound;
    // It is all there is: better than nothing.
    rejected.clear();
    return newestFirst[0];
  }

  /**
   * Loads what served last where nothing is served any more: what made room for a version that cannot be served, and
   * after a restart what was served when that came.
   *
   * @param lost what could not be loaded
   */
  async #serveAsBefore(
    name: string,
    entries: readonly RepositoryEntry[],
    lost: readonly Announced[],
  ): Promise<boolean> {
    if (this.#options.registry.readyVersions(name).length > 0) return false;
    const contents = new Set(lost.map(({ fingerprint }) => fingerprint.content));
    for (const one of await this.#servedBefore(name, entries, contents)) {
      if (isRejected(one.fingerprint, this.#requested.rejectedOf(name))) continue;
      // Why it cannot be loaded is logged; the failure of the new one is what the caller is told.
      const isBack = await this.#load(one).then(
        () => true,
        () => false,
      );
      if (isBack) return true;
    }
    return false;
  }

  /** The versions that are there as they were when they served, the last one first. */
  async #servedBefore(
    name: string,
    entries: readonly RepositoryEntry[],
    without: ReadonlySet<string | undefined>,
  ): Promise<readonly Announced[]> {
    const contents = this.#requested.servedOf(name).filter((content) => !without.has(content));
    if (contents.length === 0) return [];
    const there = await this.#announcedAll(entries);
    return contents.flatMap((content) => there.find((one) => one.fingerprint.content === content) ?? []);
  }

  /** Versions that are over stay listed for a while, for operators; the number of a model's versions has no end. */
  #dropOld(name: string, announced: readonly Announced[]): void {
    const { registry } = this.#options;
    const over = registry
      .versionsOf(name)
      .filter(({ state }) => state === 'failed' || state === 'unloaded')
      .filter(({ version }) => announced.every((other) => other.version !== version))
      .toSorted((a, b) => b.id - a.id);
    for (const version of over.slice(listedOver)) registry.drop(version);
  }

  /** What the source said last, as the last load by request wants it. */
  #entriesOf(name: string): readonly RepositoryEntry[] | undefined {
    const entries = this.#announced.get(name);
    return entries && this.asWanted(name, entries);
  }

  /** Entries of a model as the last load by request wants them. */
  asWanted(name: string, entries: readonly RepositoryEntry[]): readonly RepositoryEntry[] {
    const override = this.#requested.overrides.get(name);
    return override ? withOverride(entries, override) : entries;
  }

  async #announcedOf(entries: readonly RepositoryEntry[]): Promise<readonly Announced[]> {
    return this.#announcedAll(entries.filter(isWantedEntry));
  }

  /** All that are sound, wanted or not. */
  #announcedAll(entries: readonly RepositoryEntry[]): Promise<readonly Announced[]> {
    return Promise.all(
      entries
        .filter((entry): entry is ModelEntry => entry.error === undefined)
        .map(async (entry) => ({
          entry,
          version: entry.version,
          fingerprint: await this.#options.fingerprintOf(entry),
        })),
    );
  }

  async #load({ entry, fingerprint }: Announced): Promise<ModelVersion> {
    const { registry, loader, upkeep, clock, logger } = this.#options;
    const version = new ModelVersion(entry, this.#nextId++, clock, fingerprint);
    const old = registry.versionsOf(entry.name).find((other) => other.version === entry.version);
    const serving = old?.state === 'ready' ? old : registry.readyVersions(entry.name)[0];
    // A version that serves is not hidden by one of its number that may not come to serve.
    if (old?.state !== 'ready') registry.add(version);
    try {
      await loader.load(version, serving);
    } catch (error) {
      this.#noteFailure(version, error as ServingError);
      if (old?.state === 'ready') old.reloadError = error as ServingError;
      logger.error(
        { model: entry.name, version: entry.version, code: errorToData(error).code },
        `model ${entry.name} version ${entry.version} cannot be served: ${messageOf(error)}`,
      );
      throw error;
    }
    this.#counts.loaded += 1;
    this.#failures.clear(version.name, version.version);
    this.#dormant.delete(entry.name);
    version.lastUsedAt = clock.now();
    this.#serve(version);
    this.#makeRoom(entry.name);
    logger.info(
      { model: entry.name, version: entry.version, loadMs: Math.round(version.served!.loadMs) },
      `model ${entry.name} version ${entry.version} is ready`,
    );
    upkeep.begin(version.served!.tables, (fault) => this.fail(version, fault));
    return version;
  }

  /** Lists a model that the first request for it loads. */
  async #list(name: string): Promise<void> {
    const { registry, clock } = this.#options;
    const entries = this.#entriesOf(name) ?? [];
    registry.setBroken(
      name,
      entries.filter((entry) => entry.error !== undefined),
    );
    const announced = await this.#announcedOf(entries);
    if (announced.length === 0) return;
    this.#dormant.add(name);
    for (const { entry, fingerprint } of announced) {
      const version = new ModelVersion(entry, this.#nextId++, clock, fingerprint);
      version.state = 'unloaded';
      version.isDormant = true;
      registry.add(version);
    }
    noteConfiguration(name, entries, registry, this.#options.logger);
  }

  /** Unloads models that were used longest ago until the others fit. Those that are busy or pinned stay. */
  #makeRoom(newest: string): void {
    const { memoryLimitBytes, registry, logger } = this.#options;
    if (memoryLimitBytes === undefined) return;
    const loaded = [...registry.versions(), ...this.kept].filter(({ state }) => state === 'ready');
    const byName = new Map<string, ModelVersion[]>();
    for (const version of new Set(loaded)) {
      byName.set(version.name, [...(byName.get(version.name) ?? []), version]);
    }
    const models = [...byName].map(([name, versions]) => ({
      name,
      bytes: versions.reduce((sum, { served }) => sum + (served?.prepared.fileBytes ?? 0), 0),
      lastUsedAt: Math.max(...versions.map(({ lastUsedAt }) => lastUsedAt)),
      stays:
        name === newest ||
        versions.some(({ leases, entry }) => leases.count > 0 || entry.settings.pinned === true),
    }));
    const { names, bytesLeft } = chooseEvictions(models, memoryLimitBytes);
    for (const name of names) {
      this.#counts.evicted += 1;
      logger.info({ model: name }, `model ${name} makes room; the next request for it loads it again`);
      // Not awaited: a change of one model that waits for that of another could wait for itself.
      void this.#change(name, () => this.#putToSleep(name)).catch(() => undefined);
    }
    if (bytesLeft > memoryLimitBytes) {
      logger.warn(
        `loaded models have ${bytesLeft} bytes, more than the limit of ${memoryLimitBytes}: they are busy or pinned`,
      );
    }
  }

  async #putToSleep(name: string): Promise<void> {
    // It was unloaded or removed before its turn came.
    if (this.#requested.unloaded.has(name) || !this.#options.registry.has(name)) return;
    const versions = new Set([...this.#options.registry.versionsOf(name), ...(this.#kept.get(name) ?? [])]);
    this.#dormant.add(name);
    this.#requested.noteAsleep(name);
    this.#kept.delete(name);
    for (const version of versions) {
      if (version.state !== 'ready') continue;
      await this.#unload(version);
      version.isDormant = !version.isKept;
    }
  }

  /** Makes a version that is ready one of those that requests are given to. */
  #serve(version: ModelVersion): void {
    const { registry } = this.#options;
    const { name } = version;
    version.isKept = false;
    this.#noteServed(version);
    this.#kept.set(
      name,
      (this.#kept.get(name) ?? []).filter((other) => other !== version),
    );
    registry.add(version);
    registry.refresh(name);
  }

  /** Written a while later: a thousand models may come to be served in one go. */
  #noteServed({ name, fingerprint }: ModelVersion): void {
    if (!this.#requested.noteServed(name, fingerprint.content)) return;
    this.#keeping ??= this.#options.clock.setTimer(() => {
      this.#keeping = undefined;
      this.#requested.keep();
    }, keepPauseMs);
  }

  /** Takes versions out of service: the last ones stay loaded, the others go. */
  async #retire(versions: readonly ModelVersion[]): Promise<void> {
    const name = versions[0]?.name;
    if (name === undefined) return;
    const { registry } = this.#options;
    const newestFirst = versions.toSorted((a, b) => b.id - a.id);
    const behind = [...newestFirst, ...(this.#kept.get(name) ?? [])];
    for (const version of newestFirst) version.isKept = true;
    registry.refresh(name);
    const keepPrevious = this.#keepPreviousOf((registry.readyVersions(name)[0] ?? newestFirst[0]!).entry);
    this.#kept.set(name, behind.slice(0, keepPrevious));
    await Promise.all(behind.slice(keepPrevious).map((version) => this.#unload(version)));
  }

  #orderOf({ settings }: ModelEntry): 'availability_first' | 'resource_first' {
    return settings.reload ?? this.#options.order;
  }

  #keepPreviousOf({ settings }: ModelEntry): number {
    return settings.keepPrevious ?? this.#options.keepPrevious;
  }

  async #loadOlder(
    name: string,
    current: ModelVersion | undefined,
    rejected: ReadonlySet<string>,
  ): Promise<ModelVersion> {
    const entries = this.asWanted(name, await this.#options.findEntries(name));
    const served = await this.#servedBefore(name, entries, new Set([current?.fingerprint.content]));
    const older = (await this.#announcedAll(entries))
      .filter(({ version }) => version < (current?.version ?? Number.POSITIVE_INFINITY))
      .toSorted((a, b) => b.version - a.version);
    const target = [...served, ...older].find(({ fingerprint }) => !isRejected(fingerprint, rejected));
    if (target) return this.#load(target);
    const keepPrevious = current ? this.#keepPreviousOf(current.entry) : this.#options.keepPrevious;
    throw new ServingError(
      'SRV_MODEL_NOT_FOUND',
      `failed to roll back '${name}': no earlier version is kept (keep_previous ${keepPrevious}) or in ` +
        `its directory; served is ${current ? `version ${current.version}` : 'none'}`,
    );
  }

  async #unload(version: ModelVersion): Promise<void> {
    const { registry, loader, logger } = this.#options;
    if (version.state !== 'ready') return;
    const done = loader.unload(version);
    registry.refresh(version.name);
    await done;
    this.#counts.unloaded += 1;
    logger.info({ model: version.name, version: version.version }, 'unloaded');
  }

  async #remove(name: string): Promise<void> {
    const kept = this.#kept.get(name) ?? [];
    this.#kept.delete(name);
    this.#dormant.delete(name);
    this.#requested.forget(name);
    this.#failures.forget(name);
    this.#counts.failures.delete(name);
    this.#counts.firstUses.delete(name);
    await Promise.all(kept.map((version) => this.#unload(version)));
    this.#options.registry.remove(name);
    this.#options.logger.info({ model: name }, 'its place is gone; the model is not known any more');
  }

  #noteFailure(version: ModelVersion, { code }: ServingError): void {
    const { retries, logger } = this.#options;
    this.#counts.failed += 1;
    const byCode = this.#counts.failures.get(version.name) ?? new Map<ErrorCode, number>();
    this.#counts.failures.set(version.name, byCode.set(code, (byCode.get(code) ?? 0) + 1));
    // Files that a stamp speaks for may still be on their way, and nothing tells when they are there.
    const mayBeHalf = version.fingerprint.isOfStamp === true && code === 'SRV_MODEL_INVALID';
    const isLasting = lastingCodes.includes(code) && !mayBeHalf;
    const { failures, pauseMs } = this.#failures.note(version, !retries || isLasting);
    if (!Number.isFinite(pauseMs)) return;
    logger.warn(
      { model: version.name, version: version.version, failures },
      `loading it is tried again in ${pauseMs / 1000} s`,
    );
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
}

/** Whether a version would be wanted if it were sound. */
function isWantedNumber(version: number, entries: readonly RepositoryEntry[]): boolean {
  const policy = entries.find((entry): entry is ModelEntry => entry.error === undefined)?.policy;
  const numbers = entries.flatMap((entry) => entry.version ?? []);
  return wantedVersions(numbers, policy).has(version);
}

function isWantedEntry(entry: RepositoryEntry): entry is ModelEntry {
  return entry.error === undefined && entry.wanted;
}
