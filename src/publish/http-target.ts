/** A web server to publish to, by PUT; one that speaks WebDAV can rename and lock too. */
import { ServingError } from '../errors.js';
import { parseDigestLines } from '../remote/file-digests.js';
import { HttpClient, type HttpReply, readWhole } from '../remote/http-client.js';
import { type HttpPlace, readHttpPlace, urlBelow } from '../remote/http-place.js';
import { hiddenBeside, underHiddenName } from './hidden-name.js';
import {
  type DirectoryFile,
  type LockOutcome,
  maxSmallBytes,
  type PublishTarget,
  sumsName,
  type TargetOptions,
  textUpload,
  type Upload,
} from './publish-target.js';

interface Request extends TargetOptions {
  readonly method: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly upload?: Upload;
  /** Statuses that are no failure beside 200 to 299. */
  readonly alsoFine?: readonly number[];
}

const ownerName = 'owner';

/** One web server. `user:password@` signs in with HTTP Basic; a query, such as a signature's, goes with every request. */
export class HttpTarget implements PublishTarget {
  readonly label: string;
  readonly #place: HttpPlace;
  readonly #client = new HttpClient();
  #canMove: Promise<boolean> | undefined;

  /** @param address `http://host:port`, with a path before those of the target where there is one */
  constructor(address: URL | string) {
    this.#place = readHttpPlace(address);
    this.label = this.#place.label;
  }

  async write(path: string, upload: Upload, { signal }: TargetOptions = {}): Promise<void> {
    if (!(await this.#moves(path, signal))) {
      await this.#put(path, upload, signal);
      return;
    }
    const remove = (hidden: string): Promise<void> => this.#remove(hidden);
    await underHiddenName(path, remove, async (hidden) => {
      await this.#put(hidden, upload, signal);
      await this.#move(hidden, path, signal);
    });
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    if (!(await this.#moves(path, signal))) {
      const before = (await this.read(`${path}/${sumsName}`, { signal }))?.toString() ?? '';
      for (const file of files) await this.#put(`${path}/${file.path}`, file, signal);
      const kept = new Set(files.map((file) => file.path));
      for (const { name } of parseDigestLines(before, path)) {
        const isBelow = !name.startsWith('/') && !name.split('/').includes('..');
        if (isBelow && !kept.has(name)) await this.#remove(`${path}/${name}`, signal);
      }
      return;
    }
    const remove = (hidden: string): Promise<void> => this.#remove(`${hidden}/`);
    await underHiddenName(path, remove, async (staged) => {
      for (const file of files) await this.#put(`${staged}/${file.path}`, file, signal);
      await this.#move(`${staged}/`, `${path}/`, signal);
    });
  }

  async read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    const reply = await this.#send(path, { method: 'GET', alsoFine: [404, 410], signal });
    if (reply.status < 300) return readWhole(reply, maxSmallBytes);
    reply.discard();
    return undefined;
  }

  /** A collection is the lock, because a server makes one once; its text lies in it. */
  async createLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<LockOutcome> {
    const made = async (mayFail: boolean): Promise<number> => {
      const alsoFine = [400, 403, 404, 405, 409, 415, 501, ...(mayFail ? [500] : [])];
      const reply = await this.#send(`${path}/`, { method: 'MKCOL', alsoFine, signal });
      reply.discard();
      return reply.status;
    };
    // Some servers fail with 500 where two make it at the same moment; afterwards they know that it is there.
    let status = await made(true);
    if (status === 500) status = await made(false);
    if (status === 409 || status === 404) {
      await this.#makeParents(path, signal);
      status = await made(false);
    }
    if (status < 300) {
      await this.writeLock(path, text, { signal });
      return 'created';
    }
    // 405 says that it is there, or that the server knows no MKCOL at all.
    if (status !== 405) return 'unsupported';
    const reply = await this.#send(`${path}/`, { method: 'OPTIONS', alsoFine: [400, 404, 405, 501], signal });
    reply.discard();
    const isThere = (await this.readLock(path, { signal })) !== undefined;
    return isThere || /\b1\b/.test(String(reply.headers.dav ?? '')) ? 'exists' : 'unsupported';
  }

  async readLock(path: string, { signal }: TargetOptions = {}): Promise<string | undefined> {
    return (await this.read(`${path}/${ownerName}`, { signal }))?.toString();
  }

  async writeLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<void> {
    const upload = textUpload(text);
    const reply = await this.#send(`${path}/${ownerName}`, { method: 'PUT', upload, signal });
    reply.discard();
  }

  async removeLock(path: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#remove(`${path}/`, signal);
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  /** Whether the server renames, found out once with a small file beside `path`. */
  #moves(path: string, signal: AbortSignal | undefined): Promise<boolean> {
    this.#canMove ??= this.#tryMove(path, signal).catch((error: unknown) => {
      this.#canMove = undefined;
      throw error;
    });
    return this.#canMove;
  }

  async #tryMove(path: string, signal: AbortSignal | undefined): Promise<boolean> {
    const [from, to] = [hiddenBeside(path), hiddenBeside(path)];
    try {
      await this.#put(from, textUpload(''), signal);
    } catch (error) {
      // A signed address, or the rights of this user, may be for some names only.
      if (error instanceof ServingError && error.code === 'SRV_REMOTE_REFUSED') return false;
      throw error;
    }
    const headers = { destination: urlBelow(this.#place.base, to).href, overwrite: 'T' };
    const alsoFine = [400, 403, 404, 405, 409, 415, 501];
    const reply = await this.#send(from, { method: 'MOVE', headers, alsoFine, signal });
    reply.discard();
    const isMoved = reply.status < 300 && (await this.read(to, { signal })) !== undefined;
    const left = await this.#send(isMoved ? to : from, {
      method: 'DELETE',
      alsoFine: [400, 403, 404, 405, 501],
      signal,
    });
    left.discard();
    return isMoved;
  }

  async #remove(path: string, signal?: AbortSignal): Promise<void> {
    (await this.#send(path, { method: 'DELETE', alsoFine: [404, 410], signal })).discard();
  }

  async #put(path: string, upload: Upload, signal: AbortSignal | undefined): Promise<void> {
    const reply = await this.#send(path, { method: 'PUT', upload, alsoFine: [404, 409], signal });
    reply.discard();
    if (reply.status < 300) return;
    // WebDAV wants the collections to be there first.
    await this.#makeParents(path, signal);
    (await this.#send(path, { method: 'PUT', upload, signal })).discard();
  }

  async #makeParents(path: string, signal: AbortSignal | undefined): Promise<void> {
    const segments = path.split('/').filter((segment) => segment !== '');
    for (let depth = 1; depth < segments.length; depth++) {
      const parent = `/${segments.slice(0, depth).join('/')}/`;
      // What is there may be 405, 500 or others: the PUT that follows tells whether the directory is there.
      const alsoFine = [301, 403, 405, 409, 500, 501];
      (await this.#send(parent, { method: 'MKCOL', alsoFine, signal })).discard();
    }
  }

  async #move(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
    const headers = { destination: urlBelow(this.#place.base, to).href, overwrite: 'T' };
    (await this.#send(from, { method: 'MOVE', headers, signal })).discard();
  }

  async #send(path: string, { method, headers, upload, alsoFine = [], signal }: Request): Promise<HttpReply> {
    const reply = await this.#client.request(urlBelow(this.#place.base, path), {
      method,
      headers: { ...this.#place.headers, ...headers },
      body: upload?.body,
      // A redirected PUT would send its body twice, and MOVE names its target by address.
      follows: method === 'GET',
      signal,
    });
    if ((reply.status >= 200 && reply.status < 300) || alsoFine.includes(reply.status)) return reply;
    reply.discard();
    throw refusal(`${this.label}${path}`, method, reply.status);
  }
}

function refusal(label: string, method: string, status: number): ServingError {
  const said = `${label}: ${method} was answered with ${status}`;
  if ([401, 403].includes(status)) return new ServingError('SRV_REMOTE_REFUSED', `${said}: not allowed.`);
  if ([405, 501].includes(status)) {
    return new ServingError('SRV_REMOTE_REFUSED', `${said}: the server does not take ${method}.`);
  }
  if (status === 413) return new ServingError('SRV_REMOTE_TOO_LARGE', `${said}: too large for this server.`);
  if (status === 507) return new ServingError('SRV_REMOTE_UNAVAILABLE', `${said}: its disk is full.`);
  return new ServingError('SRV_REMOTE_UNAVAILABLE', `${said}.`);
}
