import { textTable } from '../../src/loadtest/text-table.js';
import { median } from '../median.js';
import type { CheckedRows, ContestantProcess, GatherFigures } from './contestant-process.js';

/** A contestant by its name in the table. */
export type Contestants = Readonly<Record<string, ContestantProcess>>;

/**
 * Lets contestants take turns, round after round; the order turns by one a round, so that none is always the one after
 * another.
 *
 * @returns what each answered, one entry a round
 */
export async function takeTurns<Answer>(
  contestants: Contestants,
  rounds: number,
  turn: (contestant: ContestantProcess, name: string) => Promise<Answer>,
): Promise<Record<string, Answer[]>> {
  const entries = Object.entries(contestants);
  const found: Record<string, Answer[]> = Object.fromEntries(entries.map(([name]) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (let at = 0; at < entries.length; at++) {
      const [name, contestant] = entries[(at + round) % entries.length]!;
      found[name]!.push(await turn(contestant, name));
    }
  }
  return found;
}

/** Lets contestants gather in turns, each after a short warm-up, with their files in memory. */
export async function gatherInTurns(
  contestants: Contestants,
  options: {
    readonly rounds: number;
    readonly batch: number;
    readonly threads: number;
    readonly seconds: number;
  },
): Promise<Record<string, GatherFigures[]>> {
  const { rounds, batch, threads, seconds } = options;
  for (const contestant of Object.values(contestants)) await contestant.ask('hold');
  return takeTurns(contestants, rounds, async (contestant) => {
    await contestant.ask(`gather ${batch} ${threads} ${seconds / 10}`);
    return contestant.ask<GatherFigures>(`gather ${batch} ${threads} ${seconds}`);
  });
}

/** Lets every contestant compare rows with what their keys say. What is wrong; empty when all are right. */
export async function wrongRows(contestants: Contestants): Promise<string[]> {
  const invalid: string[] = [];
  for (const [name, contestant] of Object.entries(contestants)) {
    const { checked, wrong } = await contestant.ask<CheckedRows>('check');
    if (wrong > 0 || checked === 0) invalid.push(`${name}: ${wrong} of ${checked} rows are wrong`);
  }
  return invalid;
}

/** Keys/s of each round. */
export function rates(figures: readonly GatherFigures[]): number[] {
  return figures.map(({ keysPerSecond }) => keysPerSecond);
}

/** Keys of each round for a second of CPU time: what a neighbour that takes the core away does not change. */
export function cpuRates(figures: readonly GatherFigures[]): number[] {
  return figures.map(({ keysPerCpuSecond }) => keysPerCpuSecond);
}

/** Medians of keys/s, by the clock and of CPU time, and ns of CPU a key as a small table, for the notes. */
export function ratesTable(found: Readonly<Record<string, readonly GatherFigures[]>>): string {
  return textTable([
    ['contestant', 'M keys/s', 'M keys/s of CPU', 'ns of CPU a key'],
    ...Object.entries(found).map(([name, figures]) => {
      const ofCpu = median(cpuRates(figures));
      const byClock = median(rates(figures));
      return [name, (byClock / 1e6).toFixed(2), (ofCpu / 1e6).toFixed(2), (1e9 / ofCpu).toFixed(1)];
    }),
  ]);
}

/** Stops all, however `use` ends. */
export async function withContestants<Result>(
  starts: Readonly<Record<string, () => Promise<ContestantProcess>>>,
  use: (contestants: Contestants) => Promise<Result>,
): Promise<Result> {
  const started: Record<string, ContestantProcess> = {};
  try {
    for (const [name, start] of Object.entries(starts)) started[name] = await start();
    return await use(started);
  } finally {
    await Promise.all(Object.values(started).map((contestant) => contestant.stop()));
  }
}
