import type { StateStore } from '../lifecycle/state-file.js';
import type { LoadOverride } from '../repository/load-override.js';

/** The name of the part of the state. */
const part = 'models';

interface Kept {
  readonly unloaded: readonly string[];
  readonly rejected: Readonly<Record<string, readonly string[]>>;
  readonly overrides: Readonly<Record<string, LoadOverride>>;
  readonly loaded: readonly string[];
  readonly asleep: readonly string[];
}

/** What was asked for of models at run time, and outlives the process by `keep`. */
export class RequestedState {
  /** Models that were unloaded: a source does not bring them back. */
  readonly unloaded: Set<string>;
  /** Contents that were rolled back from, by model. */
  readonly rejected: Map<string, Set<string>>;
  /** What was given with loads, by model. */
  readonly overrides: Map<string, LoadOverride>;
  /** Models that are loaded because a request or a load asked for them, the last one last. */
  readonly loaded: Set<string>;
  /** Models that made room for others: the next request for them loads them. */
  readonly asleep: Set<string>;
  readonly #store: StateStore;

  constructor(store: StateStore) {
    this.#store = store;
    const {
      unloaded = [],
      rejected = {},
      overrides = {},
      loaded = [],
      asleep = [],
    } = (store.get(part) ?? {}) as Partial<Kept>;
    this.unloaded = new Set(unloaded);
    this.rejected = new Map(Object.entries(rejected).map(([name, contents]) => [name, new Set(contents)]));
    this.overrides = new Map(Object.entries(overrides));
    this.loaded = new Set(loaded);
    this.asleep = new Set(asleep);
  }

  /** A model was loaded because it was asked for. */
  noteLoaded(name: string): void {
    this.asleep.delete(name);
    this.loaded.delete(name);
    this.loaded.add(name);
    this.keep();
  }

  /** A model made room for others. */
  noteAsleep(name: string): void {
    this.loaded.delete(name);
    this.asleep.add(name);
    this.keep();
  }

  /** The contents that a model was rolled back from; they may be added to. */
  rejectedOf(name: string): Set<string> {
    const rejected = this.rejected.get(name) ?? new Set();
    this.rejected.set(name, rejected);
    return rejected;
  }

  /** A model is gone, with what was asked of it. */
  forget(name: string): void {
    this.rejected.delete(name);
    this.overrides.delete(name);
    this.loaded.delete(name);
    this.asleep.delete(name);
    this.keep();
  }

  /** Writes what has changed. */
  keep(): void {
    const rejected = [...this.rejected].filter(([, contents]) => contents.size > 0);
    this.#store.set(part, {
      unloaded: [...this.unloaded],
      rejected: Object.fromEntries(rejected.map(([name, contents]) => [name, [...contents]])),
      overrides: Object.fromEntries(this.overrides),
      loaded: [...this.loaded],
      asleep: [...this.asleep],
    } satisfies Kept);
  }
}
