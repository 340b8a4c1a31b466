/**
 * The prepared cache: verdicts and prepared forms on disk, shared by servers of one machine.
 *
 * An entry is `prepared-<key>.json`, and for a prepared form a directory `prepared-<key>.<random>.d` that it names. The manifest is
 * written to a temporary name and renamed last, so it is the commit: what no manifest names is rubbish. A manifest
 * carries a digest of itself and of each file, so a cut or changed entry is found out, discarded and made anew.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { isAlive, processIdentity } from '../process-identity.js';

/** How the cache is set up. */
export interface PreparedCacheOptions {
  readonly directory: string;
  /** Bytes that entries may take together. */
  readonly maxBytes: number;
  /** Content hash of a file. */
  readonly hashFile: (path: string) => Promise<string>;
  /** The process on whose behalf entries are handed out, as `processIdentity` tells it. */
  readonly owner: string;
}

/** An entry: what was stored, and the directory of its files. */
export interface CacheEntry<T> {
  readonly value: T;
  /** Absent when the entry has no files. */
  readonly directory?: string;
}

interface Manifest<T> {
  readonly value: T;
  readonly directory?: string;
  readonly files: readonly { readonly name: string; readonly bytes: number; readonly hash: string }[];
}

const inUsePrefix = 'in-use.';

// Strict names: an operator may point the cache at a directory that holds other things.
const manifestName = /^prepared-([\w-]+)\.json$/;
const formsName = /^prepared-[\w-]+\.[0-9a-f]{8}\.d$/;
const workName = /^work\.\d+-\d+\.(\d+-\d+)\.[0-9a-f]{12}$/;
const temporaryName = /^prepared-[\w-]+\.json\.(\d+-\d+)\.[0-9a-f]{8}\.tmp$/;

/** A cache directory. Its files are read and written synchronously: it lives in the prepare process. */
export class PreparedCache<T> {
  /** Why nothing can be written, absent when it can be. */
  readonly unwritable: string | undefined;
  readonly #options: PreparedCacheOptions;

  constructor(options: PreparedCacheOptions) {
    this.#options = options;
    this.unwritable = this.#prepareDirectory();
  }

  /** The key of an entry: a digest of everything that decides its content. */
  static key(parts: readonly unknown[]): string {
    return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 40);
  }

  /**
   * An entry whose files were verified, size and hash, and will not be evicted while the owner lives. A damaged
   * entry is discarded and undefined is returned.
   */
  async read(key: string): Promise<CacheEntry<T> | undefined> {
    const manifest = this.#readManifest(key);
    if (!manifest) return undefined;
    const directory = manifest.directory && join(this.#options.directory, manifest.directory);
    if (directory) {
      const isNewlyUsed = this.#markInUse(directory);
      for (const file of manifest.files) {
        if (await this.#isWhole(join(directory, file.name), file.bytes, file.hash)) continue;
        if (isNewlyUsed) rmSync(this.#markOf(directory), { force: true });
        this.#drop(key, manifest.directory);
        return undefined;
      }
    }
    this.#touch(key);
    return { value: manifest.value, ...(directory ? { directory } : {}) };
  }

  /** A new directory to write a form into, within the cache; `removeWork` or `commit` ends it. */
  newWork(): string {
    const name = `work.${this.#options.owner}.${processIdentity(process.pid)}.${randomBytes(6).toString('hex')}`;
    const directory = join(this.#options.directory, name);
    mkdirSync(directory, { mode: 0o700 });
    return directory;
  }

  /** Removes a directory of `newWork` with what is in it. */
  removeWork(directory: string): void {
    rmSync(directory, { recursive: true, force: true });
  }

  /**
   * Stores an entry, with the files of `from` (a directory on the same file system, which is moved). The entry is
   * handed out by this, as by `read`.
   */
  async commit(key: string, value: T, from?: string): Promise<CacheEntry<T>> {
    if (!from) {
      this.#writeManifest(key, { value, files: [] });
      return { value };
    }
    const files = [];
    for (const name of readdirSync(from)) {
      const path = join(from, name);
      chmodSync(path, 0o400);
      files.push({ name, bytes: statSync(path).size, hash: await this.#options.hashFile(path) });
    }
    const name = `prepared-${key}.${randomBytes(4).toString('hex')}.d`;
    const directory = join(this.#options.directory, name);
    this.#markInUse(from);
    renameSync(from, directory);
    try {
      this.#writeManifest(key, { value, directory: name, files });
    } catch (error) {
      // Nobody would find it, and it would keep a disk full for as long as its owner lives.
      this.#remove(name);
      throw error;
    }
    this.makeRoom();
    return { value, directory };
  }

  /**
   * Removes rubbish of ended processes, then the entries used longest ago until the rest leaves `room` bytes within
   * the limit. False when what living processes were handed does not leave that much.
   */
  makeRoom(room = 0): boolean {
    const { directory } = this.#options;
    const limit = this.#options.maxBytes - room;
    const named = new Set<string>();
    const entries: { key: string; usedAt: number; bytes: number; forms: string | undefined }[] = [];
    const names = readdirSync(directory);
    for (const name of names) {
      const key = manifestName.exec(name)?.[1];
      const info = key && statSync(join(directory, name), { throwIfNoEntry: false });
      if (!key || !info) continue;
      const manifest = info.size > 0 ? this.#readManifest(key) : undefined;
      if (manifest?.directory) named.add(manifest.directory);
      const fileBytes = manifest?.files.reduce((sum, file) => sum + file.bytes, 0) ?? 0;
      entries.push({ key, usedAt: info.mtimeMs, bytes: info.size + fileBytes, forms: manifest?.directory });
    }
    for (const name of names) if (this.#isRubbish(name, named)) this.#remove(name);
    let total = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const entry of entries.sort((a, b) => a.usedAt - b.usedAt)) {
      if (total <= limit) break;
      if (entry.forms && this.#inUse(entry.forms).length > 0) continue;
      this.#drop(entry.key, entry.forms);
      total -= entry.bytes;
    }
    return total <= limit;
  }

  /**
   * Why `bytes` cannot be written here now: by the limit, for which entries used longest ago are removed, or by the disk.
   * Undefined when they can be.
   */
  lackOfRoom(bytes: number): string | undefined {
    if (!this.makeRoom(bytes)) return `the cache limit leaves no room for ${bytes} bytes of weights`;
    const { bavail, bsize, blocks } = statfsSync(this.#options.directory);
    const free = bavail * bsize;
    // Some mounted file systems do not tell their size.
    if (free >= bytes || blocks === 0) return undefined;
    return `the disk of ${this.#options.directory} has ${free} bytes free, and the weights of a form have ${bytes}`;
  }

  #prepareDirectory(): string | undefined {
    const { directory } = this.#options;
    try {
      makeDirectory(directory);
      const probe = join(directory, `probe.${processIdentity(process.pid)}`);
      writeFileSync(probe, '', { mode: 0o600 });
      rmSync(probe);
      this.makeRoom();
      return undefined;
    } catch (error) {
      return `the cache directory ${directory} cannot be written: ${messageOf(error)}`;
    }
  }

  #readManifest(key: string): Manifest<T> | undefined {
    const path = this.#manifestOf(key);
    try {
      const text = readFileSync(path, 'utf8');
      const body = text.slice(text.indexOf('\n') + 1);
      return text.startsWith(`${digestOf(body)}\n`) ? (JSON.parse(body) as Manifest<T>) : undefined;
    } catch {
      return undefined;
    }
  }

  #writeManifest(key: string, manifest: Manifest<T>): void {
    const body = JSON.stringify(manifest);
    const path = this.#manifestOf(key);
    const temporary = `${path}.${processIdentity(process.pid)}.${randomBytes(4).toString('hex')}.tmp`;
    try {
      writeFileSync(temporary, `${digestOf(body)}\n${body}`, { mode: 0o600 });
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  }

  #manifestOf(key: string): string {
    return join(this.#options.directory, `prepared-${key}.json`);
  }

  #touch(key: string): void {
    try {
      const now = new Date();
      utimesSync(this.#manifestOf(key), now, now);
    } catch {
      // A cache that can only be read serves all the same; it has no order of use.
    }
  }

  async #isWhole(path: string, bytes: number, hash: string): Promise<boolean> {
    if (statSync(path, { throwIfNoEntry: false })?.size !== bytes) return false;
    return (await this.#options.hashFile(path)) === hash;
  }

  /** Removes an entry; a form that a living process was handed stays until that process has ended. */
  #drop(key: string, forms: string | undefined): void {
    try {
      rmSync(this.#manifestOf(key), { force: true });
      if (forms && this.#inUse(forms).length === 0) this.#remove(forms);
    } catch {
      // Read-only: the damaged entry stays and is found damaged again.
    }
  }

  #markOf(directory: string): string {
    return join(directory, inUsePrefix + this.#options.owner);
  }

  /** Keeps others from evicting the form; tells whether the mark is new. */
  #markInUse(directory: string): boolean {
    try {
      writeFileSync(this.#markOf(directory), '', { mode: 0o600, flag: 'wx' });
      return true;
    } catch {
      // Marked before, or read-only, and then nobody evicts from it either.
      return false;
    }
  }

  /** Living processes that were handed the form. Marks of ended ones are removed. */
  #inUse(name: string): string[] {
    const directory = join(this.#options.directory, name);
    const owners = filesIn(directory)
      .filter((file) => file.startsWith(inUsePrefix))
      .map((file) => file.slice(inUsePrefix.length));
    for (const owner of owners.filter((other) => !isAlive(other))) {
      rmSync(join(directory, inUsePrefix + owner), { force: true });
    }
    return owners.filter(isAlive);
  }

  #isRubbish(name: string, named: ReadonlySet<string>): boolean {
    if (formsName.test(name)) return !named.has(name) && this.#inUse(name).length === 0;
    const maker = workName.exec(name) ?? temporaryName.exec(name);
    return maker !== null && !isAlive(maker[1]!);
  }

  #remove(name: string): void {
    rmSync(join(this.#options.directory, name), { recursive: true, force: true });
  }
}

/** Names in a directory; none where another process just removed it. */
function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
