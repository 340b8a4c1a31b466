/** From the rename of a delta of a table to the first answer that uses it. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadResult } from '../../src/loadtest/report.js';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import { runProgram } from '../child-program.js';
import { mlpBodies } from '../mlp.js';
import { mlpDir } from '../model-files.js';
import { scratchDir } from '../paths.js';
import { DeltaChain, writeRowModel } from '../reload/delta-chain.js';
import { type State, stateBars, stateFigures, states } from '../reload/idle-and-loaded.js';
import type { Scenario, ScenarioOptions } from '../scenario.js';
import { type ServerProcess, startServe } from '../server-process.js';
import { loadGenerator } from '../wrk.js';

const rows = 1_000_000;
const dim = 16;
const rowsADelta = 10_000;
/** Ids of a request, all of them in every delta: an answer with two values would have rows of two versions. */
const ids = 26;
const deltasARound = 4;
const pauseMs = 1000;
const probeEveryMs = 5;

const measuredTime = 'rename to first use';

/** How soon a delta of a table is used. */
export const reloadDelta: Scenario = {
  name: 'reload-delta',
  question: `How long after its rename is a delta of ${rowsADelta} rows to a table of ${rows / 1e6} M used?`,
  bars: stateBars(measuredTime),
  async run(options) {
    const dir = await scratchDir('delta');
    let server: ServerProcess | undefined;
    try {
      options.log(`building a table and ${deltasARound * states.length * options.rounds} deltas`);
      const deltas = deltasARound * states.length * options.rounds;
      const chain = await DeltaChain.build(dir, { rows, dim, deltas, rowsADelta });
      const model = join(dir, 'rows');
      await writeRowModel(model, writeOnnxModel(rowModel()), { table: chain.table, ids });
      server = await startServe('ours', [
        ...['--model', model, '--model', await mlpDir(), '--cache_dir', join(dir, 'prepared')],
      ]);
      return await measure(server, chain, dir, options);
    } finally {
      await server?.stop();
      await rm(dir, { recursive: true, force: true });
    }
  },
};

async function measure(
  server: ServerProcess,
  chain: DeltaChain,
  dir: string,
  { rounds, roundSeconds, log }: ScenarioOptions,
): ReturnType<Scenario['run']> {
  const generator = await loadGenerator(`${server.url}/v2/models/mlp/infer`, mlpBodies('json'), dir);
  await generator.run(64, 3);
  const most = await generator.run(64, roundSeconds);
  const rate = Math.round(most.requests / most.seconds / 2);
  const seconds: Record<State, number[]> = { idle: [], 'half load': [] };
  const invalid: string[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const state of states) {
      const load = state === 'idle' ? undefined : startLoad(server.url, rate, round);
      if (load) await sleep(2 * pauseMs);
      const probe = new Probe(server.url);
      const answering = probe.run();
      for (let i = 0; i < deltasARound; i++) {
        const { value, renamedAt } = await chain.publish();
        seconds[state].push(((await probe.firstAnswer(value)) - renamedAt) / 1000);
        await sleep(pauseMs);
      }
      probe.stop();
      await answering;
      invalid.push(...probe.wrong.map((wrong) => `${state}: ${wrong}`));
      const result = await load;
      if (result && result.requests.failed > 0) invalid.push(JSON.stringify(result.requests.failures));
    }
    log(`round ${round + 1} of ${rounds}`);
  }
  return {
    measured: stateFigures(measuredTime, seconds),
    invalid,
    notes: [
      `${deltasARound * rounds} deltas in each state; a request for ${ids} of their rows every ${probeEveryMs} ms, each answer checked; half load: ${rate} requests/s to another model beside it`,
    ],
    figures: { rate, seconds },
  };
}

/** Poisson arrivals for as long as the deltas of a state take. */
function startLoad(url: string, rate: number, round: number): Promise<LoadResult> {
  const seconds = ((deltasARound + 2) * 2 * pauseMs) / 1000;
  return runProgram<LoadResult>(
    'open-loop-generator',
    [url, rate, seconds, round + 1].map(String),
    (seconds + 60) * 1000,
  );
}

/** Asks again and again for the same rows, and knows since when they have which value. */
class Probe {
  readonly #url: string;
  readonly #firstAt = new Map<number, number>();
  readonly wrong: string[] = [];
  #last = 0;
  #isOver = false;

  constructor(url: string) {
    this.#url = `${url}/v2/models/rows/infer`;
  }

  async run(): Promise<void> {
    while (!this.#isOver) {
      await this.#ask().catch((error: unknown) => void this.wrong.push(String(error)));
      await sleep(probeEveryMs);
    }
  }

  stop(): void {
    this.#isOver = true;
  }

  /** When the first answer with a value, or a later one, came, ms since 1970. */
  async firstAnswer(value: number): Promise<number> {
    const giveUpAt = Date.now() + 30_000;
    while (!this.#firstAt.has(value)) {
      if (Date.now() > giveUpAt) throw new Error(`delta ${value} was not used within 30 s`);
      await sleep(1);
    }
    return this.#firstAt.get(value)!;
  }

  async #ask(): Promise<void> {
    const data = Array.from({ length: ids }, (_, index) => index + 1);
    const reply = await fetch(this.#url, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'ids', datatype: 'INT64', shape: [1, ids], data }] }),
    });
    const text = await reply.text();
    if (reply.status !== 200) throw new Error(`${reply.status} ${text}`);
    const answer = JSON.parse(text) as { outputs: [{ data: number[] }] };
    const values = new Set(answer.outputs[0].data);
    const [value = -1] = values;
    if (values.size !== 1) this.wrong.push(`an answer has rows of several deltas: ${[...values]}`);
    if (value < this.#last) this.wrong.push(`delta ${value} came after ${this.#last}`);
    this.#last = value;
    if (!this.#firstAt.has(value)) this.#firstAt.set(value, Date.now());
  }
}

function rowModel(): Parameters<typeof writeOnnxModel>[0] {
  const width = ids * dim;
  return {
    nodes: [{ op: 'Identity', inputs: ['rows'], outputs: ['y'] }],
    inputs: [{ name: 'rows', datatype: 'FP32', shape: ['batch', width] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', width] }],
  };
}
