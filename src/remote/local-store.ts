/** A directory of this machine as a store: a mounted network file system, or where a trainer writes. */
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import { fetchTree, type OpenedFile } from './fetch-tree.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { treeStamp } from './tree-stamp.js';

/** Files of this machine; paths are those of the machine. Links are followed. */
export class LocalStore implements RemoteStore {
  readonly label = '';

  async stampOf(path: string, options: RemoteOptions = {}): Promise<RemoteStamp | undefined> {
    throwIfAborted(options.signal);
    const found = await statOf(path);
    if (!found) return undefined;
    if (found.isDirectory()) {
      return treeStamp(
        path,
        (below) => this.list(below, options),
        (below) => this.stampOf(below, options),
        options.onAnswer,
      );
    }
    return { text: stampText(found) };
  }

  async list(path: string, { signal }: RemoteOptions = {}): Promise<readonly RemoteEntry[] | undefined> {
    throwIfAborted(signal);
    if (!(await statOf(path))?.isDirectory()) return undefined;
    const entries: RemoteEntry[] = [];
    for (const name of (await readdir(path).catch((cause: unknown) => refuse(path, cause))).toSorted()) {
      const found = await statOf(join(path, name));
      // A file that went away meanwhile, or a link that leads nowhere.
      if (!found) continue;
      if (found.isDirectory()) entries.push({ name, isDirectory: true });
      else entries.push({ name, isDirectory: false, bytes: Number(found.size), stamp: stampText(found) });
    }
    return entries;
  }

  fetch(path: string, target: string, options: FetchOptions = {}): Promise<Fetched> {
    const source = {
      label: this.label,
      list: (below: string) => this.list(below, options),
      read: (below: string) => read(below, options.signal),
    };
    return fetchTree(source, path, target, options);
  }

  async close(): Promise<void> {}
}

async function read(path: string, signal: AbortSignal | undefined): Promise<OpenedFile | undefined> {
  throwIfAborted(signal);
  const found = await statOf(path);
  if (!found?.isFile()) return undefined;
  return { source: chunksOf(path, signal), bytes: Number(found.size) };
}

async function* chunksOf(path: string, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  try {
    const stream = createReadStream(path, { highWaterMark: 1 << 20, ...(signal ? { signal } : {}) });
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (cause) {
    throwIfAborted(signal);
    refuse(path, cause);
  }
}

type Stats = Awaited<ReturnType<typeof statBig>>;
const statBig = (path: string) => stat(path, { bigint: true });

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await statBig(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    return refuse(path, cause);
  }
}

function stampText({ mtimeNs, size, ino }: Stats): string {
  return `mtime ${mtimeNs} bytes ${size} inode ${ino}`;
}

function refuse(path: string, cause: unknown): never {
  const code =
    (cause as NodeJS.ErrnoException).code === 'EACCES' ? 'SRV_REMOTE_REFUSED' : 'SRV_REMOTE_UNAVAILABLE';
  throw new ServingError(code, `${path} cannot be read: ${messageOf(cause)}.`, { cause });
}
