/** A bucket to publish to: an object is there whole or not at all, a directory file by file. */
import { ServingError } from '../errors.js';
import type { S3Place } from '../remote/s3-place.js';
import { S3Store, type S3StoreOptions } from '../remote/s3-store.js';
import {
  type DirectoryFile,
  type LockOutcome,
  maxSmallBytes,
  type PublishTarget,
  type TargetOptions,
  textUpload,
  type Upload,
} from './publish-target.js';

/** One bucket. */
export class S3Target implements PublishTarget {
  readonly label: string;
  readonly #store: S3Store;

  constructor(place: S3Place, options: S3StoreOptions = {}) {
    this.#store = new S3Store(place, options);
    this.label = this.#store.label;
  }

  async write(path: string, upload: Upload, { signal }: TargetOptions = {}): Promise<void> {
    await this.#store.put(path, { ...upload, signal });
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    for (const file of files) await this.#store.put(`${path}/${file.path}`, { ...file, signal });
    const kept = new Set(files.map((file) => file.path));
    for (const old of await this.#store.listAll(path, signal ? { signal } : {})) {
      if (!kept.has(old)) await this.#store.remove(`${path}/${old}`, signal ? { signal } : {});
    }
  }

  async read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    const found = await this.#store.readSmall(path, {
      maxBytes: maxSmallBytes,
      ...(signal ? { signal } : {}),
    });
    return found?.bytes;
  }

  async createLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<LockOutcome> {
    try {
      await this.#store.put(path, { ...textUpload(text), ifAbsent: true, signal });
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      // Services that know no conditions for writing say so.
      if (error.details?.status === 501) return 'unsupported';
      if (error.code === 'SRV_REMOTE_CHANGED') {
        // A try whose answer was lost may have made it.
        return (await this.readLock(path, { signal })) === text ? 'created' : 'exists';
      }
      throw error;
    }
    return 'created';
  }

  async readLock(path: string, options: TargetOptions = {}): Promise<string | undefined> {
    return (await this.read(path, options))?.toString();
  }

  async writeLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#store.put(path, { ...textUpload(text), signal });
  }

  async removeLock(path: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#store.remove(path, signal ? { signal } : {});
  }

  async close(): Promise<void> {
    await this.#store.close();
  }
}
