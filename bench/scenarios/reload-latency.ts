import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from '../median.js';
import { writeRequests } from '../reload/checked-requests.js';
import { type State, stateBars, stateFigures, states } from '../reload/idle-and-loaded.js';
import type { Publisher } from '../reload/publisher.js';
import { isReady, maximumOf } from '../reload/reload-rounds.js';
import { startCheckedLoad, wrongIn } from '../reload/start-load.js';
import { type StartedSubject, startOnRepository, withSubject } from '../reload/start-subject.js';
import { denseReloads, type ReloadSubject } from '../reload/subjects.js';
import type { Scenario, ScenarioOptions } from '../scenario.js';

const model = 'middle';
/** A matrix of 4.7 MB. */
const width = 1080;
const versionsARound = 4;
/** Requests that look for the new version on a server that has nothing else to do, a second. */
const probesPerSecond = 200;
const pauseMs = 1000;

const measuredTime = 'rename to first answer';
/** Files that were written just now are waited for, unless a file says that they are whole. */
const kinds = ['fresh files', 'marked as whole'] as const;
type Kind = (typeof kinds)[number];

/** How soon a version that was renamed into place answers. */
export const reloadLatency: Scenario = {
  name: 'reload-latency',
  question: `How long after its rename does a new version of a 5 MB model answer, ${versionsARound} versions a round?`,
  bars: stateBars(measuredTime),
  async run(options) {
    const subject = await denseReloads(model, width);
    return withSubject(subject, startOnRepository('ours', []), (started) =>
      measure(subject, started, options),
    );
  },
};

async function measure(
  subject: ReloadSubject,
  { server, publisher, dir }: StartedSubject,
  { rounds, roundSeconds, log }: ScenarioOptions,
): ReturnType<Scenario['run']> {
  const requestsFile = await writeRequests(join(dir, 'requests.json'), subject.requests);
  const most = await maximumOf(server, { subject, dir, warmUpSeconds: 3, maximumSeconds: roundSeconds });
  const rates: Record<State, number> = { idle: probesPerSecond, 'half load': Math.round(most / 2) };
  const seconds: Record<State, Record<Kind, number[]>> = {
    idle: { 'fresh files': [], 'marked as whole': [] },
    'half load': { 'fresh files': [], 'marked as whole': [] },
  };
  const invalid: string[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const state of states) {
      const load = await startCheckedLoad({
        ...{ url: server.url, requestsFile, ratePerSecond: rates[state], seed: round + 1 },
        arrival: state === 'idle' ? 'fixed' : 'poisson',
      });
      const published: { readonly version: number; readonly renamedAt: number; readonly kind: Kind }[] = [];
      for (let i = 0; i < versionsARound * kinds.length; i++) {
        const kind = kinds[i % kinds.length]!;
        published.push({ ...(await publish(publisher, kind)), kind });
        await isReady(server, model, published.at(-1)!.version);
        await sleep(pauseMs);
      }
      const result = await load.stop();
      invalid.push(...wrongIn(result).map((wrong) => `${state}: ${wrong}`));
      for (const { version, renamedAt, kind } of published) {
        const first = result.versions.find((other) => other.version === version)?.firstAt;
        if (first === undefined) invalid.push(`${state}: version ${version} never answered`);
        else seconds[state][kind].push((first - renamedAt) / 1000);
      }
    }
    log(`round ${round + 1} of ${rounds}`);
  }
  const measured = stateFigures(measuredTime, {
    idle: seconds.idle['fresh files'],
    'half load': seconds['half load']['fresh files'],
  });
  const text = (values: readonly number[]): string =>
    `median ${median(values).toFixed(3)} s, worst ${Math.max(...values).toFixed(3)} s`;
  return {
    measured,
    invalid,
    notes: [
      `${versionsARound * rounds} versions of each kind; the bars are about files written just before their rename; ` +
        `idle: ${rates.idle} requests/s that look for the version; half load: ${rates['half load']}/s`,
      ...states.flatMap((state) => kinds.map((kind) => `${state}, ${kind}: ${text(seconds[state][kind])}`)),
    ],
    figures: { maximumPerSecond: most, rates, seconds },
  };
}

async function publish(
  publisher: Publisher,
  kind: Kind,
): Promise<{ readonly version: number; readonly renamedAt: number }> {
  await publisher.stage(1, { isMarked: kind === 'marked as whole' });
  return publisher.publish();
}
