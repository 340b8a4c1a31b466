import { rm } from 'node:fs/promises';
import type { BodyProtocol, RequestBody } from '../src/loadtest/request-body.js';
import { textTable } from '../src/loadtest/text-table.js';
import { median } from './median.js';
import { mlpBodies } from './mlp.js';
import { scratchDir } from './paths.js';
import { cpuSeconds } from './proc-stat.js';
import { checkReply } from './reply-check.js';
import type { ServerProcess } from './server-process.js';
import { loadGenerator } from './wrk.js';

/** A server and how to judge its replies. */
export interface HttpContestant {
  readonly server: ServerProcess;
  /** False for those that answer a fixed reply. */
  readonly infers: boolean;
}

/** What is asked of the servers. */
export interface HttpSubject {
  /** The model's name in the URL. */
  readonly model: string;
  bodies(protocol: BodyProtocol): readonly RequestBody[];
  /** What is wrong with a reply of the server at `url`, undefined when nothing is. */
  check(url: string, protocol: BodyProtocol, infers: boolean): Promise<string | undefined>;
}

const mlp: HttpSubject = { model: 'mlp', bodies: mlpBodies, check: checkReply };

/** The figures of one contestant, one entry a round. */
export interface RoundFigures {
  readonly requestsPerSecond: number[];
  /** CPU of the whole server process and its children, us a request. */
  readonly cpuUs: number[];
  readonly p50Ms: number[];
  readonly p99Ms: number[];
}

/** What the rounds found. */
export interface HttpRounds {
  readonly generator: string;
  readonly byName: Readonly<Record<string, RoundFigures>>;
  /** Failed requests and wrong replies; empty when every reply counts. */
  readonly invalid: readonly string[];
}

/**
 * Loads contestants in turn, round after round, each time after a short warm-up. The order turns by one a round, so
 * that none is always the one after another. One reply of each is checked before the first and after the last round.
 */
export async function httpRounds(
  contestants: readonly HttpContestant[],
  options: {
    readonly protocol: BodyProtocol;
    /** @default the small network */
    readonly subject?: HttpSubject;
    readonly connections: number;
    readonly rounds: number;
    readonly roundSeconds: number;
    /** Load of each contestant before the first round, until the engine of JavaScript has compiled what runs. @default 0 */
    readonly firstWarmUpSeconds?: number;
    readonly log: (line: string) => void;
  },
): Promise<HttpRounds> {
  const { subject = mlp } = options;
  const bodies = subject.bodies(options.protocol);
  const invalid: string[] = [];
  const check = async (when: string): Promise<void> => {
    for (const { server, infers } of contestants) {
      const wrong = await subject.check(server.url, options.protocol, infers);
      if (wrong) invalid.push(`${server.name}, ${when}: ${wrong}`);
    }
  };
  const dir = await scratchDir('bodies');
  try {
    await check('before');
    const entries = [];
    for (const { server } of contestants) {
      entries.push({
        server,
        generator: await loadGenerator(`${server.url}/v2/models/${subject.model}/infer`, bodies, dir),
        figures: { requestsPerSecond: [], cpuUs: [], p50Ms: [], p99Ms: [] } as RoundFigures,
        failed: 0,
      });
    }
    const { firstWarmUpSeconds = 0 } = options;
    if (firstWarmUpSeconds > 0) {
      for (const { generator } of entries) await generator.run(options.connections, firstWarmUpSeconds);
    }
    for (let round = 0; round < options.rounds; round++) {
      for (let turn = 0; turn < entries.length; turn++) {
        const entry = entries[(turn + round) % entries.length]!;
        await entry.generator.run(options.connections, 1);
        const cpuBefore = cpuSeconds(entry.server.pid);
        const load = await entry.generator.run(options.connections, options.roundSeconds);
        const cpu = cpuSeconds(entry.server.pid) - cpuBefore;
        entry.figures.requestsPerSecond.push(load.requests / load.seconds);
        entry.figures.cpuUs.push((cpu * 1e6) / load.requests);
        entry.figures.p50Ms.push(load.p50Ms);
        entry.figures.p99Ms.push(load.p99Ms);
        entry.failed += load.failed;
      }
      options.log(`round ${round + 1} of ${options.rounds}`);
    }
    await check('after');
    for (const { server, failed } of entries) {
      if (failed > 0) invalid.push(`${server.name}: ${failed} answers were not 2xx or did not come`);
    }
    return {
      generator: entries[0]!.generator.name,
      byName: Object.fromEntries(entries.map(({ server, figures }) => [server.name, figures])),
      invalid,
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** The medians of all contestants as a small table, for the notes. */
export function roundsTable(byName: HttpRounds['byName']): string {
  return textTable([
    ['contestant', 'req/s', 'CPU us/req', 'p50 ms', 'p99 ms'],
    ...Object.entries(byName).map(([name, figures]) => [
      name,
      median(figures.requestsPerSecond).toFixed(0),
      median(figures.cpuUs).toFixed(0),
      median(figures.p50Ms).toFixed(2),
      median(figures.p99Ms).toFixed(2),
    ]),
  ]);
}
