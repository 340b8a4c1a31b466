import { median } from '../median.js';
import { program } from '../paths.js';
import type { Scenario, ScenarioOptions } from '../scenario.js';
import { type ContestantProcess, type GatherFigures, startProcess } from '../sparse/contestant-process.js';
import { keyFile, type Residence, sparseTable, startTable, type TableSpec } from '../sparse/tables.js';
import { gatherInTurns, withContestants, wrongRows } from '../sparse/turns.js';

const batch = 832;
const residences = ['mapped', 'memory'] as const;
const cost = (residence: Residence): string => `gather of ${batch} keys over C++, ${residence}`;
const opening = 'open to first gather, warm';

/** What JavaScript adds to a gather, and how soon a table answers. */
export const sparseJs: Scenario = {
  name: 'sparse-js',
  question: `What does table.gather of ${batch} keys cost from JavaScript, and how soon after opening?`,
  bars: [
    ...residences.map((residence) => ({ name: cost(residence), unit: 'x', limit: { atMost: 1.1 } }) as const),
    { name: opening, unit: 'ms', limit: { atMost: 50 } },
  ],
  async run(options) {
    const { rounds, tableRows: rows, log } = options;
    const spec: TableSpec = { rows, dim: 16, dtype: 'f32' };
    const directory = await sparseTable(spec, log);
    const keys = await keyFile(rows, 'uniform');
    const startJs = (residence: Residence): Promise<ContestantProcess> =>
      startProcess(process.execPath, [program('sparse/js-gather'), residence, keys, directory, String(rows)]);
    const invalid: string[] = [];
    const openMs: number[] = [];
    const found = {} as Record<Residence, Record<string, GatherFigures[]>>;
    for (const residence of residences) {
      found[residence] = await withContestants(
        {
          'C++': () => startTable(spec, directory, { residence, keys }),
          // The same again: what a ratio of two equal programs comes to on this machine.
          control: () => startTable(spec, directory, { residence, keys }),
          JavaScript: () => startJs(residence),
        },
        async (contestants) => {
          invalid.push(...(await wrongRows(contestants)));
          const figures = await gatherInTurns(contestants, gathers(options));
          // While C++ holds the pages of the files.
          if (residence === 'mapped') openMs.push(...(await openings(() => startJs(residence), rounds)));
          return figures;
        },
      );
      log(`${residence} done`);
    }
    // CPU time, that of the engine's other threads included: a neighbour that takes the core away does not count.
    const cpuNs = (residence: Residence, name: string): number[] =>
      found[residence][name]!.map(({ keysPerCpuSecond }) => (1e9 * batch) / keysPerCpuSecond);
    const wallNs = (residence: Residence, name: string): number[] =>
      found[residence][name]!.map(({ nsPerBatch }) => nsPerBatch);
    const ratios = (ns: typeof cpuNs, residence: Residence, name: string): number[] =>
      ratiosOf(ns(residence, name), ns(residence, 'C++'));
    return {
      measured: {
        ...Object.fromEntries(
          residences.map((residence) => [cost(residence), median(ratios(cpuNs, residence, 'JavaScript'))]),
        ),
        [opening]: median(openMs),
      },
      invalid,
      notes: [
        ...residences.map(
          (residence) =>
            `${residence}, ${batch} uniform keys: JavaScript ${us(cpuNs(residence, 'JavaScript'))} of CPU, C++ ${us(cpuNs(residence, 'C++'))}; ` +
            `JavaScript over C++ ${spread(ratios(cpuNs, residence, 'JavaScript'))}, ` +
            `by the clock ${spread(ratios(wallNs, residence, 'JavaScript'))}; ` +
            `C++ over itself ${spread(ratios(cpuNs, residence, 'control'))}`,
        ),
        `open and first gather of ${batch} keys in new processes: ${openMs.map((ms) => ms.toFixed(1)).join(', ')} ms`,
      ],
      figures: { found, openMs },
    };
  },
};

/** Time from asking for the table to its first rows, each time in a new process. */
async function openings(start: () => Promise<ContestantProcess>, count: number): Promise<number[]> {
  const ms: number[] = [];
  for (let opening = 0; opening < count; opening++) {
    const contestant = await start();
    ms.push((contestant.ready as { openToGatherMs: number }).openToGatherMs);
    await contestant.stop();
  }
  return ms;
}

// Many short turns: a tenth is little against what neighbours do to a turn, and they stay for seconds.
const gathers = ({ rounds, roundSeconds }: ScenarioOptions): Parameters<typeof gatherInTurns>[1] => ({
  rounds: rounds * 5,
  batch,
  threads: 1,
  seconds: roundSeconds / 10,
});

function ratiosOf(over: readonly number[], under: readonly number[]): number[] {
  return over.map((value, i) => value / under[i]!);
}

/** The median and the quartiles. */
function spread(ratios: readonly number[]): string {
  const sorted = ratios.toSorted((a, b) => a - b);
  const quartile = (share: number): string => sorted[Math.floor(share * sorted.length)]!.toFixed(2);
  return `${median(ratios).toFixed(2)} (${quartile(0.25)} to ${quartile(0.75)})`;
}

function us(ns: readonly number[]): string {
  return `${(median(ns) / 1000).toFixed(2)} us`;
}
