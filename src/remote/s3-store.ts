/** A bucket as a store: keys with slashes are files in directories. */
import { createHash } from 'node:crypto';
import { ServingError } from '../errors.js';
import { fetchTree, type OpenedFile } from './fetch-tree.js';
import { type HttpReply, readWhole } from './http-client.js';
import type { OfferedDigest } from './receive-file.js';
import type {
  Fetched,
  FetchOptions,
  RemoteEntry,
  RemoteOptions,
  RemoteStamp,
  RemoteStore,
} from './remote-store.js';
import { S3Client, type S3ClientOptions } from './s3-client.js';
import type { S3Place } from './s3-place.js';
import { putS3Object, type S3Upload } from './s3-upload.js';
import type { XmlElement } from './s3-xml.js';

/** Objects that one directory may have; a listing of more is not a model. */
const maxListed = 100_000;
const stampNames = ['ETag', 'Size', 'LastModified'] as const;

/** What a stamp and a listing say of an object. */
interface ListedObject {
  readonly key: string;
  readonly bytes: number;
  readonly stamp: string;
}

/** Options of a store. */
export interface S3StoreOptions extends S3ClientOptions {
  /** Objects of one answer to a listing. @default the server's: 1000 */
  readonly pageSize?: number;
}

/** One bucket. The path of its address comes before those that calls give. */
export class S3Store implements RemoteStore {
  readonly label: string;
  readonly #base: string;
  readonly #client: S3Client;
  readonly #pageSize: number | undefined;

  constructor(place: S3Place, options: S3StoreOptions = {}) {
    this.#pageSize = options.pageSize;
    this.#base = place.path.replace(/\/+$/, '');
    this.label = place.label + this.#base;
    this.#client = new S3Client(place, options);
  }

  async stampOf(path: string, { signal }: RemoteOptions = {}): Promise<RemoteStamp | undefined> {
    const key = this.#keyOf(path);
    if (key !== '' && !key.endsWith('/')) {
      const { status, headers } = await this.#head(key, signal);
      if (status !== 404) {
        const { etag = '', 'content-length': bytes = '', 'last-modified': modified = '' } = headers;
        return { text: `etag ${etag} bytes ${bytes} modified ${modified}` };
      }
    }
    const hash = createHash('sha256');
    let count = 0;
    for await (const { objects } of this.#pages(directoryKey(key), '', signal)) {
      for (const { key, bytes, stamp } of objects) {
        hash.update(`${JSON.stringify(key)} ${bytes} ${stamp}\n`);
        count += 1;
      }
    }
    return count === 0 ? undefined : { text: `tree ${hash.digest('hex')}` };
  }

  async list(path: string, { signal }: RemoteOptions = {}): Promise<readonly RemoteEntry[] | undefined> {
    const prefix = directoryKey(this.#keyOf(path));
    const entries: RemoteEntry[] = [];
    let hasMarker = false;
    for await (const { objects, prefixes } of this.#pages(prefix, '/', signal)) {
      for (const { key, bytes, stamp } of objects) {
        // An empty object whose key ends with a slash stands for the directory itself.
        if (key === prefix) hasMarker = true;
        else entries.push({ name: key.slice(prefix.length), isDirectory: false, bytes, stamp });
      }
      for (const below of prefixes) entries.push({ name: below.slice(prefix.length, -1), isDirectory: true });
    }
    return entries.length === 0 && !hasMarker ? undefined : entries;
  }

  fetch(path: string, target: string, options: FetchOptions = {}): Promise<Fetched> {
    const { signal } = options;
    const source = {
      label: this.label,
      list: (below: string) => this.list(below, { ...(signal ? { signal } : {}) }),
      read: (below: string) => this.#read(below, signal),
    };
    return fetchTree(source, path, target, options);
  }

  /**
   * Writes an object, which is there whole or not at all. Large ones go up in parts.
   *
   * @throws SRV_REMOTE_CHANGED when `ifAbsent` or `ifEtag` was asked for and does not hold
   */
  async put(path: string, upload: S3Upload): Promise<void> {
    await putS3Object(this.#client, this.#keyOf(path), upload);
  }

  /** A small object with its ETag; undefined where there is none. */
  async readSmall(
    path: string,
    { signal, maxBytes = 1 << 20 }: RemoteOptions & { readonly maxBytes?: number } = {},
  ): Promise<{ readonly bytes: Buffer; readonly etag: string } | undefined> {
    const reply = await this.#client.send({ key: this.#keyOf(path), alsoFine: [404], signal });
    if (reply.status === 404) return this.#missing(reply);
    return { bytes: await readWhole(reply, maxBytes), etag: reply.headers.etag ?? '' };
  }

  /** Removes an object; one that is not there is no failure. */
  async remove(path: string, { signal }: RemoteOptions = {}): Promise<void> {
    const reply = await this.#client.send({
      method: 'DELETE',
      key: this.#keyOf(path),
      alsoFine: [404],
      signal,
    });
    reply.discard();
  }

  /** The paths of all objects below a directory, relative to it. */
  async listAll(path: string, { signal }: RemoteOptions = {}): Promise<readonly string[]> {
    const prefix = directoryKey(this.#keyOf(path));
    const found: string[] = [];
    for await (const { objects } of this.#pages(prefix, '', signal)) {
      found.push(...objects.map(({ key }) => key.slice(prefix.length)));
    }
    return found;
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  #keyOf(path: string): string {
    return `${this.#base}/${path.replace(/^\/+/, '')}`.replace(/^\/+/, '');
  }

  async #head(key: string, signal: AbortSignal | undefined): Promise<HttpReply> {
    const reply = await this.#client.send({ method: 'HEAD', key, alsoFine: [404], signal });
    reply.discard();
    return reply;
  }

  async #read(path: string, signal: AbortSignal | undefined): Promise<OpenedFile | undefined> {
    const key = this.#keyOf(path);
    if (key === '' || key.endsWith('/')) return undefined;
    const headers = { 'x-amz-checksum-mode': 'ENABLED' };
    const reply = await this.#client.send({ key, headers, alsoFine: [404], signal });
    if (reply.status === 404) return this.#missing(reply);
    const { 'content-length': bytes } = reply.headers;
    return {
      source: reply.body,
      ...(bytes === undefined ? {} : { bytes: Number(bytes) }),
      digests: offeredDigests(reply.headers),
    };
  }

  /** A bucket that is not there is told by the listing that follows. */
  #missing(reply: HttpReply): undefined {
    reply.discard();
    return undefined;
  }

  async *#pages(
    prefix: string,
    delimiter: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<{ readonly objects: readonly ListedObject[]; readonly prefixes: readonly string[] }> {
    let token: string | undefined;
    let listed = 0;
    do {
      const query = {
        'list-type': '2',
        'encoding-type': 'url',
        prefix,
        ...(this.#pageSize === undefined ? {} : { 'max-keys': String(this.#pageSize) }),
        ...(delimiter === '' ? {} : { delimiter }),
        ...(token === undefined ? {} : { 'continuation-token': token }),
      };
      const page = await this.#client.document({ query, signal }, 'ListBucketResult');
      const decode = page.child('EncodingType')?.text === 'url' ? decodeKey : (key: string): string => key;
      const objects = page.children('Contents').map((object) => listedObject(object, decode));
      const prefixes = page.children('CommonPrefixes').map((one) => decode(one.child('Prefix')?.text ?? ''));
      listed += objects.length + prefixes.length;
      if (listed > maxListed) {
        throw new ServingError(
          'SRV_REMOTE_TOO_LARGE',
          `${this.#client.labelOf(prefix)}: more than ${maxListed} objects.`,
        );
      }
      yield { objects, prefixes };
      const next =
        page.child('IsTruncated')?.text === 'true' ? page.child('NextContinuationToken')?.text : '';
      if (next === undefined || (next !== '' && next === token)) {
        throw new ServingError(
          'SRV_REMOTE_DAMAGED',
          `${this.#client.labelOf(prefix)}: the listing goes on, but does not say where.`,
        );
      }
      token = next === '' ? undefined : next;
    } while (token !== undefined);
  }
}

function listedObject(object: XmlElement, decode: (key: string) => string): ListedObject {
  return {
    key: decode(object.child('Key')?.text ?? ''),
    bytes: Number(object.child('Size')?.text ?? 0),
    stamp: stampNames.map((name) => object.child(name)?.text ?? '').join(' '),
  };
}

/** In a listing a blank may be a plus, as in forms. */
function decodeKey(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', '%20'));
  } catch {
    return key;
  }
}

/** The prefix of what lies in a directory; that of the bucket is empty. */
function directoryKey(key: string): string {
  return key === '' ? '' : `${key.replace(/\/+$/, '')}/`;
}

/** The checksum that S3 keeps of objects which came in one piece, and the one that `put` leaves with all of them. */
function offeredDigests(headers: HttpReply['headers']): OfferedDigest[] {
  const digests: OfferedDigest[] = [];
  const { 'x-amz-checksum-sha256': checksum, 'x-amz-meta-sha256': own } = headers;
  // That of an object in parts ends with their number.
  if (typeof checksum === 'string' && /^[A-Za-z0-9+/]{43}=$/.test(checksum)) {
    const hex = Buffer.from(checksum, 'base64').toString('hex');
    digests.push({ algorithm: 'sha256', hex, source: 'the header x-amz-checksum-sha256' });
  }
  if (typeof own === 'string' && /^[0-9a-f]{64}$/.test(own)) {
    digests.push({ algorithm: 'sha256', hex: own, source: 'the header x-amz-meta-sha256' });
  }
  return digests;
}
