import { reloadBars, reloadMeasures, reloadNote, reloadTable } from '../reload/reload-figures.js';
import { type ReloadRounds, reloadRounds } from '../reload/reload-rounds.js';
import { startOnRepository, withSubject } from '../reload/start-subject.js';
import { ctrReloads } from '../reload/subjects.js';
import type { Scenario } from '../scenario.js';

const servers = { 'default threads': [], '--thread 1': ['--thread', '1'] } as const;

/** The click model with its table gets a new version again and again, at half of the load that it can take. */
export const reloadCtr: Scenario = {
  name: 'reload-ctr',
  question: 'Do callers of the click model notice that it is reloaded every few seconds, 20 times a round?',
  bars: Object.keys(servers).flatMap(reloadBars),
  async run({ rounds, roundSeconds, log }) {
    const subject = await ctrReloads(log);
    const found: Record<string, ReloadRounds> = {};
    for (const [name, args] of Object.entries(servers)) {
      found[name] = await withSubject(subject, startOnRepository(name, args), (started) =>
        reloadRounds(started.server, {
          ...{ ...started, subject, rounds, log },
          ...{ phasesARound: 4, reloadsAPhase: 5, intervalMs: (roundSeconds + 1) * 1000 },
          ...{ warmUpSeconds: 8, maximumSeconds: roundSeconds },
        }),
      );
    }
    const entries = Object.entries(found);
    return {
      measured: Object.assign({}, ...entries.map(([name, one]) => reloadMeasures(name, one))) as Record<
        string,
        number
      >,
      invalid: entries.flatMap(([, { invalid }]) => invalid),
      notes: [
        `Poisson at half of the closed loop's rate, a version every ${roundSeconds + 1} s; latency from the intended start`,
        reloadTable(found),
        ...entries.map(([name, one]) => reloadNote(name, one)),
      ],
      figures: found,
    };
  },
};
