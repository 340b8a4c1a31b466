import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { jsonBody } from '../../src/loadtest/request-body.js';
import { median } from '../median.js';
import { memoryOf, settledPss } from '../proc-stat.js';
import type { ServerProcess } from '../server-process.js';
import { loadGenerator } from '../wrk.js';
import { writeRequests } from './checked-requests.js';
import { CheckedTarget } from './checked-target.js';
import type { Publisher } from './publisher.js';
import { type CheckedLoadResult, startCheckedLoad, wrongIn } from './start-load.js';
import type { ReloadSubject } from './subjects.js';

/** After so many reloads memory is compared. */
export const settledAfter = 3;
/** Of the measured maximum. */
const loadShare = 0.5;
const connections = 64;
const giveUpMs = 120_000;

/** How a server is loaded and its model reloaded. */
export interface ReloadRoundsOptions {
  readonly subject: ReloadSubject;
  /** Has published at least one version. */
  readonly publisher: Publisher;
  /** For files of this go; the caller removes it. */
  readonly dir: string;
  readonly rounds: number;
  readonly phasesARound: number;
  readonly reloadsAPhase: number;
  /** From one version to the next, unless it takes longer to be ready. */
  readonly intervalMs: number;
  /** Load before anything is measured, until the engine of JavaScript has compiled what runs. */
  readonly warmUpSeconds: number;
  readonly maximumSeconds: number;
  readonly log: (line: string) => void;
}

/** A version that was published under load. */
export interface Reload {
  readonly version: number;
  /** From its rename to the first answer by it that the generator read, ms; absent when there was none. */
  readonly firstAnswerMs: number | undefined;
}

/** What the rounds found. */
export interface ReloadRounds {
  readonly maximumPerSecond: number;
  readonly ratePerSecond: number;
  /** Phases without and with reloads, in pairs. */
  readonly without: readonly CheckedLoadResult[];
  readonly during: readonly CheckedLoadResult[];
  readonly reloads: readonly Reload[];
  /** PSS of the server and its children after each phase with reloads, the one of the first three reloads first, MB. */
  readonly pssMb: readonly number[];
  readonly serverAloneMb: readonly number[];
  /** Versions that did not come to be ready in time. */
  readonly unserved: readonly number[];
  readonly invalid: readonly string[];
}

/**
 * Reloads a model under a fixed rate of half of what the server can do, and loads it at the same rate without, in
 * turn. The first three reloads are there for its memory alone.
 */
export async function reloadRounds(
  server: ServerProcess,
  options: ReloadRoundsOptions,
): Promise<ReloadRounds> {
  const { subject, publisher, dir, rounds, phasesARound, reloadsAPhase, intervalMs, log } = options;
  const requestsFile = await writeRequests(join(dir, 'requests.json'), subject.requests);
  const maximumPerSecond = await maximumOf(server, options);
  const ratePerSecond = Math.max(1, Math.round(maximumPerSecond * loadShare));
  log(`${server.name} does ${maximumPerSecond.toFixed(0)} req/s; offering ${ratePerSecond}`);
  const without: CheckedLoadResult[] = [];
  const during: CheckedLoadResult[] = [];
  const reloads: Reload[] = [];
  const pssMb: number[] = [];
  const serverAloneMb: number[] = [];
  const unserved: number[] = [];
  const invalid: string[] = [];
  let seed = 0;

  const loadWhile = async (what: string, work: () => Promise<void>): Promise<CheckedLoadResult> => {
    const load = await startCheckedLoad({
      ...{ url: server.url, requestsFile, ratePerSecond, arrival: 'poisson', seed: ++seed },
    });
    await work();
    const result = await load.stop();
    invalid.push(...wrongIn(result).map((wrong) => `${server.name}, ${what}: ${wrong}`));
    return result;
  };
  const reload = async (count: number): Promise<CheckedLoadResult> => {
    await publisher.stage(count);
    const renamedAt = new Map<number, number>();
    const result = await loadWhile('with reloads', async () => {
      for (let i = 0; i < count; i++) {
        const startedAt = performance.now();
        const published = await publisher.publish();
        renamedAt.set(published.version, published.renamedAt);
        if (!(await isReady(server, subject.requests.model, published.version)))
          unserved.push(published.version);
        await sleep(Math.max(0, intervalMs - (performance.now() - startedAt)));
      }
    });
    for (const [version, at] of renamedAt) {
      const first = result.versions.find((other) => other.version === version)?.firstAt;
      reloads.push({ version, firstAnswerMs: first === undefined ? undefined : first - at });
    }
    pssMb.push((await settledPss(server.pid)) / 1e6);
    serverAloneMb.push(memoryOf(server.pid).pss / 1e6);
    return result;
  };

  await reload(settledAfter);
  const stay = (): Promise<CheckedLoadResult> =>
    loadWhile('without reloads', () => sleep((reloadsAPhase * intervalMs) / 2));
  for (let phase = 0; phase < rounds * phasesARound; phase++) {
    // Turned by one each time: none is always the one after the other.
    if (phase % 2 === 0) without.push(await stay());
    during.push(await reload(reloadsAPhase));
    if (phase % 2 === 1) without.push(await stay());
    log(
      `phase ${phase + 1} of ${rounds * phasesARound}: p99 ${without.at(-1)!.latencyMs.p99.toFixed(2)} ms without, ` +
        `${during.at(-1)!.latencyMs.p99.toFixed(2)} ms with reloads, ${pssMb.at(-1)!.toFixed(0)} MB`,
    );
  }
  for (const version of unserved) invalid.push(`${server.name}: version ${version} did not get ready`);
  return {
    ...{ maximumPerSecond, ratePerSecond, without, during, reloads, pssMb, serverAloneMb, unserved },
    invalid,
  };
}

/** Requests a second of a closed loop, the median of three short ones. */
export async function maximumOf(
  server: ServerProcess,
  options: Pick<ReloadRoundsOptions, 'subject' | 'dir' | 'warmUpSeconds' | 'maximumSeconds'>,
): Promise<number> {
  const { subject, dir, warmUpSeconds, maximumSeconds } = options;
  const { model, bodies } = subject.requests;
  const url = `${server.url}/v2/models/${model}/infer`;
  const generator = await loadGenerator(url, bodies.map(jsonBody), dir);
  const target = new CheckedTarget(server.url, subject.requests);
  try {
    await generator.run(connections, warmUpSeconds);
    const rates: number[] = [];
    for (let i = 0; i < 3; i++) {
      // A server may go on with what a generator that went away had asked: behind that it is free again.
      const wrong = await target.send(i);
      if (wrong) throw new Error(`${server.name}: ${wrong}: ${target.examples.join('; ')}`);
      const { requests, seconds, failed } = await generator.run(connections, maximumSeconds);
      if (failed > 0) throw new Error(`${server.name}: ${failed} requests of the closed loop failed`);
      rates.push(requests / seconds);
    }
    return median(rates);
  } finally {
    await target.close();
  }
}

/** Waits until a version is ready. */
export async function isReady(server: ServerProcess, model: string, version: number): Promise<boolean> {
  const giveUpAt = performance.now() + giveUpMs;
  while (performance.now() < giveUpAt) {
    const url = `${server.url}/v2/models/${model}/versions/${version}/ready`;
    const reply = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    await reply.arrayBuffer();
    if (reply.status === 200) return true;
    await sleep(100);
  }
  return false;
}
