/** A monitor: looks at a remote done file, and when it changes brings the model here. */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../batching/clock.js';
import { type MonitorConfig, type MonitorOptions, resolveMonitorConfig } from '../config/monitor-settings.js';
import { messageOf, ServingError } from '../errors.js';
import { takeLock } from '../file-lock.js';
import { type Logger, silentLogger } from '../observe/logger.js';
import { endedBy, throwIfAborted } from '../remote/abort.js';
import { joinRemote } from '../remote/fetch-tree.js';
import { redacted } from '../remote/masked-url.js';
import { openMonitorStore } from '../remote/open-store.js';
import type { FetchProgress, RemoteStamp, RemoteStore } from '../remote/remote-store.js';
import { doneFilePath, type FetchContext, type FetchedModel, fetchModel } from './fetch-model.js';
import { VersionFollower } from './follow-versions.js';
import { IdleLimit } from './idle-limit.js';
import {
  keepSample,
  keepStampFile,
  recoverDirectory,
  removeVersion,
  replaceDirectory,
  touchStampFile,
  versionsIn,
} from './install-model.js';
import { grownPauseMs, pause } from './pause.js';
import { type ChooseVersions, listVersions, type VersionListing } from './remote-versions.js';
import {
  beginAttempt,
  makePlaces,
  readState,
  type WorkPlaces,
  workPlaces,
  writeState,
} from './work-places.js';

/** What a monitor may be handed instead of making it itself. */
export interface MonitorDependencies {
  /** @default no log */
  readonly logger?: Logger;
  /** Pauses and time limits. @default the system's clock */
  readonly clock?: Clock;
  /** What stamp files are touched with. @default the time of day, in ms since 1970 */
  readonly timeOfDay?: () => number;
  /** Opens the store, once for each look. @default what the options say */
  readonly openStore?: (config: MonitorConfig) => RemoteStore;
  /** Called while a model is fetched, and with undefined when that has ended. */
  readonly onProgress?: (progress: FetchProgress | undefined) => void;
  /** Called whenever something was heard of a store, or worked on. */
  readonly onHeard?: () => void;
  /**
   * Follows a remote directory of version directories, with or without a done file: brings those of them that this
   * chooses. @default the done file alone says that something is new, and the greatest version is fetched
   */
  readonly chooseVersions?: ChooseVersions;
  /** Called when it becomes known why the model is not here, or that it is. */
  readonly onAbsence?: (absence: string | undefined) => void;
}

/**
 * How a look ended. `absent`: no done file, and no version directories where those are followed; `incomplete`: a version
 * directory may still be written; `unchanged`: what was installed last; `changed`: it was replaced while it was fetched,
 * so that it is fetched once more.
 */
export type LookOutcome = 'installed' | 'unchanged' | 'absent' | 'incomplete' | 'changed' | 'failed';

/** What a monitor has done until now. */
export interface MonitorCounts {
  readonly installed: number;
  readonly unchanged: number;
  readonly absent: number;
  readonly incomplete: number;
  readonly changed: number;
  readonly failed: number;
  /** Bytes of the models that were installed, as they were sent. */
  readonly bytes: number;
  /** Failures since something went well. */
  readonly failuresInARow: number;
}

type LookContext = Pick<FetchContext, 'store' | 'signal' | 'heard'>;

/**
 * Fetches one model whenever its publisher has put a new one there. Nothing that the remote side does ends it: a
 * failure is logged, counted and tried again after a pause that grows.
 */
export class Monitor {
  readonly config: MonitorConfig;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #timeOfDay: () => number;
  readonly #openStore: (config: MonitorConfig) => RemoteStore;
  readonly #onProgress: ((progress: FetchProgress | undefined) => void) | undefined;
  readonly #onHeard: (() => void) | undefined;
  readonly #onAbsence: ((absence: string | undefined) => void) | undefined;
  readonly #places: WorkPlaces;
  readonly #follower: VersionFollower | undefined;
  readonly #source: string;
  #absence: string | undefined;
  #woken = new AbortController();
  readonly #counts = {
    installed: 0,
    unchanged: 0,
    absent: 0,
    incomplete: 0,
    changed: 0,
    failed: 0,
    bytes: 0,
    failuresInARow: 0,
  };

  /** @throws SRV_BAD_CONFIG that lists every problem of the options */
  constructor(options: MonitorOptions, dependencies: MonitorDependencies = {}) {
    this.config = resolveMonitorConfig(options);
    this.#logger = (dependencies.logger ?? silentLogger()).child({ monitor: this.config.localModelName });
    this.#clock = dependencies.clock ?? systemClock;
    this.#timeOfDay = dependencies.timeOfDay ?? Date.now;
    this.#openStore = dependencies.openStore ?? openMonitorStore;
    this.#onProgress = dependencies.onProgress;
    this.#onHeard = dependencies.onHeard;
    this.#onAbsence = dependencies.onAbsence;
    this.#places = workPlaces(this.config);
    const { chooseVersions: choose } = dependencies;
    // A file that is its own done file has no versions.
    if (choose && this.config.remoteDonefileName !== this.config.remoteModelName) {
      this.#follower = new VersionFollower({
        config: this.config,
        places: this.#places,
        choose,
        logger: this.#logger,
        clock: this.#clock,
        timeOfDay: this.#timeOfDay,
      });
    }
    // An address that is none is found now: nothing is sent before it is asked for something.
    const store = this.#openStore(this.config);
    this.#source = store.label + joinRemote(this.config.remotePath, this.config.remoteModelName);
    void store.close();
    this.#absence = 'the first look at it has not ended';
  }

  get counts(): MonitorCounts {
    return this.#counts;
  }

  /** The model's directory on this machine, absolute. */
  get target(): string {
    return this.#places.target;
  }

  /** Why the model is not here; undefined once this monitor has seen that it is. */
  get absence(): string | undefined {
    return this.#absence === undefined
      ? undefined
      : `${this.#source} has not been fetched yet: ${this.#absence}`;
  }

  /** Whether the model is there, from this monitor or from elsewhere: its directory, or a version directory in it. */
  async isInstalled(): Promise<boolean> {
    const { target } = this.#places;
    return this.config.layout === 'versions' ? (await versionsIn(target)).length > 0 : isThere(target);
  }

  /** Looks for the first time, and once more where a version has to be seen twice; never rejects. */
  async lookFirst(signal: AbortSignal): Promise<void> {
    if ((await this.look(signal)) !== 'incomplete' || (await this.isInstalled())) return;
    await pause(this.#clock, this.nextPauseMs, signal).catch(() => undefined);
    if (!signal.aborted) await this.look(signal);
  }

  /**
   * Looks again and again until `signal` is aborted; never rejects.
   *
   * @param options.hasLooked begins with a pause. @default false
   */
  async run(
    signal: AbortSignal,
    { hasLooked = false }: { readonly hasLooked?: boolean } = {},
  ): Promise<void> {
    if (!hasLooked) await this.look(signal);
    while (!signal.aborted) {
      // Who wakes it while it looks means the next look.
      const woken = this.#woken;
      const ended = AbortSignal.any([signal, woken.signal]);
      await pause(this.#clock, this.nextPauseMs, ended).catch(() => undefined);
      if (woken.signal.aborted) this.#woken = new AbortController();
      if (!signal.aborted) await this.look(signal);
    }
  }

  /** Ends the pause that it is in, or the next one: something else is wanted than at the last look. */
  wake(): void {
    this.#woken.abort();
  }

  /** How long to wait now before the next look. */
  get nextPauseMs(): number {
    return grownPauseMs(this.config, this.#counts.failuresInARow);
  }

  /** Looks once, and fetches and installs what is new. Never rejects: a failure is logged and counted. */
  async look(signal?: AbortSignal): Promise<LookOutcome> {
    const counts = this.#counts;
    try {
      const outcome = await this.#lookAt(signal);
      counts[outcome] += 1;
      counts.failuresInARow = 0;
      return outcome;
    } catch (error) {
      if (signal?.aborted) {
        this.#logger.info('the monitor is stopped');
        return 'failed';
      }
      const code = error instanceof ServingError ? error.code : 'SRV_INTERNAL';
      const message = this.#redacted(messageOf(error));
      this.#setAbsence((await this.isInstalled()) ? undefined : message);
      if (code === 'SRV_REMOTE_CHANGED') {
        counts.changed += 1;
        this.#logger.warn({ code }, message);
        return 'changed';
      }
      counts.failed += 1;
      counts.failuresInARow += 1;
      this.#logger.error(
        { code, failures: counts.failuresInARow, retryInS: this.nextPauseMs / 1000 },
        `the model was not fetched: ${message}`,
      );
      return 'failed';
    }
  }

  /** What fails once the model is here is no reason that it is not. */
  #setAbsence(absence: string | undefined): void {
    if (this.#absence === undefined || this.#absence === absence) return;
    this.#absence = absence;
    this.#onAbsence?.(this.absence);
  }

  async #lookAt(outer: AbortSignal | undefined): Promise<Exclude<LookOutcome, 'changed' | 'failed'>> {
    const { config } = this;
    const store = this.#openStore(config);
    const label = store.label + doneFilePath(config);
    const idle = new IdleLimit({ clock: this.#clock, ms: config.timeoutS * 1000, label, outer });
    const { signal } = idle;
    const heard = (): void => {
      idle.heard();
      this.#onHeard?.();
    };
    const context: LookContext = { store, signal, heard };
    const look = async (): Promise<Exclude<LookOutcome, 'changed' | 'failed'>> => {
      if (await recoverDirectory(this.#places)) {
        this.#logger.warn('the model of before was put back: an earlier monitor ended while it replaced it');
      }
      const stamp = await store.stampOf(doneFilePath(config), { signal });
      heard();
      const listing = this.#follower && (await this.#listVersions(context));
      if (this.#follower && listing) {
        const attempt = <T>(work: (place: string) => Promise<T>): Promise<T> => this.#attempt(signal, work);
        const following = { ...context, done: stamp, onProgress: this.#onProgress, attempt };
        const { outcome, bytes, problem } = await this.#follower.look(listing, following);
        this.#counts.bytes += bytes;
        this.#say(problem ?? `the versions at ${this.#source} are ${outcome}`);
        this.#setAbsence(problem);
        return outcome;
      }
      if (!stamp) return this.#absent(label);
      const state = await readState(this.#places, config);
      if (state?.stamp === stamp.text && (await this.#isStillThere(state.version))) {
        this.#say(`the done file ${label} is the one that was installed last`);
        this.#setAbsence(undefined);
        return 'unchanged';
      }
      await this.#fetch(stamp, context);
      this.#setAbsence(undefined);
      return 'installed';
    };
    try {
      return await endedBy(look(), signal);
    } finally {
      idle.close();
      await store.close();
    }
  }

  #absent(label: string): 'absent' {
    const isAlone = this.config.remoteDonefileName === this.config.remoteModelName;
    const versions = this.#follower ? ', and no version directories beside it' : '';
    const problem = isAlone ? 'nothing is there' : `no done file at ${label}${versions}`;
    this.#say(problem);
    this.#setAbsence(problem);
    return 'absent';
  }

  async #fetch(stamp: RemoteStamp, { store, signal, heard }: LookContext): Promise<void> {
    const { config } = this;
    const startedAt = this.#clock.now();
    await this.#attempt(signal, async (place) => {
      this.#logger.info(
        { stamp: stamp.text },
        `fetching ${store.label}${joinRemote(config.remotePath, config.remoteModelName)}`,
      );
      const onProgress = this.#onProgress;
      const model = await fetchModel(stamp, { config, store, place, signal, heard, onProgress });
      // An attempt that was given up may come back from a file system that hung; by then it is old.
      throwIfAborted(signal);
      const version = await this.#install(model, place);
      await writeState(this.#places, config, {
        stamp: stamp.text,
        ...(version === undefined ? {} : { version }),
      });
      this.#counts.bytes += model.bytes;
      const { bytes, files, digests } = model;
      this.#logger.info(
        { bytes, files, digests, ms: Math.round(this.#clock.now() - startedAt), version },
        `${version === undefined ? 'the model' : `version ${version}`} is in place at ${this.#places.target}`,
      );
    });
  }

  async #listVersions({ store, signal, heard }: LookContext): Promise<VersionListing | undefined> {
    const { remotePath, remoteModelName } = this.config;
    const path = joinRemote(remotePath, remoteModelName);
    const listing = await listVersions(store, path, { signal, onAnswer: heard });
    heard();
    return listing;
  }

  /** Lends an empty directory to work that puts something in place; one at a time, whoever else is at it. */
  async #attempt<T>(signal: AbortSignal, work: (place: string) => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    makePlaces(this.#places);
    const unlock = await takeLock(this.#places.lock, 0);
    if (!unlock) {
      throw new ServingError('SRV_IO', `Another monitor is at work on ${this.#places.target}.`);
    }
    let place: string | undefined;
    try {
      place = await beginAttempt(this.#places);
      return await work(place).finally(() => this.#onProgress?.(undefined));
    } finally {
      // What is left would fill the disk that the next attempt needs.
      if (place !== undefined) await rm(place, { recursive: true, force: true });
      unlock();
    }
  }

  /** Puts a model in place and touches the stamp file. Resolves to the version directory's number, if there is one. */
  async #install(model: FetchedModel, place: string): Promise<number | undefined> {
    const { layout, localTimestampFile, keepVersions } = this.config;
    const { target, aside } = this.#places;
    const stampFile = join(target, localTimestampFile);
    if (layout === 'in_place') {
      await keepStampFile(stampFile, join(model.directory, localTimestampFile));
      const beforeExchange = (incoming: string): Promise<void> =>
        keepSample(target, incoming).catch((error: unknown) =>
          this.#logger.warn(`the sample of traffic beside the model is lost: ${messageOf(error)}`),
        );
      await replaceDirectory({ staged: model.directory, target, aside, beforeExchange });
      await touchStampFile(stampFile, this.#timeOfDay());
      return undefined;
    }
    const there = await versionsIn(target);
    const version = model.version ?? (there.at(-1) ?? 0) + 1;
    await replaceDirectory({ staged: model.directory, target: join(target, String(version)), aside });
    await touchStampFile(stampFile, this.#timeOfDay());
    // Greater ones were withdrawn by the publisher: a server that takes the greatest would not take this one.
    const withdrawn = there.filter((other) => other > version);
    const old = there.filter((other) => other < version).slice(0, -(keepVersions - 1) || undefined);
    for (const other of [...withdrawn, ...old]) {
      await removeVersion(target, other, place);
      this.#logger.info({ version: other }, `version ${other} was removed`);
    }
    return version;
  }

  async #isStillThere(version: number | undefined): Promise<boolean> {
    const { target } = this.#places;
    return isThere(version === undefined ? target : join(target, String(version)));
  }

  /** Looks without a result are told at the level that the option asks for. */
  #say(message: string): void {
    if (this.config.debug) this.#logger.info(message);
    else this.#logger.debug(message);
  }

  /** What others say may repeat what they were given. */
  #redacted(message: string): string {
    const { ftpPassword, fsUgi, generalHost = '', ftpHost = '', fsName } = this.config;
    return redacted(
      message,
      [ftpPassword, ...fsUgi.split(',').slice(1), fsUgi],
      [generalHost, ftpHost, fsName],
    );
  }
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
