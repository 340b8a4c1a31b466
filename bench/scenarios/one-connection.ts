import { startOurs, startsOf, withHttpContestants } from '../http-contestants.js';
import { httpRounds, roundsTable } from '../http-rounds.js';
import { medianRatio } from '../median.js';
import type { Scenario } from '../scenario.js';

const hop = 'p50 over naive, worker hop';
const idle = 'p50 over naive, idle path';

/** One request at a time, where merging cannot help and the hop to a worker is all cost. */
export const oneConnection: Scenario = {
  name: 'one-connection',
  question: 'What does the worker hop cost a lone client, and what does the idle path give back?',
  bars: [
    { name: hop, unit: 'x', limit: { atMost: 1.6 } },
    { name: idle, unit: 'x', limit: { atMost: 1.3 } },
  ],
  async run(options) {
    const ours = ['off', 'auto'].map((mode) => async () => ({
      server: await startOurs(`idle_path ${mode}`, ['--idle_path', mode]),
      infers: true,
    }));
    const rounds = await withHttpContestants([...startsOf(['naive']), ...ours], options.log, (started) =>
      httpRounds(started, { ...options, protocol: 'json', connections: 1 }),
    );
    const { naive, 'idle_path off': off, 'idle_path auto': auto } = rounds.byName;
    return {
      measured: {
        ...(naive && off ? { [hop]: medianRatio(off.p50Ms, naive.p50Ms) } : {}),
        ...(naive && auto ? { [idle]: medianRatio(auto.p50Ms, naive.p50Ms) } : {}),
      },
      invalid: rounds.invalid,
      notes: [`load: ${rounds.generator}, 1 connection`, roundsTable(rounds.byName)],
      figures: rounds.byName,
    };
  },
};
