/** `table build`: files of rows become a version of a table. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { readSurroundings } from '../config/load.js';
import { parseByteSize } from '../config/sources.js';
import { ServingError } from '../errors.js';
import type { BuildTableOptions, BuiltVersion } from '../sparse/builder.js';
import { type BuildMeter, openBuildMeter } from './build-meter.js';
import { alignedText, durationText } from './table-text.js';
import { untilSignal } from './until-signal.js';

interface BuildFlags {
  readonly output: string;
  readonly shard_num?: number;
  readonly mode: 'base' | 'delta';
  readonly dtype?: 'f32' | 'f16' | 'int8' | 'bytes';
  readonly dim?: number;
  readonly memory_limit?: number;
  readonly threads?: number;
  readonly format: keyof typeof formats;
  readonly values?: 'floats' | 'text' | 'hex' | 'stored';
  readonly inner_lengths: 'auto' | 'yes' | 'no';
  readonly first_key?: bigint;
  readonly keys?: string;
  readonly key_column?: string;
  readonly version?: number;
  readonly parent?: number;
  readonly delete_keys?: string;
  readonly default_row?: 'mean' | 'zeros' | readonly number[];
  readonly name?: string;
  readonly model?: string;
  readonly model_version?: number;
}

const formats = {
  auto: 'auto',
  sequencefile: 'seqfile',
  key_value: 'text',
  csv: 'csv',
  npy: 'npy',
} as const;

/**
 * Adds `build` to `table`. It throws what `buildTable` does.
 *
 * @param stdout where the summary goes
 * @param stderr where progress goes
 */
export function registerTableBuild(
  table: Command,
  stdout: { write(text: string): unknown } = process.stdout,
  stderr: NodeJS.WriteStream = process.stderr,
): void {
  const build = table
    .command('build')
    .description(
      'Build a version of a table from files of rows; of several rows of a key the last one counts.',
    )
    .argument('[input...]', 'files of rows, directories of files, or - for standard input')
    .addHelpText('after', notes);
  for (const option of buildOptions()) build.addOption(option);
  build.action(async (inputs: string[], flags: BuildFlags) => {
    stdout.write(await runBuild(inputs, flags, stderr));
  });
}

const notes = `
Formats
  sequencefile  SequenceFiles of 8-byte little-endian keys, also those that Hadoop wrote
  key_value     lines key:value, with the value as floats, or as --values says
  csv           the first column (or --key_column) is the key, the others are floats
  npy           a 2-D array: row i has the key --first_key + i, or the i-th of --keys

Values of int8 rows are quantised with the minimum and maximum of each row. --values stored takes values that are
quantised already: float32 minimum, float32 maximum, one byte for each element.

Examples
  onnx-serving table build rows.seq --output tables/user
  onnx-serving table build day-01/ day-02/ --output tables/user --shard_num 8 --dtype f16 --memory_limit 4g
  onnx-serving table build today.seq --output tables/user --mode delta --delete_keys gone.txt
  onnx-serving table build weights.npy --output tables/item --first_key 1 --default_row mean
  onnx-serving table build rows.seq --output tables/user --model ranker --model_version 7
`;

function buildOptions(): Option[] {
  return [
    new Option(
      '--output <directory>',
      'directory of the table; versions are directories in it',
    ).makeOptionMandatory(),
    new Option('--mode <mode>', 'a whole table, or changes on top of one')
      .choices(['base', 'delta'])
      .default('base'),
    new Option('--shard_num <n>', 'shards: a key is in shard key mod n (default: 1)').argParser(
      integer(1, 65_536),
    ),
    new Option('--dtype <type>', 'how rows are stored (default: f32)').choices([
      'f32',
      'f16',
      'int8',
      'bytes',
    ]),
    new Option('--dim <n>', 'elements of a row (default: those of the first row)').argParser(
      integer(1, 1 << 20),
    ),
    new Option('--format <format>', 'what the inputs are').choices(Object.keys(formats)).default('auto'),
    new Option('--values <form>', 'what values are (default: floats; of bytes rows text)').choices([
      'floats',
      'text',
      'hex',
      'stored',
    ]),
    new Option(
      '--inner_lengths <choice>',
      'sequence files: whether keys and values begin with a length of their own',
    )
      .choices(['auto', 'yes', 'no'])
      .default('auto'),
    new Option('--key_column <column>', "csv: the key's column, by name or number (default: the first)"),
    new Option('--first_key <key>', 'npy: key of the first row (default: 0)').argParser(key),
    new Option('--keys <file>', 'npy: a 1-D array with the keys of the rows'),
    new Option('--delete_keys <file>', 'delta: keys to delete, one a line'),
    new Option('--version <n>', 'version to make (default: the newest + 1)').argParser(
      integer(1, 2 ** 53 - 1),
    ),
    new Option('--parent <n>', 'delta: the version to change (default: the newest)').argParser(
      integer(1, 2 ** 53 - 1),
    ),
    new Option('--default_row <row>', 'row of missing keys: mean, zeros, or numbers 0.1,0.2,...').argParser(
      row,
    ),
    new Option('--name <name>', "name of the table (default: its directory's)"),
    new Option('--model <name>', 'model that it is published with; no other one will use it'),
    new Option('--model_version <n>', 'with --model: the version of the model').argParser(
      integer(1, 2 ** 53 - 1),
    ),
    new Option(
      '--memory_limit <size>',
      'memory for buffers (default: 1g, at most a quarter of the memory)',
    ).argParser(memorySize),
    new Option('--threads <n>', 'threads (default: usable CPUs)').argParser(integer(1, 1024)),
  ];
}

async function runBuild(
  inputs: readonly string[],
  flags: BuildFlags,
  stderr: NodeJS.WriteStream,
): Promise<string> {
  // Loaded here, so that --help does not load the addon.
  const { buildTable } = await import('../sparse/builder.js');
  let meter: BuildMeter | undefined;
  const startedAt = performance.now();
  try {
    const built = await untilSignal((signal) =>
      buildTable({
        ...optionsOf(inputs, flags),
        threads: flags.threads ?? readSurroundings().usableCpus,
        signal,
        onStart: (progress) => {
          meter = openBuildMeter(progress, stderr);
        },
      }),
    );
    meter?.close();
    return summaryOf(built, performance.now() - startedAt);
  } finally {
    meter?.close();
  }
}

function optionsOf(inputs: readonly string[], flags: BuildFlags): BuildTableOptions {
  const given = {
    dtype: flags.dtype,
    dim: flags.dim,
    shardNum: flags.shard_num,
    values: flags.values,
    firstKey: flags.first_key,
    keysPath: flags.keys,
    keyColumn: flags.key_column,
    deleteKeys: flags.delete_keys,
    version: flags.version,
    parent: flags.parent,
    defaultRow: flags.default_row,
    name: flags.name,
    memoryLimit: flags.memory_limit,
    model: modelOf(flags),
  };
  return {
    output: flags.output,
    inputs,
    mode: flags.mode,
    format: formats[flags.format],
    innerLengths: flags.inner_lengths,
    // An absent flag must not be there as undefined.
    ...(Object.fromEntries(
      Object.entries(given).filter(([, value]) => value !== undefined),
    ) as Partial<BuildTableOptions>),
  };
}

function modelOf({ model: name, model_version: version }: BuildFlags): BuildTableOptions['model'] {
  if (name !== undefined && version !== undefined) return { name, version };
  if (name === undefined && version === undefined) return undefined;
  const [given, lacking] =
    version === undefined ? ['--model', '--model_version'] : ['--model_version', '--model'];
  throw new ServingError(
    'SRV_BAD_CONFIG',
    `table build: ${given} came without ${lacking}: a table is published with one version of one model`,
  );
}

function summaryOf({ directory, manifest, facts }: BuiltVersion, ms: number): string {
  const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
  const kind = manifest.kind === 'delta' ? `delta on version ${manifest.parent}` : 'snapshot';
  const rows = [
    ['table', `${manifest.table} version ${manifest.version}, ${kind}`],
    ['directory', directory],
    ['rows', `${manifest.rows} of ${manifest.dtype}${manifest.dim > 0 ? ` x ${manifest.dim}` : ''}`],
    ['duplicates', `${facts.duplicates} rows replaced by later ones of the same key`],
    ...(manifest.kind === 'delta' ? [['deletes', String(manifest.deletes)]] : []),
    ['shards', String(manifest.shard_num)],
    ...(manifest.model ? [['model', `${manifest.model.name} version ${manifest.model.version}`]] : []),
    ['bytes', String(bytes)],
    ['time', `${durationText(ms)}, ${Math.round((facts.rowsRead / ms) * 1000)} rows/s`],
  ];
  return `${alignedText(rows)}\n`;
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${least} to ${most}.`);
  };
}

function key(text: string): bigint {
  if (/^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n) return BigInt(text);
  throw new InvalidArgumentError('Expected a key from 0 to 18446744073709551615.');
}

const leastMemory = 16 << 20;

/** A size of memory on the command line, at least 16 MiB. */
export function memorySize(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes !== undefined && bytes >= leastMemory) return bytes;
  throw new InvalidArgumentError('Expected a size of at least 16m, such as 2g.');
}

function row(text: string): 'mean' | 'zeros' | readonly number[] {
  if (text === 'mean' || text === 'zeros') return text;
  const numbers = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (numbers.every(Number.isFinite)) return numbers;
  throw new InvalidArgumentError('Expected mean, zeros, or numbers such as 0.1,-0.2.');
}
