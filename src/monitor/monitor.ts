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
import { doneFilePath, type FetchedModel, fetchModel } from './fetch-model.js';
import { IdleLimit } from './idle-limit.js';
import {
  keepStampFile,
  recoverDirectory,
  removeVersion,
  replaceDirectory,
  touchStampFile,
  versionsIn,
} from './install-model.js';
import { pause } from './pause.js';
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
}

/**
 * How a look ended. `absent`: no done file; `unchanged`: the one that was installed last; `changed`: it was replaced
 * while it was fetched, so that it is fetched once more.
 */
export type LookOutcome = 'installed' | 'unchanged' | 'absent' | 'changed' | 'failed';

/** What a monitor has done until now. */
export interface MonitorCounts {
  readonly installed: number;
  readonly unchanged: number;
  readonly absent: number;
  readonly changed: number;
  readonly failed: number;
  /** Bytes of the models that were installed, as they were sent. */
  readonly bytes: number;
  /** Failures since something went well. */
  readonly failuresInARow: number;
}

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
  readonly #places: WorkPlaces;
  readonly #counts = {
    installed: 0,
    unchanged: 0,
    absent: 0,
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
    this.#places = workPlaces(this.config);
    // An address that is none is found now: nothing is sent before it is asked for something.
    void this.#openStore(this.config).close();
  }

  get counts(): MonitorCounts {
    return this.#counts;
  }

  /** Whether the model's directory is there, from this monitor or from elsewhere. */
  async isInstalled(): Promise<boolean> {
    return isThere(this.#places.target);
  }

  /** Looks again and again until `signal` is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.look(signal);
      await pause(this.#clock, this.nextPauseMs, signal).catch(() => undefined);
    }
  }

  /** How long to wait now before the next look. */
  get nextPauseMs(): number {
    const { intervalS, maxPauseS } = this.config;
    const { failuresInARow } = this.#counts;
    if (failuresInARow <= 1) return intervalS * 1000;
    const grown = intervalS * 2 ** Math.min(failuresInARow - 1, 30);
    return Math.max(intervalS, Math.min(grown, maxPauseS)) * 1000;
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

  async #lookAt(outer: AbortSignal | undefined): Promise<Exclude<LookOutcome, 'changed' | 'failed'>> {
    const { config } = this;
    const store = this.#openStore(config);
    const label = store.label + doneFilePath(config);
    const idle = new IdleLimit({ clock: this.#clock, ms: config.timeoutS * 1000, label, outer });
    const look = async (): Promise<Exclude<LookOutcome, 'changed' | 'failed'>> => {
      if (await recoverDirectory(this.#places)) {
        this.#logger.warn('the model of before was put back: an earlier monitor ended while it replaced it');
      }
      const stamp = await store.stampOf(doneFilePath(config), { signal: idle.signal });
      idle.heard();
      if (!stamp) {
        this.#say(`no done file at ${label}`);
        return 'absent';
      }
      const state = await readState(this.#places, config);
      if (state?.stamp === stamp.text && (await this.#isStillThere(state.version))) {
        this.#say(`the done file ${label} is the one that was installed last`);
        return 'unchanged';
      }
      await this.#fetch(stamp, store, idle);
      return 'installed';
    };
    try {
      return await endedBy(look(), idle.signal);
    } finally {
      idle.close();
      await store.close();
    }
  }

  async #fetch(stamp: RemoteStamp, store: RemoteStore, idle: IdleLimit): Promise<void> {
    const { config } = this;
    const startedAt = this.#clock.now();
    makePlaces(this.#places);
    const unlock = await takeLock(this.#places.lock, 0);
    if (!unlock) {
      throw new ServingError('SRV_IO', `Another monitor is at work on ${this.#places.target}.`);
    }
    let place: string | undefined;
    try {
      place = await beginAttempt(this.#places);
      this.#logger.info(
        { stamp: stamp.text },
        `fetching ${store.label}${joinRemote(config.remotePath, config.remoteModelName)}`,
      );
      const { signal } = idle;
      const heard = (): void => idle.heard();
      const context = { config, store, place, signal, heard, onProgress: this.#onProgress };
      const model = await fetchModel(stamp, context).finally(() => this.#onProgress?.(undefined));
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
      await replaceDirectory({ staged: model.directory, target, aside });
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
