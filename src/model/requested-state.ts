import Type from 'typebox';
import { findProblems, formatPath } from '../config/problems.js';
import type { StateStore } from '../lifecycle/state-file.js';
import type { Logger } from '../observe/logger.js';
import type { LoadOverride } from '../repository/load-override.js';

/** The name of the part of the state. */
const part = 'models';

/** Contents of a model that are remembered to have served. */
const servedKept = 8;

const namesSchema = Type.Optional(Type.Array(Type.String()));

/** A file may have been written by hand, or by another version. */
const keptSchema = Type.Object({
  unloaded: namesSchema,
  rejected: Type.Optional(Type.Record(Type.String(), Type.Array(Type.String()))),
  overrides: Type.Optional(
    Type.Record(
      Type.String(),
      Type.Object({
        settings: Type.Record(Type.String(), Type.Unknown()),
        tritonConfig: Type.Optional(Type.Unknown()),
      }),
    ),
  ),
  loaded: namesSchema,
  asleep: namesSchema,
  served: Type.Optional(Type.Record(Type.String(), Type.Array(Type.String()))),
});

interface Kept {
  readonly unloaded: readonly string[];
  readonly rejected: Readonly<Record<string, readonly string[]>>;
  readonly overrides: Readonly<Record<string, LoadOverride>>;
  readonly loaded: readonly string[];
  readonly asleep: readonly string[];
  readonly served: Readonly<Record<string, readonly string[]>>;
}

/** What was asked for of models at run time, and outlives the process by `keep`. */
export class RequestedState {
  /** Models that were unloaded: a source does not bring them back. */
  readonly unloaded: Set<string>;
  /** What was rolled back from, by model: see `isRejected`. */
  readonly rejected: Map<string, Set<string>>;
  /** What was given with loads, by model. */
  readonly overrides: Map<string, LoadOverride>;
  /** Models that are loaded because a request or a load asked for them, the last one last. */
  readonly loaded: Set<string>;
  /** Models that made room for others: the next request for them loads them. */
  readonly asleep: Set<string>;
  /** Contents that have served, by model, the last one first. */
  readonly #served: Map<string, readonly string[]>;
  readonly #store: StateStore;

  /** @param logger is told where what was kept cannot be read; nothing was asked for then */
  constructor(store: StateStore, logger: Logger) {
    this.#store = store;
    const {
      unloaded = [],
      rejected = {},
      overrides = {},
      loaded = [],
      asleep = [],
      served = {},
    } = readKept(store.get(part), logger);
    this.unloaded = new Set(unloaded);
    this.rejected = new Map(Object.entries(rejected).map(([name, contents]) => [name, new Set(contents)]));
    this.overrides = new Map(Object.entries(overrides));
    this.loaded = new Set(loaded);
    this.asleep = new Set(asleep);
    this.#served = new Map(Object.entries(served));
  }

  /** The contents of a model that have served, the last one first. */
  servedOf(name: string): readonly string[] {
    return this.#served.get(name) ?? [];
  }

  /** A content has come to serve. @returns whether there is something new to keep, which the caller does */
  noteServed(name: string, content: string): boolean {
    const before = this.servedOf(name);
    if (before[0] === content) return false;
    const others = before.filter((other) => other !== content);
    this.#served.set(name, [content, ...others].slice(0, servedKept));
    return true;
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
    this.#served.delete(name);
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
      served: Object.fromEntries(this.#served),
    } satisfies Kept);
  }
}

function readKept(value: unknown, logger: Logger): Partial<Kept> {
  if (value === undefined) return {};
  const [problem] = findProblems(keptSchema, value);
  if (!problem) return value as Partial<Kept>;
  logger.error(
    `what was asked of models before is lost: ${formatPath([part, ...problem.path])} of the state: ${problem.text}`,
  );
  return {};
}
