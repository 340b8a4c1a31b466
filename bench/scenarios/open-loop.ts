import type { LoadResult } from '../../src/loadtest/report.js';
import { textTable } from '../../src/loadtest/text-table.js';
import { runProgram } from '../child-program.js';
import { startsOf, withHttpContestants } from '../http-contestants.js';
import { httpRounds } from '../http-rounds.js';
import { median } from '../median.js';
import { checkReply } from '../reply-check.js';
import type { Scenario } from '../scenario.js';

const p99 = 'p99 over naive at 70 % of naive';

/** A fixed rate that naive can just about take: who makes the slowest requests wait longer? */
export const openLoop: Scenario = {
  name: 'open-loop',
  question: 'At 70 % of the most that naive can do, how long do the slowest requests take?',
  bars: [{ name: p99, unit: 'x', limit: { atMost: 1 } }],
  run: (options) =>
    withHttpContestants(startsOf(['naive', 'ours']), options.log, async (contestants) => {
      const naive = contestants.filter(({ server }) => server.name === 'naive');
      const closed = await httpRounds(naive, { ...options, rounds: 3, protocol: 'json', connections: 64 });
      const most = median(closed.byName.naive!.requestsPerSecond);
      const rate = Math.round(most * 0.7);
      options.log(`naive does ${most.toFixed(0)} req/s; offering ${rate}`);
      const invalid = [...closed.invalid];
      const byName: Record<string, LoadResult[]> = {};
      for (let round = 0; round < options.rounds; round++) {
        const order = round % 2 ? [...contestants].reverse() : contestants;
        for (const { server } of order) {
          // Both get the arrivals of the round's seed.
          const args = [server.url, rate, options.roundSeconds, round + 1].map(String);
          const result = await runProgram<LoadResult>(
            'open-loop-generator',
            args,
            (options.roundSeconds + 60) * 1000,
          );
          byName[server.name] = [...(byName[server.name] ?? []), result];
          if (result.requests.failed > 0) {
            invalid.push(`${server.name}: ${JSON.stringify(result.requests.failures)}`);
          }
        }
        options.log(`round ${round + 1} of ${options.rounds}`);
      }
      for (const { server } of contestants) {
        const wrong = await checkReply(server.url, 'json', true);
        if (wrong) invalid.push(`${server.name}, after: ${wrong}`);
      }
      const p99Of = (name: string): number =>
        median((byName[name] ?? []).map((result) => result.latencyMs.p99));
      const late = Object.values(byName)
        .flat()
        .filter((result) => result.generator.isLate).length;
      return {
        measured: byName.ours ? { [p99]: p99Of('ours') / p99Of('naive') } : {},
        invalid,
        notes: [
          `load: own generator, Poisson at ${rate}/s, latency from the intended start`,
          ...(late > 0
            ? [`the generator was late in ${late} rounds: its own delay is in their latencies`]
            : []),
          latencyTable(byName),
        ],
        figures: { naiveMaximum: most, rate, byName },
      };
    }),
};

function latencyTable(byName: Readonly<Record<string, readonly LoadResult[]>>): string {
  const middle = (results: readonly LoadResult[], figure: (result: LoadResult) => number): string =>
    median(results.map(figure)).toFixed(2);
  return textTable([
    ['contestant', 'req/s', 'p50 ms', 'p99 ms', 'p99.9 ms', 'sent late p99 ms'],
    ...Object.entries(byName).map(([name, results]) => [
      name,
      middle(results, (result) => result.requestsPerSecond),
      middle(results, (result) => result.latencyMs.p50),
      middle(results, (result) => result.latencyMs.p99),
      middle(results, (result) => result.latencyMs.p999),
      middle(results, (result) => result.generator.latenessMs.p99),
    ]),
  ]);
}
