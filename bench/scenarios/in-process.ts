import { join } from 'node:path';
import { runProgram } from '../child-program.js';
import { median, medianRatio } from '../median.js';
import { mlpDir } from '../model-files.js';
import { paths } from '../paths.js';
import type { Scenario } from '../scenario.js';

/** What each of the two programs tells. */
export interface InProcessFigures {
  readonly rowsPerSecond: number;
  /** Absent for the tight loop, which leaves its event loop nothing. */
  readonly lagP99Ms?: number;
  /** Its first answer agrees with the reference. */
  readonly isRight: boolean;
}

const share = 'rows/s over a tight loop of batch 32';
const lag = 'event-loop lag p99';

/** The runtime embedded in a service: callers with single rows against the engine with ready batches. */
export const inProcess: Scenario = {
  name: 'in-process',
  question: 'How near do 32 concurrent single-row callers come to the engine alone, and is their loop free?',
  bars: [
    { name: share, unit: '%', limit: { atLeast: 50 }, aim: 60 },
    { name: lag, unit: 'ms', limit: { atMost: 5 } },
  ],
  async run({ rounds, roundSeconds, log }) {
    const dir = await mlpDir();
    const programs = {
      ours: ['in-process-ours', dir, join(paths.cache, 'prepared'), String(roundSeconds)],
      tight: ['tight-loop', join(dir, '1', 'model.onnx'), String(roundSeconds)],
    } as const;
    const found: Record<keyof typeof programs, InProcessFigures[]> = { ours: [], tight: [] };
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 ? (['tight', 'ours'] as const) : (['ours', 'tight'] as const);
      for (const name of order) {
        const [script, ...args] = programs[name];
        found[name].push(await runProgram<InProcessFigures>(script, args, (roundSeconds + 60) * 1000));
      }
      log(`round ${round + 1} of ${rounds}`);
    }
    const rates = (name: keyof typeof programs): number[] => found[name].map((one) => one.rowsPerSecond);
    const lags = found.ours.map((one) => one.lagP99Ms!);
    return {
      measured: { [share]: 100 * medianRatio(rates('ours'), rates('tight')), [lag]: median(lags) },
      invalid: Object.entries(found).flatMap(([name, all]) =>
        all.some((one) => !one.isRight) ? [`${name}: a wrong answer`] : [],
      ),
      notes: [
        `rows/s: ours ${median(rates('ours')).toFixed(0)}, tight loop ${median(rates('tight')).toFixed(0)}`,
      ],
      figures: found,
    };
  },
};
