/** Files of requests that lie behind a URL. */
import { messageOf, ServingError } from '../errors.js';

/** What a URL gave. */
export interface RemoteFile {
  readonly bytes: Buffer;
  /** Without its parameters; '' when the server tells none. */
  readonly contentType: string;
}

/** Whether a place is a URL and no path. */
export function isUrl(place: string): boolean {
  return /^[a-z][a-z\d+.-]+:\/\//i.test(place);
}

/** A URL as messages show it: without user, password and query, where keys stand. */
export function shownUrl(place: string): string {
  const url = URL.canParse(place) ? new URL(place) : undefined;
  return url ? `${url.protocol}//${url.host}${url.pathname}` : place;
}

/**
 * Downloads a file. Redirects are followed.
 *
 * @param options.timeoutMs for all of it
 * @param options.maxBytes of the body
 * @throws SRV_BAD_CONFIG for another scheme than http and https; SRV_IO when the server does not answer in time,
 *   answers another status than 200, or sends more than `maxBytes` or less than it announced
 */
export async function fetchFile(
  place: string,
  options: {
    readonly timeoutMs: number;
    readonly maxBytes: number;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<RemoteFile> {
  const shown = shownUrl(place);
  if (!/^https?:/i.test(place)) {
    throw new ServingError('SRV_BAD_CONFIG', `${shown}: expected a path, or a URL of http or https`);
  }
  const limit = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal ? AbortSignal.any([limit, options.signal]) : limit;
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    const reply = await fetch(place, { signal });
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

function failed(shown: string, what: string): ServingError {
  return new ServingError('SRV_IO', `${shown} could not be fetched: ${what}`);
}
