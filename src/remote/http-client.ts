/** Requests to a web server: raw bytes, redirects followed, failures in our words. */
import { once } from 'node:events';
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { messageOf, ServingError } from '../errors.js';
import { abortError, throwIfAborted } from './abort.js';
import { certificateReason } from './certificate-reason.js';
import { maskedUrl } from './masked-url.js';

/** A reply whose body has not been read; it must be read to its end or given up with `discard`. */
export interface HttpReply {
  readonly status: number;
  /** Where it came from after redirects. */
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  /** Fails with SRV_REMOTE_UNAVAILABLE when the connection breaks before its end. */
  readonly body: AsyncIterable<Uint8Array>;
  discard(): void;
}

/** A body to send, whose length is known before. */
export interface HttpBody {
  readonly bytes: number;
  /** Its bytes from the beginning; asked for again when the request is sent again. */
  chunks(): AsyncIterable<Uint8Array>;
}

/** What is sent. */
export interface HttpOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: HttpBody | undefined;
  /** Whether redirects are followed; a signature is for one address alone. @default true */
  readonly follows?: boolean;
  readonly signal?: AbortSignal | undefined;
}

const maxRedirects = 5;

/** A client that keeps connections for the next request, as a store needs one for many files. */
export class HttpClient {
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets: 4 });
  readonly #https = new HttpsAgent({ keepAlive: true, maxSockets: 4 });
  #isClosed = false;

  /**
   * Sends a request; any status is a reply. Headers that carry credentials are not sent to another origin.
   *
   * @throws SRV_REMOTE_UNAVAILABLE when no reply comes, SRV_CANCELLED
   */
  async request(url: URL, options: HttpOptions = {}): Promise<HttpReply> {
    let at = url;
    let headers = options.headers ?? {};
    for (let redirects = 0; ; redirects++) {
      throwIfAborted(options.signal);
      if (this.#isClosed) throw new ServingError('SRV_CANCELLED', `${maskedUrl(url)}: it was given up`);
      const reply = await this.#send(at, { ...options, headers });
      const { location } = reply.headers;
      if (![301, 302, 303, 307, 308].includes(reply.status) || location === undefined) return reply;
      if (options.follows === false) return reply;
      reply.discard();
      const next = parseLocation(location, at);
      if (redirects >= maxRedirects) {
        throw new ServingError(
          'SRV_REMOTE_UNAVAILABLE',
          `${maskedUrl(url)}: more than ${maxRedirects} redirects.`,
        );
      }
      if (next.origin !== at.origin) headers = withoutCredentials(headers);
      at = next;
    }
  }

  /** Ends what is asked, and asks nothing more. */
  close(): void {
    this.#isClosed = true;
    this.#http.destroy();
    this.#https.destroy();
  }

  async #send(url: URL, { method = 'GET', headers = {}, body, signal }: HttpOptions): Promise<HttpReply> {
    const isSecure = url.protocol === 'https:';
    const open = isSecure ? httpsRequest : httpRequest;
    const request: ClientRequest = open(url, {
      method,
      // A digest is that of the bytes as they lie there.
      headers: {
        'accept-encoding': 'identity',
        ...(body ? { 'content-length': String(body.bytes) } : {}),
        ...headers,
      },
      agent: isSecure ? this.#https : this.#http,
      ...(signal ? { signal } : {}),
    });
    const label = maskedUrl(url);
    try {
      const message = await new Promise<IncomingMessage>((resolve, reject) => {
        request.on('response', resolve).on('error', reject);
        if (body) writeBody(body, request).catch(reject);
        else request.end();
      });
      return {
        status: message.statusCode ?? 0,
        url,
        headers: message.headers,
        body: readBody(message, label, signal),
        discard: () => message.destroy(),
      };
    } catch (cause) {
      if (cause instanceof ServingError) throw cause;
      if (signal?.aborted) throw abortError(signal);
      const reason = certificateReason(cause) ?? `no answer: ${reasonOf(cause)}`;
      throw new ServingError('SRV_REMOTE_UNAVAILABLE', `${label}: ${reason}.`, { cause });
    }
  }
}

/** Errors of the request itself are told by its events; what fails here is the body. */
async function writeBody(body: HttpBody, request: ClientRequest): Promise<void> {
  try {
    for await (const chunk of body.chunks()) {
      // A server may answer, and hang up, before it has read all.
      if (request.destroyed) return;
      if (!request.write(chunk)) await Promise.race([once(request, 'drain'), once(request, 'close')]);
    }
    request.end();
  } catch (error) {
    request.destroy();
    throw error;
  }
}

async function* readBody(
  message: IncomingMessage,
  label: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  try {
    for await (const chunk of message as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength;
      yield chunk;
    }
  } catch (cause) {
    if (signal?.aborted) throw abortError(signal);
    throw new ServingError(
      'SRV_REMOTE_UNAVAILABLE',
      `${label}: the connection broke after ${bytes} bytes of ${message.headers['content-length'] ?? 'an unknown number'}: ${reasonOf(cause)}.`,
      { cause },
    );
  } finally {
    message.destroy();
  }
}

function parseLocation(location: string, at: URL): URL {
  const next = URL.canParse(location, at.href) ? new URL(location, at) : undefined;
  if (next && ['http:', 'https:'].includes(next.protocol)) return next;
  throw new ServingError(
    'SRV_REMOTE_UNAVAILABLE',
    `${maskedUrl(at)}: expected a redirect to http or https, got ${JSON.stringify(location.slice(0, 100))}.`,
  );
}

function withoutCredentials(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !['authorization', 'cookie'].includes(name.toLowerCase())),
  );
}

/** Of a host with several addresses the error has one cause for each and no message of its own. */
function reasonOf(cause: unknown): string {
  if (cause instanceof AggregateError && cause.message === '') return cause.errors.map(messageOf).join('; ');
  return messageOf(cause);
}

/** The error for a status that is not a success. @param label what was asked for */
export function statusError(label: string, status: number): ServingError {
  if (status === 404 || status === 410) {
    return new ServingError('SRV_REMOTE_NOT_FOUND', `${label} is not there: the server answered ${status}.`);
  }
  if (status === 401 || status === 403) {
    return new ServingError('SRV_REMOTE_REFUSED', `${label} was refused: the server answered ${status}.`);
  }
  return new ServingError('SRV_REMOTE_UNAVAILABLE', `${label}: expected 200, the server answered ${status}.`);
}

/** Reads a body that must be small. @throws SRV_REMOTE_TOO_LARGE */
export async function readWhole(reply: HttpReply, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of reply.body) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) {
      throw new ServingError(
        'SRV_REMOTE_TOO_LARGE',
        `${maskedUrl(reply.url)}: expected at most ${maxBytes} bytes, got more.`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
