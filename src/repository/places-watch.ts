/** Notices that models, their settings, stamps or tables have changed on disk. */
import { type FSWatcher, readdirSync, statSync, watch } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Clock } from '../batching/clock.js';

/** A place of a model: a file or a directory. */
export interface WatchedPlace {
  readonly path: string;
  /** Files and directories whose change means one of the model; they need not exist. */
  readonly paths: readonly string[];
}

/** What a watch needs. */
export interface PlacesWatchOptions {
  readonly clock: Clock;
  /** Time between two looks, ms. A look takes as much longer to come as the last one was expensive. */
  readonly pollMs: number;
  /** A place is to be looked into: something about it is new. */
  readonly onChange: (place: string) => void;
  /** A directory whose children are places: it was added to or taken from. */
  readonly onChildren: (directory: string) => void;
}

/** Looks at this many files before it lets other work go on. */
const filesAtOnce = 64;
/** Share of the time that looking may take. */
const mostShare = 0.005;
/** Events of one change come in groups. */
const eventPauseMs = 10;

interface Place {
  readonly path: string;
  /** What was last seen of each of its paths. */
  readonly prints: Map<string, string>;
}

/**
 * Watches places by events of the file system, and by polling where those do not come: network file systems, too
 * many watches, files that are mapped in from a host.
 *
 * Polling stats a few files for each place. It is spread out over turns of the event loop, and over time so that it
 * takes at most a two-hundredth of it, however many places there are. Events make it look at their places alone.
 */
export class PlacesWatch {
  readonly #options: PlacesWatchOptions;
  readonly #places = new Map<string, Place>();
  readonly #directories = new Map<string, string>();
  readonly #watchers = new Map<string, FSWatcher>();
  /** Paths of which events came since the last look at such. */
  readonly #touched = new Set<string>();
  #poll: { cancel(): void } | undefined;
  #soon: { cancel(): void } | undefined;
  #isClosed = false;

  constructor(options: PlacesWatchOptions) {
    this.#options = options;
    this.#planPoll(options.pollMs);
  }

  /**
   * Watches a place by these paths. What was watched of it already is compared with what was seen of it last, so that
   * no change is lost that happens while it is looked into.
   */
  set(place: WatchedPlace): void {
    if (this.#isClosed) return;
    const path = resolve(place.path);
    const before = this.#places.get(path)?.prints;
    const prints = new Map(place.paths.map((one) => [one, before?.get(one) ?? printOf(one)]));
    this.#places.set(path, { path, prints });
    for (const old of before?.keys() ?? []) if (!prints.has(old)) this.#unwatch(old);
    for (const watched of prints.keys()) this.#watch(watched);
  }

  /** Watches no longer. */
  remove(place: string): void {
    const path = resolve(place);
    const before = this.#places.get(path);
    if (!before) return;
    this.#places.delete(path);
    for (const watched of before.prints.keys()) this.#unwatch(watched);
  }

  /** Watches which children a directory has. */
  addDirectory(directory: string): void {
    const path = resolve(directory);
    this.#directories.set(path, childrenOf(path));
    this.#watch(path);
  }

  /** Looks at a place again after a while, whether or not something changes. */
  lookAgain(place: string, afterMs: number): void {
    this.#options.clock.setTimer(() => {
      if (!this.#isClosed && this.#places.has(resolve(place))) this.#options.onChange(resolve(place));
    }, afterMs);
  }

  /** Ends the watching; idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#poll?.cancel();
    this.#soon?.cancel();
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #watch(path: string): void {
    if (this.#watchers.has(path)) return;
    try {
      const watcher = watch(path, { persistent: false }, () => this.#onEvent(path));
      // A watch that breaks is replaced by polling, as one that cannot be had.
      watcher.on('error', () => this.#close(path));
      this.#watchers.set(path, watcher);
    } catch {
      // It does not exist, or there are too many: polling sees what happens.
    }
  }

  #unwatch(path: string): void {
    const isUsed = [...this.#places.values()].some(({ prints }) => prints.has(path));
    if (!isUsed && !this.#directories.has(path)) this.#close(path);
  }

  #close(path: string): void {
    this.#watchers.get(path)?.close();
    this.#watchers.delete(path);
  }

  #onEvent(path: string): void {
    this.#touched.add(path);
    this.#soon ??= this.#options.clock.setTimer(() => {
      this.#soon = undefined;
      const touched = new Set(this.#touched);
      this.#touched.clear();
      void this.#look(touched);
    }, eventPauseMs);
  }

  #planPoll(afterMs: number): void {
    this.#poll = this.#options.clock.setTimer(() => {
      void this.#look().then((tookMs) => {
        if (!this.#isClosed) this.#planPoll(Math.max(this.#options.pollMs, tookMs / mostShare));
      });
    }, afterMs);
  }

  /**
   * @param touched looks at those alone that these paths belong to
   * @returns what it took of this thread, ms
   */
  async #look(touched?: ReadonlySet<string>): Promise<number> {
    let tookMs = 0;
    let startedAt = performance.now();
    let files = 0;
    for (const [directory, before] of this.#directories) {
      if (touched && !touched.has(directory)) continue;
      const now = childrenOf(directory);
      if (now === before) continue;
      this.#directories.set(directory, now);
      this.#options.onChildren(directory);
    }
    for (const place of [...this.#places.values()]) {
      if (this.#isClosed) break;
      if (touched && !touches(touched, place)) continue;
      files += place.prints.size;
      if (files > filesAtOnce) {
        files = 0;
        tookMs += performance.now() - startedAt;
        await new Promise<void>((resume) => this.#options.clock.atTurnEnd(resume));
        startedAt = performance.now();
      }
      if (this.#places.get(place.path) !== place || !this.#hasChanged(place)) continue;
      this.#options.onChange(place.path);
    }
    return tookMs + performance.now() - startedAt;
  }

  #hasChanged({ prints }: Place): boolean {
    let hasChanged = false;
    for (const [path, before] of prints) {
      const now = printOf(path);
      if (now === before) continue;
      hasChanged = true;
      prints.set(path, now);
      // Events are those of a file, not of a name: another file that took it has to be watched anew.
      if (inodeOf(now) !== inodeOf(before)) this.#close(path);
      this.#watch(path);
    }
    return hasChanged;
  }
}

function touches(touched: ReadonlySet<string>, { prints }: Place): boolean {
  for (const path of touched) if (prints.has(path)) return true;
  return false;
}

/** Inode, size and time of a file; empty where there is none. */
function printOf(path: string): string {
  try {
    const facts = statSync(path, { throwIfNoEntry: false });
    return facts ? `${facts.ino} ${facts.size} ${facts.mtimeMs}` : '';
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

function inodeOf(print: string): string {
  return print.split(' ', 1)[0]!;
}

function childrenOf(directory: string): string {
  try {
    return readdirSync(directory)
      .map((name) => join(directory, name))
      .join('\n');
  } catch {
    return '';
  }
}
