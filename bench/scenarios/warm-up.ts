import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fetchInputs, openHttpTarget } from '../../src/loadtest/http-target.js';
import { encodeBody } from '../../src/loadtest/request-body.js';
import { generateTensors } from '../../src/loadtest/request-tensors.js';
import type { LoadTarget } from '../../src/loadtest/target.js';
import { median } from '../median.js';
import { matmulDir, mlpDir } from '../model-files.js';
import { paths, scratchDir } from '../paths.js';
import type { Scenario } from '../scenario.js';
import { startServe } from '../server-process.js';

const loadsPerRound = 4;
const laterRequests = 30;
const rowsOfBatch = 32;
const models = ['mlp', 'matmul'] as const;
const bars = {
  mlp: 'first request over a later one, mlp',
  matmul: 'first request over a later one, matmul',
  batch: `first batch of ${rowsOfBatch} rows over a later one, mlp`,
} as const;

/** The first requests to a version that was just loaded, warmed up or not. */
export const warmUp: Scenario = {
  name: 'warm-up',
  question: 'How much slower is the first request to a version, with and without its warm-up?',
  bars: [
    { name: bars.mlp, unit: 'x', limit: { atMost: 2 } },
    { name: bars.matmul, unit: 'x', limit: { atMost: 1.5 } },
    { name: bars.batch, unit: 'x', limit: { atMost: 2 } },
  ],
  async run({ rounds, log }) {
    const repository = await scratchDir('warm-up');
    try {
      await fill(repository);
      const server = await startServe(
        'ours',
        [
          ...['--model_control', 'explicit', '--model_repository', repository, '--thread', '1'],
          ...['--idle_path', 'off', '--cache_dir', join(paths.cache, 'prepared')],
        ],
        { readyWithin: 300_000 },
      );
      try {
        const found = new Map<string, First[]>();
        // The server's own code is warm before anything is timed: this is about versions, not about a process.
        for (const model of models)
          for (let i = 0; i < 5; i++) await loadAndAsk(server.url, `${model}-warm`, 1);
        for (let round = 0; round < rounds * loadsPerRound; round++) {
          const order = round % 2 === 0 ? ['warm', 'cold'] : ['cold', 'warm'];
          for (const model of models) {
            for (const kind of order) {
              for (const rows of model === 'mlp' ? [1, rowsOfBatch] : [1]) {
                const name = `${model}-${kind}`;
                const key = `${name} ${rows}`;
                found.set(key, [...(found.get(key) ?? []), await loadAndAsk(server.url, name, rows)]);
              }
            }
          }
          log(`round ${round + 1} of ${rounds * loadsPerRound}`);
        }
        return resultOf(found);
      } finally {
        await server.stop();
      }
    } finally {
      await rm(repository, { recursive: true, force: true });
    }
  },
};

interface First {
  readonly firstMs: number;
  /** The median of those behind it. */
  readonly laterMs: number;
}

function resultOf(found: ReadonlyMap<string, readonly First[]>): Awaited<ReturnType<Scenario['run']>> {
  const ratio = (key: string): number => {
    const all = found.get(key)!;
    return median(all.map(({ firstMs, laterMs }) => firstMs / laterMs));
  };
  const notes = [...found].map(([key, all]) => {
    const first = median(all.map(({ firstMs }) => firstMs));
    const worst = Math.max(...all.map(({ firstMs }) => firstMs));
    const later = median(all.map(({ laterMs }) => laterMs));
    return `${key} rows: first ${first.toFixed(2)} ms (worst ${worst.toFixed(2)}), later ${later.toFixed(2)} ms, ratio ${ratio(key).toFixed(2)}`;
  });
  return {
    measured: {
      [bars.mlp]: ratio('mlp-warm 1'),
      [bars.matmul]: ratio('matmul-warm 1'),
      [bars.batch]: ratio(`mlp-warm ${rowsOfBatch}`),
    },
    invalid: [],
    notes,
    figures: Object.fromEntries(found),
  };
}

/** Each model twice, once without a warm-up. */
async function fill(repository: string): Promise<void> {
  const sources = { mlp: await mlpDir(), matmul: await matmulDir(1) };
  for (const model of models) {
    for (const kind of ['warm', 'cold']) {
      const directory = join(repository, `${model}-${kind}`);
      await mkdir(join(directory, '1'), { recursive: true });
      await copyFile(join(sources[model], '1', 'model.onnx'), join(directory, '1', 'model.onnx'));
      await writeFile(
        join(directory, 'model.json'),
        JSON.stringify(kind === 'warm' ? {} : { warm_up_count: 0 }),
      );
    }
  }
}

/** Loads the model anew and asks it over a connection that is open already. */
async function loadAndAsk(url: string, model: string, rows: number): Promise<First> {
  const inputs = await fetchInputs({ url, model });
  const [tensors] = generateTensors({ inputs }, { count: 1, rows, shapes: {}, ranges: {}, seed: 1 });
  const target = await openHttpTarget({
    url,
    model,
    bodies: [encodeBody(tensors!, 'binary')],
    rowsPerRequest: rows,
  });
  try {
    await timed(target, model);
    await control(url, model, 'unload');
    await control(url, model, 'load');
    const firstMs = await timed(target, model);
    const later: number[] = [];
    for (let i = 0; i < laterRequests; i++) later.push(await timed(target, model));
    return { firstMs, laterMs: median(later) };
  } finally {
    await target.close();
  }
}

async function timed(target: LoadTarget, model: string): Promise<number> {
  const startedAt = performance.now();
  const failure = await target.send(0);
  const took = performance.now() - startedAt;
  if (failure) throw new Error(`${model}: ${failure}`);
  return took;
}

async function control(url: string, model: string, verb: 'load' | 'unload'): Promise<void> {
  const reply = await fetch(`${url}/v2/repository/models/${model}/${verb}`, {
    method: 'POST',
    signal: AbortSignal.timeout(120_000),
  });
  const text = await reply.text();
  if (reply.status !== 200) throw new Error(`${model} ${verb}: ${reply.status} ${text.slice(0, 500)}`);
}
