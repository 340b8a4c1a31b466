/** HDFS and what else a `hadoop` program reads, by running it: `hadoop fs -stat`, `-ls`, `-get`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from './abort.js';
import { maskedUrl } from './masked-url.js';
import {
  defaultFetchLimits,
  type Fetched,
  type FetchOptions,
  type RemoteEntry,
  type RemoteOptions,
  type RemoteStamp,
  type RemoteStore,
} from './remote-store.js';

/** How to run it. */
export interface HadoopOptions {
  /** The program. */
  readonly bin: string;
  /** `fs.default.name`; empty: that of the program's own configuration. */
  readonly fsName: string;
  /** `user,password` for `hadoop.job.ugi`; empty: none. */
  readonly fsUgi: string;
}

const watchMs = 500;
const maxErrorChars = 2000;

/** A file system behind a `hadoop` program. Each call starts it, which takes a second or two. */
export class HadoopStore implements RemoteStore {
  readonly label: string;
  readonly #options: HadoopOptions;
  #settings: { readonly directory: string; readonly file: string } | undefined;

  constructor(options: HadoopOptions) {
    this.#options = options;
    this.label = options.fsName === '' ? 'hadoop:' : maskedUrl(options.fsName);
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
    if (this.#settings) rmSync(this.#settings.directory, { recursive: true, force: true });
    this.#settings = undefined;
  }

  /** What it prints; undefined where it says that there is no such file. */
  async #run(
    args: readonly string[],
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    throwIfAborted(signal);
    const { bin, fsUgi } = this.#options;
    const label = this.label + path;
    const user = fsUgi.split(',')[0] ?? '';
    const child = spawn(bin, ['fs', ...this.#configuration(), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // The program is a script that starts another: both must end with it.
      detached: true,
      env: user === '' ? process.env : { ...process.env, HADOOP_USER_NAME: user },
    });
    const onAbort = (): void => killGroup(child);
    signal?.addEventListener('abort', onAbort, { once: true });
    process.once('exit', onAbort);
    try {
      const { code, output, errors } = await endOf(child);
      if (signal?.aborted) throw abortError(signal);
      if (code === 0) return output;
      if (/No such file or directory/i.test(errors)) return undefined;
      const isRefused = /Permission denied|AccessControlException/i.test(errors);
      throw new ServingError(
        isRefused ? 'SRV_REMOTE_REFUSED' : 'SRV_REMOTE_UNAVAILABLE',
        `${label}: ${bin} fs ${args[0]} ended with ${code}: ${lastWords(errors)}`,
      );
    } catch (cause) {
      if (cause instanceof ServingError) throw cause;
      throw new ServingError('SRV_REMOTE_UNAVAILABLE', `${bin} cannot be run: ${messageOf(cause)}.`, {
        cause,
      });
    } finally {
      signal?.removeEventListener('abort', onAbort);
      process.off('exit', onAbort);
    }
  }

  /** Settings go in a file that nobody else may read: arguments are seen by everybody on the machine. */
  #configuration(): readonly string[] {
    const { fsName, fsUgi } = this.#options;
    if (fsName === '' && fsUgi === '') return [];
    if (!this.#settings) {
      const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-hadoop-'));
      const file = join(directory, 'site.xml');
      const property = (name: string, value: string): string =>
        value === '' ? '' : `<property><name>${name}</name><value>${escapeXml(value)}</value></property>`;
      const properties = property('fs.default.name', fsName) + property('hadoop.job.ugi', fsUgi);
      writeFileSync(file, `<?xml version="1.0"?><configuration>${properties}</configuration>\n`, {
        mode: 0o600,
      });
      this.#settings = { directory, file };
    }
    return ['-conf', this.#settings.file];
  }
}

interface Ended {
  readonly code: number | string;
  readonly output: string;
  readonly errors: string;
}

function endOf(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    let output = '';
    let errors = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-64 * 1024);
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code: code ?? signal ?? 'nothing', output, errors }));
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has just ended.
  }
}

/** What it complained of: lines of its log and of stacks say less. */
function lastWords(errors: string): string {
  const lines = errors.split('\n').filter((line) => line.trim() !== '' && !/^\s+at /.test(line));
  const own = lines.filter((line) => !/^(\d{2,4}[-/]\d{2}|log4j:|SLF4J|WARNING)/.test(line));
  return ((own.length > 0 ? own : lines).at(-1) ?? 'it said nothing').trim().slice(0, maxErrorChars);
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
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
