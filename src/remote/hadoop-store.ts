/** HDFS and what else a `hadoop` program reads, by running it: `hadoop fs -stat`, `-ls`, `-get`. */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../errors.js';
import { type HadoopOptions, HadoopProgram } from './hadoop-program.js';
import {
  defaultFetchLimits,
  type Fetched,
  type FetchOptions,
  type RemoteEntry,
  type RemoteOptions,
  type RemoteStamp,
  type RemoteStore,
} from './remote-store.js';

const watchMs = 500;

/** A file system behind a `hadoop` program. Each call starts it. */
export class HadoopStore implements RemoteStore {
  readonly label: string;
  readonly #program: HadoopProgram;

  constructor(options: HadoopOptions) {
    this.#program = new HadoopProgram(options);
    this.label = this.#program.label;
  }

  async stampOf(path: string, { signal }: RemoteOptions = {}): Promise<RemoteStamp | undefined> {
    // The times of -ls have no seconds; those of -stat are in ms.
    const said = await this.#run(['-stat', '%Y %b %F', path], path, signal);
    if (said === undefined) return undefined;
    const own = said.trim();
    if (!/directory$/i.test(own)) return { text: own };
    const listing = (await this.#run(['-ls', '-R', path], path, signal)) ?? '';
    return { text: `${own} tree ${createHash('sha256').update(listing).digest('hex')}` };
  }

  async list(path: string, { signal }: RemoteOptions = {}): Promise<readonly RemoteEntry[] | undefined> {
    const kind = await this.#run(['-stat', '%F', path], path, signal);
    if (kind === undefined || !/^directory/i.test(kind.trim())) return undefined;
    const listing = (await this.#run(['-ls', path], path, signal)) ?? '';
    return listing.split('\n').flatMap((line): RemoteEntry[] => {
      const [, type, bytes, name] =
        /^([d-])\S+\s+\S+\s+\S+\s+\S+\s+(\d+)\s+\S+\s+\S+\s+.*?([^/]+)$/.exec(line) ?? [];
      if (name === undefined) return [];
      return type === 'd'
        ? [{ name, isDirectory: true }]
        : [{ name, isDirectory: false, bytes: Number(bytes) }];
    });
  }

  async fetch(path: string, target: string, options: FetchOptions = {}): Promise<Fetched> {
    const { signal, limits = defaultFetchLimits } = options;
    const label = this.label + path;
    const said = await this.#run(['-count', path], path, signal);
    if (said === undefined) throw new ServingError('SRV_REMOTE_NOT_FOUND', `${label} is not there.`);
    const [directories = 0, files = 0, totalBytes = 0] = said.trim().split(/\s+/).map(Number);
    if (files > limits.maxFiles || totalBytes > limits.maxBytes) {
      throw new ServingError(
        'SRV_REMOTE_TOO_LARGE',
        `${label} has ${files} files and ${totalBytes} bytes; the limits of one fetch are ${limits.maxFiles} and ${limits.maxBytes}.`,
      );
    }
    let seen = -1;
    const watch = setInterval(async () => {
      const { files: came, bytes } = await sizeBelow(target);
      // Only growth shows that the program is alive.
      if (bytes > seen) options.onProgress?.({ files: came, bytes, totalBytes });
      seen = Math.max(seen, bytes);
    }, watchMs).unref();
    try {
      await this.#run(['-get', path, target], path, signal);
    } finally {
      clearInterval(watch);
    }
    const came = await sizeBelow(target);
    if (came.bytes !== totalBytes || came.files !== files) {
      throw new ServingError(
        'SRV_REMOTE_DAMAGED',
        `${label}: expected ${files} files with ${totalBytes} bytes, got ${came.files} with ${came.bytes}.`,
      );
    }
    options.onProgress?.({ ...came, totalBytes });
    return { kind: directories > 0 ? 'directory' : 'file', ...came };
  }

  async close(): Promise<void> {
    this.#program.close();
  }

  /** What it prints; undefined where it says that there is no such file. */
  async #run(
    args: readonly string[],
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    return (await this.#program.run(args, path, { signal, mayMiss: true }))?.toString();
  }
}

/** Files and bytes at a path, in work or not. */
async function sizeBelow(path: string): Promise<{ files: number; bytes: number }> {
  const found = await stat(path)
    .catch(() => stat(`${path}._COPYING_`))
    .catch(() => undefined);
  if (!found) return { files: 0, bytes: 0 };
  if (!found.isDirectory()) return { files: 1, bytes: found.size };
  const sum = { files: 0, bytes: 0 };
  for (const name of await readdir(path).catch(() => [])) {
    const below = await sizeBelow(join(path, name));
    sum.files += below.files;
    sum.bytes += below.bytes;
  }
  return sum;
}
