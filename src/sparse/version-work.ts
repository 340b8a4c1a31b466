import { existsSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { takeLock } from '../file-lock.js';
import { makeDirectory } from '../make-directory.js';
import { isAlive, processIdentity } from '../process-identity.js';
import { type Manifest, writeManifest } from './manifest.js';

const workName = /^\.building-\d+-(\d+-\d+)$/;
const lockName = /^\.lock-\d+\.(\d+-\d+)$/;

/**
 * A version of a table while it is made: a hidden directory that becomes the version when it is whole.
 *
 * Whatever ends the process, readers see either nothing of the version or all of it; what is left of a process that
 * ended is removed by the next one that makes a version of the table.
 */
export class VersionWork implements AsyncDisposable {
  /** Where the files of the version go. */
  readonly directory: string;
  readonly version: number;
  readonly #table: string;
  readonly #unlock: () => void;

  private constructor(table: string, version: number, directory: string, unlock: () => void) {
    this.#table = table;
    this.version = version;
    this.directory = directory;
    this.#unlock = unlock;
  }

  /**
   * Begins a version, in a table whose directory is made if need be.
   *
   * @throws SRV_BAD_CONFIG when the version exists, SRV_IO also while another process makes it
   */
  static async open(table: string, version: number): Promise<VersionWork> {
    try {
      makeDirectory(table, 0o777);
      await removeLeftovers(table);
      const unlock = await takeLock(join(table, `.lock-${version}`), 0);
      if (!unlock) {
        throw new ServingError('SRV_IO', `version ${version} of ${table} is being made by another process`, {
          details: { isBeingMade: true },
        });
      }
      try {
        if (existsSync(join(table, String(version)))) {
          throw new ServingError('SRV_BAD_CONFIG', `version ${version} of ${table} exists already`);
        }
        const directory = join(table, `.building-${version}-${processIdentity(process.pid)}`);
        await mkdir(directory);
        return new VersionWork(table, version, directory, unlock);
      } catch (error) {
        unlock();
        throw error;
      }
    } catch (error) {
      throw asServingError(table, error);
    }
  }

  /**
   * Writes the manifest and makes the version visible. The shard files must be on the disk.
   *
   * @returns the directory of the version
   * @throws SRV_IO
   */
  async publish(manifest: Manifest): Promise<string> {
    const place = join(this.#table, String(this.version));
    try {
      await writeManifest(this.directory, manifest);
      await flushDirectory(this.directory);
      await rename(this.directory, place);
      await flushDirectory(this.#table);
    } catch (error) {
      throw asServingError(place, error);
    }
    return place;
  }

  /** Removes what was not published. */
  async close(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
    this.#unlock();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function removeLeftovers(table: string): Promise<void> {
  for (const name of await readdir(table)) {
    const owner = workName.exec(name)?.[1] ?? lockName.exec(name)?.[1];
    if (owner !== undefined && !isAlive(owner)) await rm(join(table, name), { recursive: true, force: true });
  }
}

/** A file's name is on the disk only when its directory is. */
async function flushDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function asServingError(place: string, error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  return new ServingError('SRV_IO', `${place} cannot be written: ${messageOf(error)}`, { cause: error });
}
