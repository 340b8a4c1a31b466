import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { textTable } from '../../src/loadtest/text-table.js';
import { medianRatio } from '../median.js';
import type { BarSpec, Scenario, ScenarioOptions, ScenarioResult } from '../scenario.js';
import type { GatherFigures } from '../sparse/contestant-process.js';
import { nativeProgram } from '../sparse/native-program.js';
import {
  addDeltas,
  buildSnapshot,
  keyFile,
  type Residence,
  snapshotOf,
  sparseCache,
  sparseTable,
  startTable,
  type TableSpec,
} from '../sparse/tables.js';
import { cpuRates, gatherInTurns, ratesTable, withContestants, wrongRows } from '../sparse/turns.js';

const deltas = 10;
const residences = ['mapped', 'memory'] as const;
const widths = [16, 64] as const;

const overLimit = (dim: number, residence: Residence): string =>
  `gather over limit, uniform, ${dim} floats, ${residence}`;
const zipfOverUniform = (dim: number): string => `Zipf over uniform keys/s, ${dim} floats`;
const int8OverF32 = (residence: Residence): string => `int8 over f32 rows/s, ${residence}`;
const deltasOverPlain = (residence: Residence): string => `${deltas} deltas over plain, ${residence}`;
const overhead = 'bytes a key beyond key and row';
const toolRate = 'rows/s a core, table build';
const nativeRate = 'rows/s a core, builder alone';

const ratio = (name: string, atLeast: number, aim?: number): BarSpec => ({
  name,
  unit: 'x',
  limit: { atLeast },
  ...(aim === undefined ? {} : { aim }),
});

/** The table itself: gathers against the limit of the machine, its size, its builder, its row types and deltas. */
export const sparseGather: Scenario = {
  name: 'sparse-gather',
  question:
    'How near does a gather come to copying rows at known positions, and what do index and build cost?',
  bars: [
    ...residences.map((residence) => ratio(overLimit(16, residence), 0.45, 0.6)),
    ...residences.map((residence) => ratio(overLimit(64, residence), 0.7)),
    ...widths.map((dim) => ratio(zipfOverUniform(dim), 1)),
    { name: overhead, unit: 'B', limit: { atMost: 16 } },
    { name: toolRate, unit: 'M/s', limit: { atLeast: 1 } },
    { name: nativeRate, unit: 'M/s', limit: { atLeast: 1 } },
    ...residences.map((residence) => ratio(int8OverF32(residence), 1)),
    ...residences.map((residence) => ratio(deltasOverPlain(residence), 0.8)),
  ],
  async run(options) {
    const { tableRows: rows } = options;
    const found: LimitLines = {};
    for (const dim of widths) found[dim] = await againstLimit(dim === 64 ? rows / 4 : rows, dim, options);
    const spec: TableSpec = { rows, dim: 16, dtype: 'f32' };
    const built = await buildSnapshot(spec, options.log);
    options.log(`table build: ${built.seconds.toFixed(1)} s`);
    const size = await overheadOf(spec, options);
    const int8 = await eachResidence((residence) => int8AgainstF32(spec, residence, options));
    const overlaid = await eachResidence((residence) => deltasAgainstPlain(spec, residence, options));
    const turns = [...Object.values(int8), ...Object.values(overlaid)];
    return {
      measured: {
        ...limitBars(found),
        [overhead]: size,
        [toolRate]: built.rowsPerSecondPerCore / 1e6,
        [nativeRate]: found[16]!.buildRate / 1e6,
        ...Object.fromEntries(
          residences.flatMap((residence) => [
            [int8OverF32(residence), over(int8[residence].found, 'int8', 'f32')],
            [deltasOverPlain(residence), over(overlaid[residence].found, 'deltas', 'plain')],
          ]),
        ),
      },
      invalid: turns.flatMap(({ invalid }) => invalid),
      notes: [
        ...widths.map((dim) => `${found[dim]!.rows / 1e6} M rows of ${dim} floats, ${found[dim]!.kernels}`),
        ...widths.map((dim) => limitTable(dim, found[dim]!.lines)),
        `table build: ${rows / 1e6} M rows of a sequence file in ${built.seconds.toFixed(1)} s`,
        ...residences.flatMap((residence) => [
          `int8 and f32, ${residence}, 832 uniform keys\n${ratesTable(int8[residence].found)}`,
          `${deltas} deltas of 1 % each, ${residence}, 832 uniform keys\n${ratesTable(overlaid[residence].found)}`,
        ]),
      ],
      figures: { limits: found, built, overheadBytes: size, int8, overlaid },
    } satisfies ScenarioResult;
  },
};

/** A line of gather_bench about one kind of gather. */
interface LimitLine {
  readonly residence: Residence;
  readonly keys: 'uniform' | 'zipf';
  readonly batch: number;
  readonly threads: number;
  readonly gather: number;
  readonly limit: number;
  /** Median of the rounds' ratios of gather over limit. */
  readonly ratio: number;
  /** Median of the rounds' ratios of the gather over that of uniform keys; 1 for uniform ones. */
  readonly overUniform: number;
  /** How much of a core a thread had; 1 on a quiet machine. */
  readonly coreShare: number;
  readonly tableLimit: number;
  readonly packedLimit: number;
}

type LimitLines = Record<
  number,
  {
    readonly rows: number;
    readonly buildRate: number;
    readonly kernels: string;
    readonly lines: readonly LimitLine[];
  }
>;

/** Builds a table natively and gathers from it in the process that measures the limit too. */
async function againstLimit(
  rows: number,
  dim: number,
  options: ScenarioOptions,
): Promise<LimitLines[number]> {
  const directory = join(sparseCache, `native-${dim}`);
  // Built anew, because how long that takes is asked too.
  await rm(directory, { recursive: true, force: true });
  options.log(`gather_bench: ${rows / 1e6} M rows of ${dim} floats`);
  // Many short rounds of ten turns: neighbours stay for seconds, so they do the same to all turns of a round.
  const turnSeconds = String(options.roundSeconds / 100);
  const args = [directory, String(rows), String(dim), 'f32', turnSeconds, '0', String(options.rounds * 5)];
  try {
    const { stdout } = await promisify(execFile)(await nativeProgram('gather_bench'), args);
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly what: string });
    const all = (what: string): unknown[] => lines.filter((line) => line.what === what);
    return {
      rows,
      buildRate: (all('build')[0] as { rowsPerSecondPerCore: number }).rowsPerSecondPerCore,
      kernels: (all('open')[0] as { instructions: string }).instructions,
      lines: all('gather') as LimitLine[],
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The lowest of both batches and numbers of threads: each of them has to keep the bar. */
function limitBars(found: LimitLines): Record<string, number> {
  const bars: Record<string, number> = {};
  for (const dim of widths) {
    const { lines } = found[dim]!;
    const lowest = (
      figure: 'ratio' | 'overUniform',
      keys: LimitLine['keys'],
      among: readonly Residence[],
    ): number =>
      Math.min(
        ...lines
          .filter((line) => line.keys === keys && among.includes(line.residence))
          .map((line) => line[figure]),
      );
    for (const residence of residences)
      bars[overLimit(dim, residence)] = lowest('ratio', 'uniform', [residence]);
    bars[zipfOverUniform(dim)] = lowest('overUniform', 'zipf', residences);
  }
  return bars;
}

function limitTable(dim: number, lines: readonly LimitLine[]): string {
  const millions = (value: number): string => (value / 1e6).toFixed(1);
  const head = [
    `${dim} floats`,
    'keys',
    'batch',
    'threads',
    'gather M/s',
    'in table',
    'packed',
    'over limit',
    'over uniform',
    'of a core',
  ];
  return textTable([
    head,
    ...lines.map((line) => [
      line.residence,
      line.keys,
      String(line.batch),
      String(line.threads),
      millions(line.gather),
      millions(line.tableLimit),
      millions(line.packedLimit),
      line.ratio.toFixed(2),
      line.overUniform.toFixed(2),
      line.coreShare.toFixed(2),
    ]),
  ]);
}

async function overheadOf(spec: TableSpec, { log }: ScenarioOptions): Promise<number> {
  const { files, rows } = await snapshotOf(await sparseTable(spec, log));
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  return bytes / rows - 8 - 4 * spec.dim;
}

interface Turns {
  readonly found: Record<string, GatherFigures[]>;
  readonly invalid: readonly string[];
}

// Many short turns, as in gather_bench.
const gathers = ({ rounds, roundSeconds }: ScenarioOptions): Parameters<typeof gatherInTurns>[1] => ({
  rounds: rounds * 5,
  batch: 832,
  threads: 1,
  seconds: roundSeconds / 20,
});

async function int8AgainstF32(
  f32: TableSpec,
  residence: Residence,
  options: ScenarioOptions,
): Promise<Turns> {
  const keys = await keyFile(f32.rows, 'uniform');
  const specs = { f32, int8: { ...f32, dtype: 'int8' } } as const;
  const start = (name: keyof typeof specs) => async () =>
    startTable(specs[name], await sparseTable(specs[name], options.log), { residence, keys });
  return withContestants({ f32: start('f32'), int8: start('int8') }, async (contestants) => ({
    invalid: await wrongRows(contestants),
    found: await gatherInTurns(contestants, gathers(options)),
  }));
}

async function deltasAgainstPlain(
  spec: TableSpec,
  residence: Residence,
  options: ScenarioOptions,
): Promise<Turns> {
  const keys = await keyFile(spec.rows, 'uniform');
  await addDeltas(spec, deltas, options.log);
  const directory = await sparseTable(spec, options.log);
  return withContestants(
    {
      plain: () => startTable(spec, directory, { residence, keys }),
      deltas: () => startTable(spec, directory, { residence, keys, deltas }),
    },
    async (contestants) => ({
      invalid: await wrongRows(contestants),
      found: await gatherInTurns(contestants, gathers(options)),
    }),
  );
}

function over(found: Turns['found'], one: string, other: string): number {
  return medianRatio(cpuRates(found[one]!), cpuRates(found[other]!));
}

async function eachResidence<Result>(
  work: (residence: Residence) => Promise<Result>,
): Promise<Record<Residence, Result>> {
  return { mapped: await work('mapped'), memory: await work('memory') };
}
