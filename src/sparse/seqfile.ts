/** Sequence files as text and back: what `onnx-serving seqfile` does. */
import {
  abandonSequenceWriter,
  closeRowReader,
  finishSequenceWriter,
  type innerLengthChoices,
  openRowReader,
  openSequenceWriter,
  type RowReader,
  readRowLines,
  readRows,
  type SequenceStatistics,
  measureSequenceFile as statisticsOf,
  type valueTexts,
  writeSequenceRows,
} from '../native/row-files.js';

/** How the values of lines `key:value` are written. */
export type ValueText = (typeof valueTexts)[number];

/** Whether keys and values of a sequence file begin with a length of their own, as Hadoop writes them. */
export type InnerLengths = (typeof innerLengthChoices)[number];

/** Which records of a sequence file are printed, and how. */
export interface PrintOptions {
  /** @default 'auto': the first record tells */
  readonly innerLengths?: InnerLengths;
  /** @default 'auto': the first values tell */
  readonly values?: ValueText | 'auto';
  /** Records to leave out at the beginning. @default 0 */
  readonly skip?: number;
  /** Most records to print. @default all */
  readonly rows?: number;
}

const rowsAtOnce = 4096;

/**
 * Prints the records of a sequence file as lines `key:value`.
 *
 * @param path `-` for standard input
 * @param write takes whole lines in UTF-8; they go on when its promise resolves, and end when that says false
 * @returns the records printed
 * @throws SRV_IO, SRV_BAD_INPUT_FILE; the lines before the damage were written then
 */
export async function printSequenceFile(
  path: string,
  options: PrintOptions,
  write: (lines: Uint8Array) => Promise<boolean>,
): Promise<number> {
  const { innerLengths = 'auto', values = 'auto', skip = 0, rows = Number.POSITIVE_INFINITY } = options;
  const reader = await openRowReader(path, { format: 'seqfile', innerLengths });
  let printed = 0;
  try {
    await skipRows(reader, skip);
    while (printed < rows) {
      const lines = await readRowLines(reader, Math.min(rowsAtOnce, rows - printed), values);
      if (!lines) break;
      printed += lines.rows;
      if (!(await write(lines.text))) break;
    }
  } finally {
    closeRowReader(reader);
  }
  return printed;
}

async function skipRows(reader: RowReader, count: number): Promise<void> {
  for (let left = count; left > 0; ) {
    const batch = await readRows(reader, Math.min(rowsAtOnce, left));
    if (!batch) return;
    left -= batch.keys.length;
  }
}

/** How a sequence file is made of text. */
export interface MakeOptions {
  /** @default 'floats' */
  readonly values?: ValueText;
  /** Sync marker, 16 bytes, for files that must come out equal. @default random */
  readonly marker?: Uint8Array;
}

/**
 * Makes a sequence file of lines `key:value`. It appears under its name once it is whole.
 *
 * @param input `-` for standard input
 * @returns its records and bytes
 * @throws SRV_IO; SRV_BAD_INPUT_FILE naming the line that cannot be read
 */
export async function makeSequenceFile(
  input: string,
  output: string,
  options: MakeOptions = {},
): Promise<{ readonly records: number; readonly bytes: number }> {
  const reader = await openRowReader(input, { format: 'text', values: options.values ?? 'floats' });
  try {
    const writer = await openSequenceWriter(output, options.marker);
    try {
      for (;;) {
        const rows = await readRows(reader, rowsAtOnce);
        if (!rows) return await finishSequenceWriter(writer);
        await writeSequenceRows(writer, rows);
      }
    } finally {
      abandonSequenceWriter(writer);
    }
  } finally {
    closeRowReader(reader);
  }
}

/**
 * Reads a whole sequence file and counts what it holds.
 *
 * @param path `-` for standard input
 * @returns the counts up to the end or the first damage, which is told beside them
 * @throws SRV_IO, SRV_BAD_INPUT_FILE when the header cannot be read
 */
export function measureSequenceFile(
  path: string,
  options: { readonly innerLengths?: InnerLengths } = {},
): Promise<SequenceStatistics> {
  return statisticsOf(path, options.innerLengths ?? 'auto');
}
