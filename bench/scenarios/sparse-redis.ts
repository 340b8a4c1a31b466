import { freemem } from 'node:os';
import { textTable } from '../../src/loadtest/text-table.js';
import { median, medianRatio } from '../median.js';
import { cpuSeconds } from '../proc-stat.js';
import { type Scenario, skipped } from '../scenario.js';
import { type ContestantProcess, type GatherFigures, startProcess } from '../sparse/contestant-process.js';
import { nativeProgram } from '../sparse/native-program.js';
import { startRedis } from '../sparse/redis-server.js';
import { keyFile, sparseTable, startTable, type TableSpec } from '../sparse/tables.js';
import { takeTurns, wrongRows } from '../sparse/turns.js';
import { isInPath } from '../wrk.js';

const batch = 100;
const serverCore = 'keys/s a core over Redis, its CPU alone';
const bothCores = 'keys/s a core over Redis and its client';
/** Connections and requests on their way on each. */
const ways = [
  [1, 1],
  [1, 8],
  [4, 4],
  [16, 1],
  [50, 1],
] as const;

interface MgetFigures {
  readonly keys: number;
  readonly seconds: number;
  readonly clientCpuSeconds: number;
}

/** Keys/s, by wall clock and by CPU. */
interface Rates {
  readonly keysPerSecond: number;
  readonly perServerCore: number;
  readonly perCore: number;
}

/** The store that is usually put beside a service for this. */
export const sparseRedis: Scenario = {
  name: 'sparse-redis',
  question: `How many keys a second does a core serve, against Redis on loopback with MGET of ${batch} keys?`,
  bars: [
    { name: serverCore, unit: 'x', limit: { atLeast: 12 } },
    { name: bothCores, unit: 'x', limit: { atLeast: 12 } },
  ],
  async run({ rounds, roundSeconds, tableRows: rows, log }) {
    if (!(await isInPath('redis-server'))) {
      return skipped('Redis is not installed: apt-get install redis-server');
    }
    const spec: TableSpec = { rows, dim: 16, dtype: 'f32' };
    const needed = rows * (spec.dim * 4 + 150);
    if (freemem() < needed) {
      return skipped(
        `Redis takes ${(needed / 1e9).toFixed(1)} GB for ${rows} rows, more than is free; use --rows`,
      );
    }
    const directory = await sparseTable(spec, log);
    const keys = await keyFile(rows, 'uniform');
    const client = await nativeProgram('redis_client');
    const redis = await startRedis();
    const started: ContestantProcess[] = [];
    try {
      log(`putting ${rows / 1e6} M rows into Redis`);
      const asking = await startProcess(client, [String(redis.port), keys, String(rows), String(spec.dim)]);
      started.push(asking);
      const ours = await startTable(spec, directory, { residence: 'mapped', keys });
      started.push(ours);
      await ours.ask('hold');
      const invalid = await wrongRows({ redis: asking, ours });
      const mget = async (way: readonly [number, number], seconds: number): Promise<Rates> => {
        const cpuBefore = cpuSeconds(redis.pid);
        const figures = await asking.ask<MgetFigures>(`mget ${batch} ${way.join(' ')} ${seconds}`);
        const serverCpu = cpuSeconds(redis.pid) - cpuBefore;
        return {
          keysPerSecond: figures.keys / figures.seconds,
          perServerCore: figures.keys / serverCpu,
          perCore: figures.keys / (serverCpu + figures.clientCpuSeconds),
        };
      };
      const tried: Rates[] = [];
      for (const way of ways) tried.push(await mget(way, roundSeconds / 2));
      const best = tried.indexOf(tried.toSorted((a, b) => b.perServerCore - a.perServerCore)[0]!);
      const found = await takeTurns({ redis: asking, ours }, rounds, async (_, name): Promise<Rates> => {
        // Both a second and more: a tick of the clock in /proc is 10 ms.
        if (name === 'redis') return mget(ways[best]!, roundSeconds);
        const figures = await ours.ask<GatherFigures>(`gather ${batch} 1 ${roundSeconds / 4}`);
        const perCore = figures.keysPerCpuSecond;
        return { keysPerSecond: figures.keysPerSecond, perServerCore: perCore, perCore };
      });
      const ratio = (figure: keyof Rates): number =>
        medianRatio(
          found.ours!.map((rates) => rates[figure]),
          found.redis!.map((rates) => rates[figure]),
        );
      const triedText = ways.map(
        ([connections, depth], i) =>
          `${connections} x ${depth}: ${(tried[i]!.perServerCore / 1e6).toFixed(2)} M keys/s a core`,
      );
      return {
        measured: { [serverCore]: ratio('perServerCore'), [bothCores]: ratio('perCore') },
        invalid,
        notes: [
          `requests of ${batch} uniform keys, connections x requests on their way: ${triedText.join('; ')}`,
          ratesText(found),
        ],
        figures: { tried, best: ways[best], found },
      };
    } finally {
      for (const contestant of started) await contestant.stop();
      await redis.stop();
    }
  },
};

function ratesText(found: Readonly<Record<string, readonly Rates[]>>): string {
  const millions = (rates: readonly Rates[], figure: keyof Rates): string =>
    (median(rates.map((one) => one[figure])) / 1e6).toFixed(2);
  return textTable([
    ['contestant', 'M keys/s', 'a core of the server', 'a core, client counted'],
    ...Object.entries(found).map(([name, rates]) => [
      name,
      millions(rates, 'keysPerSecond'),
      millions(rates, 'perServerCore'),
      millions(rates, 'perCore'),
    ]),
  ]);
}
