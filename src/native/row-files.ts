/** The addon's readers of row files, and its writer of sequence files. */
import type { ServingError } from '../errors.js';
import { addon } from './addon.js';

/** Kinds of files that rows are read from; the order is the addon's, as in the lists below. */
export const inputFormats = ['seqfile', 'text', 'csv', 'npy'] as const;
/** Whether keys and values of a sequence file begin with a length of their own; auto asks the first record. */
export const innerLengthChoices = ['auto', 'yes', 'no'] as const;
/** How the bytes of a value are written as text. */
export const valueTexts = ['floats', 'text', 'hex'] as const;
/** Whether the first line of a CSV file names its columns. */
export const headerLineChoices = ['auto', 'yes', 'no'] as const;

/** How to read a file of rows. Each option counts only for the format it names. */
export interface RowFormat {
  readonly format: (typeof inputFormats)[number];
  /** seqfile. @default 'auto' */
  readonly innerLengths?: (typeof innerLengthChoices)[number];
  /** text. @default 'floats' */
  readonly values?: (typeof valueTexts)[number];
  /** csv: one character of ASCII. @default ',' */
  readonly delimiter?: string;
  /** csv. @default 'auto' */
  readonly header?: (typeof headerLineChoices)[number];
  /** csv: the key's column, as a number from 1 or by its name in the header line. @default the first */
  readonly keyColumn?: string;
  /** npy: key of the first row. @default 0n */
  readonly firstKey?: bigint;
  /** npy: a 1-D array of integers, the keys of the rows. @default keys count from `firstKey` */
  readonly keysPath?: string;
  /** npy: values of u1 arrays are their bytes, not floats. @default false */
  readonly rawBytes?: boolean;
}

/** Rows in memory. */
export interface RowBatch {
  readonly keys: BigUint64Array;
  /** Where the value of each row ends in `bytes`; it begins where the one before ends. */
  readonly ends: Float64Array;
  readonly bytes: Uint8Array;
}

declare const handleKind: unique symbol;
/** A file that rows are read from; made by `openRowReader`, of one thread. */
export interface RowReader {
  readonly [handleKind]: 'row reader';
}
/** A sequence file that is being made; made by `openSequenceWriter`, of one thread. */
export interface SequenceWriter {
  readonly [handleKind]: 'sequence writer';
}

/** What a sequence file holds, up to its end or its first damage. */
export interface SequenceStatistics {
  readonly keyClass: string;
  readonly valueClass: string;
  readonly metadata: readonly { readonly name: string; readonly value: string }[];
  readonly hasInnerLengths: boolean;
  readonly fileBytes: number;
  readonly records: number;
  /** Sync escapes: places where a reader can begin. */
  readonly escapes: number;
  /** Bytes of all values. */
  readonly valueBytes: number;
  /** Absent, as the next three, when there are no records. */
  readonly smallestKey?: bigint;
  readonly largestKey?: bigint;
  readonly shortestValue?: number;
  readonly longestValue?: number;
  /** Why the reading ended before the end of the file; absent for a whole one. */
  readonly damage?: ServingError;
}

interface RowFiles {
  openRowReader(path: string, format: object): Promise<RowReader>;
  readRows(reader: RowReader, maxRows: number): Promise<RowBatch | null>;
  readRowLines(
    reader: RowReader,
    maxRows: number,
    values: number,
  ): Promise<{ rows: number; text: ArrayBuffer } | null>;
  closeRowReader(reader: RowReader): void;
  measureSequenceFile(path: string, innerLengths: number): Promise<SequenceStatistics>;
  openSequenceWriter(path: string, marker?: Uint8Array): Promise<SequenceWriter>;
  writeSequenceRows(
    writer: SequenceWriter,
    keys: BigUint64Array,
    ends: Float64Array,
    bytes: Uint8Array,
  ): Promise<void>;
  finishSequenceWriter(writer: SequenceWriter): Promise<{ records: number; bytes: number }>;
  abandonSequenceWriter(writer: SequenceWriter): void;
}

/**
 * Opens a file of rows and reads its head.
 *
 * @param path `-` for standard input
 * @throws SRV_IO; SRV_BAD_INPUT_FILE with file and place when the head is not what the format says
 */
export function openRowReader(path: string, format: RowFormat): Promise<RowReader> {
  return addon<RowFiles>().openRowReader(path, plainFormat(format));
}

/** The form in which the addon takes a format: everything there, choices as numbers. */
/** Options with every default filled in and choices as numbers, as the addon takes them. */
export function plainFormat(format: RowFormat): object {
  return {
    format: inputFormats.indexOf(format.format),
    innerLengths: innerLengthChoices.indexOf(format.innerLengths ?? 'auto'),
    values: valueTexts.indexOf(format.values ?? 'floats'),
    delimiter: format.delimiter ?? ',',
    header: headerLineChoices.indexOf(format.header ?? 'auto'),
    keyColumn: format.keyColumn ?? '',
    firstKey: format.firstKey ?? 0n,
    keysPath: format.keysPath ?? '',
    rawBytes: format.rawBytes ?? false,
  };
}

/**
 * Reads the next rows, in a pool thread. One call at a time.
 *
 * @param maxRows at least 1; fewer come when their values pass 16 MiB
 * @returns rows that the caller owns, or null at the end
 * @throws SRV_IO, SRV_BAD_INPUT_FILE: once all rows before the damage were given
 */
export function readRows(reader: RowReader, maxRows: number): Promise<RowBatch | null> {
  return addon<RowFiles>().readRows(reader, maxRows);
}

/**
 * Reads the next rows as lines `key:value` in UTF-8, each with its line feed.
 *
 * @param values how values are written; auto looks at those of the first call, and that holds for all later ones
 * @returns null at the end
 * @throws as `readRows`; SRV_BAD_INPUT_FILE also for a value that cannot be written so, after the lines before it
 */
export async function readRowLines(
  reader: RowReader,
  maxRows: number,
  values: (typeof valueTexts)[number] | 'auto',
): Promise<{ readonly rows: number; readonly text: Uint8Array } | null> {
  const choice = values === 'auto' ? valueTexts.length : valueTexts.indexOf(values);
  const lines = await addon<RowFiles>().readRowLines(reader, maxRows, choice);
  return lines && { rows: lines.rows, text: new Uint8Array(lines.text) };
}

/** Ends the reading; a call that is under way is finished first. */
export function closeRowReader(reader: RowReader): void {
  addon<RowFiles>().closeRowReader(reader);
}

/**
 * Reads a whole sequence file and counts, in a pool thread.
 *
 * @param path `-` for standard input
 * @throws SRV_IO, SRV_BAD_INPUT_FILE when its header cannot be read; later damage is told in the result
 */
export function measureSequenceFile(
  path: string,
  innerLengths: (typeof innerLengthChoices)[number],
): Promise<SequenceStatistics> {
  return addon<RowFiles>().measureSequenceFile(path, innerLengthChoices.indexOf(innerLengths));
}

/**
 * Begins a sequence file. It is made under another name beside `path`, which it takes when it is finished.
 *
 * @param marker the sync marker, 16 bytes, for files that must come out equal; random when absent
 * @returns a writer that ends with `finishSequenceWriter` or `abandonSequenceWriter`
 * @throws SRV_IO
 */
export function openSequenceWriter(path: string, marker?: Uint8Array): Promise<SequenceWriter> {
  return addon<RowFiles>().openSequenceWriter(path, marker);
}

/**
 * Adds rows to a sequence file, in a pool thread. One call at a time.
 *
 * @param rows must not be changed or transferred until the promise settles
 * @throws SRV_IO; SRV_BAD_INPUT_FILE for a value of 64 MiB
 */
export function writeSequenceRows(writer: SequenceWriter, rows: RowBatch): Promise<void> {
  return addon<RowFiles>().writeSequenceRows(writer, rows.keys, rows.ends, rows.bytes);
}

/**
 * Brings the file to the disk and gives it its name, over one that is there.
 *
 * @returns its records and bytes
 * @throws SRV_IO; then nothing is left of the new file
 */
export function finishSequenceWriter(
  writer: SequenceWriter,
): Promise<{ readonly records: number; readonly bytes: number }> {
  return addon<RowFiles>().finishSequenceWriter(writer);
}

/** Removes a file that was not finished; without effect on one that was. */
export function abandonSequenceWriter(writer: SequenceWriter): void {
  addon<RowFiles>().abandonSequenceWriter(writer);
}
