/** `seqfile cat`, `make` and `stat`: sequence files for people and scripts. */
import type { Writable } from 'node:stream';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { messageOf, ServingError } from '../errors.js';
import {
  type InnerLengths,
  makeSequenceFile,
  measureSequenceFile,
  printSequenceFile,
  type ValueText,
} from '../sparse/seqfile.js';
import { alignedText } from './table-text.js';

/**
 * Adds `seqfile` to the program. Its commands throw `SRV_BAD_INPUT_FILE` and `SRV_IO`.
 *
 * @param stdout where lines go; a reader of it that goes away ends `cat` in order
 */
export function registerSeqfile(program: Command, stdout: Writable = process.stdout): void {
  const seqfile = program
    .command('seqfile')
    .description('Read and write sequence files: records of a 64-bit key and a value of bytes.')
    .addHelpText('after', examples);
  seqfile
    .command('cat')
    .description('Print the records as lines key:value.')
    .argument('<file>', 'a sequence file, or - for standard input')
    .addOption(new Option('-n, --rows <n>', 'most records to print').argParser(count))
    .addOption(new Option('--skip <n>', 'records to leave out first').argParser(count).default(0))
    .addOption(valuesOption(['auto', 'floats', 'text', 'hex'], 'auto'))
    .addOption(innerLengthsOption())
    .action((file: string, flags: CatFlags) => cat(file, flags, stdout));
  seqfile
    .command('make')
    .description('Make a sequence file of lines key:value.')
    .argument('<input>', 'a text file, or - for standard input')
    .addOption(
      new Option('-o, --output <file>', 'the sequence file to make; one that is there is replaced')
        .makeOptionMandatory()
        .argParser(fileName),
    )
    .addOption(valuesOption(['floats', 'text', 'hex'], 'floats'))
    .action(async (input: string, flags: { output: string; values: ValueText }) => {
      const { records, bytes } = await makeSequenceFile(input, flags.output, { values: flags.values });
      stdout.write(`${flags.output}: ${records} records, ${bytes} bytes\n`);
    });
  seqfile
    .command('stat')
    .description('Read the whole file and show what it holds.')
    .argument('<file>', 'a sequence file, or - for standard input')
    .addOption(innerLengthsOption())
    .action(async (file: string, flags: { inner_lengths: InnerLengths }) => {
      const statistics = await measureSequenceFile(file, { innerLengths: flags.inner_lengths });
      stdout.write(statisticsText(file, statistics));
      if (statistics.damage) throw statistics.damage;
    });
}

const examples = `
Examples:
  onnx-serving seqfile cat part-00000 -n 10
  onnx-serving seqfile cat part-00000 --values hex | grep '^42:'
  onnx-serving seqfile make rows.txt -o rows.seq
  onnx-serving seqfile stat part-00000
`;

interface CatFlags {
  readonly rows?: number;
  readonly skip: number;
  readonly values: ValueText | 'auto';
  readonly inner_lengths: InnerLengths;
}

function valuesOption(choices: readonly string[], byDefault: string): Option {
  return new Option('--values <form>', 'how values are written').choices(choices).default(byDefault);
}

function innerLengthsOption(): Option {
  return new Option(
    '--inner_lengths <choice>',
    'whether keys and values begin with a length of their own, as in files that Hadoop wrote',
  )
    .choices(['auto', 'yes', 'no'])
    .default('auto');
}

function count(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('Expected a whole number, 0 or more.');
  }
  return value;
}

/** A file takes its name when it is whole, which standard output cannot. */
function fileName(text: string): string {
  if (text === '-') throw new InvalidArgumentError('Expected the name of a file, not standard output.');
  return text;
}

async function cat(file: string, flags: CatFlags, stdout: Writable): Promise<void> {
  // Without a listener the stream would end the process; each write learns of its own failure.
  stdout.on('error', () => {});
  await printSequenceFile(
    file,
    {
      innerLengths: flags.inner_lengths,
      values: flags.values,
      skip: flags.skip,
      ...(flags.rows === undefined ? {} : { rows: flags.rows }),
    },
    (lines) => writeAll(stdout, lines),
  );
}

/** Resolves when the stream has taken the bytes; to false when nobody reads it any more. */
function writeAll(stream: Writable, bytes: Uint8Array): Promise<boolean> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => {
      if (!error) return resolve(true);
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED') return resolve(false);
      reject(
        new ServingError('SRV_IO', `standard output cannot be written: ${messageOf(error)}`, {
          cause: error,
        }),
      );
    });
  });
}

function statisticsText(file: string, statistics: Awaited<ReturnType<typeof measureSequenceFile>>): string {
  const { records, valueBytes } = statistics;
  const hasRecords = records > 0;
  const facts: string[][] = [
    ['file', file],
    ['bytes', String(statistics.fileBytes)],
    ['records', String(records)],
    ['smallest key', hasRecords ? String(statistics.smallestKey) : '-'],
    ['largest key', hasRecords ? String(statistics.largestKey) : '-'],
    ['shortest value', hasRecords ? `${statistics.shortestValue} bytes` : '-'],
    ['longest value', hasRecords ? `${statistics.longestValue} bytes` : '-'],
    ['mean value', hasRecords ? `${Number((valueBytes / records).toFixed(2))} bytes` : '-'],
    ['sync escapes', String(statistics.escapes)],
    ['key class', statistics.keyClass],
    ['value class', statistics.valueClass],
    ['inner lengths', statistics.hasInnerLengths ? 'yes' : 'no'],
    ...statistics.metadata.map(({ name, value }) => ['metadata', `${name}=${value}`]),
  ];
  return `${alignedText(facts)}\n`;
}
