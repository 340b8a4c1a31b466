/** `model split`: the embedding tables of a model become sparse tables, and the rest a network that they feed. */
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { EmbeddingSettings } from '../config/embedding-settings.js';
import { parseByteSize } from '../config/sources.js';
import type { SplitReport } from '../model/split/split-model.js';
import type { SplitRowType } from '../model/split/split-tools.js';
import { modelFileOf, sizeText } from './model.js';
import { alignedText } from './table-text.js';
import { untilSignal } from './until-signal.js';

interface SplitFlags {
  readonly output?: string;
  readonly min_bytes: number;
  readonly initializer?: readonly string[];
  readonly reuse?: string;
  readonly seqfile?: boolean;
  readonly shard_num?: number;
  readonly dtype: SplitRowType;
  readonly fuse_pooling?: boolean;
}

/**
 * Adds `split` to the command `model`. It throws `SRV_MODEL_UNSUPPORTED` for a model that cannot be split, and
 * `SRV_BAD_CONFIG`, `SRV_MODEL_INVALID`, `SRV_TABLE_MISMATCH`, `SRV_INTERNAL`, `SRV_IO`.
 */
export function registerModelSplit(
  model: Command,
  stdout: { write(text: string): unknown } = process.stdout,
  stderr: { write(text: string): unknown } = process.stderr,
): void {
  model
    .command('split')
    .description('Cut the embedding tables out of a model: a network, sparse tables and a model.json.')
    .argument('<file>', 'a .onnx file, or the directory of a model')
    .addOption(
      new Option(
        '-o, --output <directory>',
        "directory to make; must not hold anything (default: the model's name and -split, beside it)",
      ),
    )
    .addOption(
      new Option('--min_bytes <size>', 'matrices of this size and more that a Gather takes rows of')
        .argParser(bytes)
        .default(16 * 1024 * 1024, '16mb'),
    )
    .addOption(new Option('--initializer <name...>', 'matrices to cut out by name, whatever their size'))
    .addOption(
      new Option(
        '--reuse <table>',
        'a table to use again instead of writing rows; a directory of tables where there are several',
      ),
    )
    .addOption(new Option('--seqfile', 'write the rows as sequence files too'))
    .addOption(
      new Option('--shard_num <n>', "shards of a table (default: the table builder's)").argParser(count),
    )
    .addOption(
      new Option('--dtype <type>', 'how rows are stored').choices(['f32', 'f16', 'int8']).default('f32'),
    )
    .addOption(new Option('--fuse_pooling', 'leave a sum or mean over the ids of a row to the stage'))
    .addHelpText('after', examples)
    .action(async (place: string, flags: SplitFlags) => {
      const modelFile = await modelFileOf(place);
      const directory = flags.output ?? defaultOutput(modelFile);
      const [{ splitModel }, { sparseTools }] = await Promise.all([
        import('../model/split/split-model.js'),
        import('../model/split/sparse-tools.js'),
      ]);
      const report = await untilSignal((signal) =>
        splitModel(
          {
            modelFile,
            directory,
            minBytes: flags.min_bytes,
            initializers: flags.initializer ?? [],
            fusePooling: flags.fuse_pooling === true,
            dtype: flags.dtype,
            shards: flags.shard_num,
            sequenceFiles: flags.seqfile === true,
            reuse: flags.reuse,
            onStep: (text) => void stderr.write(`${text}\n`),
            signal,
          },
          sparseTools,
        ),
      );
      stdout.write(reportText(report));
    });
}

const examples = `
Examples:
  onnx-serving model split ranker/model.onnx
  onnx-serving model split ranker/model.onnx -o models/ranker --dtype f16 --fuse_pooling
  onnx-serving model split new/model.onnx -o models/ranker2 --reuse models/ranker/tables/embedding.weight

docs/model-split.md says which models can be split.
`;

function bytes(text: string): number {
  const size = parseByteSize(text);
  if (size === undefined) throw new InvalidArgumentError('expected a size such as 16mb or 500kb.');
  return size;
}

function count(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1) throw new InvalidArgumentError('expected a number of at least 1.');
  return value;
}

/** `ranker/model.onnx`, `ranker/3/model.onnx` and `ranker.onnx` all become `ranker-split` beside. */
export function defaultOutput(modelFile: string): string {
  const file = resolve(modelFile);
  if (basename(file) !== 'model.onnx') {
    return join(dirname(file), `${basename(file, extname(file))}-split`);
  }
  const directory = /^\d+$/.test(basename(dirname(file))) ? dirname(dirname(file)) : dirname(file);
  return `${directory}-split`;
}

/** What was made, for people. */
export function reportText(report: SplitReport): string {
  const rows = [
    ['network', `${sizeText(report.bytes.after)}, of ${sizeText(report.bytes.before)} before`],
    ...report.tables.map((table) => [
      'table',
      `${relative(report.directory, table.directory)}: ${table.rows} rows of ${table.dim}, ` +
        `${table.isReused ? 'used again for' : 'from'} '${table.initializer}'`,
    ]),
    ...report.stages.map((stage) => ['stage', stageText(stage)]),
    ['proof', proofText(report)],
    ...report.tables
      .filter(({ rowsDifferent }) => rowsDifferent > 0)
      .map(({ initializer, rowsRead, rowsDifferent }) => [
        'note',
        `${rowsDifferent} of ${rowsRead} rows of the reused table differ from '${initializer}'; the table's are served`,
      ]),
    ...report.tables.flatMap(({ directory, publishedWith }) =>
      publishedWith === undefined
        ? []
        : [
            [
              'note',
              `${directory} was published with ${publishedWith}; as another one this model is refused`,
            ],
          ],
    ),
    ...report.notices.map((text) => ['note', text]),
  ];
  return `${report.directory}\n${alignedText(rows.map((row) => ['', ...row]))}\nServe it: onnx-serving serve --model ${report.directory}\n`;
}

function stageText(stage: EmbeddingSettings): string {
  const { ids, columns, combiner, weights, table, target } = stage;
  const names = typeof ids === 'string' ? ids : ids.join(', ');
  const which = columns ? ` columns ${columns.join(', ')}` : '';
  const weighted = weights === undefined ? '' : ` x ${weights}`;
  return `${names}${which}${weighted} -> ${table} -> ${combiner ? `${combiner} -> ` : ''}${target}`;
}

function proofText({ proof: result, tables }: SplitReport): string {
  if ('notRun' in result) {
    const read = tables.reduce((sum, { rowsRead }) => sum + rowsRead, 0);
    return `the original was not run (${result.notRun}); ${read} rows were read back and are the model's`;
  }
  const { runs, largestBatch, ids, comparison, unstable, drift } = result.proof;
  const how = comparison === 'exact' ? 'to the bit' : comparison;
  const drawn = ids === 'all' ? '' : `, ids ${ids} only`;
  const parts = [`same outputs ${how} in ${runs} runs of up to ${largestBatch} rows${drawn}`];
  if (unstable.length > 0)
    parts.push(`not compared, because they differ by themselves: ${unstable.join(', ')}`);
  if (drift !== undefined) {
    parts.push(`with rows as they are stored outputs are up to ${drift.toPrecision(3)} away`);
  }
  return parts.join('; ');
}
