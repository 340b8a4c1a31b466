/** Requests of a warm-up from wherever they lie: a file, a directory of files, a URL. */
import { open, readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { isAddress } from '../config/place.js';
import { messageOf, ServingError } from '../errors.js';
import { readBinaryBodies, readJsonBody, readJsonLines } from './body-file.js';
import { readPredictRequest } from './predict-request.js';
import { fetchFile, shownUrl } from './remote-file.js';
import { badFile, type WarmUpRequests } from './request.js';
import { readTextLines } from './text-file.js';
import { readTfWarmUp, tfWarmUpFile } from './tf-serving.js';

/** A form of a file of requests. */
export type RequestFormat = 'binary' | 'lines' | 'json' | 'text' | 'protobuf' | 'tfrecord';

/** How requests are read. */
export interface ReadRequestsOptions {
  /** For each download. @default 30000 */
  readonly timeoutMs?: number | undefined;
  /** Bytes of all files together. @default 64 MiB */
  readonly maxBytes?: number | undefined;
  /** Ends downloads. */
  readonly signal?: AbortSignal | undefined;
}

const MiB = 1024 * 1024;
const defaultMaxBytes = 64 * MiB;
const defaultTimeoutMs = 30_000;

/** What ends the names of samples of traffic, which are not read as part of their directory. */
export const sampleEnding = '.recorded.bin';

const formats: Readonly<Record<string, RequestFormat>> = {
  '.bin': 'binary',
  '.jsonl': 'lines',
  '.ndjson': 'lines',
  '.json': 'json',
  '.txt': 'text',
  '.pb': 'protobuf',
  '.tfrecord': 'tfrecord',
};

const contentTypes: Readonly<Record<string, RequestFormat>> = {
  'application/octet-stream': 'binary',
  'application/x-ndjson': 'lines',
  'application/jsonl': 'lines',
  'application/json': 'json',
  'text/plain': 'text',
};

/**
 * Reads the requests at a path or URL. The files of a directory are read in the order of their names; hidden ones and
 * samples of traffic are left out.
 *
 * @throws SRV_IO when something cannot be read or fetched, SRV_BAD_WARM_UP_FILE when it holds no requests or what is
 *   no request, with file and line
 */
export async function readRequests(
  place: string,
  options: ReadRequestsOptions = {},
): Promise<WarmUpRequests> {
  const { signal } = options;
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  let left = options.maxBytes ?? defaultMaxBytes;
  if (isAddress(place)) {
    const { bytes, contentType } = await fetchFile(place, { timeoutMs, maxBytes: left, signal });
    const shown = shownUrl(place);
    return parseRequests(shown, bytes, formatOf(shown) ?? contentTypes[contentType]);
  }
  const found: WarmUpRequests[] = [];
  for (const file of await filesAt(place)) {
    const bytes = await readBounded(file, left);
    left -= bytes.length;
    found.push(await parseRequests(file, bytes, formatOf(file)));
  }
  return joinRequests(found);
}

/**
 * The requests in the bytes of a file.
 *
 * @param file what messages call it
 * @throws SRV_BAD_WARM_UP_FILE
 */
export async function parseRequests(
  file: string,
  bytes: Buffer,
  format: RequestFormat | undefined,
): Promise<WarmUpRequests> {
  if (format === undefined) {
    throw badFile(
      { file },
      `its name does not tell what it holds; expected one that ends in ${Object.keys(formats).join(', ')}, or ${basename(tfWarmUpFile)}`,
    );
  }
  if (bytes.length === 0) throw badFile({ file }, 'it is empty (0 bytes)');
  const found = await readers[format](file, bytes);
  if (found.requests.length === 0) throw badFile({ file }, 'it holds no request');
  return found;
}

const readers: Readonly<
  Record<RequestFormat, (file: string, bytes: Buffer) => WarmUpRequests | Promise<WarmUpRequests>>
> = {
  // No protobuf message begins like this: "{" would be a field of a wire type that is not used any more.
  binary: (file, bytes) =>
    bytes[0] === 0x7b ? readBinaryBodies(file, bytes) : readPredictRequest(file, bytes),
  lines: readJsonLines,
  json: readJsonBody,
  text: readTextLines,
  protobuf: readPredictRequest,
  tfrecord: readTfWarmUp,
};

/** The form of a file by its name; undefined when the name does not tell. */
export function formatOf(file: string): RequestFormat | undefined {
  if (basename(file) === basename(tfWarmUpFile)) return 'tfrecord';
  return formats[extname(file).toLowerCase()];
}

/** Requests of several places as one. */
export function joinRequests(found: readonly WarmUpRequests[]): WarmUpRequests {
  return {
    requests: found.flatMap(({ requests }) => requests),
    batchSizes: [...new Set(found.flatMap(({ batchSizes }) => batchSizes))],
  };
}

async function filesAt(place: string): Promise<readonly string[]> {
  try {
    if (!(await stat(place)).isDirectory()) return [place];
    const entries = await readdir(place, { withFileTypes: true });
    const names = entries
      .filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.') && !isSample(entry.name))
      .map(({ name }) => name);
    if (names.length === 0) throw badFile({ file: place }, 'the directory holds no file of requests');
    return names.toSorted().map((name) => join(place, name));
  } catch (cause) {
    throw cause instanceof ServingError ? cause : unreadable(place, cause);
  }
}

function isSample(name: string): boolean {
  return name.endsWith(sampleEnding);
}

async function readBounded(file: string, maxBytes: number): Promise<Buffer> {
  try {
    await using handle = await open(file);
    const { size } = await handle.stat();
    if (size > maxBytes) {
      throw badFile(
        { file },
        `it has ${size} bytes, and ${maxBytes} are left of what a warm-up may have in all`,
      );
    }
    return await handle.readFile();
  } catch (cause) {
    throw cause instanceof ServingError ? cause : unreadable(file, cause);
  }
}

function unreadable(file: string, cause: unknown): ServingError {
  return new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}`, { cause });
}
