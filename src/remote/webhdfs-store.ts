/** HDFS by its REST interface, WebHDFS, which name nodes and HttpFS gateways have: no Hadoop is needed here. */
import { ServingError } from '../errors.js';
import { fetchTree, type OpenedFile } from './fetch-tree.js';
import type { HttpReply } from './http-client.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { treeStamp } from './tree-stamp.js';
import { notJson, readAnswer, WebHdfsClient } from './webhdfs-client.js';

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
  readonly #client: WebHdfsClient;

  /** @param address,user as `WebHdfsClient` takes them */
  constructor(address: string, user = '') {
    this.#client = new WebHdfsClient(address, user);
    this.label = this.#client.label;
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
    if (reply.status !== 200) throw this.#client.refusal(path, 'OPEN', await readAnswer(reply));
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
    const answer = await readAnswer(await this.#get(path, operation, signal));
    // A web server that is no WebHDFS has a 404 of its own.
    if (answer.status === 404 && answer.exception !== notJson) return undefined;
    if (answer.status === 200 && answer.exception === undefined) return answer.json;
    throw this.#client.refusal(path, operation, answer);
  }

  #get(path: string, op: string, signal: AbortSignal | undefined): Promise<HttpReply> {
    return this.#client.send({ method: 'GET', path, query: { op }, signal });
  }
}

function stampText({ modificationTime, length, fileId }: FileStatus): string {
  return `modified ${modificationTime} bytes ${length}${fileId === undefined ? '' : ` file ${fileId}`}`;
}
