/** Runs a `hadoop` program: `hadoop fs -stat`, `-get`, `-put`, whatever file system it is set up for. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from './abort.js';
import type { HttpBody } from './http-client.js';
import { maskedUrl, redacted } from './masked-url.js';

/** How to run it. */
export interface HadoopOptions {
  /** The program. */
  readonly bin: string;
  /** `fs.default.name`; empty: that of the program's own configuration. */
  readonly fsName: string;
  /** `user,password` for `hadoop.job.ugi`; empty: none. */
  readonly fsUgi: string;
}

/** One run. */
export interface HadoopRun {
  readonly signal?: AbortSignal | undefined;
  /** What goes to its standard input. */
  readonly body?: HttpBody;
  /** Whether it may find no such file. */
  readonly mayMiss?: boolean;
  /** Whether it may find that a file is there already. */
  readonly mayExist?: boolean;
  /** Most bytes of what it prints. @default without limit */
  readonly maxBytes?: number;
}

interface Ended {
  readonly code: number | string;
  readonly output: Buffer;
  readonly errors: string;
  readonly isTooLong: boolean;
}

const maxErrorChars = 2000;

/** A file system behind the program, which takes a second or two to start. */
export class HadoopProgram {
  /** What it is called in messages, secrets masked. */
  readonly label: string;
  readonly #options: HadoopOptions;
  readonly #running = new Set<ChildProcess>();
  #isClosed = false;
  #settings: { readonly directory: string; readonly file: string } | undefined;

  constructor(options: HadoopOptions) {
    this.#options = options;
    this.label = options.fsName === '' ? 'hadoop:' : maskedUrl(options.fsName);
  }

  /**
   * Runs `hadoop fs` to its end, or kills it when `signal` is aborted.
   *
   * @param path what it is about, for messages
   * @returns what it printed; undefined where the file was missing, or there, and that was allowed
   * @throws SRV_REMOTE_REFUSED, SRV_REMOTE_UNAVAILABLE, SRV_REMOTE_TOO_LARGE, SRV_CANCELLED, what `body` throws
   */
  async run(args: readonly string[], path: string, run: HadoopRun): Promise<Buffer | undefined> {
    const { signal, body, mayMiss, mayExist, maxBytes = Number.POSITIVE_INFINITY } = run;
    throwIfAborted(signal);
    if (this.#isClosed) throw new ServingError('SRV_CANCELLED', `${this.label}${path}: it was given up`);
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
    this.#running.add(child);
    try {
      const [ended] = await Promise.all([endOf(child, maxBytes), feed(child, body)]);
      if (signal?.aborted) throw abortError(signal);
      if (ended.isTooLong) {
        throw new ServingError(
          'SRV_REMOTE_TOO_LARGE',
          `${this.label}${path}: expected at most ${maxBytes} bytes, got more.`,
        );
      }
      if (ended.code === 0) return ended.output;
      // In its own form: a program that is installed badly misses files of its own.
      if (mayMiss && /^\w+: `.*': No such file or directory/im.test(ended.errors)) return undefined;
      if (mayExist && /File exists|already exists/i.test(ended.errors)) return undefined;
      const isRefused = /Permission denied|AccessControlException/i.test(ended.errors);
      throw new ServingError(
        isRefused ? 'SRV_REMOTE_REFUSED' : 'SRV_REMOTE_UNAVAILABLE',
        `${this.label}${path}: ${bin} fs ${args[0]} ended with ${ended.code}: ${this.#redacted(lastWords(ended.errors))}`,
      );
    } catch (cause) {
      if (cause instanceof ServingError) throw cause;
      throw new ServingError('SRV_REMOTE_UNAVAILABLE', `${bin} cannot be run: ${messageOf(cause)}.`, {
        cause,
      });
    } finally {
      signal?.removeEventListener('abort', onAbort);
      process.off('exit', onAbort);
      this.#running.delete(child);
    }
  }

  /** It repeats its settings when it complains of them. */
  #redacted(text: string): string {
    const { fsName, fsUgi } = this.#options;
    return redacted(text, [fsUgi, ...fsUgi.split(',').slice(1)], [fsName]);
  }

  /** Kills what runs, and removes the settings that it was given. */
  close(): void {
    this.#isClosed = true;
    for (const child of this.#running) killGroup(child);
    if (this.#settings) rmSync(this.#settings.directory, { recursive: true, force: true });
    this.#settings = undefined;
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

function endOf(child: ChildProcess, maxBytes: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    let bytes = 0;
    let errors = '';
    child.stdout?.on('data', (part: Buffer) => {
      bytes += part.byteLength;
      if (bytes <= maxBytes) output.push(part);
      else killGroup(child);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-64 * 1024);
    });
    child.stdin?.on('error', () => undefined);
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({
        code: code ?? signal ?? 'nothing',
        output: Buffer.concat(output),
        errors,
        isTooLong: bytes > maxBytes,
      }),
    );
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group has ended. A script may end before what it started.
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
