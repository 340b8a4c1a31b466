/** What every remote store of files offers: a web server, FTP, HDFS, a bucket, a directory of this machine. */

/** What tells one state of a file or directory from another. Compared for being unlike alone: no order is meant. */
export interface RemoteStamp {
  /** ETag, time of change, length, digest: what the store knows. Never a secret. */
  readonly text: string;
}

/** One name in a remote directory. */
export interface RemoteEntry {
  /** One segment, without slashes. */
  readonly name: string;
  readonly isDirectory: boolean;
  /** Absent where the store does not say. */
  readonly bytes?: number;
  /** As `RemoteStamp.text`; absent where the store does not say. */
  readonly stamp?: string;
}

/** How many files and bytes one fetch may bring. */
export interface FetchLimits {
  readonly maxFiles: number;
  readonly maxBytes: number;
}

/** How far a fetch is. */
export interface FetchProgress {
  readonly files: number;
  readonly bytes: number;
  /** Absent where it is not known. */
  readonly totalBytes?: number;
}

/** Options of `stampOf` and `list`. */
export interface RemoteOptions {
  readonly signal?: AbortSignal;
  /** Called for each answer on the way to the result: whoever waits knows by it that the store is alive. */
  readonly onAnswer?: () => void;
}

/** Options of `fetch`. */
export interface FetchOptions extends RemoteOptions {
  /** @default `defaultFetchLimits` */
  readonly limits?: FetchLimits;
  /** Called whenever bytes came: whoever waits knows by it that the store is alive. */
  readonly onProgress?: (progress: FetchProgress) => void;
}

/** What was fetched. */
export interface Fetched {
  readonly kind: 'file' | 'directory';
  readonly files: number;
  readonly bytes: number;
}

/**
 * A place where files are. Paths are absolute within it, with slashes: `/models/ctr/1`. Every call fails with a
 * ServingError: SRV_REMOTE_UNAVAILABLE, SRV_REMOTE_NOT_FOUND, SRV_REMOTE_REFUSED, SRV_REMOTE_DAMAGED,
 * SRV_REMOTE_CHANGED, SRV_REMOTE_TOO_LARGE, SRV_IO for this machine's disk, SRV_CANCELLED when `signal` was aborted. Their messages
 * hold no secrets. Time limits are the caller's: he aborts `signal`.
 */
export interface RemoteStore {
  /** What it is called in messages, secrets masked: `http://host:80`. */
  readonly label: string;

  /** The stamp of a file, or of a directory with all that is below it; undefined where nothing is there. */
  stampOf(path: string, options?: RemoteOptions): Promise<RemoteStamp | undefined>;

  /** What is in a directory; undefined where there is none at this path. */
  list(path: string, options?: RemoteOptions): Promise<readonly RemoteEntry[] | undefined>;

  /**
   * Fetches a file, or a directory with all that is below it, to `target`, which is not there yet. Lengths and
   * digests that the store offers are compared. After a failure `target` may hold a part.
   */
  fetch(path: string, target: string, options?: FetchOptions): Promise<Fetched>;

  /** Gives up connections; idempotent. */
  close(): Promise<void>;
}

/** The limits of a fetch that names none. */
export const defaultFetchLimits: FetchLimits = { maxFiles: 100_000, maxBytes: 1024 ** 4 };
