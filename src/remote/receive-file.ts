/** Bytes from afar into a file of this machine, counted and compared with what the store said of them. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { messageOf, ServingError } from '../errors.js';
import { defaultFetchLimits, type FetchOptions, type FetchProgress } from './remote-store.js';

/** A digest of a whole file, as a store or a file beside it gives it. */
export interface OfferedDigest {
  readonly algorithm: 'md5' | 'sha1' | 'sha256' | 'sha512';
  /** In lower case. */
  readonly hex: string;
  /** Who says so, for messages: "the header Content-MD5". */
  readonly source: string;
}

/** What is known of a file before its bytes come. */
export interface ExpectedFile {
  /** How messages call it: the store's label and the path. */
  readonly label: string;
  readonly bytes?: number;
  readonly digests?: readonly OfferedDigest[];
}

/** Counts the files and bytes of one fetch, refuses what is over its limits, and tells the progress. */
export class FetchCount {
  readonly #options: FetchOptions;
  readonly #totalBytes: number | undefined;
  #files = 0;
  #bytes = 0;

  constructor(options: FetchOptions, totalBytes?: number) {
    this.#options = options;
    this.#totalBytes = totalBytes;
  }

  get files(): number {
    return this.#files;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @throws SRV_REMOTE_TOO_LARGE when it is one file too many */
  addFile(label: string): void {
    this.#files += 1;
    const { maxFiles } = this.#options.limits ?? defaultFetchLimits;
    if (this.#files > maxFiles) throw tooLarge(label, `more than ${maxFiles} files`);
    this.#tell();
  }

  /** @throws SRV_REMOTE_TOO_LARGE when these are more bytes than allowed */
  addBytes(label: string, bytes: number): void {
    this.#bytes += bytes;
    const { maxBytes } = this.#options.limits ?? defaultFetchLimits;
    if (this.#bytes > maxBytes) throw tooLarge(label, `more than ${maxBytes} bytes`);
    this.#tell();
  }

  #tell(): void {
    const progress: FetchProgress = { files: this.#files, bytes: this.#bytes };
    const totalBytes = this.#totalBytes;
    this.#options.onProgress?.(totalBytes === undefined ? progress : { ...progress, totalBytes });
  }
}

function tooLarge(label: string, what: string): ServingError {
  return new ServingError('SRV_REMOTE_TOO_LARGE', `${label}: ${what}, which is the limit of one fetch.`);
}

/**
 * Writes what `source` gives to a new file and flushes it to the disk.
 *
 * @param source chunks of the file; its own errors pass through
 * @throws SRV_REMOTE_DAMAGED when length or digest are not what was said, SRV_REMOTE_TOO_LARGE, SRV_IO
 */
export async function receiveFile(
  source: AsyncIterable<Uint8Array>,
  target: string,
  expected: ExpectedFile,
  count: FetchCount,
): Promise<number> {
  count.addFile(expected.label);
  const hashes = (expected.digests ?? []).map((digest) => ({ digest, hash: createHash(digest.algorithm) }));
  const file = await open(target, 'wx').catch((cause: unknown) => refuseWrite(target, cause));
  let bytes = 0;
  try {
    for await (const chunk of source) {
      bytes += chunk.byteLength;
      count.addBytes(expected.label, chunk.byteLength);
      for (const { hash } of hashes) hash.update(chunk);
      await file.appendFile(chunk).catch((cause: unknown) => refuseWrite(target, cause));
    }
    await file.sync().catch((cause: unknown) => refuseWrite(target, cause));
  } finally {
    await file.close();
  }
  if (expected.bytes !== undefined && bytes !== expected.bytes) {
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${expected.label}: expected ${expected.bytes} bytes, got ${bytes}.`,
    );
  }
  for (const { digest, hash } of hashes) {
    const hex = hash.digest('hex');
    if (hex === digest.hex) continue;
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${expected.label}: ${digest.source} says ${digest.algorithm} ${digest.hex}, but the bytes that came have ${hex}.`,
    );
  }
  return bytes;
}

function refuseWrite(target: string, cause: unknown): never {
  throw new ServingError('SRV_IO', `The file ${target} cannot be written: ${messageOf(cause)}.`, { cause });
}
