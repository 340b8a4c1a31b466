/** A web server as a store: files with ETag or Last-Modified, directories by the pages that list them. */
import { createHash } from 'node:crypto';
import { ServingError } from '../errors.js';
import { fetchTree, joinRemote, type OpenedFile } from './fetch-tree.js';
import { HttpClient, type HttpReply, readWhole, statusError } from './http-client.js';
import { offeredDigests } from './http-digests.js';
import { parseHtmlListing, parseJsonListing } from './http-listing.js';
import { type HttpPlace, readHttpPlace, urlBelow } from './http-place.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { treeStamp } from './tree-stamp.js';

const maxListingBytes = 16 << 20;
/** Files up to this size are told apart by their content too: Last-Modified counts seconds. */
const maxHashedBytes = 64 << 10;

/** A web server. Names with `user:password@` sign in with HTTP Basic; a query goes with every request. */
export class HttpStore implements RemoteStore {
  readonly label: string;
  readonly #place: HttpPlace;
  readonly #client = new HttpClient();
  /** The last stamp of each file that has an ETag, to ask for it anew only if it changed. */
  readonly #known = new Map<string, { readonly etag: string; readonly stamp: RemoteStamp }>();

  /** @param address `http://host:port`, with a path before those of the store where there is one */
  constructor(address: URL | string) {
    this.#place = readHttpPlace(address);
    this.label = this.#place.label;
  }

  async stampOf(path: string, options: RemoteOptions = {}): Promise<RemoteStamp | undefined> {
    const { signal, onAnswer } = options;
    const known = this.#known.get(path);
    const reply = await this.#get(path, signal, known ? { 'if-none-match': known.etag } : {});
    if (reply.status === 304 && known) {
      reply.discard();
      return known.stamp;
    }
    if (isMissing(reply)) {
      reply.discard();
      return undefined;
    }
    const isDirectory = isDirectoryReply(reply);
    if (reply.status !== 200) throw this.#refusal(path, reply);
    if (isDirectory) {
      reply.discard();
      return treeStamp(
        path.replace(/\/+$/, ''),
        (below) => this.list(below, options),
        (below) => this.stampOf(below, options),
        onAnswer,
      );
    }
    const { etag, 'last-modified': modified, 'content-length': length } = reply.headers;
    const facts = [
      etag === undefined ? '' : `etag ${etag}`,
      modified === undefined ? '' : `modified ${modified}`,
    ];
    if (length === undefined || Number(length) <= maxHashedBytes) {
      const content = await readWhole(reply, maxHashedBytes).catch((error: unknown) => {
        // A length that was not told may be a large one: then what the headers say must do.
        if (error instanceof ServingError && error.code === 'SRV_REMOTE_TOO_LARGE' && (etag ?? modified))
          return undefined;
        throw error;
      });
      if (content)
        facts.push(`bytes ${content.length} sha256 ${createHash('sha256').update(content).digest('hex')}`);
    } else {
      reply.discard();
      facts.push(`bytes ${length}`);
    }
    const stamp = { text: facts.filter((fact) => fact !== '').join(' ') };
    if (etag === undefined) this.#known.delete(path);
    else this.#known.set(path, { etag, stamp });
    return stamp;
  }

  async list(path: string, { signal }: RemoteOptions = {}): Promise<readonly RemoteEntry[] | undefined> {
    const reply = await this.#get(joinRemote(path, ''), signal);
    if (isMissing(reply) || (reply.status === 200 && !isDirectoryReply(reply))) {
      reply.discard();
      return undefined;
    }
    if (reply.status !== 200) throw this.#refusal(path, reply);
    const type = reply.headers['content-type'] ?? '';
    const text = (await readWhole(reply, maxListingBytes)).toString('utf8');
    const entries = type.includes('json') ? parseJsonListing(text) : parseHtmlListing(text, reply.url);
    if (entries) return entries;
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${this.label}${path}/: expected a list of objects with name and type, got other JSON.`,
    );
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
    if (path.endsWith('/')) return undefined;
    const reply = await this.#get(path, signal);
    if (isMissing(reply) || (reply.status === 200 && isDirectoryReply(reply))) {
      reply.discard();
      return undefined;
    }
    if (reply.status !== 200) throw this.#refusal(path, reply);
    const { 'content-length': length, 'content-encoding': encoding = 'identity' } = reply.headers;
    // Some servers call the compression of a .gz file that of its transfer, although it is sent as it is.
    if (!/^identity$/i.test(encoding) && !(/^(x-)?gzip$/i.test(encoding) && /\.t?gz$/i.test(path))) {
      reply.discard();
      throw new ServingError(
        'SRV_REMOTE_DAMAGED',
        `${this.label}${path}: expected the bytes as they are, got them encoded as ${encoding}.`,
      );
    }
    return {
      source: reply.body,
      ...(length === undefined ? {} : { bytes: Number(length) }),
      digests: offeredDigests(reply.headers),
    };
  }

  #get(
    path: string,
    signal: AbortSignal | undefined,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<HttpReply> {
    const url = urlBelow(this.#place.base, path);
    return this.#client.request(url, { headers: { ...this.#place.headers, ...headers }, signal });
  }

  #refusal(path: string, reply: HttpReply): ServingError {
    reply.discard();
    return statusError(this.label + path, reply.status);
  }
}

function isMissing({ status }: HttpReply): boolean {
  return status === 404 || status === 410;
}

/** Web servers put a slash behind the address of a directory, and answer with a page that lists it. */
function isDirectoryReply({ url, headers }: HttpReply): boolean {
  const type = headers['content-type'] ?? '';
  return url.pathname.endsWith('/') && /^(text\/html|application\/xhtml\+xml|application\/json)\b/.test(type);
}
