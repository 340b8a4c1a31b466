import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from '../median.js';
import { denseBias, denseFile, smallName } from '../model-files.js';
import { countReady } from '../model-requests.js';
import { scratchDir } from '../paths.js';
import { cpuSeconds } from '../proc-stat.js';
import type { CheckedRequests } from '../reload/checked-requests.js';
import { CheckedTarget } from '../reload/checked-target.js';
import { Publisher } from '../reload/publisher.js';
import { denseReloads } from '../reload/subjects.js';
import type { Scenario } from '../scenario.js';
import { type ServerProcess, startServe } from '../server-process.js';

const count = 1000;
/** Networks of 9 kB. */
const width = 24;
const idleMs = 30_000;
const settleMs = 5000;
const giveUpMs = 60_000;
const bars = {
  cpu: `CPU of polling ${count} models, of a core`,
  first: 'rename to first answer, median',
  loads: 'loads for each changed model',
} as const;

/** A thousand small models, of which one changes at a time. */
export const reloadMany: Scenario = {
  name: 'reload-many',
  question: `What does it cost to watch ${count} models, and are the others left alone when one changes?`,
  bars: [
    { name: bars.cpu, unit: '%', limit: { atMost: 1 } },
    { name: bars.first, unit: 's', limit: { atMost: 1 } },
    { name: bars.loads, unit: 'x', limit: { atMost: 1 } },
  ],
  async run({ rounds, log }) {
    const dir = await scratchDir('reload-many');
    try {
      const repository = join(dir, 'repository');
      const { requests } = await denseReloads('small', width);
      const changing = await fill(repository, rounds);
      const start = async (pollSeconds: number): Promise<ServerProcess> =>
        startServe(
          'ours',
          [
            ...['--model_repository', repository, '--thread', '2', '--cache_dir', join(dir, 'cache')],
            ...['--file_system_poll_wait_seconds', String(pollSeconds)],
          ],
          { readyWithin: 300_000 },
        );
      const unwatched = await withServer(start(0), idleCpuPercent);
      log(`without polling: ${unwatched.toFixed(2)} % of a core`);
      return await withServer(start(1), async (server) => {
        const watched = await idleCpuPercent(server);
        log(`with polling: ${watched.toFixed(2)} % of a core`);
        const before = await lifecycleCounts(server);
        const invalid: string[] = [];
        const seconds: number[] = [];
        for (const { name, publisher } of changing) {
          const changed = { ...requests, model: name };
          seconds.push(await changeOne(server, changed, publisher, invalid));
        }
        // An old version is unloaded after the new one has begun to answer.
        await sleep(settleMs);
        const after = await lifecycleCounts(server);
        const loads = after.loaded - before.loaded;
        if (after.failed !== before.failed) invalid.push(`${after.failed - before.failed} loads failed`);
        if (after.unloaded - before.unloaded !== loads) {
          invalid.push(`${after.unloaded - before.unloaded} unloads for ${loads} loads`);
        }
        const ready = await countReady(server.url);
        if (ready !== count) invalid.push(`${ready} of ${count} models are ready`);
        return {
          measured: {
            [bars.cpu]: watched - unwatched,
            [bars.first]: median(seconds),
            [bars.loads]: loads / changing.length,
          },
          invalid,
          notes: [
            `user and system time of a server that nobody asks, over ${idleMs / 1000} s: ${watched.toFixed(2)} % of a core ` +
              `with polling every second, ${unwatched.toFixed(2)} % without`,
            `${changing.length} models changed one after the other: ${seconds.map((one) => `${one.toFixed(3)} s`).join(', ')}; ` +
              `${loads} loads, ${after.unloaded - before.unloaded} unloads`,
          ],
          figures: { watched, unwatched, seconds, before, after },
        };
      });
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
};

interface ChangingModel {
  readonly name: string;
  readonly publisher: Publisher;
}

/** Fills a repository; models that are to change, some of them all over it, have their first version published. */
async function fill(repository: string, changes: number): Promise<readonly ChangingModel[]> {
  const modelFile = await denseFile(width);
  const changing = new Map<number, ChangingModel>();
  for (let i = 0; i < changes; i++) {
    const index = Math.floor(((i + 0.5) * count) / changes);
    const directory = join(repository, smallName(index));
    changing.set(index, {
      name: smallName(index),
      publisher: new Publisher({ directory, modelFile, bias: denseBias }),
    });
  }
  for (let i = 0; i < count; i++) {
    const directory = join(repository, smallName(i), '1');
    const publisher = changing.get(i)?.publisher;
    if (publisher) {
      await publisher.stage(1);
      await publisher.publish();
    } else {
      await mkdir(directory, { recursive: true });
      await copyFile(modelFile, join(directory, 'model.onnx'));
    }
  }
  return [...changing.values()];
}

async function withServer<Result>(
  starting: Promise<ServerProcess>,
  use: (server: ServerProcess) => Promise<Result>,
): Promise<Result> {
  const server = await starting;
  try {
    const giveUpAt = performance.now() + 300_000;
    while ((await countReady(server.url)) < count) {
      if (performance.now() > giveUpAt) throw new Error(`not all of ${count} models got ready`);
      await sleep(500);
    }
    return await use(server);
  } finally {
    await server.stop();
  }
}

/** CPU of a server that is asked nothing, in percent of a core. */
async function idleCpuPercent({ pid }: ServerProcess): Promise<number> {
  await sleep(settleMs);
  const startedAt = performance.now();
  const before = cpuSeconds(pid);
  await sleep(idleMs);
  return (100_000 * (cpuSeconds(pid) - before)) / (performance.now() - startedAt);
}

/**
 * Publishes a version of one model and asks until it answers; every answer on the way is checked.
 *
 * @returns seconds from the rename
 */
async function changeOne(
  server: ServerProcess,
  requests: CheckedRequests,
  publisher: Publisher,
  invalid: string[],
): Promise<number> {
  const target = new CheckedTarget(server.url, requests);
  try {
    await publisher.stage(1);
    const { version, renamedAt } = await publisher.publish();
    const giveUpAt = performance.now() + giveUpMs;
    for (let i = 0; performance.now() < giveUpAt; i++) {
      const failure = await target.send(i);
      if (failure !== undefined)
        invalid.push(`${requests.model}: ${failure} ${target.examples.at(-1) ?? ''}`);
      const first = target.versions.find((other) => other.version === version)?.firstAt;
      if (first !== undefined) return (first - renamedAt) / 1000;
      await sleep(5);
    }
    throw new Error(`version ${version} of ${requests.model} did not answer in ${giveUpMs / 1000} s`);
  } finally {
    await target.close();
  }
}

interface LifecycleCounts {
  readonly loaded: number;
  readonly failed: number;
  readonly unloaded: number;
}

async function lifecycleCounts({ url }: ServerProcess): Promise<LifecycleCounts> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const read = (pattern: RegExp): number => {
    const found = pattern.exec(text);
    if (!found) throw new Error(`/metrics has nothing like ${pattern}`);
    return Number(found[1]);
  };
  return {
    loaded: read(/^onnx_serving_loads_total\{result="ready"\} (\d+)$/m),
    failed: read(/^onnx_serving_loads_total\{result="failed"\} (\d+)$/m),
    unloaded: read(/^onnx_serving_unloads_total (\d+)$/m),
  };
}
