/** An FTP server to publish to: files and directories appear by rename, and a directory is the lock. */
import { PassThrough, Readable } from 'node:stream';
import type { Client } from 'basic-ftp';
import { ServingError } from '../errors.js';
import { type FtpAccess, FtpConnection } from '../remote/ftp-connection.js';
import type { HttpBody } from '../remote/http-client.js';
import { type Moves, replaceDirectory, takePlace, underHiddenName } from './hidden-name.js';
import {
  type DirectoryFile,
  type LockOutcome,
  maxSmallBytes,
  type PublishTarget,
  parentOf,
  type TargetOptions,
  textUpload,
  type Upload,
} from './publish-target.js';

const ownerName = 'owner';

/** One FTP server, over two connections: a lock is renewed while a file is sent. */
export class FtpTarget implements PublishTarget {
  readonly label: string;
  readonly #files: FtpSession;
  readonly #locks: FtpSession;

  constructor(access: FtpAccess) {
    this.#files = new FtpSession(access);
    this.#locks = new FtpSession(access);
    this.label = this.#files.label;
  }

  async write(path: string, { body }: Upload, { signal }: TargetOptions = {}): Promise<void> {
    const session = this.#files;
    await session.makeDirectory(parentOf(path), signal);
    await underHiddenName(path, session.removeFile.bind(session), async (hidden) => {
      await session.upload(body, hidden, signal);
      await session.replaceFile(hidden, path, signal);
    });
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    const session = this.#files;
    const fill = async (staged: string): Promise<void> => {
      for (const file of files) {
        const place = `${staged}/${file.path}`;
        await session.makeDirectory(parentOf(place), signal);
        await session.upload(file.body, place, signal);
      }
    };
    const moves: Moves = {
      rename: session.rename.bind(session),
      remove: session.removeDirectory.bind(session),
    };
    await replaceDirectory(path, fill, moves, { label: this.label, signal });
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

/** What is asked over one connection, one thing after the other. */
class FtpSession {
  readonly label: string;
  readonly #connection: FtpConnection;
  #last: Promise<unknown> = Promise.resolve();

  constructor(access: FtpAccess) {
    this.#connection = new FtpConnection(access);
    this.label = this.#connection.label;
  }

  async upload(body: HttpBody, path: string, signal: AbortSignal | undefined): Promise<void> {
    await this.#ask(path, signal, (client) => client.uploadFrom(Readable.from(body.chunks()), path));
  }

  /** Gives a file the name of another one, which it replaces. */
  async replaceFile(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    if (await this.rename(from, to, signal)) return;
    // Some servers rename to no name that is taken.
    const moves: Moves = { rename: this.rename.bind(this), remove: this.removeFile.bind(this) };
    await takePlace(from, to, moves, { label: this.label, signal });
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
    throw new ServingError('SRV_REMOTE_REFUSED', `${this.label}${path}: ${again!.message}.`);
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
    this.#connection.close();
  }

  /** Asks the server, after what was asked before; undefined where it answers with one of the codes of `refusals`. */
  #ask<Answer>(
    path: string,
    signal: AbortSignal | undefined,
    ask: (client: Client) => Promise<Answer>,
    refusals: readonly number[] = [],
  ): Promise<Answer | undefined> {
    const answer = this.#last.then(() => this.#connection.ask(path, signal, ask, refusals));
    this.#last = answer.catch(() => undefined);
    return answer;
  }
}
