/** Keeps the wanted versions of a remote directory of version directories here, and what lies beside them. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../batching/clock.js';
import type { MonitorConfig } from '../config/monitor-settings.js';
import { completeMarker } from '../config/place.js';
import { makeDirectory } from '../make-directory.js';
import type { Logger } from '../observe/logger.js';
import { throwIfAborted } from '../remote/abort.js';
import { joinRemote } from '../remote/fetch-tree.js';
import type { FetchProgress, RemoteEntry, RemoteStamp } from '../remote/remote-store.js';
import { doneFilePath, type FetchContext, type FetchedModel, fetchModel } from './fetch-model.js';
import { removeVersion, replaceDirectory, touchStampFile, versionsIn } from './install-model.js';
import {
  type ChooseVersions,
  type JudgedVersions,
  type VersionListing,
  VersionWatch,
  type WholeVersion,
} from './remote-versions.js';
import { type InstalledState, readState, type WorkPlaces, writeState } from './work-places.js';

/** What a follower works with. */
export interface VersionFollowerOptions {
  readonly config: MonitorConfig;
  readonly places: WorkPlaces;
  readonly choose: ChooseVersions;
  readonly logger: Logger;
  /** Tells how long a version has been the same. */
  readonly clock: Clock;
  readonly timeOfDay: () => number;
}

/** What one look works with. */
export interface FollowContext extends Pick<FetchContext, 'store' | 'signal' | 'heard' | 'onProgress'> {
  /** The done file; undefined where there is none. */
  readonly done: RemoteStamp | undefined;
  /** Lends an empty directory of this look alone. */
  readonly attempt: <T>(work: (place: string) => Promise<T>) => Promise<T>;
}

/** What came of a look. */
export interface Followed {
  readonly outcome: 'installed' | 'unchanged' | 'incomplete' | 'absent';
  readonly bytes: number;
  /** Why nothing is here yet; absent where something is. */
  readonly problem?: string;
}

/** Of versions that cannot be brought, so many are asked for in one look that is to bring any. */
const mostTries = 4;

/** Follows the version directories of one model. */
export class VersionFollower {
  readonly #options: VersionFollowerOptions;
  readonly #watch: VersionWatch;
  #ambiguous = '';

  constructor(options: VersionFollowerOptions) {
    this.#options = options;
    const { clock, config } = options;
    this.#watch = new VersionWatch({ clock, intervalMs: config.intervalS * 1000 });
  }

  /** @throws what fetching throws, once everything else was brought */
  async look(listing: VersionListing, context: FollowContext): Promise<Followed> {
    const { config, places, choose } = this.#options;
    const { store, done, signal, heard } = context;
    this.#reportAmbiguous(listing, store.label + this.#remotePath);
    let state = (await readState(places, config)) ?? { stamp: '' };
    const keep = async (change: Partial<InstalledState>): Promise<void> => {
      state = { ...state, ...change };
      await writeState(places, config, state);
    };
    const isNew = done !== undefined && done.text !== state.stamp;
    if (done === undefined || isNew)
      await this.#bringBeside(listing.beside, state.beside ?? {}, keep, context);

    const here = new Set(await versionsIn(places.target));
    const installed = Object.fromEntries(
      Object.entries(state.versions ?? {}).filter(([version]) => here.has(Number(version))),
    );
    const judge = (without: ReadonlySet<number>): Promise<JudgedVersions> =>
      this.#watch.judge(listing, {
        store,
        choose,
        installed,
        signal,
        onAnswer: heard,
        ...(done ? { done: { isNew, announced: state.announced ?? [] } } : {}),
        without,
      });
    let bytes = 0;
    const failed = new Map<number, unknown>();
    const bringAll = async (whole: readonly WholeVersion[]): Promise<void> => {
      for (const one of whole) {
        if (one.isHere) continue;
        try {
          const model = await this.#bring(one, context);
          bytes += model.bytes;
          installed[one.version] = model.stamp;
          await keep({ versions: { ...installed } });
        } catch (error) {
          // One that cannot be brought does not keep the others away.
          if (signal.aborted) throw error;
          failed.set(one.version, error);
        }
      }
    };
    const judged = await judge(new Set());
    await bringAll(judged.whole);
    // A server without any version is not ready: then another one will do that would not be wanted beside those.
    for (let tries = 1; tries < mostTries && failed.size > 0; tries++) {
      if (here.size > 0 || Object.keys(installed).length > 0) break;
      const { whole } = await judge(new Set(failed.keys()));
      if (whole.length === 0) break;
      await bringAll(whole);
    }
    if (failed.size > 0) throw [...failed.values()][0];
    await this.#removeOthers(listing, judged, context);
    if (isNew) await keep({ stamp: done.text, announced: [...listing.versions.keys()] });
    return { ...outcomeOf(judged, store.label + this.#remotePath), bytes };
  }

  get #remotePath(): string {
    const { remotePath, remoteModelName } = this.#options.config;
    return joinRemote(remotePath, remoteModelName);
  }

  async #bring({ version, path, stamp }: WholeVersion, context: FollowContext): Promise<FetchedModel> {
    const { config, places, logger, timeOfDay } = this.#options;
    const { store, done, signal, heard, onProgress } = context;
    return context.attempt(async (place) => {
      logger.info({ version }, `fetching ${store.label}${path}`);
      const chosen = { path, version, ...(stamp === undefined ? {} : { stamp }) };
      const model = await fetchModel(done, { config, store, place, signal, heard, onProgress }, chosen);
      // An attempt that was given up may come back from a file system that hung; by then it is old.
      throwIfAborted(signal);
      const target = join(places.target, String(version));
      await replaceDirectory({ staged: model.directory, target, aside: places.aside });
      await touchStampFile(join(places.target, config.localTimestampFile), timeOfDay());
      const { bytes, files, digests } = model;
      logger.info({ bytes, files, digests, version }, `version ${version} is in place at ${places.target}`);
      return model;
    });
  }

  /** Settings, warm-up requests and tables that all versions share: each is replaced as a whole when it changes. */
  async #bringBeside(
    entries: readonly RemoteEntry[],
    before: Readonly<Record<string, string>>,
    keep: (change: Partial<InstalledState>) => Promise<void>,
    context: FollowContext,
  ): Promise<void> {
    const { config, places } = this.#options;
    const { store, signal, heard } = context;
    const here = await readdir(places.target).catch(() => [] as string[]);
    const beside: Record<string, string> = { ...before };
    const wanted = entries.filter(
      ({ name }) =>
        name !== config.localTimestampFile && joinRemote(this.#remotePath, name) !== doneFilePath(config),
    );
    for (const entry of wanted) {
      const path = joinRemote(this.#remotePath, entry.name);
      const stamp = entry.stamp ?? (await store.stampOf(path, { signal, onAnswer: heard }))?.text;
      heard();
      // What was listed a moment ago may be gone.
      if (stamp === undefined || (stamp === before[entry.name] && here.includes(entry.name))) continue;
      await context.attempt(async (place) => {
        const staged = join(place, 'beside');
        const limits = { maxFiles: config.maxFiles, maxBytes: config.maxBytes };
        const onProgress = (progress: FetchProgress): void => {
          heard();
          context.onProgress?.(progress);
        };
        await store.fetch(path, staged, { signal, limits, onProgress });
        makeDirectory(places.target, 0o777);
        await replaceDirectory({ staged, target: join(places.target, entry.name), aside: places.aside });
      });
      beside[entry.name] = stamp;
      await keep({ beside: { ...beside } });
    }
    const gone = Object.keys(before).filter((name) => wanted.every((entry) => entry.name !== name));
    for (const name of gone) {
      await rm(join(places.target, name), { recursive: true, force: true });
      delete beside[name];
    }
    if (gone.length > 0) await keep({ beside });
  }

  /**
   * Removes versions that the publisher took back, where they would be served in the place of what is there, and old ones
   * beyond `keep_versions`.
   */
  async #removeOthers(
    listing: VersionListing,
    { whole }: JudgedVersions,
    { attempt }: FollowContext,
  ): Promise<void> {
    // Where nothing is whole there is nothing that could take their place.
    if (whole.length === 0 || listing.ambiguous.length > 0) return;
    const { config, places, choose, logger } = this.#options;
    const left = new Set(await versionsIn(places.target));
    const withdrawn: number[] = [];
    for (;;) {
      const gone = [...(await choose([...left]))].filter((version) => !listing.versions.has(version));
      if (gone.length === 0) break;
      for (const version of gone) left.delete(version);
      withdrawn.push(...gone);
    }
    const wanted = await choose([...left]);
    const others = [...left].filter((version) => !wanted.has(version)).toSorted((a, b) => b - a);
    const removed = [...withdrawn, ...others.slice(config.keepVersions - 1)];
    if (removed.length === 0) return;
    await attempt(async (place) => {
      for (const version of removed) {
        await removeVersion(places.target, version, place);
        logger.info({ version }, `version ${version} was removed`);
      }
    });
  }

  #reportAmbiguous({ ambiguous }: VersionListing, label: string): void {
    const names = ambiguous.join(', ');
    if (names !== this.#ambiguous && names !== '') {
      this.#options.logger.warn(`${label}: ${names} mean the same version: keep one of them`);
    }
    this.#ambiguous = names;
  }
}

function outcomeOf({ whole, restless }: JudgedVersions, label: string): Omit<Followed, 'bytes'> {
  const outcome = whole.some(({ isHere }) => !isHere)
    ? 'installed'
    : restless.length > 0
      ? 'incomplete'
      : whole.length > 0
        ? 'unchanged'
        : 'absent';
  if (whole.length > 0) return { outcome };
  const problem =
    restless.length > 0
      ? `version ${restless[0]} in ${label} may still be written: it is taken once it holds ${completeMarker}, or is the same at two looks an interval apart`
      : `none of the version directories in ${label} that are wanted holds a .onnx file`;
  return { outcome, problem };
}
