/** HDFS to publish to, by its REST interface: a file that is not overwritten is the lock. */
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '../remote/abort.js';
import { type HttpBody, readWhole } from '../remote/http-client.js';
import { notJson, readAnswer, type WebHdfsAnswer, WebHdfsClient } from '../remote/webhdfs-client.js';
import { type Moves, replaceDirectory, takePlace, underHiddenName } from './hidden-name.js';
import {
  type DirectoryFile,
  type LockOutcome,
  maxSmallBytes,
  type PublishTarget,
  type TargetOptions,
  textUpload,
  type Upload,
} from './publish-target.js';

const maxTries = 8;
const blockPauseMs = 50;

type Query = Readonly<Record<string, string>>;

/** A file system behind WebHDFS or an HttpFS gateway. */
export class WebHdfsTarget implements PublishTarget {
  readonly label: string;
  readonly #client: WebHdfsClient;
  readonly #moves: Moves = {
    rename: (from, to, signal) => this.#rename(from, to, {}, signal),
    remove: (path, signal) => this.#delete(path, signal),
  };

  /** @param address,user as `WebHdfsClient` takes them */
  constructor(address: string, user = '') {
    this.#client = new WebHdfsClient(address, user);
    this.label = this.#client.label;
  }

  async write(path: string, { body }: Upload, { signal }: TargetOptions = {}): Promise<void> {
    await underHiddenName(path, this.#moves.remove, async (hidden) => {
      await this.#create(hidden, body, true, signal);
      await this.#replaceFile(hidden, path, signal);
    });
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    const fill = async (staged: string): Promise<void> => {
      for (const file of files) await this.#create(`${staged}/${file.path}`, file.body, true, signal);
    };
    await replaceDirectory(path, fill, this.#moves, { label: this.label, signal });
  }

  async read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    for (let tries = 1; ; tries++) {
      const reply = await this.#client.send({ method: 'GET', path, query: { op: 'OPEN' }, signal });
      if (reply.status === 200) return readWhole(reply, maxSmallBytes);
      const answer = await readAnswer(reply);
      if (reply.status === 404 && answer.exception !== notJson) return undefined;
      // Data nodes report the blocks of a new file a moment after it is closed.
      if (tries >= maxTries || !/No active nodes/.test(answer.message ?? '')) {
        throw this.#client.refusal(path, 'OPEN', answer);
      }
      await sleep(blockPauseMs * tries, undefined, signal ? { signal } : {}).catch(() =>
        throwIfAborted(signal),
      );
    }
  }

  async createLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<LockOutcome> {
    const isMade = await this.#create(path, textUpload(text).body, false, signal);
    return isMade ? 'created' : 'exists';
  }

  async readLock(path: string, options: TargetOptions = {}): Promise<string | undefined> {
    return (await this.read(path, options))?.toString();
  }

  async writeLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.write(path, textUpload(text), { signal });
  }

  async removeLock(path: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#delete(path, signal);
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  /** Makes a file, and the directories on the way. Resolves to false where there is one and it is not to be replaced. */
  async #create(
    path: string,
    body: HttpBody,
    overwrite: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const query = { op: 'CREATE', overwrite: String(overwrite) };
    // The name node says where the bytes go; they are not sent to it.
    const first = await this.#client.send({ method: 'PUT', path, query, signal });
    const { location } = first.headers;
    const isRedirect = [301, 302, 307, 308].includes(first.status);
    if (!isRedirect || location === undefined || !URL.canParse(location)) {
      return this.#made(path, overwrite, await readAnswer(first));
    }
    first.discard();
    const second = await this.#client.sendBytes(new URL(location), body, signal);
    return this.#made(path, overwrite, await readAnswer(second));
  }

  #made(path: string, overwrite: boolean, answer: WebHdfsAnswer): boolean {
    const isFine = [200, 201].includes(answer.status) && answer.exception === undefined;
    if (isFine) return true;
    const isTaken = /AlreadyExists|AlreadyBeingCreated|RecoveryInProgress/.test(
      `${answer.exception} ${answer.message}`,
    );
    if (!overwrite && isTaken) return false;
    throw this.#client.refusal(path, 'CREATE', answer);
  }

  async #replaceFile(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    if (await this.#rename(from, to, { renameoptions: 'OVERWRITE' }, signal)) return;
    // Gateways that do not know the option rename to no name that is taken.
    await takePlace(from, to, this.#moves, { label: this.label, signal });
  }

  /** False where it does not rename: `from` is not there, or `to` is. */
  async #rename(from: string, to: string, query: Query, signal: AbortSignal | undefined): Promise<boolean> {
    const answer = await readAnswer(
      await this.#client.send({
        method: 'PUT',
        path: from,
        query: { op: 'RENAME', destination: to, ...query },
        signal,
      }),
    );
    // With options it answers nothing.
    const { boolean: isRenamed = query.renameoptions !== undefined } = answer.json;
    if (answer.status === 200 && answer.exception === undefined) return isRenamed === true;
    if (
      (answer.status === 404 && answer.exception !== notJson) ||
      /FileNotFound|AlreadyExists/.test(answer.exception ?? '')
    )
      return false;
    throw this.#client.refusal(to, 'RENAME', answer);
  }

  async #delete(path: string, signal?: AbortSignal): Promise<void> {
    const query = { op: 'DELETE', recursive: 'true' };
    const answer = await readAnswer(await this.#client.send({ method: 'DELETE', path, query, signal }));
    if ([200, 404].includes(answer.status) && answer.exception === undefined) return;
    if (/FileNotFound/.test(answer.exception ?? '')) return;
    throw this.#client.refusal(path, 'DELETE', answer);
  }
}
