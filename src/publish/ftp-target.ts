/** An FTP server to publish to: files and directories appear by rename, and a directory is the lock. */
import { PassThrough, Readable } from 'node:stream';
import { Client, FTPError } from 'basic-ftp';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from '../remote/abort.js';
import type { HttpBody } from '../remote/http-client.js';
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

/** How to reach an FTP server. */
export interface FtpTargetAccess {
  readonly host: string;
  readonly port: number;
  /** @default anonymous */
  readonly username?: string;
  readonly password?: string;
  /** `explicit`: the connection begins in the clear and asks for TLS; `implicit`: it begins with it. @default none */
  readonly tls?: 'explicit' | 'implicit';
}

const ownerName = 'owner';

/** One FTP server, over two connections: a lock is renewed while a file is sent. */
export class FtpTarget implements PublishTarget {
  readonly label: string;
  readonly #files: FtpSession;
  readonly #locks: FtpSession;

  constructor(access: FtpTargetAccess) {
    const { host, port, tls, username = '' } = access;
    const scheme = tls ? 'ftps' : 'ftp';
    this.label = `${scheme}://${username === '' ? '' : `${username}@`}${host.includes(':') ? `[${host}]` : host}:${port}`;
    this.#files = new FtpSession(access, this.label);
    this.#locks = new FtpSession(access, this.label);
  }

  async write(path: string, { body }: Upload, { signal }: TargetOptions = {}): Promise<void> {
    const temporary = hiddenBeside(path);
    const session = this.#files;
    await session.makeDirectory(parentOf(path), signal);
    try {
      await session.upload(body, temporary, signal);
      await session.replaceFile(temporary, path, signal);
    } catch (error) {
      await session.removeFile(temporary).catch(() => undefined);
      throw error;
    }
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    const [staged, aside] = [hiddenBeside(path), hiddenBeside(path)];
    const session = this.#files;
    try {
      for (const file of files) {
        const place = `${staged}/${file.path}`;
        await session.makeDirectory(parentOf(place), signal);
        await session.upload(file.body, place, signal);
      }
      const hadOne = await session.rename(path, aside, signal);
      if (!(await session.rename(staged, path, signal))) {
        if (hadOne) await session.rename(aside, path);
        throw new ServingError(
          'SRV_REMOTE_REFUSED',
          `${this.label}${path}: the server does not give a directory that name.`,
        );
      }
      if (hadOne) await session.removeDirectory(aside, signal);
    } catch (error) {
      await session.removeDirectory(staged).catch(() => undefined);
      throw error;
    }
  }

  read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    return this.#files.read(path, signal);
  }

  async createLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<LockOutcome> {
    await this.#locks.makeDirectory(parentOf(path), signal);
    if (!(await this.#locks.makeNewDirectory(path, signal))) return 'exists';
    await this.writeLock(path, text, { signal });
    return 'created';
  }

  async readLock(path: string, { signal }: TargetOptions = {}): Promise<string | undefined> {
    return (await this.#locks.read(`${path}/${ownerName}`, signal))?.toString();
  }

  async writeLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<void> {
    // Readers must not see it empty.
    const temporary = `${path}/.${ownerName}`;
    await this.#locks.upload(textUpload(text).body, temporary, signal);
    await this.#locks.replaceFile(temporary, `${path}/${ownerName}`, signal);
  }

  async removeLock(path: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#locks.removeDirectory(path, signal);
  }

  async close(): Promise<void> {
    this.#files.close();
    this.#locks.close();
  }
}

/** One connection, for one thing at a time; a broken one is opened anew. */
class FtpSession {
  readonly #access: FtpTargetAccess;
  readonly #label: string;
  #client: Client | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(access: FtpTargetAccess, label: string) {
    this.#access = access;
    this.#label = label;
  }

  async upload(body: HttpBody, path: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#ask(path, signal, (client) => client.uploadFrom(Readable.from(body.chunks()), path));
  }

  /** Gives a file the name of another one, which it replaces. */
  async replaceFile(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    if (await this.rename(from, to, signal)) return;
    // Some servers rename to no name that is taken.
    await this.removeFile(to, signal);
    if (await this.rename(from, to, signal)) return;
    throw new ServingError(
      'SRV_REMOTE_REFUSED',
      `${this.#label}${to}: the server does not rename ${from} to it.`,
    );
  }

  /** False where the server refuses. */
  async rename(from: string, to: string, signal?: AbortSignal): Promise<boolean> {
    return (await this.#ask(to, signal, (client) => client.rename(from, to), [550, 553])) !== undefined;
  }

  async removeFile(path: string, signal?: AbortSignal): Promise<void> {
    await this.#ask(path, signal, (client) => client.remove(path), [550]);
  }

  async removeDirectory(path: string, signal?: AbortSignal): Promise<void> {
    await this.#ask(path, signal, (client) => client.removeDir(path), [550]);
  }

  /** Makes a directory and those above it, where they are missing. */
  async makeDirectory(path: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#ask(path, signal, async (client) => {
      await client.ensureDir(path === '' ? '/' : path);
      await client.cd('/');
    });
  }

  /** False where there is one of that name. */
  async makeNewDirectory(path: string, signal: AbortSignal | undefined): Promise<boolean> {
    const made = await this.#ask(path, signal, (client) => client.sendIgnoringError(`MKD ${path}`));
    if (made!.code < 300) return true;
    const isThere = await this.#ask(
      path,
      signal,
      (client) => client.cd(path).then(() => client.cd('/')),
      [550],
    );
    if (isThere !== undefined) return false;
    // It may have been given back in between, or may not be made at all.
    const again = await this.#ask(path, signal, (client) => client.sendIgnoringError(`MKD ${path}`));
    if (again!.code < 300) return true;
    throw new ServingError('SRV_REMOTE_REFUSED', `${this.#label}${path}: ${again!.message}.`);
  }

  /** A small file; undefined where there is none. */
  async read(path: string, signal: AbortSignal | undefined): Promise<Buffer | undefined> {
    const sink = new PassThrough({ highWaterMark: maxSmallBytes });
    const chunks: Buffer[] = [];
    sink.on('data', (chunk: Buffer) => chunks.push(chunk));
    const found = await this.#ask(path, signal, (client) => client.downloadTo(sink, path), [550]);
    return found === undefined ? undefined : Buffer.concat(chunks);
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  /** Asks the server, after what was asked before; undefined where it answers with one of the codes of `refusals`. */
  #ask<Answer>(
    path: string,
    signal: AbortSignal | undefined,
    ask: (client: Client) => Promise<Answer>,
    refusals: readonly number[] = [],
  ): Promise<Answer | undefined> {
    const answer = this.#last.then(() => this.#askNow(path, signal, ask, refusals));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async #askNow<Answer>(
    path: string,
    signal: AbortSignal | undefined,
    ask: (client: Client) => Promise<Answer>,
    refusals: readonly number[],
  ): Promise<Answer | undefined> {
    throwIfAborted(signal);
    const onAbort = (): void => this.close();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await ask(await this.#connected());
    } catch (cause) {
      if (signal?.aborted) throw abortError(signal);
      if (cause instanceof FTPError && refusals.includes(cause.code)) return undefined;
      throw failure(`${this.#label}${path}`, cause);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async #connected(): Promise<Client> {
    if (this.#client && !this.#client.closed) return this.#client;
    const { host, port, username, password, tls } = this.#access;
    // Time limits are the caller's.
    const client = new Client(0);
    this.#client = client;
    await client.access({
      host,
      port,
      user: username || 'anonymous',
      password: password ?? '',
      secure: tls === 'implicit' ? 'implicit' : tls === 'explicit',
    });
    return client;
  }
}

function failure(label: string, cause: unknown): ServingError {
  if (cause instanceof ServingError) return cause;
  const code = cause instanceof FTPError ? cause.code : 0;
  const said = `${label}: ${messageOf(cause)}.`;
  if ([530, 532, 550, 553].includes(code)) return new ServingError('SRV_REMOTE_REFUSED', said, { cause });
  // 552: over its quota; 452: its disk is full.
  if (code === 552) return new ServingError('SRV_REMOTE_TOO_LARGE', said, { cause });
  return new ServingError('SRV_REMOTE_UNAVAILABLE', said, { cause });
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
