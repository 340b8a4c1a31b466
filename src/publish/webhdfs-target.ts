/** HDFS to publish to, by its REST interface: a file that is not overwritten is the lock. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ServingError } from '../errors.js';
import { throwIfAborted } from '../remote/abort.js';
import { type HttpBody, HttpClient, type HttpReply, readWhole } from '../remote/http-client.js';
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

const maxTries = 8;
const blockPauseMs = 50;

type Query = Readonly<Record<string, string>>;

/** An answer: its JSON, or what WebHDFS calls its exception. */
interface Answer {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
  readonly exception?: string;
  readonly message?: string;
}

/** A file system behind WebHDFS or an HttpFS gateway. */
export class WebHdfsTarget implements PublishTarget {
  readonly label: string;
  readonly #bases: readonly URL[];
  readonly #headers: Readonly<Record<string, string>>;
  readonly #client = new HttpClient();

  /**
   * @param address `webhdfs://host:port`, `swebhdfs://` over TLS; several hosts with commas between them are name nodes
   *   that stand by for each other; `user:password@` signs in with HTTP Basic, and a query goes with every request
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
          `fs_name: expected an address such as webhdfs://host:port, got ${maskedUrl(address)}.`,
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

  async write(path: string, { body }: Upload, { signal }: TargetOptions = {}): Promise<void> {
    const temporary = hiddenBeside(path);
    try {
      await this.#create(temporary, body, true, signal);
      await this.#replaceFile(temporary, path, signal);
    } catch (error) {
      await this.#delete(temporary).catch(() => undefined);
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
      for (const file of files) await this.#create(`${staged}/${file.path}`, file.body, true, signal);
      const hadOne = await this.#rename(path, aside, {}, signal);
      if (!(await this.#rename(staged, path, {}, signal))) {
        if (hadOne) await this.#rename(aside, path, {}, undefined);
        throw new ServingError(
          'SRV_REMOTE_REFUSED',
          `${this.label}${path}: the name node does not give a directory that name.`,
        );
      }
      if (hadOne) await this.#delete(aside, signal);
    } catch (error) {
      await this.#delete(staged).catch(() => undefined);
      throw error;
    }
  }

  async read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    for (let tries = 1; ; tries++) {
      const reply = await this.#send('GET', path, { op: 'OPEN' }, { signal });
      if (reply.status === 200) return readWhole(reply, maxSmallBytes);
      const answer = await readAnswer(reply);
      if (reply.status === 404) return undefined;
      // Data nodes report the blocks of a new file a moment after it is closed.
      if (tries >= maxTries || !/No active nodes/.test(answer.message ?? '')) {
        throw this.#refusal(path, 'OPEN', answer);
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
    const temporary = hiddenBeside(path);
    await this.#create(temporary, textUpload(text).body, true, signal);
    await this.#replaceFile(temporary, path, signal);
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
    const first = await this.#send('PUT', path, query, { signal });
    const { location } = first.headers;
    const isRedirect = [301, 302, 307, 308].includes(first.status);
    if (!isRedirect || location === undefined || !URL.canParse(location)) {
      return this.#made(path, overwrite, await readAnswer(first));
    }
    first.discard();
    const second = await this.#client.request(new URL(location), {
      method: 'PUT',
      headers: { ...this.#headers, 'content-type': 'application/octet-stream' },
      body,
      follows: false,
      signal,
    });
    return this.#made(path, overwrite, await readAnswer(second));
  }

  #made(path: string, overwrite: boolean, answer: Answer): boolean {
    if (answer.status === 201 || answer.status === 200) return true;
    const isTaken = /AlreadyExists|AlreadyBeingCreated|RecoveryInProgress/.test(
      `${answer.exception} ${answer.message}`,
    );
    if (!overwrite && isTaken) return false;
    throw this.#refusal(path, 'CREATE', answer);
  }

  async #replaceFile(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    if (await this.#rename(from, to, { renameoptions: 'OVERWRITE' }, signal)) return;
    // Gateways that do not know the option rename to no name that is taken.
    await this.#delete(to, signal);
    if (await this.#rename(from, to, {}, signal)) return;
    throw new ServingError(
      'SRV_REMOTE_REFUSED',
      `${this.label}${to}: the name node does not rename a file to it.`,
    );
  }

  /** False where it does not rename: `from` is not there, or `to` is. */
  async #rename(from: string, to: string, query: Query, signal: AbortSignal | undefined): Promise<boolean> {
    const reply = await this.#send('PUT', from, { op: 'RENAME', destination: to, ...query }, { signal });
    const answer = await readAnswer(reply);
    // With options it answers nothing.
    if (answer.status === 200) return answer.json.boolean !== false;
    if (answer.status === 404 || /FileNotFound|AlreadyExists/.test(answer.exception ?? '')) return false;
    throw this.#refusal(to, 'RENAME', answer);
  }

  async #delete(path: string, signal?: AbortSignal): Promise<void> {
    const reply = await this.#send('DELETE', path, { op: 'DELETE', recursive: 'true' }, { signal });
    const answer = await readAnswer(reply);
    if (answer.status !== 200 && answer.status !== 404) throw this.#refusal(path, 'DELETE', answer);
  }

  /** Asks the name nodes in turn until one answers that does not merely stand by. */
  async #send(method: string, path: string, query: Query, { signal }: TargetOptions): Promise<HttpReply> {
    let last: unknown;
    for (const base of this.#bases) {
      const url = new URL(base);
      url.pathname = `${url.pathname}/${path.split('/').map(encodeURIComponent).join('/').replace(/^\/+/, '')}`;
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
      try {
        const reply = await this.#client.request(url, {
          method,
          headers: { ...this.#headers, ...(method === 'PUT' ? { 'content-length': '0' } : {}) },
          follows: method === 'GET',
          signal,
        });
        if (this.#bases.length === 1 || reply.status !== 403) return reply;
        const answer = await readAnswer(reply);
        const error = this.#refusal(path, query.op ?? '', answer);
        if (answer.exception !== 'StandbyException') throw error;
        last = error;
      } catch (error) {
        if (!(error instanceof ServingError) || error.code !== 'SRV_REMOTE_UNAVAILABLE') throw error;
        last = error;
      }
    }
    throw last;
  }

  #refusal(path: string, operation: string, { status, exception, message }: Answer): ServingError {
    const said = exception === undefined ? '' : ` ${exception}: ${message?.split('\n')[0] ?? ''}`;
    const text = `${this.label}${path}: ${operation} was answered with ${status}${said}`;
    if (exception === 'StandbyException') return new ServingError('SRV_REMOTE_UNAVAILABLE', text);
    if (/QuotaExceeded/.test(exception ?? '')) return new ServingError('SRV_REMOTE_TOO_LARGE', text);
    if (status === 401 || status === 403) return new ServingError('SRV_REMOTE_REFUSED', text);
    return new ServingError('SRV_REMOTE_UNAVAILABLE', text);
  }
}

async function readAnswer(reply: HttpReply): Promise<Answer> {
  const text = (await readWhole(reply, 1 << 20)).toString('utf8');
  try {
    const json = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    const said = json.RemoteException as { exception?: unknown; message?: unknown } | undefined;
    return {
      status: reply.status,
      json,
      ...(said ? { exception: String(said.exception), message: String(said.message) } : {}),
    };
  } catch {
    return {
      status: reply.status,
      json: {},
      exception: 'an answer that is no JSON',
      message: text.slice(0, 80),
    };
  }
}
