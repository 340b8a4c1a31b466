/** HDFS, and what else a `hadoop` program writes, to publish to: `hadoop fs -put`, `-mv`, `-cat`, `-rm`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from '../remote/abort.js';
import type { HttpBody } from '../remote/http-client.js';
import { maskedUrl } from '../remote/masked-url.js';
import {
  type DirectoryFile,
  hiddenBeside,
  type LockOutcome,
  maxSmallBytes,
  type PublishTarget,
  type TargetOptions,
  textUpload,
  type Upload,
} from './publish-target.js';

/** How to run the program. */
export interface HadoopTargetOptions {
  readonly bin: string;
  /** `fs.default.name`; empty: that of the program's own configuration. */
  readonly fsName: string;
  /** `user,password` for `hadoop.job.ugi`; empty: none. */
  readonly fsUgi: string;
}

interface Ended {
  readonly code: number | string;
  readonly output: Buffer;
  readonly errors: string;
}

/** A file system behind a `hadoop` program. Each call starts it, some of them several times. */
export class HadoopTarget implements PublishTarget {
  readonly label: string;
  readonly #options: HadoopTargetOptions;
  #settings: string | undefined;

  constructor(options: HadoopTargetOptions) {
    this.#options = options;
    this.label = options.fsName === '' ? 'hadoop:' : maskedUrl(options.fsName);
  }

  async write(path: string, { body }: Upload, { signal }: TargetOptions = {}): Promise<void> {
    const temporary = hiddenBeside(path);
    try {
      await this.#put(body, temporary, signal);
      await this.#replaceFile(temporary, path, signal);
    } catch (error) {
      await this.#remove(temporary).catch(() => undefined);
      throw error;
    }
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    const [staged, aside] = [hiddenBeside(path), hiddenBeside(path)];
    try {
      for (const file of files) await this.#put(file.body, `${staged}/${file.path}`, signal);
      const hadOne = (await this.#run(['-mv', path, aside], path, { signal, mayMiss: true })) !== undefined;
      try {
        await this.#run(['-mv', staged, path], path, { signal });
      } catch (error) {
        if (hadOne) await this.#run(['-mv', aside, path], path, {});
        throw error;
      }
      if (hadOne) await this.#remove(aside, signal);
    } catch (error) {
      await this.#remove(staged).catch(() => undefined);
      throw error;
    }
  }

  async read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    return (await this.#run(['-cat', path], path, { signal, mayMiss: true }))?.output;
  }

  /** A rename takes no name away. */
  async createLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<LockOutcome> {
    const temporary = hiddenBeside(path);
    await this.#put(textUpload(text).body, temporary, signal);
    const moved = await this.#run(['-mv', temporary, path], path, { signal, mayExist: true });
    if (moved) return 'created';
    await this.#remove(temporary, signal);
    return 'exists';
  }

  async readLock(path: string, options: TargetOptions = {}): Promise<string | undefined> {
    return (await this.read(path, options))?.toString();
  }

  async writeLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#run(['-put', '-f', '-', path], path, { signal, body: textUpload(text).body });
  }

  async removeLock(path: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#remove(path, signal);
  }

  async close(): Promise<void> {
    if (this.#settings !== undefined) rmSync(this.#settings, { recursive: true, force: true });
    this.#settings = undefined;
  }

  async #put(body: HttpBody, path: string, signal: AbortSignal | undefined): Promise<void> {
    const put = (mayMiss: boolean): Promise<Ended | undefined> =>
      this.#run(['-put', '-', path], path, { signal, body, mayMiss });
    // The program takes seconds to start: the directory is made only where it is missing.
    if (await put(true)) return;
    await this.#makeDirectory(parentOf(path), signal);
    await put(false);
  }

  /** The shell renames to no name that is taken: for a moment there is no file. */
  async #replaceFile(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#remove(to, signal);
    await this.#run(['-mv', from, to], to, { signal });
  }

  async #remove(path: string, signal?: AbortSignal): Promise<void> {
    await this.#run(['-rm', '-r', '-f', '-skipTrash', path], path, { signal });
  }

  async #makeDirectory(path: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#run(['-mkdir', '-p', path === '' ? '/' : path], path, { signal });
  }

  /** Runs the program; undefined where the file is missing, or there, and that was allowed. */
  async #run(
    args: readonly string[],
    path: string,
    { signal, body, mayMiss, mayExist }: RunOptions,
  ): Promise<Ended | undefined> {
    throwIfAborted(signal);
    const { bin, fsUgi } = this.#options;
    const user = fsUgi.split(',')[0] ?? '';
    const child = spawn(bin, ['fs', ...this.#configuration(), ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // The program is a script that starts another: both must end with it.
      detached: true,
      env: user === '' ? process.env : { ...process.env, HADOOP_USER_NAME: user },
    });
    const onAbort = (): void => killGroup(child);
    signal?.addEventListener('abort', onAbort, { once: true });
    process.once('exit', onAbort);
    try {
      const [ended] = await Promise.all([endOf(child), feed(child, body)]);
      if (signal?.aborted) throw abortError(signal);
      if (ended.code === 0) return ended;
      if (mayMiss && /No such file or directory/i.test(ended.errors)) return undefined;
      if (mayExist && /File exists|already exists/i.test(ended.errors)) return undefined;
      const isRefused = /Permission denied|AccessControlException/i.test(ended.errors);
      throw new ServingError(
        isRefused ? 'SRV_REMOTE_REFUSED' : 'SRV_REMOTE_UNAVAILABLE',
        `${this.label}${path}: ${bin} fs ${args[0]} ended with ${ended.code}: ${lastWords(ended.errors)}`,
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
    if (this.#settings === undefined) {
      this.#settings = mkdtempSync(join(tmpdir(), 'onnx-serving-hadoop-'));
      const property = (name: string, value: string): string =>
        value === '' ? '' : `<property><name>${name}</name><value>${escapeXml(value)}</value></property>`;
      const properties = property('fs.default.name', fsName) + property('hadoop.job.ugi', fsUgi);
      writeFileSync(
        join(this.#settings, 'site.xml'),
        `<?xml version="1.0"?><configuration>${properties}</configuration>\n`,
        { mode: 0o600 },
      );
    }
    return ['-conf', join(this.#settings, 'site.xml')];
  }
}

interface RunOptions extends TargetOptions {
  readonly body?: HttpBody;
  readonly mayMiss?: boolean;
  readonly mayExist?: boolean;
}

/** Sends the body to the program; one that ended has said why on its standard error. */
async function feed(child: ChildProcess, body: HttpBody | undefined): Promise<void> {
  if (!body) {
    child.stdin!.end();
    return;
  }
  try {
    await pipeline(Readable.from(body.chunks()), child.stdin!);
  } catch (error) {
    killGroup(child);
    if (error instanceof ServingError) throw error;
  }
}

function endOf(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    let bytes = 0;
    let errors = '';
    child.stdout?.on('data', (part: Buffer) => {
      bytes += part.byteLength;
      if (bytes <= maxSmallBytes) output.push(part);
      else killGroup(child);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-64 * 1024);
    });
    child.stdin?.on('error', () => undefined);
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({ code: code ?? signal ?? 'nothing', output: Buffer.concat(output), errors }),
    );
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
  return ((own.length > 0 ? own : lines).at(-1) ?? 'it said nothing').trim().slice(0, 2000);
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
