/** An FTP server as a store. */
import { createHash } from 'node:crypto';
import { PassThrough, Writable } from 'node:stream';
import { Client, type FileInfo, FTPError } from 'basic-ftp';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from './abort.js';
import { fetchTree, joinRemote, type OpenedFile } from './fetch-tree.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { treeStamp } from './tree-stamp.js';

/** How to reach an FTP server. */
export interface FtpAccess {
  readonly host: string;
  /** @default 21, of implicit TLS 990 */
  readonly port?: number;
  /** @default anonymous */
  readonly username?: string;
  readonly password?: string;
  /** Where paths begin. @default the root; for paths without a slash before them where one is after signing in */
  readonly directory?: string;
  /** `explicit`: the connection begins in the clear and asks for TLS; `implicit`: it begins with it. @default none */
  readonly tls?: 'explicit' | 'implicit';
}

/** Files up to this size are told apart by their content too: MDTM counts seconds. */
const maxHashedBytes = 64 << 10;

/** An FTP server. Paths without a slash before them begin where one is after signing in. */
export class FtpStore implements RemoteStore {
  readonly label: string;
  readonly #access: FtpAccess;
  #client: Client | undefined;
  #home = '/';

  constructor(access: FtpAccess) {
    this.#access = access;
    const { host, port, tls, username } = access;
    const user = username === undefined || username === '' ? '' : `${username}@`;
    const place = access.directory ?? '';
    this.label = `${tls ? 'ftps' : 'ftp'}://${user}${host}${port === undefined ? '' : `:${port}`}${place}`;
  }

  async stampOf(path: string, options: RemoteOptions = {}): Promise<RemoteStamp | undefined> {
    const { signal, onAnswer } = options;
    const bytes = await this.#sizeOf(path, signal);
    if (bytes === undefined) {
      return treeStamp(
        path.replace(/\/+$/, ''),
        (below) => this.#list(below, signal),
        (below) => this.stampOf(below, options),
        onAnswer,
      );
    }
    const modified = await this.#ask(signal, path, (client) => client.lastMod(this.#absolute(path)));
    const facts = [modified === undefined ? '' : `modified ${modified.toISOString()}`, `bytes ${bytes}`];
    if (bytes <= maxHashedBytes) facts.push(`sha256 ${await this.#digestOf(path, signal)}`);
    return { text: facts.filter((fact) => fact !== '').join(' ') };
  }

  list(path: string, { signal }: RemoteOptions = {}): Promise<readonly RemoteEntry[] | undefined> {
    return this.#list(path, signal);
  }

  async fetch(path: string, target: string, options: FetchOptions = {}): Promise<Fetched> {
    const { signal } = options;
    const source = {
      label: this.label,
      list: (below: string) => this.#list(below, signal),
      read: (below: string) => this.#read(below, signal),
    };
    return fetchTree(source, path, target, options);
  }

  async close(): Promise<void> {
    this.#client?.close();
    this.#client = undefined;
  }

  async #list(path: string, signal: AbortSignal | undefined): Promise<RemoteEntry[] | undefined> {
    // As an argument of LIST, a path with blanks or a dash before it is misread by some servers.
    const isDirectory = await this.#ask(signal, path, (client) => client.cd(this.#absolute(path)));
    if (!isDirectory) return undefined;
    const found = await this.#ask(signal, path, (client) => client.list());
    const entries: RemoteEntry[] = [];
    for (const info of found ?? []) {
      if (info.name === '.' || info.name === '..') continue;
      entries.push(await this.#entryOf(info, path, signal));
    }
    return entries;
  }

  async #entryOf(info: FileInfo, path: string, signal: AbortSignal | undefined): Promise<RemoteEntry> {
    const { name } = info;
    if (info.isDirectory) return { name, isDirectory: true };
    if (!info.isFile) {
      const isFile = (await this.#sizeOf(joinRemote(path, name), signal)) !== undefined;
      return { name, isDirectory: !isFile };
    }
    // Only MLSD tells the time as it is; other listings leave the seconds out.
    const stamp = info.modifiedAt ? { stamp: `modified ${info.modifiedAt.toISOString()}` } : {};
    return { name, isDirectory: false, bytes: info.size, ...stamp };
  }

  async #read(path: string, signal: AbortSignal | undefined): Promise<OpenedFile | undefined> {
    const bytes = await this.#sizeOf(path, signal);
    return bytes === undefined ? undefined : { source: this.#contentOf(path, signal), bytes };
  }

  async *#contentOf(path: string, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const stream = new PassThrough({ highWaterMark: 1 << 20 });
    let isWhole = false;
    const transfer = this.#ask(signal, path, (client) =>
      client.downloadTo(stream, this.#absolute(path)),
    ).then(
      (answer) => {
        isWhole = answer !== undefined;
        // It was there a moment ago.
        if (!isWhole) stream.destroy(missing(this.label + path));
      },
      (error: unknown) => void stream.destroy(error as Error),
    );
    try {
      yield* stream as AsyncIterable<Buffer>;
      await transfer;
    } finally {
      stream.destroy();
      // A transfer that is given up in its middle leaves a connection that nobody can use.
      if (!isWhole) await this.close();
      await transfer;
    }
  }

  async #digestOf(path: string, signal: AbortSignal | undefined): Promise<string> {
    const hash = createHash('sha256');
    const sink = new Writable({
      write(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done();
      },
    });
    await this.#ask(signal, path, (client) => client.downloadTo(sink, this.#absolute(path)));
    return hash.digest('hex');
  }

  /** The length of a file; undefined where there is no file. */
  async #sizeOf(path: string, signal: AbortSignal | undefined): Promise<number | undefined> {
    if (path.endsWith('/')) return undefined;
    return this.#ask(signal, path, (client) => client.size(this.#absolute(path)));
  }

  #absolute(path: string): string {
    const { directory } = this.#access;
    if (directory !== undefined) return joinRemote(directory, path.replace(/^\/+/, ''));
    return path.startsWith('/') ? path : joinRemote(this.#home, path);
  }

  /** Asks the server; undefined where it answers that there is no such file or directory. */
  async #ask<Answer>(
    signal: AbortSignal | undefined,
    path: string,
    ask: (client: Client) => Promise<Answer>,
  ): Promise<Answer | undefined> {
    throwIfAborted(signal);
    const onAbort = (): void => void this.close();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await ask(await this.#connected());
    } catch (cause) {
      if (signal?.aborted) throw abortError(signal);
      if (cause instanceof FTPError && cause.code === 550) return undefined;
      throw this.#failure(path, cause);
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
      port: port ?? (tls === 'implicit' ? 990 : 21),
      user: username || 'anonymous',
      password: password ?? '',
      secure: tls === 'implicit' ? 'implicit' : tls === 'explicit',
    });
    this.#home = await client.pwd();
    return client;
  }

  #failure(path: string, cause: unknown): ServingError {
    if (cause instanceof ServingError) return cause;
    const code = cause instanceof FTPError ? cause.code : 0;
    const label = this.label + path;
    if (code === 530 || code === 532) {
      return new ServingError('SRV_REMOTE_REFUSED', `${label} was refused: ${messageOf(cause)}.`, { cause });
    }
    return new ServingError('SRV_REMOTE_UNAVAILABLE', `${label}: ${messageOf(cause)}.`, { cause });
  }
}

function missing(label: string): ServingError {
  return new ServingError('SRV_REMOTE_NOT_FOUND', `${label} is not there.`);
}
