/** A model repository at an address: each of its children is a model, and has a monitor that brings it here. */
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../batching/clock.js';
import type { MonitorConfig } from '../config/monitor-settings.js';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import type { Logger } from '../observe/logger.js';
import { endedBy } from '../remote/abort.js';
import { joinRemote, requireSegment } from '../remote/fetch-tree.js';
import { redacted } from '../remote/masked-url.js';
import { openMonitorStore } from '../remote/open-store.js';
import type { RemoteEntry, RemoteStore } from '../remote/remote-store.js';
import { IdleLimit } from './idle-limit.js';
import type { Monitors } from './monitors.js';
import { grownPauseMs, pause } from './pause.js';
import { monitorAt, placeName, readAddress } from './remote-models.js';

/** What a remote repository works with. */
export interface RemoteRepositoryOptions {
  readonly address: string;
  /** Below which it is kept; what is there from before is served at once. */
  readonly directory: string;
  readonly intervalS: number;
  readonly monitors: Monitors;
  /** Which of the versions that are there the settings in a model's directory want. */
  readonly chooseVersions: (directory: string, present: readonly number[]) => Promise<ReadonlySet<number>>;
  readonly logger: Logger;
  readonly clock: Clock;
  /** @default what the address says */
  readonly openStore?: (config: MonitorConfig) => RemoteStore;
}

/** Where monitors have what they are fetching: hidden, because it lies among the models. */
const workDirectory = '.fetching';

/**
 * Keeps a directory of this machine that has the children of a remote one. A child is dropped only when a listing that has
 * others lacks it: an empty one may be that of a store which is being filled, or a page that is no listing.
 */
export class RemoteRepository {
  /** The directory of this machine; it is made by `start`. */
  readonly directory: string;
  readonly #options: RemoteRepositoryOptions;
  readonly #host: string;
  readonly #path: string;
  /** An option that all children have in common, to open their store by. */
  readonly #store: MonitorConfig;
  readonly #openStore: (config: MonitorConfig) => RemoteStore;
  readonly #label: string;
  readonly #stop = new AbortController();
  /** Children that were refused, so that it is said once. */
  readonly #refused = new Set<string>();
  #failuresInARow = 0;
  #wasEmpty = false;
  #ended: Promise<void> = Promise.resolve();

  /** @throws SRV_BAD_CONFIG for an address that is none */
  constructor(options: RemoteRepositoryOptions) {
    this.#options = options;
    this.#openStore = options.openStore ?? openMonitorStore;
    this.directory = join(options.directory, placeName(options.address));
    const { host, path } = readAddress(options.address);
    this.#host = host;
    this.#path = path;
    this.#store = this.#monitorOf('any');
    const store = this.#openStore(this.#store);
    this.#label = store.label + (path === '' ? '/' : path);
    void store.close();
  }

  /** Looks for the first time, whatever comes of it, and goes on until it is closed. @throws SRV_IO */
  async start(): Promise<void> {
    try {
      makeDirectory(this.directory, 0o777);
    } catch (cause) {
      const text = `The directory ${this.directory} cannot be made: ${messageOf(cause)}.`;
      throw new ServingError('SRV_IO', text, { cause });
    }
    await this.look();
    this.#ended = this.#run();
  }

  /** Looks no longer; idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  /** Looks once which children there are. Never rejects: a failure is logged, and leaves what is here. */
  async look(): Promise<void> {
    const { logger, intervalS } = this.#options;
    try {
      await this.#take(await this.#list());
      this.#failuresInARow = 0;
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#failuresInARow += 1;
      const code = error instanceof ServingError ? error.code : 'SRV_INTERNAL';
      const retryInS =
        grownPauseMs({ intervalS, maxPauseS: this.#store.maxPauseS }, this.#failuresInARow) / 1000;
      logger.error(
        { code, failures: this.#failuresInARow, retryInS },
        `the model repository was not listed, and its models go on as before: ${redacted(messageOf(error), [], [this.#host])}`,
      );
    }
  }

  async #run(): Promise<void> {
    const { clock, intervalS } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const pauseMs = grownPauseMs({ intervalS, maxPauseS: this.#store.maxPauseS }, this.#failuresInARow);
      await pause(clock, pauseMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.look();
    }
  }

  async #list(): Promise<readonly RemoteEntry[]> {
    const { clock, monitors } = this.#options;
    const store = this.#openStore(this.#store);
    const idle = new IdleLimit({
      clock,
      ms: this.#store.timeoutS * 1000,
      label: this.#label,
      outer: this.#stop.signal,
    });
    try {
      const { signal } = idle;
      const listing = store.list(this.#path === '' ? '/' : this.#path, {
        signal,
        onAnswer: () => {
          idle.heard();
          monitors.heard();
        },
      });
      const entries = await endedBy(listing, signal);
      if (entries) return entries;
      throw new ServingError(
        'SRV_REMOTE_NOT_FOUND',
        `${this.#label}: expected a directory of models, got none.`,
      );
    } finally {
      idle.close();
      await store.close();
    }
  }

  async #take(entries: readonly RemoteEntry[]): Promise<void> {
    const { logger, monitors, chooseVersions } = this.#options;
    // As in a directory of this machine; directories first, where a file has the same name.
    const children = entries
      .filter(({ name }) => !/^[._]/.test(name))
      .filter(({ name, isDirectory }) => isDirectory || /\.onnx$/i.test(name))
      .toSorted((a, b) => Number(b.isDirectory) - Number(a.isDirectory) || (a.name < b.name ? -1 : 1));
    if (children.length === 0) {
      if (!this.#wasEmpty) logger.warn(`${this.#label} lists no model: what was fetched before is kept`);
      this.#wasEmpty = true;
      return;
    }
    this.#wasEmpty = false;
    const present = new Map<string, string>();
    for (const { name } of children) {
      try {
        requireSegment(name, this.#label);
        const config = this.#monitorOf(name);
        const model = config.localModelName;
        if (present.has(model)) {
          throw new ServingError(
            'SRV_BAD_CONFIG',
            `${this.#label}: ${present.get(model)} and ${name} would both be the model "${model}"`,
          );
        }
        present.set(model, name);
        const target = join(this.directory, model);
        if (monitors.has(target)) continue;
        // A model without a directory would not be listed before it is fetched.
        makeDirectory(target, 0o777);
        monitors.begin(monitors.make(config, (numbers) => chooseVersions(target, numbers)));
      } catch (error) {
        if (!this.#refused.has(name)) logger.error(`${name} is not served: ${messageOf(error)}`);
        this.#refused.add(name);
      }
    }
    for (const child of await readdir(this.directory)) {
      if (!child.startsWith('.') && !present.has(child)) await this.#drop(child);
    }
  }

  async #drop(model: string): Promise<void> {
    const { logger, monitors } = this.#options;
    const target = join(this.directory, model);
    await monitors.end(target);
    // Renamed first, so that nobody finds half of it.
    const gone = join(this.directory, `.${model}.gone`);
    await rm(gone, { recursive: true, force: true });
    await rename(target, gone).catch((error: NodeJS.ErrnoException) => {
      // Servers may share the cache: another one was faster.
      if (error.code !== 'ENOENT') throw error;
    });
    await rm(gone, { recursive: true, force: true });
    logger.info({ model }, `${this.#label} has ${model} no longer: it is dropped`);
  }

  #monitorOf(child: string): MonitorConfig {
    const { address, intervalS } = this.#options;
    return monitorAt({
      address,
      host: this.#host,
      path: joinRemote(this.#path, child),
      name: undefined,
      intervalS,
      localPath: this.directory,
      localTmpPath: workDirectory,
    });
  }
}
