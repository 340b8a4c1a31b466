/** Where models come from, over time: finds them, and tells what of them has changed. */
import { readdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import type { Clock } from '../batching/clock.js';
import { completeMarker } from '../config/place.js';
import type { ModelOption } from '../config/schema.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../observe/logger.js';
import { newestChangeIn, settingsFilesIn, tablesOf } from './fingerprint.js';
import {
  type ConfiguredPlace,
  findAllModels,
  findOrExplain,
  type ModelEntry,
  monitorDirectory,
  type PlaceOptions,
  placesOfConfig,
  type RemotePlaces,
  type RepositoryEntry,
} from './layout.js';
import { PlacesWatch } from './places-watch.js';
import { type StampRule, stampFileOf } from './stamp-file.js';

/** Brings models from addresses. */
export interface RemoteBringer extends RemotePlaces {
  /**
   * Brings these from now on, and those of the last call that are not among them no longer.
   *
   * @throws SRV_BAD_CONFIG; then all is as before
   */
  follow(models: readonly (ModelOption & Pick<PlaceOptions, 'policy'>)[]): void;
}

/** What a source works with. */
export interface ModelSourceOptions {
  readonly models: readonly ModelOption[];
  readonly modelRepository: string | undefined;
  /** Brings the models of `modelConfigFile` that are at addresses. */
  readonly remote: RemoteBringer;
  /** A `models.config`, read again every `configPollMs` ms; 0: only at the start. */
  readonly modelConfigFile: string | undefined;
  readonly configPollMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Time between two looks at the file system, ms; 0: nothing is watched. */
  readonly pollMs: number;
  /** How long the files of a new version must have been left alone before it is taken for whole, ms. */
  readonly settleMs: number;
  /** The stamp file of a model. */
  readonly stampRule: (entry: ModelEntry) => StampRule;
  /** The entries of a model as a load by request wants them, where one said something else than its files. */
  readonly asWanted: (name: string, entries: readonly RepositoryEntry[]) => readonly RepositoryEntry[];
  /**
   * What there is of a model now; undefined when its place is gone. Called for every model at the start, and for each
   * of which something has changed.
   */
  readonly announce: (name: string, entries: readonly RepositoryEntry[] | undefined) => void;
}

/** A model that somebody says is at a place. A child of the repository goes with its directory, one of a file with its line. */
interface Saying {
  readonly said: 'by option' | 'by file' | 'by repository';
  readonly options: PlaceOptions;
}

interface Place {
  /** Several where the place is served under several names. */
  models: readonly Saying[];
  entries: readonly RepositoryEntry[];
}

/** The models of a configuration, watched. */
export class ModelSource {
  readonly #options: ModelSourceOptions;
  readonly #places = new Map<string, Place>();
  readonly #watch: PlacesWatch | undefined;
  /** When version directories that say that they changed just now, or are of the future, were first seen so. */
  readonly #seen = new Map<string, { readonly changedAt: number; readonly at: number }>();
  /** Places that are looked into now; true when they changed meanwhile. */
  readonly #looking = new Map<string, boolean>();
  /** Places that were to be looked at while the start looks for them; undefined once it has ended. */
  #asked: Set<string> | undefined = new Set();
  #configTimer: { cancel(): void } | undefined;
  #isClosed = false;

  constructor(options: ModelSourceOptions) {
    this.#options = options;
    if (options.pollMs > 0) {
      this.#watch = new PlacesWatch({
        clock: options.clock,
        pollMs: options.pollMs,
        onChange: (place) => void this.#lookInto(place),
        onChildren: (directory) => void this.#lookForPlaces(directory),
      });
    }
  }

  /**
   * Begins to bring the models of the `models.config` that are at addresses.
   *
   * @throws SRV_BAD_CONFIG, SRV_IO
   */
  async bring(): Promise<void> {
    this.#follow(await this.#configuredPlaces());
  }

  /**
   * Finds all models and announces them.
   *
   * @throws SRV_IO where the repository cannot be read, SRV_BAD_CONFIG where two places have models of one name
   */
  async start(): Promise<void> {
    const { models, modelRepository, modelConfigFile, announce } = this.#options;
    const asked = new Set<string>();
    this.#asked = asked;
    // Before looking: what comes while it looks is then seen as a change.
    // What cannot be read is told by the search for models.
    const children = modelRepository === undefined ? [] : await placesIn(modelRepository).catch(() => []);
    const configured = await this.#configuredPlaces();
    this.#follow(configured);
    if (modelRepository !== undefined) this.#watch?.addDirectory(modelRepository);
    for (const { path } of [...models, ...configured]) this.#watchPlace(path, []);
    for (const path of children) this.#watchPlace(path, []);
    const found = await this.#findAll();
    for (const { path, ...options } of models) this.#addPlace(path, 'by option', options, found);
    for (const { path, options } of configured) this.#addPlace(path, 'by file', options, found);
    for (const path of children) this.#addPlace(path, 'by repository', {}, found);
    for (const name of namesOf(found)) announce(name, ofName(found, name));
    this.#asked = undefined;
    for (const place of asked) this.look(place);
    if (modelConfigFile !== undefined) this.#planConfigPoll(modelConfigFile);
  }

  /**
   * What there is of one model now, watched or not.
   *
   * @throws as `start`
   */
  async find(name: string): Promise<readonly RepositoryEntry[]> {
    return ofName(await this.#findAll(), name);
  }

  /**
   * Reads the `models.config` again: a new one takes the place of the old set.
   *
   * @throws SRV_BAD_CONFIG, SRV_IO; the old set is served on then
   */
  async readConfigAgain(): Promise<void> {
    const { modelConfigFile } = this.#options;
    if (modelConfigFile === undefined) return;
    const configured = await this.#configuredPlaces();
    if (this.#isClosed) return;
    this.#follow(configured);
    const byPath = new Map<string, Saying[]>();
    for (const { path, options } of configured) {
      byPath.set(path, [...(byPath.get(path) ?? []), { said: 'by file', options }]);
    }
    for (const path of new Set([...this.#places.keys(), ...byPath.keys()])) {
      const others = this.#places.get(path)?.models.filter(({ said }) => said !== 'by file') ?? [];
      this.#setModels(path, [...others, ...(byPath.get(path) ?? [])]);
    }
  }

  /**
   * Looks again at what is at a place, where it is one of those that models are at, or is in the repository; during the
   * start once that has ended, and before it not at all: it finds what is there.
   */
  look(place: string): void {
    const { modelRepository } = this.#options;
    const path = resolve(place);
    if (this.#asked) {
      this.#asked.add(path);
      return;
    }
    if (this.#places.has(path)) void this.#lookInto(path);
    else if (modelRepository !== undefined && dirname(path) === resolve(modelRepository)) {
      void this.#lookForPlaces(modelRepository);
    }
  }

  /** Watches what is wanted of a model now: a load by request may want other versions and tables than its files. */
  watchAgain(name: string): void {
    for (const [path, { entries }] of this.#places) {
      if (namesOf(entries).has(name)) this.#watchPlace(path, entries);
    }
  }

  /** Looks no longer; idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#configTimer?.cancel();
    this.#watch?.close();
  }

  #findAll(): Promise<RepositoryEntry[]> {
    const { models, modelRepository, modelConfigFile, remote } = this.#options;
    return findAllModels({ models, modelRepository, modelConfigFile, remote });
  }

  async #configuredPlaces(): Promise<readonly ConfiguredPlace[]> {
    const { modelConfigFile, remote } = this.#options;
    return modelConfigFile === undefined ? [] : placesOfConfig(modelConfigFile, remote);
  }

  #follow(configured: readonly ConfiguredPlace[]): void {
    this.#options.remote.follow(
      configured.flatMap(({ address, options: { name, policy } }) =>
        address === undefined ? [] : [{ path: address, name, policy }],
      ),
    );
  }

  #addPlace(
    place: string,
    said: Saying['said'],
    options: PlaceOptions,
    found: readonly RepositoryEntry[],
  ): void {
    const path = resolve(place);
    const entries = found.filter((entry) => isAt(entry, path));
    const before = this.#places.get(path)?.models ?? [];
    const saying: Saying = { said, options };
    // The watch may have found it meanwhile: said twice, each of its versions would be announced twice.
    const isKnown = before.some((other) => JSON.stringify(other) === JSON.stringify(saying));
    this.#places.set(path, { models: isKnown ? before : [...before, saying], entries });
    this.#watchPlace(path, entries);
  }

  /** Takes what is said of a place now, and looks into it where that is something else than before. */
  #setModels(path: string, models: readonly Saying[]): void {
    const place = this.#places.get(path);
    if (JSON.stringify(place?.models ?? []) === JSON.stringify(models)) return;
    if (models.length === 0) {
      this.#dropPlace(path);
      return;
    }
    if (place) place.models = models;
    else this.#places.set(path, { models, entries: [] });
    this.#watchPlace(path, place?.entries ?? []);
    void this.#lookInto(path);
  }

  #dropPlace(path: string): void {
    const { entries } = this.#places.get(path)!;
    this.#places.delete(path);
    this.#watch?.remove(path);
    for (const name of namesOf(entries)) this.#options.announce(name, undefined);
  }

  #planConfigPoll(file: string): void {
    const { clock, configPollMs, logger } = this.#options;
    if (configPollMs === 0 || this.#isClosed) return;
    this.#configTimer = clock.setTimer(() => {
      this.readConfigAgain()
        .catch((error: unknown) => logger.error(`${messageOf(error)} The models of before are served on.`))
        .finally(() => this.#planConfigPoll(file));
    }, configPollMs);
  }

  async #lookForPlaces(directory: string): Promise<void> {
    const paths = await placesIn(directory).catch((error: unknown) => {
      this.#options.logger.warn(`the model repository cannot be read: ${messageOf(error)}`);
      return undefined;
    });
    if (!paths || this.#isClosed) return;
    const present = new Set(paths);
    for (const [path, { models }] of [...this.#places]) {
      if (present.has(path)) continue;
      this.#setModels(
        path,
        models.filter(({ said }) => said !== 'by repository'),
      );
    }
    for (const path of paths) {
      if (!this.#places.has(path)) this.#setModels(path, [{ said: 'by repository', options: {} }]);
    }
  }

  /** Announces what is at a place, once it is whole. */
  async #lookInto(path: string): Promise<void> {
    if (this.#looking.has(path)) {
      this.#looking.set(path, true);
      return;
    }
    this.#looking.set(path, false);
    try {
      await this.#announcePlace(path);
    } finally {
      const isChanged = this.#looking.get(path);
      this.#looking.delete(path);
      if (isChanged && !this.#isClosed) void this.#lookInto(path);
    }
  }

  async #announcePlace(path: string): Promise<void> {
    const place = this.#places.get(path);
    if (!place || this.#isClosed) return;
    const found = await Promise.all(
      place.models.map(({ options }) => findOrExplain(path, options, this.#options.remote)),
    );
    const entries = found.flat();
    const restlessMs = await this.#restlessMs(entries);
    if (this.#isClosed || this.#places.get(path) !== place) return;
    this.#watchPlace(path, entries);
    if (restlessMs > 0) {
      // Where nothing is watched, a model that was brought is looked at all the same.
      if (this.#watch) this.#watch.lookAgain(path, restlessMs);
      else this.#options.clock.setTimer(() => this.look(path), restlessMs);
      return;
    }
    const before = namesOf(place.entries);
    const taken = this.#takenName(path, entries);
    if (taken !== undefined) {
      this.#options.logger.error({ model: taken.name }, `${path} is not served: ${taken.reason}`);
      return;
    }
    place.entries = entries;
    const now = namesOf(entries);
    for (const name of before) if (!now.has(name)) this.#options.announce(name, undefined);
    for (const name of now) this.#options.announce(name, ofName(entries, name));
  }

  /** How long to wait until the newest of the versions that are wanted has been left alone for long enough; 0 for now. */
  async #restlessMs(entries: readonly RepositoryEntry[]): Promise<number> {
    let waitMs = 0;
    for (const entry of this.#asWanted(entries)) {
      const directory = entry.error === undefined ? dirname(entry.modelFile) : undefined;
      const isVersion = directory !== undefined && directory !== entry.directory;
      if (!isVersion || entry.error !== undefined || !entry.wanted) continue;
      if ((await readdir(directory).catch(() => [] as string[])).includes(completeMarker)) continue;
      const changedAt = await newestChangeIn(directory);
      const before = this.#seen.get(directory);
      const seen = before?.changedAt === changedAt ? before : { changedAt, at: performance.now() };
      // Clocks need not agree: what has not changed since it was first seen is quiet, whenever it says that it changed.
      const quietMs = Math.max(Date.now() - changedAt, performance.now() - seen.at);
      if (Date.now() - changedAt >= this.#options.settleMs) this.#seen.delete(directory);
      else this.#seen.set(directory, seen);
      waitMs = Math.max(waitMs, this.#options.settleMs - quietMs);
    }
    return waitMs;
  }

  #takenName(
    path: string,
    entries: readonly RepositoryEntry[],
  ): { readonly name: string; readonly reason: string } | undefined {
    for (const name of namesOf(entries)) {
      for (const [other, { entries: theirs }] of this.#places) {
        if (other !== path && namesOf(theirs).has(name)) {
          return { name, reason: `a model named "${name}" is at ${other} already` };
        }
      }
    }
    return undefined;
  }

  /** Of one place, which may be served under several names. */
  #asWanted(entries: readonly RepositoryEntry[]): readonly RepositoryEntry[] {
    return [...namesOf(entries)].flatMap((name) => this.#options.asWanted(name, ofName(entries, name)));
  }

  #watchPlace(place: string, entries: readonly RepositoryEntry[]): void {
    const path = resolve(place);
    const paths = new Set<string>();
    if (extname(path).toLowerCase() !== '.onnx') {
      paths.add(path);
      for (const file of settingsFilesIn(path)) paths.add(file);
    }
    for (const entry of this.#asWanted(entries)) {
      if (entry.error !== undefined) {
        // What is broken may be half there.
        if (entry.version !== undefined) paths.add(join(entry.directory, String(entry.version)));
        continue;
      }
      if (!entry.wanted) continue;
      const directory = dirname(entry.modelFile);
      if (directory !== entry.directory) {
        paths.add(directory);
        paths.add(entry.modelFile);
      }
      const stamp = stampFileOf(entry, this.#options.stampRule(entry));
      if (stamp !== undefined) paths.add(stamp);
      for (const table of tablesOf(entry)) {
        paths.add(table);
        // Where its manifest is still to come.
        for (const version of newestDirectoriesIn(table)) paths.add(version);
      }
    }
    this.#watch?.set({ path, paths: [...paths] });
  }
}

function namesOf(entries: readonly RepositoryEntry[]): ReadonlySet<string> {
  return new Set(entries.map((entry) => entry.name));
}

function ofName(entries: readonly RepositoryEntry[], name: string): readonly RepositoryEntry[] {
  return entries.filter((entry) => entry.name === name);
}

function isAt(entry: RepositoryEntry, path: string): boolean {
  return entry.error === undefined && extname(path).toLowerCase() === '.onnx'
    ? entry.modelFile === path
    : entry.directory === path;
}

function newestDirectoriesIn(table: string): readonly string[] {
  try {
    const numbers = readdirSync(table).filter((name) => /^[1-9]\d*$/.test(name));
    const newest = numbers.toSorted((a, b) => Number(b) - Number(a)).slice(0, 2);
    return newest.map((name) => join(table, name));
  } catch {
    return [];
  }
}

/** The children of a repository that may be models. */
async function placesIn(directory: string): Promise<string[]> {
  const root = resolve(directory);
  const children = await readdir(root, { withFileTypes: true });
  return children
    .filter(
      (child) =>
        !child.name.startsWith('.') &&
        child.name !== monitorDirectory &&
        (!child.isFile() || extname(child.name).toLowerCase() === '.onnx'),
    )
    .map((child) => join(root, child.name))
    .toSorted();
}
