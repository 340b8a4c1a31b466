import { join } from 'node:path';
import { reloadBars, reloadMeasures, reloadNote, reloadTable } from '../reload/reload-figures.js';
import { type ReloadRounds, reloadRounds } from '../reload/reload-rounds.js';
import { startOnRepository, withSubject } from '../reload/start-subject.js';
import { denseReloads } from '../reload/subjects.js';
import type { Scenario } from '../scenario.js';
import { type ServerProcess, startContestant } from '../server-process.js';

const model = 'dense';
/** A matrix of 105 MB. */
const width = 5120;
const ours = { 'default threads': [], '--thread 1': ['--thread', '1'] } as const;
const naive = 'naive: in the serving thread';

/** A large model is reloaded, beside a server that loads it in the thread that serves. */
export const reloadDense: Scenario = {
  name: 'reload-dense',
  question: 'Do callers of a 106 MB dense model notice that it is reloaded, 4 times a round?',
  bars: Object.keys(ours).flatMap(reloadBars),
  async run({ rounds, roundSeconds, log }) {
    const subject = await denseReloads(model, width);
    const starts: Record<string, (repository: string, dir: string) => Promise<ServerProcess>> = {};
    for (const [name, args] of Object.entries(ours)) starts[name] = startOnRepository(name, args);
    starts[naive] = (repository) =>
      startContestant(naive, 'naive-reload', [model, join(repository, model)], { readyWithin: 60_000 });
    const found: Record<string, ReloadRounds> = {};
    for (const [name, start] of Object.entries(starts)) {
      found[name] = await withSubject(subject, start, (started) =>
        reloadRounds(started.server, {
          ...{ ...started, subject, rounds, log },
          ...{ phasesARound: 1, reloadsAPhase: 4, intervalMs: (roundSeconds + 1) * 1000 },
          ...{ warmUpSeconds: 3, maximumSeconds: roundSeconds },
        }),
      );
    }
    const entries = Object.entries(found);
    const judged = entries.filter(([name]) => name !== naive);
    return {
      measured: Object.assign({}, ...judged.map(([name, one]) => reloadMeasures(name, one))) as Record<
        string,
        number
      >,
      invalid: entries.flatMap(([, { invalid }]) => invalid),
      notes: [
        `Poisson at half of each server's own closed loop, a version every ${roundSeconds + 1} s or when the last is ready; latency from the intended start`,
        reloadTable(found),
        ...entries.map(([name, one]) => reloadNote(name, one)),
      ],
      figures: found,
    };
  },
};
