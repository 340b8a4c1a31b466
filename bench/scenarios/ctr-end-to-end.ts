import { join } from 'node:path';
import { type CtrFiles, ctrFiles, ctrSubject } from '../ctr-subject.js';
import { withHttpContestants } from '../http-contestants.js';
import {
  type HttpContestant,
  type HttpSubject,
  httpRounds,
  type RoundFigures,
  roundsTable,
} from '../http-rounds.js';
import { median, medianRatio } from '../median.js';
import { paths } from '../paths.js';
import { cpuSeconds } from '../proc-stat.js';
import type { BarSpec, Scenario, ScenarioOptions } from '../scenario.js';
import { type ServerProcess, startContestant, startServe } from '../server-process.js';
import { holdTable } from '../sparse/tables.js';

const protocols = ['json', 'binary'] as const;
const sizes = ['small', 'large'] as const;
type Size = (typeof sizes)[number];
type Protocol = (typeof protocols)[number];

const sampleRows = 1_000_000;
/** Some 100,000 requests: until then V8 compiles on other threads, and charges it to whoever was started last. */
const firstWarmUpSeconds = 8;
const connections = 64;

const barName = (size: Size, protocol: Protocol, figure: string): string =>
  `${size} table, ${protocol}: ${figure}`;
const cpu = 'CPU a request over naive';
const throughput = 'throughput over naive';
const gathering = 'gather of our CPU';

/** The whole road: ids in, table, network, probability out. */
export const ctrEndToEnd: Scenario = {
  name: 'ctr-end-to-end',
  question: `What does a click probability cost at ${connections} connections, with tables of 1 M rows (small) and of --rows (large)?`,
  bars: sizes.flatMap((size) =>
    protocols.flatMap((protocol): BarSpec[] => [
      { name: barName(size, protocol, cpu), unit: 'x', limit: { atMost: 0.45 } },
      { name: barName(size, protocol, throughput), unit: 'x', limit: { atLeast: 2.2 }, aim: 3 },
      { name: barName(size, protocol, gathering), unit: '%', limit: { atMost: 10 } },
    ]),
  ),
  async run(options) {
    const copies = { small: 1, large: Math.max(2, Math.round(options.tableRows / sampleRows)) };
    const found = {} as Record<Size, SizeFigures>;
    for (const size of sizes) found[size] = await ofSize(size, copies[size], options);
    return {
      measured: Object.assign({}, ...sizes.map((size) => found[size].measured)) as Record<string, number>,
      invalid: sizes.flatMap((size) => found[size].invalid),
      notes: [
        `one row a request: 26 ids, 13 numbers; ${connections} connections; table mapped, one worker`,
        ...sizes.flatMap((size) => found[size].notes),
      ],
      figures: found,
    };
  },
};

interface SizeFigures {
  readonly measured: Readonly<Record<string, number>>;
  readonly invalid: readonly string[];
  readonly notes: readonly string[];
  readonly figures: Readonly<Record<string, unknown>>;
}

async function ofSize(size: Size, copies: number, options: ScenarioOptions): Promise<SizeFigures> {
  const files = await ctrFiles(copies, options.log);
  const subject = await ctrSubject(copies);
  const held = await holdTable(files.table);
  try {
    return await ofServers(size, files, subject, options);
  } finally {
    await held.stop();
  }
}

async function ofServers(
  size: Size,
  files: CtrFiles,
  subject: HttpSubject,
  options: ScenarioOptions,
): Promise<SizeFigures> {
  options.log(`starting servers with ${(files.rows / 1e6).toFixed(0)} M rows`);
  return withHttpContestants(
    [
      () => startOurs(files),
      () => startNaive('naive', 'http', files),
      () => startNaive('naive fastify', 'fastify', files),
    ],
    options.log,
    async (started) => {
      const ours = started.find(({ server }) => server.name === 'ours')?.server;
      const measured: Record<string, number> = {};
      const invalid: string[] = [];
      const notes: string[] = [];
      const figures: Record<string, unknown> = {};
      for (const protocol of protocols) {
        const before = ours && (await workOf(ours));
        const load = { subject, protocol, connections, firstWarmUpSeconds };
        const rounds = await httpRounds(started, { ...options, ...load });
        const after = ours && (await workOf(ours));
        invalid.push(...rounds.invalid.map((wrong) => `${size} table, ${protocol}: ${wrong}`));
        notes.push(
          `${size} table, ${(files.rows / 1e6).toFixed(0)} M rows, ${protocol}; load: ${rounds.generator}\n${roundsTable(rounds.byName)}`,
        );
        figures[protocol] = { rounds: rounds.byName, before, after };
        if (!before || !after) continue;
        Object.assign(measured, barsOf(size, protocol, rounds.byName.ours!, rounds.byName.naive!));
        measured[barName(size, protocol, gathering)] = gatherShare(before, after);
        notes.push(stagesText(size, protocol, before, after, median(rounds.byName.ours!.cpuUs)));
      }
      return { measured, invalid, notes, figures };
    },
  );
}

async function startOurs(files: CtrFiles): Promise<HttpContestant> {
  const server = await startServe('ours', [
    ...['--model', files.directory, '--thread', '1', '--cache_dir', join(paths.cache, 'prepared')],
  ]);
  return { server, infers: true };
}

async function startNaive(name: string, front: 'http' | 'fastify', files: CtrFiles): Promise<HttpContestant> {
  const server = await startContestant(name, 'naive-ctr', [front, files.modelFile, files.rowsFile], {
    // 20 M entries of Maps are more than a heap of the usual size.
    nodeArgs: ['--max-old-space-size=8192'],
    readyWithin: 300_000,
  });
  return { server, infers: true };
}

/** What our server has done so far. */
interface Work {
  readonly cpuSeconds: number;
  readonly requests: number;
  readonly gatherSeconds: number;
  readonly stages: Readonly<Record<string, number>>;
}

/** Sums of /metrics; gather and compute are of batches, in the worker. */
async function workOf(server: ServerProcess): Promise<Work> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const sums = [...text.matchAll(/^onnx_serving_stage_seconds_sum\{.*stage="(\w+)".*\} (\S+)$/gm)];
  const stages = Object.fromEntries(sums.map(([, stage, seconds]) => [stage!, Number(seconds)]));
  const count = /^onnx_serving_stage_seconds_count\{.*stage="total".*\} (\S+)$/m.exec(text)?.[1];
  return {
    cpuSeconds: cpuSeconds(server.pid),
    requests: Number(count ?? 0),
    gatherSeconds: stages.gather ?? 0,
    stages,
  };
}

function gatherShare(before: Work, after: Work): number {
  return (100 * (after.gatherSeconds - before.gatherSeconds)) / (after.cpuSeconds - before.cpuSeconds);
}

function barsOf(
  size: Size,
  protocol: Protocol,
  ours: RoundFigures,
  naive: RoundFigures,
): Record<string, number> {
  return {
    [barName(size, protocol, cpu)]: medianRatio(ours.cpuUs, naive.cpuUs),
    [barName(size, protocol, throughput)]: medianRatio(ours.requestsPerSecond, naive.requestsPerSecond),
  };
}

function stagesText(size: Size, protocol: Protocol, before: Work, after: Work, cpuUs: number): string {
  const requests = after.requests - before.requests;
  const us = (stage: string): string =>
    ((((after.stages[stage] ?? 0) - (before.stages[stage] ?? 0)) * 1e6) / requests).toFixed(2);
  return (
    `${size} table, ${protocol}: of ${cpuUs.toFixed(0)} us a request: decode ${us('decode')}, assemble ${us('assemble')}, ` +
    `gather ${us('gather')}, compute ${us('compute')}, encode ${us('encode')}`
  );
}
