import { join } from 'node:path';
import { runProgram } from '../child-program.js';
import { matmulDir, mlpDir } from '../model-files.js';
import { sendRequests } from '../model-requests.js';
import { paths } from '../paths.js';
import { type Memory, memoryOf, memoryOfTree } from '../proc-stat.js';
import type { Scenario } from '../scenario.js';
import { startServe } from '../server-process.js';

/** What opening clones one after the other showed. */
export interface CloneLoads {
  /** How the prepare process decided to load the model. */
  readonly form: string;
  readonly reason: string;
  readonly loadMs: readonly number[];
}

const workers = 3;
const growth = 'private memory beyond the mapping';
const clones = 'second and later clones load';

/** A large model in several workers: are its weights there once? */
export const sharedWeights: Scenario = {
  name: 'shared-weights',
  question: `What do ${workers} workers take beyond one mapping of a 402 MB model, and how fast do clones load?`,
  bars: [
    { name: growth, unit: 'MB', limit: { atMost: 60 } },
    { name: clones, unit: 'ms', limit: { atMost: 50 } },
  ],
  async run({ log }) {
    const cacheDir = join(paths.cache, 'prepared');
    const large = await matmulDir(6);
    const small = await memoryWith(await mlpDir(), 'mlp', cacheDir);
    // Prepares the model where the cache has it not: that process has held the weights, the second one has not.
    const first = await memoryWith(large, 'matmul6', cacheDir);
    log('first start done');
    const second = await memoryWith(large, 'matmul6', cacheDir);
    const beyondMb = (tree: Memory): number => (tree.anonymous - small.tree.anonymous) / 1e6;
    const loads = await runProgram<CloneLoads>(
      'clone-loads',
      [join(large, '1', 'model.onnx'), cacheDir, String(workers)],
      600_000,
    );
    const later = Math.max(...loads.loadMs.slice(1));
    const isPrepacked = loads.form === 'prepacked';
    return {
      measured: { [growth]: beyondMb(second.tree), [clones]: later },
      exempt: isPrepacked ? [clones] : [],
      invalid: [],
      notes: [
        `anonymous memory over a server of the small network, children counted: ` +
          `${beyondMb(second.tree).toFixed(0)} MB, on the first start ${beyondMb(first.tree).toFixed(0)} MB; ` +
          `server process alone ${((second.server.anonymous - small.server.anonymous) / 1e6).toFixed(0)} MB`,
        `clones of the form "${loads.form}" load in ${loads.loadMs.map((ms) => ms.toFixed(0)).join(', ')} ms (${loads.reason})`,
        ...(isPrepacked
          ? ['prepacked was measured as better overall, so the bar of 50 ms does not apply']
          : []),
      ],
      figures: { small, first, second, loads },
    };
  },
};

/** Memory of a server with one model after every worker has run it. */
async function memoryWith(
  dir: string,
  model: string,
  cacheDir: string,
): Promise<{ server: Memory; tree: Memory }> {
  const server = await startServe(
    'ours',
    ['--model', dir, '--thread', String(workers), '--cache_dir', cacheDir],
    { readyWithin: 600_000 },
  );
  try {
    await sendRequests(server.url, model, { count: 60, atATime: 12 });
    return { server: memoryOf(server.pid), tree: memoryOfTree(server.pid) };
  } finally {
    await server.stop();
  }
}
