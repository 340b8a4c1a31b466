/** HDFS by its REST interface, WebHDFS, which name nodes and HttpFS gateways have: no Hadoop is needed here. */
import { ServingError } from '../errors.js';
import { fetchTree, type OpenedFile } from './fetch-tree.js';
import { HttpClient, type HttpReply, readWhole, statusError } from './http-client.js';
import { maskedUrl } from './masked-url.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { treeStamp } from './tree-stamp.js';

const maxAnswerBytes = 64 << 20;

/** What WebHDFS says of a file or directory; times in ms. */
interface FileStatus {
  readonly pathSuffix: string;
  readonly type: 'FILE' | 'DIRECTORY';
  readonly length: number;
  readonly modificationTime: number;
  readonly fileId?: number;
}

/** A file system behind WebHDFS. */
export class WebHdfsStore implements RemoteStore {
  readonly label: string;
  readonly #bases: readonly URL[];
  readonly #headers: Readonly<Record<string, string>>;
  readonly #client = new HttpClient();

  /**
   * @param address `webhdfs://host:port`, `swebhdfs://` over TLS; several hosts with commas between them are name nodes
   * that stand by for each other; a path goes before `/webhdfs/v1`, `user:password@` signs in with HTTP Basic, and a
   * query goes with every request (`?delegation=TOKEN`)
   * @param user whom HDFS is told that this is; empty: nobody
   */
  constructor(address: string, user = '') {
    const [, scheme = '', credentials = '', hosts = '', rest = ''] =
      /^(\w+):\/\/(?:([^/@]*)@)?([^/?#]*)(.*)$/.exec(address) ?? [];
    const protocol = scheme === 'swebhdfs' || scheme === 'https' ? 'https' : 'http';
    this.#bases = hosts.split(',').map((host) => {
      const text = `${protocol}://${host}${rest}`;
      if (!URL.canParse(text)) {
        throw new ServingError(
          'SRV_BAD_CONFIG',
          `Expected an address such as webhdfs://host:port, got ${maskedUrl(address)}.`,
        );
      }
      const base = new URL(text);
      base.pathname = `${base.pathname.replace(/\/+$/, '')}/webhdfs/v1`;
      if (user !== '') base.searchParams.set('user.name', user);
      return base;
    });
    this.label = `${protocol === 'https' ? 'swebhdfs' : 'webhdfs'}://${hosts}`;
    this.#headers =
      credentials === ''
        ? {}
        : { authorization: `Basic ${Buffer.from(decodeURIComponent(credentials)).toString('base64')}` };
  }

  async stampOf(path: string, options: RemoteOptions = {}): Promise<RemoteStamp | undefined> {
    const status = await this.#status(path, options.signal);
    if (status?.type === 'DIRECTORY') {
      return treeStamp(
        path,
        (below) => this.list(below, options),
        (below) => this.stampOf(below, options),
        options.onAnswer,
      );
    }
    return status && { text: stampText(status) };
  }

  async list(path: string, { signal }: RemoteOptions = {}): Promise<readonly RemoteEntry[] | undefined> {
    // Of a file it lists the file.
    if ((await this.#status(path, signal))?.type !== 'DIRECTORY') return undefined;
    const answer = await this.#ask(path, 'LISTSTATUS', signal);
    const found = (answer as { FileStatuses?: { FileStatus?: FileStatus[] } } | undefined)?.FileStatuses
      ?.FileStatus;
    return found?.map((status) => ({
      name: status.pathSuffix,
      isDirectory: status.type === 'DIRECTORY',
      ...(status.type === 'DIRECTORY' ? {} : { bytes: status.length, stamp: stampText(status) }),
    }));
  }

  async fetch(path: string, target: string, options: FetchOptions = {}): Promise<Fetched> {
    const { signal } = options;
    const source = {
      label: this.label,
      list: (below: string) => this.list(below, options),
      read: (below: string) => this.#read(below, signal),
    };
    return fetchTree(source, path, target, options);
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  async #read(path: string, signal: AbortSignal | undefined): Promise<OpenedFile | undefined> {
    const status = await this.#status(path, signal);
    if (status?.type !== 'FILE') return undefined;
    const reply = await this.#get(path, 'OPEN', signal);
    if (reply.status !== 200) throw await this.#refusal(path, reply);
    return { source: reply.body, bytes: status.length };
  }

  async #status(path: string, signal: AbortSignal | undefined): Promise<FileStatus | undefined> {
    const answer = await this.#ask(path, 'GETFILESTATUS', signal);
    if (answer === undefined) return undefined;
    const { FileStatus: status } = answer as { FileStatus?: Partial<FileStatus> };
    if (status?.type !== undefined && status.length !== undefined && status.modificationTime !== undefined) {
      return status as FileStatus;
    }
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${this.label}${path}: expected a FileStatus with type, length and modificationTime, got other JSON.`,
    );
  }

  /** The JSON that answers an operation; undefined where there is nothing at the path. */
  async #ask(path: string, operation: string, signal: AbortSignal | undefined): Promise<unknown> {
    const reply = await this.#get(path, operation, signal);
    if (reply.status !== 200) {
      const error = await this.#refusal(path, reply);
      if (error.code === 'SRV_REMOTE_NOT_FOUND') return undefined;
      throw error;
    }
    const text = (await readWhole(reply, maxAnswerBytes)).toString('utf8');
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new ServingError(
        'SRV_REMOTE_DAMAGED',
        `${this.label}${path}: expected JSON from ${operation}, got ${JSON.stringify(text.slice(0, 80))}.`,
        { cause },
      );
    }
  }

  /** Asks the name nodes in turn until one answers that does not merely stand by. */
  async #get(path: string, operation: string, signal: AbortSignal | undefined): Promise<HttpReply> {
    let last: unknown;
    for (const base of this.#bases) {
      const url = new URL(base);
      const segments = path.split('/').map(encodeURIComponent).join('/').replace(/^\/+/, '');
      url.pathname = `${url.pathname}/${segments}`;
      url.searchParams.set('op', operation);
      try {
        const reply = await this.#client.request(url, { headers: this.#headers, signal });
        if (this.#bases.length === 1 || reply.status !== 403) return reply;
        const error = await this.#refusal(path, reply);
        if (error.details?.exception !== 'StandbyException') throw error;
        last = error;
      } catch (error) {
        if (!(error instanceof ServingError) || error.code !== 'SRV_REMOTE_UNAVAILABLE') throw error;
        last = error;
      }
    }
    throw last;
  }

  /** The error of an answer that is no success, with what WebHDFS says of it. */
  async #refusal(path: string, reply: HttpReply): Promise<ServingError> {
    const error = statusError(this.label + path, reply.status);
    const text = (await readWhole(reply, 1 << 20).catch(() => Buffer.alloc(0))).toString('utf8');
    const said = remoteException(text);
    if (!said) return error;
    const { exception, message } = said;
    const code = exception === 'StandbyException' ? 'SRV_REMOTE_UNAVAILABLE' : error.code;
    const firstLine = message.split('\n')[0] ?? '';
    return new ServingError(code, `${error.message} ${exception}: ${firstLine}`, { details: { exception } });
  }
}

function remoteException(text: string): { exception: string; message: string } | undefined {
  try {
    const { RemoteException: said } = JSON.parse(text) as { RemoteException?: Record<string, unknown> };
    if (typeof said?.exception !== 'string') return undefined;
    return { exception: said.exception, message: String(said.message ?? '') };
  } catch {
    return undefined;
  }
}

function stampText({ modificationTime, length, fileId }: FileStatus): string {
  return `modified ${modificationTime} bytes ${length}${fileId === undefined ? '' : ` file ${fileId}`}`;
}
