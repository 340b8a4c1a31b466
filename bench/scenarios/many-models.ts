import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fillRepository } from '../model-files.js';
import { countReady, sendRequests } from '../model-requests.js';
import { scratchDir } from '../paths.js';
import { memoryOfTree } from '../proc-stat.js';
import type { Scenario } from '../scenario.js';
import { startServe } from '../server-process.js';

const count = 1000;
const bars = { cold: 'ready, cold cache', warm: 'ready, warm cache', pss: 'PSS' } as const;

/** One server with a thousand small models. */
export const manyModels: Scenario = {
  name: 'many-models',
  question: `How long until ${count} small models are ready, and how much memory do they take?`,
  bars: [
    { name: bars.cold, unit: 's', limit: { atMost: 60 } },
    { name: bars.warm, unit: 's', limit: { atMost: 20 } },
    { name: bars.pss, unit: 'MB', limit: { atMost: 800 } },
  ],
  async run({ log }) {
    const dir = await scratchDir('many');
    try {
      const repository = join(dir, 'repository');
      const { source, name } = await fillRepository(repository, count);
      const probes = [0, count >> 1, count - 1].map(name);
      const cold = await startOnce(repository, join(dir, 'cache'), probes);
      log(`cold: ${cold.readySeconds.toFixed(1)} s, ${cold.pssMb.toFixed(0)} MB`);
      const warm = await startOnce(repository, join(dir, 'cache'), probes);
      log(`warm: ${warm.readySeconds.toFixed(1)} s, ${warm.pssMb.toFixed(0)} MB`);
      return {
        measured: {
          [bars.cold]: cold.readySeconds,
          [bars.warm]: warm.readySeconds,
          [bars.pss]: Math.max(cold.pssMb, warm.pssMb),
        },
        invalid: [cold, warm].flatMap(({ readyModels }) =>
          readyModels === count ? [] : [`${readyModels} of ${count} models got ready`],
        ),
        notes: [
          `${count} copies of ${source}, 2 workers; PSS of the server and its children, the larger start`,
        ],
        figures: { cold, warm },
      };
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  },
};

interface Start {
  readonly readySeconds: number;
  readonly readyModels: number;
  readonly pssMb: number;
}

async function startOnce(repository: string, cacheDir: string, probes: readonly string[]): Promise<Start> {
  const startedAt = performance.now();
  const server = await startServe(
    'ours',
    ['--model_repository', repository, '--thread', '2', '--cache_dir', cacheDir],
    { readyWithin: 300_000 },
  );
  try {
    // Ready may mean one model; the bar is about all of them.
    let readyModels = await countReady(server.url);
    const giveUpAt = startedAt + 300_000;
    while (readyModels < count && performance.now() < giveUpAt) {
      await sleep(100);
      readyModels = await countReady(server.url);
    }
    const readySeconds = (performance.now() - startedAt) / 1000;
    for (const model of probes) await sendRequests(server.url, model, { count: 3, atATime: 1 });
    return { readySeconds, readyModels, pssMb: memoryOfTree(server.pid).pss / 1e6 };
  } finally {
    await server.stop();
  }
}
