/** Where models come from, over time: finds them, and tells what of them has changed. */
import { readdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import type { Clock } from '../batching/clock.js';
import type { ModelOption } from '../config/schema.js';
import { messageOf } from '../errors.js';
import type { Logger } from '../observe/logger.js';
import { newestChangeIn, settingsFilesIn, tablesOf } from './fingerprint.js';
import { findAllModels, findOrExplain, type ModelEntry, type RepositoryEntry } from './layout.js';
import { PlacesWatch } from './places-watch.js';
import { type StampRule, stampFileOf } from './stamp-file.js';

/** A file that says that what lies beside it is whole, as Hadoop's jobs write it. */
export const completeMarker = '_SUCCESS';

/** What a source works with. */
export interface ModelSourceOptions {
  readonly models: readonly ModelOption[];
  readonly modelRepository: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Time between two looks at the file system, ms; 0: nothing is watched. */
  readonly pollMs: number;
  /** How long the files of a new version must have been left alone before it is taken for whole, ms. */
  readonly settleMs: number;
  /** The stamp file of a model. */
  readonly stampRule: (entry: ModelEntry) => StampRule;
  /**
   * What there is of a model now; undefined when its place is gone. Called for every model at the start, and for each
   * of which something has changed.
   */
  readonly announce: (name: string, entries: readonly RepositoryEntry[] | undefined) => void;
}

interface Place {
  readonly option: ModelOption;
  entries: readonly RepositoryEntry[];
}

/** The models of a configuration, watched. */
export class ModelSource {
  readonly #options: ModelSourceOptions;
  readonly #places = new Map<string, Place>();
  readonly #watch: PlacesWatch | undefined;
  /** Places that are looked into now; true when they changed meanwhile. */
  readonly #looking = new Map<string, boolean>();
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
   * Finds all models and announces them.
   *
   * @throws SRV_IO where the repository cannot be read, SRV_BAD_CONFIG where two places have models of one name
   */
  async start(): Promise<void> {
    const { models, modelRepository, announce } = this.#options;
    // Before looking: what comes while it looks is then seen as a change.
    const children = modelRepository === undefined ? [] : await placesIn(modelRepository);
    if (modelRepository !== undefined) this.#watch?.addDirectory(modelRepository);
    const found = await findAllModels({ models, modelRepository });
    for (const option of [...models, ...children.map((path) => ({ path }))]) {
      const path = resolve(option.path);
      const entries = found.filter((entry) => placeOf(entry, path));
      this.#places.set(path, { option, entries });
      this.#watchPlace(path, entries);
    }
    for (const name of namesOf(found)) announce(name, ofName(found, name));
  }

  /**
   * What there is of one model now, watched or not.
   *
   * @throws as `start`
   */
  async find(name: string): Promise<readonly RepositoryEntry[]> {
    const { models, modelRepository } = this.#options;
    return ofName(await findAllModels({ models, modelRepository }), name);
  }

  /** Looks no longer; idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#watch?.close();
  }

  async #lookForPlaces(directory: string): Promise<void> {
    const paths = await placesIn(directory).catch((error: unknown) => {
      this.#options.logger.warn(`the model repository cannot be read: ${messageOf(error)}`);
      return undefined;
    });
    if (!paths || this.#isClosed) return;
    const gone = [...this.#places.keys()].filter(
      (path) => dirname(path) === directory && !paths.includes(path),
    );
    for (const path of gone) {
      if (this.#options.models.some((option) => resolve(option.path) === path)) continue;
      const { entries } = this.#places.get(path)!;
      this.#places.delete(path);
      this.#watch?.remove(path);
      for (const name of namesOf(entries)) this.#options.announce(name, undefined);
    }
    for (const path of paths) {
      if (this.#places.has(path)) continue;
      this.#places.set(path, { option: { path }, entries: [] });
      void this.#lookInto(path);
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
    const entries = await findOrExplain(place.option);
    const restlessMs = await this.#restlessMs(entries);
    if (this.#isClosed || this.#places.get(path) !== place) return;
    this.#watchPlace(path, entries);
    if (restlessMs > 0) {
      this.#watch?.lookAgain(path, restlessMs);
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
    for (const entry of entries) {
      const directory = entry.error === undefined ? dirname(entry.modelFile) : undefined;
      const isVersion = directory !== undefined && directory !== entry.directory;
      if (!isVersion || entry.error !== undefined || !entry.wanted) continue;
      if ((await readdir(directory).catch(() => [] as string[])).includes(completeMarker)) continue;
      const quietMs = Date.now() - (await newestChangeIn(directory));
      // A clock that went back makes files of the future: they count as changed now.
      waitMs = Math.max(waitMs, this.#options.settleMs - Math.max(0, quietMs));
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

  #watchPlace(path: string, entries: readonly RepositoryEntry[]): void {
    const paths = new Set<string>();
    if (extname(path).toLowerCase() !== '.onnx') {
      paths.add(path);
      for (const file of settingsFilesIn(path)) paths.add(file);
    }
    for (const entry of entries) {
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

function placeOf(entry: RepositoryEntry, path: string): boolean {
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
        !child.name.startsWith('.') && (!child.isFile() || extname(child.name).toLowerCase() === '.onnx'),
    )
    .map((child) => join(root, child.name))
    .toSorted();
}

