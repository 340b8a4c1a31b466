/** Files of requests that lie behind a URL. */
import { messageOf, ServingError } from '../errors.js';
import { maskedUrl, unescaped } from '../remote/masked-url.js';
import { readS3Address } from '../remote/s3-place.js';
import { S3Store } from '../remote/s3-store.js';

/** What a URL gave. */
export interface RemoteFile {
  readonly bytes: Buffer;
  /** Without its parameters; '' when the server tells none. */
  readonly contentType: string;
}

/** A URL as messages show it: without user, password and query, where keys stand. */
export function shownUrl(place: string): string {
  const url = URL.canParse(place) ? new URL(place) : undefined;
  return url ? `${url.protocol}//${url.host}${url.pathname}` : maskedUrl(place);
}

/**
 * Downloads a file from a web server, following redirects, with the user and password of its address, or from a bucket (`s3://`, `oss://`).
 *
 * @param options.timeoutMs for all of it
 * @param options.maxBytes of the body
 * @param options.env where the credentials of buckets are; default: the environment of this process
 * @throws SRV_BAD_CONFIG for another scheme, or what is no URL; SRV_IO when the server does not answer in time,
 *   answers another status than 200, or sends more than `maxBytes` or less than it announced
 */
export async function fetchFile(
  place: string,
  options: {
    readonly timeoutMs: number;
    readonly maxBytes: number;
    readonly signal?: AbortSignal | undefined;
    readonly env?: Readonly<Record<string, string | undefined>>;
  },
): Promise<RemoteFile> {
  const shown = shownUrl(place);
  if (/^(s3|oss):/i.test(place)) return fetchObject(place, shown, options);
  if (!/^https?:/i.test(place)) {
    throw new ServingError('SRV_BAD_CONFIG', `${shown}: expected a path, or a URL of http, https, s3 or oss`);
  }
  const { url, headers } = requestOf(place, shown);
  const limit = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal ? AbortSignal.any([limit, options.signal]) : limit;
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    const reply = await fetch(url, { signal, headers });
    if (reply.status !== 200) throw failed(shown, `the server answered ${reply.status} ${reply.statusText}`);
    for await (const chunk of (reply.body ?? []) as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > options.maxBytes) throw failed(shown, `it has more than ${options.maxBytes} bytes`);
      chunks.push(chunk);
    }
    const contentType = (reply.headers.get('content-type') ?? '').split(';')[0]!.trim().toLowerCase();
    return { bytes: Buffer.concat(chunks, length), contentType };
  } catch (error) {
    if (error instanceof ServingError) throw error;
    if (limit.aborted) throw failed(shown, `the server did not send it within ${options.timeoutMs} ms`);
    const { cause } = error as { cause?: unknown };
    throw failed(shown, cause === undefined ? messageOf(error) : messageOf(cause));
  }
}

/** A user and password in the address go into a header, which another host that it leads to does not get. */
function requestOf(
  place: string,
  shown: string,
): { readonly url: URL; readonly headers: Readonly<Record<string, string>> } {
  if (!URL.canParse(place)) throw new ServingError('SRV_BAD_CONFIG', `${shown}: expected a URL`);
  const url = new URL(place);
  const [user, password] = [url.username, url.password].map((part) => unescaped(part, place));
  url.username = '';
  url.password = '';
  if (user === '' && password === '') return { url, headers: {} };
  return {
    url,
    headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
  };
}

async function fetchObject(
  place: string,
  shown: string,
  { timeoutMs, maxBytes, signal: outer, env = process.env }: Parameters<typeof fetchFile>[1],
): Promise<RemoteFile> {
  const address = readS3Address(place, env);
  const store = new S3Store({ ...address, path: '' });
  const limit = AbortSignal.timeout(timeoutMs);
  const signal = outer ? AbortSignal.any([limit, outer]) : limit;
  try {
    const found = await store.readSmall(address.path, { signal, maxBytes });
    if (!found) throw failed(shown, 'it is not there');
    return { bytes: found.bytes, contentType: '' };
  } catch (error) {
    if (limit.aborted) throw failed(shown, `the bucket did not send it within ${timeoutMs} ms`);
    if (error instanceof ServingError && error.code.startsWith('SRV_REMOTE_')) {
      throw failed(shown, error.message);
    }
    throw error;
  } finally {
    await store.close();
  }
}

function failed(shown: string, what: string): ServingError {
  return new ServingError('SRV_IO', `${shown} could not be fetched: ${what}`);
}
