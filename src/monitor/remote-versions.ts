/** A remote directory of version directories: what is in it, which versions are wanted here, and which are whole. */
import type { Clock } from '../batching/clock.js';
import { completeMarker } from '../config/place.js';
import { joinRemote, requireSegment } from '../remote/fetch-tree.js';
import type { RemoteEntry, RemoteOptions, RemoteStore } from '../remote/remote-store.js';
import { versionNumber } from './install-model.js';

/** Which of the versions that are there are wanted. It rejects where that is not known: then nothing is brought or removed. */
export type ChooseVersions = (present: readonly number[]) => Promise<ReadonlySet<number>>;

/** What a directory of version directories holds. */
export interface VersionListing {
  /** Paths of the version directories by number. */
  readonly versions: ReadonlyMap<number, string>;
  /** Files and directories that are no version. Names that begin with a dot or an underscore are left out. */
  readonly beside: readonly RemoteEntry[];
  /** Names of which others mean the same number; such a version is not taken. */
  readonly ambiguous: readonly string[];
}

/** Lists a directory; undefined where it holds no version directories. */
export async function listVersions(
  store: RemoteStore,
  path: string,
  options: RemoteOptions,
): Promise<VersionListing | undefined> {
  const versions = new Map<number, string>();
  const names = new Map<number, string[]>();
  const beside: RemoteEntry[] = [];
  for (const entry of (await store.list(path, options)) ?? []) {
    const version = entry.isDirectory ? versionNumber(entry.name) : undefined;
    if (version !== undefined) {
      versions.set(version, joinRemote(path, entry.name));
      names.set(version, [...(names.get(version) ?? []), entry.name]);
    } else if (!/^[._]/.test(entry.name)) {
      requireSegment(entry.name, store.label + path);
      beside.push(entry);
    }
  }
  if (versions.size === 0) return undefined;
  const ambiguous = [...names.values()].filter((same) => same.length > 1).flat();
  for (const name of ambiguous) versions.delete(versionNumber(name)!);
  return { versions, beside, ambiguous };
}

/** A version that is whole there. */
export interface WholeVersion {
  readonly version: number;
  readonly path: string;
  /** What was seen of it; absent where it was not looked at, because a done file says that it is whole. */
  readonly stamp?: string;
  /** Whether what is there is what is here. */
  readonly isHere: boolean;
}

/** What `VersionWatch.judge` goes by. */
export interface JudgeOptions extends RemoteOptions {
  readonly store: RemoteStore;
  readonly choose: ChooseVersions;
  /** What was seen of each version that is here. */
  readonly installed: Readonly<Record<string, string>>;
  /**
   * What the done file says of versions: those that it announced before, and whether it is a new one, which announces all
   * that are there. Absent: there is none, and the versions have to show themselves that they are whole.
   */
  readonly done?: { readonly isNew: boolean; readonly announced: readonly number[] };
  /** Versions to do without. @default none */
  readonly without?: ReadonlySet<number>;
}

/** What came of it. */
export interface JudgedVersions {
  /** The wanted ones that are whole, the highest first. */
  readonly whole: readonly WholeVersion[];
  /** Versions that may still be written, or replaced. */
  readonly restless: readonly number[];
}

/** What was seen of a version, and since when it is the same. */
interface Seen {
  readonly stamp: string;
  readonly at: number;
}

/** By how much a timer of the interval may end early, ms: the clock that measures it is another one. */
const timerSlackMs = 5;

/** Of version directories that are uploaded at one time; one with a history of hundreds is not looked through. */
const mostRounds = 4;

/** Tells which version directories are whole. It remembers what it saw of those that no done file announces. */
export class VersionWatch {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #seen = new Map<number, Seen>();

  /** @param intervalMs how long a version has to be the same */
  constructor({ clock, intervalMs }: { readonly clock: Clock; readonly intervalMs: number }) {
    this.#clock = clock;
    this.#intervalMs = intervalMs;
  }

  /**
   * Finds the wanted versions among those that are whole. Whole is what a done file announces, what holds `_SUCCESS`, and
   * what is the same, by names, sizes and ETags, as at a look that is an interval ago. What is not whole is passed over for
   * the next one.
   */
  async judge(listing: VersionListing, options: JudgeOptions): Promise<JudgedVersions> {
    for (const version of this.#seen.keys()) if (!listing.versions.has(version)) this.#seen.delete(version);
    const left = new Set([...listing.versions.keys()].filter((version) => !options.without?.has(version)));
    const whole = new Map<number, WholeVersion>();
    const restless: number[] = [];
    for (let round = 0; round < mostRounds; round++) {
      const wanted = await options.choose([...left]);
      const open = [...wanted].filter((version) => !whole.has(version)).toSorted((a, b) => b - a);
      if (open.length === 0) break;
      for (const version of open) {
        const { found, isRestless } = await this.#judgeOne(version, listing, options);
        if (found) whole.set(version, found);
        else left.delete(version);
        if (isRestless) restless.push(version);
      }
    }
    const wanted = await options.choose([...left]);
    return {
      whole: [...whole.values()]
        .filter(({ version }) => wanted.has(version))
        .toSorted((a, b) => b.version - a.version),
      restless,
    };
  }

  async #judgeOne(
    version: number,
    { versions, beside }: VersionListing,
    options: JudgeOptions,
  ): Promise<{ readonly found?: WholeVersion; readonly isRestless?: true }> {
    const { store, installed, done, ...remote } = options;
    const path = versions.get(version)!;
    const here = installed[version];
    const asItIs =
      here === undefined ? {} : ({ found: { version, path, isHere: true, stamp: here } } as const);
    if (done && !done.isNew) {
      // What lies there now may be half of what the next done file announces.
      if (here !== undefined) return asItIs;
      return done.announced.includes(version)
        ? { found: { version, path, isHere: false } }
        : { isRestless: true };
    }
    const askedAt = this.#clock.now();
    const stamp = (await store.stampOf(path, remote))?.text;
    if (stamp !== undefined && stamp === here) return asItIs;
    const entries = (await store.list(path, remote)) ?? [];
    remote.onAnswer?.();
    // Triton's settings may give the model's file another name.
    const isModel = beside.some(({ name }) => name === 'config.pbtxt')
      ? entries.length > 0
      : entries.some(({ name }) => /\.onnx$/i.test(name));
    if (stamp === undefined || !isModel) return asItIs;
    const isMarked = entries.some(({ name, isDirectory }) => name === completeMarker && !isDirectory);
    // The marker of a version that is replaced may be the one of before.
    if (done || (isMarked && here === undefined) || this.#isSettled(version, stamp, askedAt)) {
      return { found: { version, path, stamp, isHere: false } };
    }
    return { ...asItIs, isRestless: true };
  }

  /** It stays so where it cannot be fetched: the next look is another attempt, and not the first of two. */
  #isSettled(version: number, stamp: string, at: number): boolean {
    const seen = this.#seen.get(version);
    if (seen?.stamp === stamp) return at - seen.at >= this.#intervalMs - timerSlackMs;
    this.#seen.set(version, { stamp, at });
    return false;
  }
}
