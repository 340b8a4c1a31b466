/** One name over two variants: do the shares hold, do keys stay, and what does the choice cost a request? */
import { rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import type { RequestBody } from '../../src/loadtest/request-body.js';
import { startOurs } from '../http-contestants.js';
import { type RoundFigures, roundsTable } from '../http-rounds.js';
import { medianRatio } from '../median.js';
import { mlpBodies } from '../mlp.js';
import { scratchDir } from '../paths.js';
import { cpuSeconds } from '../proc-stat.js';
import { checkReply } from '../reply-check.js';
import type { Scenario } from '../scenario.js';
import type { ServerProcess } from '../server-process.js';
import { loadGenerator } from '../wrk.js';

const requests = 20_000;
const keys = 5000;
const atATime = 32;

const weightedOff = `10/90 by weight over ${requests} requests: off by`;
const stickyOff = `10/90 of ${requests} keys: off by`;
const moved = 'keys that moved though weights stayed';
const strayed = 'keys that moved elsewhere than to the raised variant';
const cost = 'CPU a request, split by weight over plain';
const stickyCost = 'CPU a request, split by key over plain';
const shadowed = 'throughput with a shadow over plain';

/** Both variants are one version of one model, so that the choice is all that differs from its plain name. */
const variants = [
  { tag: 'stable', model: 'mlp', version: 1, weight: 90 },
  { tag: 'next', model: 'mlp', version: 1, weight: 10 },
];

const traffic = {
  weighted: { variants },
  // A header that every client sends; one value costs what another does.
  sticky: { variants, sticky: { by: 'header', name: 'host' } },
  shadow: { variants, shadow: [{ tag: 'copy', model: 'mlp', version: 1 }] },
  keyed: { variants, sticky: { by: 'header', name: 'x-user' } },
};

const loaded = ['plain', 'weighted', 'sticky', 'shadow'] as const;
const connections = 64;

/** Splitting traffic. */
export const trafficSplit: Scenario = {
  name: 'traffic-split',
  question: 'Does a 10/90 split land where it should, do keys stay, and what does it cost a request?',
  bars: [
    { name: weightedOff, unit: '%', limit: { atMost: 1 } },
    { name: stickyOff, unit: '%', limit: { atMost: 1 } },
    { name: moved, unit: '%', limit: { atMost: 0 } },
    { name: strayed, unit: '%', limit: { atMost: 0 } },
    { name: cost, unit: 'x', limit: { atMost: 1.05 }, aim: 1.02 },
    { name: stickyCost, unit: 'x', limit: { atMost: 1.05 }, aim: 1.02 },
    { name: shadowed, unit: 'x', limit: { atLeast: 0.9 }, aim: 1 },
  ],
  async run({ rounds, roundSeconds, log }) {
    const dir = await scratchDir('traffic');
    let server: ServerProcess | undefined;
    try {
      const config = join(dir, 'serve.json');
      await writeFile(config, JSON.stringify({ traffic }));
      // The weights that this run raises must not outlive it.
      const state = join(dir, 'state.json');
      server = await startOurs('ours', ['--config', config, '--state_file', state]);
      const shares = await measureShares(server.url, log);
      const load = await measureCost(server, { turns: rounds * roundSeconds, dir, log });
      const { plain, weighted, sticky, shadow } = load.figures;
      return {
        measured: {
          [weightedOff]: shares.weightedOff,
          [stickyOff]: shares.stickyOff,
          [moved]: shares.moved,
          [strayed]: shares.strayed,
          [cost]: medianRatio(weighted.cpuUs, plain.cpuUs),
          [stickyCost]: medianRatio(sticky.cpuUs, plain.cpuUs),
          [shadowed]: medianRatio(shadow.requestsPerSecond, plain.requestsPerSecond),
        },
        invalid: load.invalid,
        notes: [
          `load: ${load.generator}, ${connections} connections, ${rounds * roundSeconds} turns of 1 s on each name of one server`,
          roundsTable(load.figures),
          `p99 with a shadow ${medianRatio(shadow.p99Ms, plain.p99Ms).toFixed(2)}x plain; ${await copiesOf(server.url)}`,
          `raising next from 10 to 20 moved ${shares.raised.toFixed(2)} % of the keys; its share asks for ${(100 * (20 / 110 - 0.1)).toFixed(2)} %`,
        ],
        figures: { shares, ...load.figures },
      };
    } finally {
      await server?.stop();
      await rm(dir, { recursive: true, force: true });
    }
  },
};

interface Cost {
  readonly generator: string;
  readonly figures: Readonly<Record<(typeof loaded)[number], RoundFigures>>;
  readonly invalid: readonly string[];
}

/** Loads the plain name and the split ones of one process in short turns: what differs between processes is left out. */
async function measureCost(
  server: ServerProcess,
  options: { readonly turns: number; readonly dir: string; readonly log: (line: string) => void },
): Promise<Cost> {
  const wrong = await checkReply(server.url, 'json', true);
  const empty = (): RoundFigures => ({ requestsPerSecond: [], cpuUs: [], p50Ms: [], p99Ms: [] });
  const figures = { plain: empty(), weighted: empty(), sticky: empty(), shadow: empty() };
  const entries = [];
  for (const name of loaded) {
    const url = `${server.url}/v2/models/${name === 'plain' ? 'mlp' : name}/infer`;
    const generator = await loadGenerator(url, mlpBodies('json'), options.dir);
    await generator.run(connections, 2);
    entries.push({ name, generator });
  }
  let failed = 0;
  for (let turn = 0; turn < options.turns; turn++) {
    for (let place = 0; place < entries.length; place++) {
      const { name, generator } = entries[(place + turn) % entries.length]!;
      const cpuBefore = cpuSeconds(server.pid);
      const load = await generator.run(connections, 1);
      const cpu = cpuSeconds(server.pid) - cpuBefore;
      figures[name].requestsPerSecond.push(load.requests / load.seconds);
      figures[name].cpuUs.push((cpu * 1e6) / load.requests);
      figures[name].p50Ms.push(load.p50Ms);
      figures[name].p99Ms.push(load.p99Ms);
      failed += load.failed;
    }
    if (turn % 5 === 4) options.log(`turn ${turn + 1} of ${options.turns}`);
  }
  const invalid = wrong === undefined ? [] : [wrong];
  if (failed > 0) invalid.push(`${failed} answers were not 2xx or did not come`);
  return { generator: entries[0]!.generator.name, figures, invalid };
}

interface Shares {
  readonly weightedOff: number;
  readonly stickyOff: number;
  readonly moved: number;
  readonly strayed: number;
  /** Percent of the keys that a raised weight moved. */
  readonly raised: number;
}

/** Counts the variants that replies name. */
async function measureShares(url: string, log: (line: string) => void): Promise<Shares> {
  const off = (tags: readonly string[]): number =>
    Math.abs((100 * tags.filter((tag) => tag === 'next').length) / tags.length - 10);
  const unlike = (before: readonly string[], after: readonly string[], to?: string): number =>
    (100 * after.filter((tag, key) => tag !== before[key] && tag !== to).length) / after.length;
  log(`${requests} requests without a key`);
  const weighted = await variantsOf(url, requests, () => undefined);
  log(`${requests} requests of as many keys`);
  const before = await variantsOf(url, requests, (key) => `user-${key}`);
  log(`${keys} of the keys again, and with a raised weight`);
  const again = await variantsOf(url, keys, (key) => `user-${key}`);
  await setWeights(url, { stable: 90, next: 20 });
  const raised = await variantsOf(url, keys, (key) => `user-${key}`);
  return {
    weightedOff: off(weighted),
    stickyOff: off(before),
    moved: unlike(before, again),
    strayed: unlike(before, raised, 'next'),
    raised: unlike(before, raised),
  };
}

async function setWeights(url: string, weights: Readonly<Record<string, number>>): Promise<void> {
  const reply = await fetch(`${url}/v2/traffic/keyed`, { method: 'PUT', body: JSON.stringify({ weights }) });
  if (reply.status !== 200) throw new Error(`PUT of the weights: ${reply.status} ${await reply.text()}`);
}

/** The variant of each request, in their order; its key goes in a header. */
async function variantsOf(
  url: string,
  count: number,
  keyOf: (index: number) => string | undefined,
): Promise<string[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: atATime });
  const [body] = mlpBodies('binary');
  const tags = new Array<string>(count);
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      tags[index] = await variantOf(url, body!, keyOf(index), agent);
    }
  };
  try {
    await Promise.all(Array.from({ length: atATime }, client));
    return tags;
  } finally {
    agent.destroy();
  }
}

function variantOf(
  url: string,
  { bytes, headers }: RequestBody,
  key: string | undefined,
  agent: Agent,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/v2/models/keyed/infer`, {
      method: 'POST',
      agent,
      headers: { ...headers, ...(key === undefined ? {} : { 'x-user': key }) },
    });
    sent.on('response', (reply) => {
      reply.resume();
      reply.on('end', () => {
        const tag = reply.headers['x-variant'];
        if (reply.statusCode === 200 && typeof tag === 'string') resolve(tag);
        else reject(new Error(`status ${reply.statusCode}, X-Variant ${tag}`));
      });
    });
    sent.on('error', reject);
    sent.end(bytes);
  });
}

async function copiesOf(url: string): Promise<string> {
  const reply = await fetch(`${url}/v2/traffic/shadow`);
  const { shadow } = (await reply.json()) as { shadow: { compared: number; shed: number; failed: number }[] };
  const { compared, shed, failed } = shadow[0]!;
  return `copies: ${compared} compared, ${shed} shed, ${failed} failed`;
}
