/** A publisher: looks at a directory, and when it has a new complete version brings that to a target. */
import { stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Clock, systemClock } from '../batching/clock.js';
import { type PublishConfig, type PublishOptions, resolvePublishConfig } from '../config/publish-settings.js';
import { messageOf, ServingError } from '../errors.js';
import { IdleLimit } from '../monitor/idle-limit.js';
import { pause } from '../monitor/pause.js';
import { type Logger, silentLogger } from '../observe/logger.js';
import { endedBy } from '../remote/abort.js';
import { joinRemote } from '../remote/fetch-tree.js';
import { requirePlace } from '../repository/layout.js';
import { listVersions, manifestName } from '../sparse/manifest.js';
import { openTarget } from './open-target.js';
import {
  type PreparedVersion,
  type Published,
  type PublishNames,
  type PublishProgress,
  prepareModel,
} from './publish-model.js';
import { findTableChain, prepareTable, stateOfTable } from './publish-table.js';
import type { PublishTarget } from './publish-target.js';
import { lockTarget } from './target-lock.js';
import { findVersionFiles, requireName, type SourceFile, stateOf } from './version-files.js';

/** What a publisher may be handed instead of making it itself. */
export interface PublisherDependencies {
  /** @default no log */
  readonly logger?: Logger;
  /** Pauses and time limits. @default the system's clock */
  readonly clock?: Clock;
  /** For done files. @default the time of day */
  readonly now?: () => Date;
  /** Opens the target, once for each publication. @default what the options say */
  readonly openTarget?: (config: PublishConfig) => PublishTarget;
  /** Called while bytes are sent, and with undefined when that has ended. */
  readonly onProgress?: (progress: PublishProgress | undefined) => void;
}

/**
 * How a look ended. `unchanged`: the version that is at the target; `waiting`: there is none that is complete, or its
 * files still change.
 */
export type PublishOutcome = 'published' | 'unchanged' | 'waiting' | 'failed';

/** What lies in the directory now. */
interface Found {
  readonly state: string;
  readonly files: readonly SourceFile[];
  /** Whether files that are there are complete by themselves: a table has its manifest last. */
  readonly isComplete: boolean;
  readonly prepare: (signal: AbortSignal) => Promise<PreparedVersion>;
}

/** Publishes one directory to one target. */
export class Publisher {
  readonly config: PublishConfig;
  readonly counts: Readonly<Record<PublishOutcome, number>>;
  readonly #counts = { published: 0, unchanged: 0, waiting: 0, failed: 0 };
  readonly #directory: string;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #now: () => Date;
  readonly #openTarget: (config: PublishConfig) => PublishTarget;
  readonly #onProgress: ((progress: PublishProgress | undefined) => void) | undefined;
  /** The state that is at the target. */
  #doneState: string | undefined;
  #seen: { readonly state: string; readonly at: number } | undefined;
  #failuresInARow = 0;

  /**
   * @param directory a model's, a model file, or a table's
   * @throws SRV_BAD_CONFIG that lists every problem of the options
   */
  constructor(directory: string, options: PublishOptions, dependencies: PublisherDependencies = {}) {
    this.config = resolvePublishConfig(options);
    this.counts = this.#counts;
    this.#directory = resolve(directory);
    this.#logger = (dependencies.logger ?? silentLogger()).child({ publish: basename(this.#directory) });
    this.#clock = dependencies.clock ?? systemClock;
    this.#now = dependencies.now ?? (() => new Date());
    this.#openTarget = dependencies.openTarget ?? openTarget;
    this.#onProgress = dependencies.onProgress;
    // An address that is none is found now: nothing is sent before it is asked for something.
    void this.#openTarget(this.config).close();
  }

  /**
   * Publishes what is in the directory now, whether or not it is at the target already.
   *
   * @throws SRV_MODEL_NOT_FOUND, SRV_NOT_PUBLISHABLE, SRV_PUBLISH_CONFLICT, SRV_TABLE_CORRUPT and what the target throws
   */
  async publish(signal?: AbortSignal): Promise<Published> {
    await requirePlace(this.#directory);
    const outcome = await this.#publish(await this.#find(), false, signal);
    // Only a look may find that there is nothing to do.
    return outcome!;
  }

  /** Looks and publishes again and again until `signal` is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.look(signal);
      await pause(this.#clock, this.nextPauseMs, signal).catch(() => undefined);
    }
  }

  /** How long to wait now before the next look. */
  get nextPauseMs(): number {
    const { intervalS, maxPauseS } = this.config;
    const doublings = Math.min(Math.max(this.#failuresInARow - 1, 0), 30);
    return Math.max(intervalS, Math.min(intervalS * 2 ** doublings, maxPauseS)) * 1000;
  }

  /** Looks once, and publishes what is new and complete. Never rejects: a failure is logged and counted. */
  async look(signal?: AbortSignal): Promise<PublishOutcome> {
    const outcome = await this.#lookAt(signal).catch((error: unknown): PublishOutcome => {
      if (signal?.aborted) {
        this.#logger.info('the publisher is stopped');
        return 'failed';
      }
      const code = error instanceof ServingError ? error.code : 'SRV_INTERNAL';
      this.#failuresInARow += 1;
      this.#logger.error(
        { code, failures: this.#failuresInARow },
        `not published, next try in ${this.nextPauseMs / 1000} s: ${messageOf(error)}`,
      );
      return 'failed';
    });
    this.#counts[outcome] += 1;
    if (outcome !== 'failed') this.#failuresInARow = 0;
    return outcome;
  }

  async #lookAt(signal: AbortSignal | undefined): Promise<PublishOutcome> {
    const found = await this.#find().catch((error: unknown) => {
      // What is being written, or has not been begun, is waited for.
      if (!(error instanceof ServingError) || !waitedFor.includes(error.code)) throw error;
      this.#logger.debug({ code: error.code }, `nothing to publish yet: ${error.message}`);
      return undefined;
    });
    if (!found) return 'waiting';
    if (found.state === this.#doneState) return 'unchanged';
    if (!found.isComplete && !(await this.#isComplete(found))) return 'waiting';
    const published = await this.#publish(found, true, signal);
    this.#doneState = found.state;
    return published ? 'published' : 'unchanged';
  }

  async #find(): Promise<Found> {
    const directory = this.#directory;
    const isVersion = await isFile(join(directory, manifestName));
    if (isVersion || (await this.#isTable())) {
      const root = isVersion ? dirname(directory) : directory;
      const chain = await findTableChain(root, isVersion ? Number(basename(directory)) : undefined);
      const names = this.#names(basename(root), 'none');
      return {
        state: stateOfTable(chain),
        files: chain.versions.flatMap(({ files }) => files),
        isComplete: true,
        prepare: () => prepareTable(chain, names),
      };
    }
    const { pack, readyFile } = this.config;
    const source = await findVersionFiles(
      directory,
      readyFile === undefined ? stampNames : [readyFile, ...stampNames],
    );
    const names = this.#names(source.name.replace(/\.onnx$/i, ''), pack);
    return {
      state: stateOf(source.files),
      files: source.files,
      isComplete: false,
      prepare: (signal) => prepareModel(source, pack, names, signal),
    };
  }

  async #isTable(): Promise<boolean> {
    return (await listVersions(this.#directory).catch(() => [])).length > 0;
  }

  #names(name: string, pack: PublishConfig['pack']): PublishNames {
    const { remotePath, remoteModelName, remoteDonefileName, unpackedFilename } = this.config;
    requireName(name, this.#directory);
    return {
      remotePath: `/${remotePath.replaceAll(/^\/+|\/+$/g, '')}`,
      remoteModelName: remoteModelName ?? (pack === 'none' ? name : `${name}.${pack}`),
      remoteDonefileName: remoteDonefileName ?? `${name}.done`,
      unpackedFilename: unpackedFilename ?? name,
    };
  }

  /** By the ready file, which is newer than all it speaks of, or because nothing has changed for a while. */
  async #isComplete({ files, state }: Found): Promise<boolean> {
    const { readyFile, settleS } = this.config;
    if (readyFile !== undefined) {
      const ready = await stat(join(this.#directory, readyFile)).catch(() => undefined);
      return ready !== undefined && files.every(({ mtimeMs }) => mtimeMs <= ready.mtimeMs);
    }
    const now = this.#clock.now();
    if (this.#seen?.state !== state) {
      this.#seen = { state, at: now };
      return false;
    }
    return now - this.#seen.at >= settleS * 1000;
  }

  /** Resolves to undefined where `onlyNew` is asked for and the target has the version. */
  async #publish(
    found: Found,
    onlyNew: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Published | undefined> {
    const { config } = this;
    const startedAt = this.#clock.now();
    const opened = this.#openTarget(config);
    const prepared = await found
      .prepare(signal ?? new AbortController().signal)
      .catch(async (error: unknown) => {
        await opened.close();
        throw error;
      });
    const idle = new IdleLimit({
      clock: this.#clock,
      ms: config.timeoutS * 1000,
      label: opened.label === '' ? config.remotePath : opened.label,
      outer: signal,
    });
    const target = hearing(opened, () => idle.heard());
    // Timers of the clock keep no process alive, but a wait for a lock is work under way.
    const hold = setInterval(() => undefined, 2 ** 31 - 1);
    const work = async (): Promise<Published | undefined> => {
      const { names } = prepared;
      const donePath = joinRemote(names.remotePath, names.remoteDonefileName);
      if (onlyNew) {
        const done = (await target.read(donePath, { signal: idle.signal }))?.toString() ?? '';
        if (done.split('\n').includes(prepared.digestLine)) return undefined;
      }
      const lock = await lockTarget(
        target,
        joinRemote(names.remotePath, `.${names.remoteModelName}.publishing`),
        {
          clock: this.#clock,
          leaseMs: config.leaseS * 1000,
          waitMs: config.lockWaitS * 1000,
          signal: idle.signal,
        },
      );
      if (!lock.isExclusive) {
        this.#logger.warn(
          `${target.label} has no locks: two publishers at the same time may mix their files`,
        );
      }
      const onProgress = (progress: PublishProgress): void => {
        idle.heard();
        this.#onProgress?.(progress);
      };
      try {
        const published = await prepared.send({ target, lock, names, now: this.#now, onProgress });
        const { files, bytes, version } = published;
        this.#logger.info(
          { files, bytes, version, ms: Math.round(this.#clock.now() - startedAt) },
          `published ${target.label}${joinRemote(names.remotePath, names.remoteModelName)}`,
        );
        return published;
      } finally {
        this.#onProgress?.(undefined);
        await lock.release();
      }
    };
    try {
      // What a target that fell silent is asked to clean up may hang as well.
      return await endedBy(work(), idle.signal, () => pause(this.#clock, cleanUpMs, undefined));
    } finally {
      clearInterval(hold);
      idle.close();
      await opened.close();
      await prepared.close();
    }
  }
}

/** What a publication that was given up has to remove its files and its lock. */
const cleanUpMs = 5_000;

/** Stamp files of servers and monitors lie in the directories that they are about. */
const stampNames = ['fluid_time_file', 'fluid_time_stamp'];
const waitedFor = ['SRV_NOT_PUBLISHABLE', 'SRV_MODEL_NOT_FOUND', 'SRV_TABLE_NOT_FOUND'];

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/** The same target, of which every answer is heard. */
function hearing(target: PublishTarget, heard: () => void): PublishTarget {
  const after = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await answer;
    } finally {
      heard();
    }
  };
  return {
    label: target.label,
    write: (...args) => after(target.write(...args)),
    writeDirectory: (...args) => after(target.writeDirectory(...args)),
    read: (...args) => after(target.read(...args)),
    createLock: (...args) => after(target.createLock(...args)),
    readLock: (...args) => after(target.readLock(...args)),
    writeLock: (...args) => after(target.writeLock(...args)),
    removeLock: (...args) => after(target.removeLock(...args)),
    close: () => target.close(),
  };
}
