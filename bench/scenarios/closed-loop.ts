/** The two closed-loop scenarios at 64 connections: JSON bodies and binary bodies. */
import { type ContestantName, startsOf, withHttpContestants } from '../http-contestants.js';
import { httpRounds, roundsTable } from '../http-rounds.js';
import { medianRatio } from '../median.js';
import type { BarSpec, Scenario } from '../scenario.js';

interface ClosedLoopBar extends BarSpec {
  readonly figure: 'cpuUs' | 'requestsPerSecond';
  readonly over: ContestantName;
}

function closedLoop(
  name: string,
  question: string,
  protocol: 'json' | 'binary',
  contestants: readonly ContestantName[],
  bars: readonly ClosedLoopBar[],
): Scenario {
  return {
    name,
    question,
    bars,
    async run(options) {
      const rounds = await withHttpContestants(startsOf(contestants), options.log, (started) =>
        httpRounds(started, { ...options, protocol, connections: 64 }),
      );
      const { ours } = rounds.byName;
      const measured = ours
        ? bars.map(({ name: bar, figure, over }) => [
            bar,
            medianRatio(ours[figure], rounds.byName[over]![figure]),
          ])
        : [];
      return {
        measured: Object.fromEntries(measured),
        invalid: rounds.invalid,
        notes: [`load: ${rounds.generator}, 64 connections`, roundsTable(rounds.byName)],
        figures: rounds.byName,
      };
    },
  };
}

const cpuOverNaive = (atMost: number, aim: number): ClosedLoopBar => ({
  name: 'CPU a request over naive',
  unit: 'x',
  limit: { atMost },
  aim,
  figure: 'cpuUs',
  over: 'naive',
});

const throughputOver = (over: ContestantName, atLeast: number, aim?: number): ClosedLoopBar => ({
  name: `throughput over ${over}`,
  unit: 'x',
  limit: { atLeast },
  ...(aim === undefined ? {} : { aim }),
  figure: 'requestsPerSecond',
  over,
});

/** JSON bodies of 400 floats. */
export const json64 = closedLoop(
  'json-64',
  'What does a JSON request of 400 floats cost at 64 connections?',
  'json',
  ['ours', 'naive', 'unbatched', 'json-only', 'unparsed'],
  [
    cpuOverNaive(0.55, 0.45),
    throughputOver('naive', 1.8, 2.2),
    throughputOver('json-only', 0.85),
    throughputOver('unparsed', 0.6),
  ],
);

/** The same floats as bytes behind a JSON header. */
export const binary64 = closedLoop(
  'binary-64',
  'What does a binary request of 400 floats cost at 64 connections?',
  'binary',
  ['ours', 'naive', 'unbatched', 'unparsed'],
  [cpuOverNaive(0.45, 0.35), throughputOver('naive', 2, 2.5)],
);
