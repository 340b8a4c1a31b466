/** Copies of model files that their publisher overwrites in place. */
import { constants } from 'node:fs';
import { copyFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { hashBytes, hashFile } from '../native/binding.js';
import { isAlive, processIdentity } from '../process-identity.js';
import { type ModelFile, modelFiles } from './model-files.js';
import { readOnnxFile } from './onnx-file.js';

/** Where copies lie, and how patient taking them is. */
export interface TakenFilesOptions {
  /** A directory of the process's own is made below it. */
  readonly directory: string;
  /** How long files must have been left alone before they are taken for whole, ms. */
  readonly settleMs: number;
  /** After this time files that go on changing are given up, ms. */
  readonly patienceMs?: number;
}

/** Files that were taken. */
export interface Taken {
  /** The copy of the model file; its external data lies where it says. */
  readonly file: string;
  /** Removes the copy, unless others hold the same content. */
  release(): Promise<void>;
}

const defaultPatienceMs = 60_000;

/**
 * Takes files over: what is served then cannot change any more, and a directory that is half copied is not served at
 * all. Copies share their blocks with the original where the file system can do that.
 */
export class TakenFiles {
  readonly #options: TakenFilesOptions;
  readonly #own: string;
  /** Who holds what, by directory. */
  readonly #holders = new Map<string, number>();
  #works = 0;

  constructor(options: TakenFilesOptions) {
    this.#options = options;
    this.#own = join(options.directory, processIdentity(process.pid));
  }

  /**
   * Copies a model file and its external data once they have been left alone.
   *
   * @throws SRV_MODEL_INVALID and others of reading the file, SRV_IO where it cannot be copied or goes on changing
   */
  async take(file: string): Promise<Taken> {
    const { settleMs, patienceMs = defaultPatienceMs } = this.#options;
    const endAt = performance.now() + patienceMs;
    let seen = { text: '', at: 0 };
    for (;;) {
      const isLast = performance.now() >= endAt;
      try {
        const files = modelFiles(file, readOnnxFile(file));
        const before = await factsOf(files);
        if (before.text !== seen.text) seen = { text: before.text, at: performance.now() };
        // Clocks need not agree: what has not changed since it was first seen is quiet, whenever it says that it changed.
        const quietMs = Math.max(before.quietMs, performance.now() - seen.at);
        if (quietMs >= settleMs) {
          const copy = await this.#copy(files, file);
          if ((await factsOf(files)).text === before.text) return await this.#keep(copy, file);
          await rm(copy.directory, { recursive: true, force: true });
        }
      } catch (error) {
        // Half a file, or data that is still to come.
        const isHalf = error instanceof ServingError && error.code === 'SRV_MODEL_INVALID';
        if (isLast || !(isHalf || isMissing(error)) || (await quietMsOf(file)) >= 10 * settleMs) {
          throw asServingError(error, file);
        }
      }
      if (isLast) {
        throw new ServingError(
          'SRV_IO',
          `${file}: its files kept changing for ${patienceMs} ms; they are not served`,
          { details: { path: file } },
        );
      }
      await pause(Math.max(10, settleMs / 2));
    }
  }

  /** Removes what processes that have ended left. */
  async removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.#options.directory).catch(() => [] as string[])) {
      if (isAlive(name)) continue;
      await rm(join(this.#options.directory, name), { recursive: true, force: true }).catch(() => undefined);
    }
  }

  /** Removes everything of this process. */
  async close(): Promise<void> {
    // Where the directory cannot be written nothing was taken.
    await rm(this.#own, { recursive: true, force: true }).catch(() => undefined);
  }

  async #copy(
    files: readonly ModelFile[],
    file: string,
  ): Promise<{ readonly directory: string; readonly digest: string }> {
    const directory = join(this.#own, `.work-${this.#works++}`);
    const hashes: string[] = [];
    try {
      for (const one of files) {
        const target = targetOf(one, file, directory);
        makeDirectory(dirname(target));
        await copyFile(one.path, target, constants.COPYFILE_FICLONE);
        hashes.push(`${basename(target)} ${await hashFile(target)}`);
      }
    } catch (error) {
      // Half a copy would keep a disk full.
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
    return { directory, digest: hashBytes(Buffer.from(hashes.join('\n'))) };
  }

  async #keep(copy: { readonly directory: string; readonly digest: string }, file: string): Promise<Taken> {
    const place = join(this.#own, copy.digest);
    const holders = this.#holders.get(place) ?? 0;
    this.#holders.set(place, holders + 1);
    if (holders > 0) await rm(copy.directory, { recursive: true, force: true });
    else await rename(copy.directory, place);
    let isReleased = false;
    return {
      file: join(place, basename(file)),
      release: async () => {
        if (isReleased) return;
        isReleased = true;
        const left = this.#holders.get(place)! - 1;
        this.#holders.set(place, left);
        if (left === 0) await rm(place, { recursive: true, force: true });
      },
    };
  }
}

function targetOf(one: ModelFile, file: string, directory: string): string {
  return one.path === file ? join(directory, basename(file)) : join(directory, one.location);
}

async function factsOf(
  files: readonly ModelFile[],
): Promise<{ readonly text: string; readonly quietMs: number }> {
  let text = '';
  let newest = 0;
  for (const { path } of files) {
    const { ino, size, mtimeMs, ctimeMs } = await stat(path);
    text += `${path} ${ino} ${size} ${mtimeMs} ${ctimeMs}\n`;
    newest = Math.max(newest, ctimeMs);
  }
  return { text, quietMs: Math.max(0, Date.now() - newest) };
}

async function quietMsOf(file: string): Promise<number> {
  const facts = await stat(file).catch(() => undefined);
  return facts ? Date.now() - facts.ctimeMs : 0;
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function asServingError(error: unknown, file: string): ServingError {
  if (error instanceof ServingError) return error;
  return new ServingError('SRV_IO', `${file} cannot be taken over: ${messageOf(error)}`, { cause: error });
}
