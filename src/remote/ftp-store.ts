/** An FTP server as a store. */
import { createHash } from 'node:crypto';
import { PassThrough, Writable } from 'node:stream';
import type { Client, FileInfo } from 'basic-ftp';
import { ServingError } from '../errors.js';
import { fetchTree, joinRemote, type OpenedFile } from './fetch-tree.js';
import { type FtpAccess, FtpConnection } from './ftp-connection.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { treeStamp } from './tree-stamp.js';

/** Files up to this size are told apart by their content too: MDTM counts seconds. */
const maxHashedBytes = 64 << 10;

/** An FTP server. Paths without a slash before them begin where one is after signing in. */
export class FtpStore implements RemoteStore {
  readonly label: string;
  readonly #directory: string | undefined;
  readonly #connection: FtpConnection;

  constructor(access: FtpAccess) {
    this.#directory = access.directory;
    this.#connection = new FtpConnection(access);
    this.label = this.#connection.label;
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
    this.#connection.close();
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
      if (!isWhole) this.#connection.drop();
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

  /** Known once a connection is there. */
  #absolute(path: string): string {
    if (this.#directory !== undefined) return joinRemote(this.#directory, path.replace(/^\/+/, ''));
    return path.startsWith('/') ? path : joinRemote(this.#connection.home, path);
  }

  /** Asks the server; undefined where it answers that there is no such file or directory. */
  #ask<Answer>(
    signal: AbortSignal | undefined,
    path: string,
    ask: (client: Client) => Promise<Answer>,
  ): Promise<Answer | undefined> {
    return this.#connection.ask(path, signal, ask, [550]);
  }
}

function missing(label: string): ServingError {
  return new ServingError('SRV_REMOTE_NOT_FOUND', `${label} is not there.`);
}
