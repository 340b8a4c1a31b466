/** What the readers of archive formats give, and what they are given. */
import { ServingError } from '../errors.js';

/** One thing in an archive. */
export interface ArchiveEntry {
  /** As the archive has it. */
  readonly path: string;
  readonly kind: 'file' | 'directory' | 'other';
  /** What it is, for messages: "a symbolic link". */
  readonly kindText: string;
  readonly bytes: number;
  /** The content of a file; read to its end or to an error. */
  readonly content: AsyncIterable<Uint8Array>;
}

/** Takes the entries of an archive, one after the other. */
export type EntrySink = (entry: ArchiveEntry) => Promise<void>;

/** What the readers of the formats are given. */
export interface UnpackContext {
  readonly label: string;
  readonly sink: EntrySink;
  readonly signal: AbortSignal | undefined;
  /** Bytes that the archive may have when it is decompressed, all told. */
  readonly maxBytes: number;
}

/** The error for an archive. */
export function badArchive(label: string, problem: string, cause?: unknown): ServingError {
  return new ServingError('SRV_BAD_ARCHIVE', `The archive ${label} is refused: ${problem}.`, { cause });
}
