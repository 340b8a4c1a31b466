/** What every place that one publishes to offers: a directory, a web server, FTP, HDFS, a bucket. */
import { createHash } from 'node:crypto';
import type { HttpBody } from '../remote/http-client.js';

/** Bytes to write, with their digest. */
export interface Upload {
  readonly body: HttpBody;
  /** SHA-256 of all of them, in hex. */
  readonly sha256: string;
}

/** A file of a directory to write. */
export interface DirectoryFile extends Upload {
  /** Relative to the directory, with slashes. */
  readonly path: string;
}

/** Options of every call. */
export interface TargetOptions {
  readonly signal?: AbortSignal | undefined;
}

/** How the making of a lock ended; `unsupported`: the target has nothing that only one can make. */
export type LockOutcome = 'created' | 'exists' | 'unsupported';

/**
 * A place to publish to. Paths are absolute within it, with slashes; directories on the way are made. Every call fails
 * with a ServingError: SRV_REMOTE_UNAVAILABLE, SRV_REMOTE_REFUSED, SRV_REMOTE_NOT_FOUND, SRV_REMOTE_TOO_LARGE, SRV_IO
 * for a disk of this machine, SRV_CANCELLED. Their messages hold no secrets.
 */
export interface PublishTarget {
  /** What it is called in messages, secrets masked. */
  readonly label: string;

  /**
   * Writes a file, which readers see as it was or as it is now; where nothing can be renamed to a name that is taken they see
   * none for a moment, and only a web server that cannot rename (`MOVE`) may show a part of it.
   */
  write(path: string, upload: Upload, options?: TargetOptions): Promise<void>;

  /**
   * Puts a directory in the place of another one, or where none is. Where directories can be renamed, readers see the
   * old one or the new one, and for a moment none; in a bucket, and on a web server that cannot, they may see files
   * of both: the last one of `files` is written last.
   */
  writeDirectory(path: string, files: readonly DirectoryFile[], options?: TargetOptions): Promise<void>;

  /** A small file; undefined where there is none. */
  read(path: string, options?: TargetOptions): Promise<Buffer | undefined>;

  /** Makes a lock that holds a text, if there is none of that name: of two who try, one gets it. */
  createLock(path: string, text: string, options?: TargetOptions): Promise<LockOutcome>;
  /** The text of a lock; undefined where there is none, or its maker has not written it yet. */
  readLock(path: string, options?: TargetOptions): Promise<string | undefined>;
  /** Replaces the text of a lock that is there. */
  writeLock(path: string, text: string, options?: TargetOptions): Promise<void>;
  removeLock(path: string, options?: TargetOptions): Promise<void>;

  /** Gives up connections; idempotent. */
  close(): Promise<void>;
}

/** Most bytes of what `read` reads. */
export const maxSmallBytes: number = 16 << 20;

/** The file of a published directory that lists its others with their digests. */
export const sumsName = 'SHA256SUMS';

/** A text as an upload. */
export function textUpload(text: string): Upload {
  const bytes = Buffer.from(text);
  return {
    body: {
      bytes: bytes.byteLength,
      chunks: async function* () {
        yield bytes;
      },
    },
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

/** The directory that a path is in; empty for the root. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
