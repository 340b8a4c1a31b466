/** Signed requests to one bucket, sent again where the server is busy, with its refusals in our words. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import { type HttpBody, HttpClient, type HttpReply, readWhole } from './http-client.js';
import { mask } from './masked-url.js';
import type { S3Place } from './s3-place.js';
import { emptySha256, encodeS3Path, encodeS3Query, signS3Request } from './s3-signature.js';
import { parseXml, type XmlElement } from './s3-xml.js';

/** A request to the bucket. */
export interface S3Request {
  /** @default 'GET' */
  readonly method?: string;
  /** Absent: the bucket itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Names in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: HttpBody & { readonly sha256: string };
  /** Statuses that are no failure beside 200 to 299. */
  readonly alsoFine?: readonly number[];
  readonly signal?: AbortSignal | undefined;
}

/** What a client needs beside its place. */
export interface S3ClientOptions {
  /** @default the machine's clock */
  readonly now?: () => Date;
  /** @default a timer */
  readonly pause?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

/** How often a request is sent while the server is busy or the connection breaks. */
const maxTries = 4;
const firstPauseMs = 200;
const busyStatuses = [429, 500, 502, 503, 504];
const maxDocumentBytes = 16 << 20;

/** A client of one bucket. */
export class S3Client {
  readonly #place: S3Place;
  readonly #http = new HttpClient();
  readonly #now: () => Date;
  readonly #pause: (ms: number, signal: AbortSignal | undefined) => Promise<void>;

  constructor(place: S3Place, options: S3ClientOptions = {}) {
    this.#place = place;
    this.#now = options.now ?? (() => new Date());
    this.#pause = options.pause ?? ((ms, signal) => sleep(ms, undefined, signal ? { signal } : {}));
  }

  /**
   * Sends a request; its reply is a success, or has one of the statuses of `alsoFine`.
   *
   * @throws SRV_REMOTE_NOT_FOUND, SRV_REMOTE_REFUSED, SRV_REMOTE_CHANGED (a condition did not hold),
   *   SRV_REMOTE_UNAVAILABLE, SRV_CANCELLED; each names bucket, key, status and S3's own code
   */
  async send(request: S3Request): Promise<HttpReply> {
    const { signal, alsoFine = [] } = request;
    const url = this.#urlOf(request);
    for (let tries = 1; ; tries++) {
      const isLast = tries >= maxTries;
      try {
        const reply = await this.#sendOnce(url, request);
        if ((reply.status >= 200 && reply.status < 300) || alsoFine.includes(reply.status)) return reply;
        if (isLast || !busyStatuses.includes(reply.status)) throw await this.#refusal(request, reply);
        reply.discard();
      } catch (error) {
        const isBroken = error instanceof ServingError && error.code === 'SRV_REMOTE_UNAVAILABLE';
        if (isLast || !isBroken) throw error;
      }
      throwIfAborted(signal);
      await this.#pause(firstPauseMs * 2 ** (tries - 1), signal).catch(() => throwIfAborted(signal));
    }
  }

  /** Sends a request whose answer is a document. @throws SRV_REMOTE_DAMAGED when it is another one */
  async document(request: S3Request, rootName: string): Promise<XmlElement> {
    const reply = await this.send(request);
    const text = (await readWhole(reply, maxDocumentBytes)).toString('utf8');
    const root = parseXml(text);
    if (root?.name === rootName) return root;
    // Some calls answer 200 first and find out later that they failed.
    if (root?.name === 'Error') throw this.#errorOf(request, reply.status, root);
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${this.labelOf(request.key)}: expected a document ${rootName}, got ${root ? root.name : JSON.stringify(text.slice(0, 60))}.`,
    );
  }

  /** How messages call an object. */
  labelOf(key = ''): string {
    return key === '' ? this.#place.label : `${this.#place.label}/${key}`;
  }

  close(): void {
    this.#http.close();
  }

  #urlOf({ key = '', query = {} }: S3Request): URL {
    const { endpoint, bucket, isVirtualHost } = this.#place;
    if (key.split('/').some((segment) => segment === '.' || segment === '..')) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `${this.labelOf(key)}: an address cannot hold a key with . or .. as a part.`,
      );
    }
    const url = new URL(endpoint);
    if (isVirtualHost) url.hostname = `${bucket}.${url.hostname}`;
    const base = url.pathname.replace(/\/+$/, '');
    url.pathname = `${base}/${isVirtualHost ? '' : `${encodeS3Path(bucket)}/`}${encodeS3Path(key)}`;
    url.search = encodeS3Query(query);
    return url;
  }

  #sendOnce(url: URL, { method = 'GET', headers = {}, body, signal }: S3Request): Promise<HttpReply> {
    const { credentials, region } = this.#place;
    const signed = credentials
      ? signS3Request({ method, url, headers, bodySha256: body?.sha256 ?? emptySha256 }, credentials, {
          region,
          at: this.#now(),
        })
      : headers;
    // Node sends `content-length: 0` by itself only for some methods.
    const length = body || method === 'GET' || method === 'HEAD' ? {} : { 'content-length': '0' };
    return this.#http.request(url, {
      method,
      headers: { ...length, ...signed },
      body,
      signal,
      follows: false,
    });
  }

  async #refusal(request: S3Request, reply: HttpReply): Promise<ServingError> {
    const region = reply.headers['x-amz-bucket-region'];
    const text = await readWhole(reply, maxDocumentBytes)
      .then((bytes) => bytes.toString('utf8'))
      .catch(() => '');
    const parsed = parseXml(text);
    const error = this.#errorOf(request, reply.status, parsed?.name === 'Error' ? parsed : undefined);
    if (typeof region !== 'string' || region === this.#place.region) return error;
    return new ServingError(
      error.code,
      `${error.message} The bucket is in the region ${region}, but ${this.#place.region} was asked: set AWS_REGION.`,
      error.details ? { details: error.details } : {},
    );
  }

  #errorOf(
    { method = 'GET', key, query }: S3Request,
    status: number,
    document: XmlElement | undefined,
  ): ServingError {
    const code = document?.child('Code')?.text ?? '';
    const said = this.#masked((document?.child('Message')?.text ?? '').slice(0, 300));
    const answer = [String(status), code].filter((part) => part !== '').join(' ');
    return new ServingError(
      errorCodeOf(status, code),
      `${this.labelOf(key ?? query?.prefix)}: ${method} was answered with ${answer}${said === '' ? '' : `: ${said}`}`.replace(
        /([^.])$/,
        '$1.',
      ),
      { details: { status } },
    );
  }

  /** Servers repeat what they were sent. */
  #masked(text: string): string {
    const { credentials } = this.#place;
    const secrets = [credentials?.secretAccessKey, credentials?.sessionToken, credentials?.accessKeyId];
    return secrets.reduce<string>(
      (shown, secret) => (secret ? shown.replaceAll(secret, mask) : shown),
      text.replaceAll(/\s+/g, ' ').trim(),
    );
  }
}

function errorCodeOf(
  status: number,
  code: string,
): 'SRV_REMOTE_NOT_FOUND' | 'SRV_REMOTE_CHANGED' | 'SRV_REMOTE_REFUSED' | 'SRV_REMOTE_UNAVAILABLE' {
  if (status === 404) return 'SRV_REMOTE_NOT_FOUND';
  if (status === 412 || code === 'ConditionalRequestConflict') return 'SRV_REMOTE_CHANGED';
  return status < 500 && status !== 408 && status !== 429 ? 'SRV_REMOTE_REFUSED' : 'SRV_REMOTE_UNAVAILABLE';
}
