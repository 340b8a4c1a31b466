import { link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { matmulDir } from '../model-files.js';
import { sendRequests } from '../model-requests.js';
import { paths, scratchDir } from '../paths.js';
import { memoryOf, settledPss } from '../proc-stat.js';
import type { Scenario } from '../scenario.js';
import { startServe } from '../server-process.js';

const cycles = 50;
const settledAfter = 3;
const growth = `PSS after ${cycles} cycles over that after ${settledAfter}`;

/** Loading and unloading a large model again and again: does its memory come back? */
export const loadCycles: Scenario = {
  name: 'load-cycles',
  question: `Does memory stay where it is over ${cycles} loads and unloads of a 200 MB model?`,
  bars: [{ name: growth, unit: 'x', limit: { atMost: 1.1 } }],
  async run({ log }) {
    const repository = await scratchDir('repository');
    try {
      await mkdir(join(repository, 'large', '1'), { recursive: true });
      const file = join(await matmulDir(3), '1', 'model.onnx');
      await link(file, join(repository, 'large', '1', 'model.onnx'));
      const server = await startServe(
        'ours',
        [
          ...['--model_control', 'explicit', '--model_repository', repository, '--thread', '1'],
          ...['--cache_dir', join(paths.cache, 'prepared')],
        ],
        // Nothing is loaded yet, so nothing is ready.
        { readyPath: '/v2/health/live' },
      );
      try {
        const pssMb: number[] = [];
        const serverAloneMb: number[] = [];
        for (let cycle = 1; cycle <= cycles; cycle++) {
          await control(server.url, 'load');
          await sendRequests(server.url, 'large', { count: 2, atATime: 1 });
          await control(server.url, 'unload');
          pssMb.push((await settledPss(server.pid)) / 1e6);
          serverAloneMb.push(memoryOf(server.pid).pss / 1e6);
          if (cycle % 10 === 0) log(`cycle ${cycle} of ${cycles}: ${pssMb.at(-1)!.toFixed(0)} MB`);
        }
        const [early, late] = [pssMb[settledAfter - 1]!, pssMb[cycles - 1]!];
        return {
          measured: { [growth]: late / early },
          invalid: [],
          notes: [
            `PSS of the server and its children: ${early.toFixed(0)} MB, then ${late.toFixed(0)} MB; ` +
              `most ${Math.max(...pssMb).toFixed(0)} MB; the server alone ` +
              `${serverAloneMb[settledAfter - 1]!.toFixed(0)} MB, then ${serverAloneMb[cycles - 1]!.toFixed(0)} MB`,
          ],
          figures: { pssMb, serverAloneMb },
        };
      } finally {
        await server.stop();
      }
    } finally {
      await rm(repository, { recursive: true, force: true });
    }
  },
};

async function control(url: string, verb: 'load' | 'unload'): Promise<void> {
  const reply = await fetch(`${url}/v2/repository/models/large/${verb}`, {
    method: 'POST',
    signal: AbortSignal.timeout(120_000),
  });
  const text = await reply.text();
  if (reply.status !== 200) throw new Error(`${verb}: ${reply.status} ${text.slice(0, 500)}`);
}
