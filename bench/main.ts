/** `npm run bench`: runs the scenarios, prints one table of bars, keeps every figure in a JSON file. */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { type BarLine, barLines, barTable } from './bars.js';
import { paths } from './paths.js';
import { lockBench } from './run-lock.js';
import type { Scenario, ScenarioResult } from './scenario.js';
import { binary64, json64 } from './scenarios/closed-loop.js';
import { ctrEndToEnd } from './scenarios/ctr-end-to-end.js';
import { inProcess } from './scenarios/in-process.js';
import { largeBody } from './scenarios/large-body.js';
import { loadCycles } from './scenarios/load-cycles.js';
import { manyModels } from './scenarios/many-models.js';
import { oneConnection } from './scenarios/one-connection.js';
import { openLoop } from './scenarios/open-loop.js';
import { reloadCtr } from './scenarios/reload-ctr.js';
import { reloadDelta } from './scenarios/reload-delta.js';
import { reloadDense } from './scenarios/reload-dense.js';
import { reloadLatency } from './scenarios/reload-latency.js';
import { reloadMany } from './scenarios/reload-many.js';
import { sharedWeights } from './scenarios/shared-weights.js';
import { sparseGather } from './scenarios/sparse-gather.js';
import { sparseJs } from './scenarios/sparse-js.js';
import { sparseLimited } from './scenarios/sparse-limited.js';
import { sparseLmdb } from './scenarios/sparse-lmdb.js';
import { sparseRedis } from './scenarios/sparse-redis.js';
import { trafficSplit } from './scenarios/traffic-split.js';
import { warmUp } from './scenarios/warm-up.js';

const scenarios: readonly Scenario[] = [
  json64,
  binary64,
  openLoop,
  oneConnection,
  inProcess,
  largeBody,
  sharedWeights,
  manyModels,
  loadCycles,
  warmUp,
  trafficSplit,
  sparseGather,
  sparseJs,
  sparseLmdb,
  sparseRedis,
  sparseLimited,
  ctrEndToEnd,
  reloadCtr,
  reloadDense,
  reloadLatency,
  reloadDelta,
  reloadMany,
];

const usage = `npm run bench -- [--only NAME,...] [--rounds N] [--seconds N] [--rows N] [--out FILE]

${scenarios.map(({ name, question }) => `  ${name.padEnd(16)}${question}`).join('\n')}
`;

interface BenchArguments {
  readonly chosen: readonly Scenario[];
  readonly rounds: number;
  readonly roundSeconds: number;
  readonly tableRows: number;
  readonly out: string;
}

function readArguments(): BenchArguments {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
      rows: { type: 'string', default: '20000000' },
      out: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    process.exit(0);
  }
  const names = values.only?.split(',') ?? scenarios.map(({ name }) => name);
  const chosen = names.map((name) => {
    const found = scenarios.find((scenario) => scenario.name === name);
    if (!found) throw new Error(`no scenario ${name}\n\n${usage}`);
    return found;
  });
  const [rounds, roundSeconds] = [Number(values.rounds), Number(values.seconds)];
  // wrk takes whole seconds.
  for (const value of [rounds, roundSeconds]) {
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--rounds and --seconds take whole numbers\n\n${usage}`);
  }
  const tableRows = Number(values.rows);
  if (!Number.isInteger(tableRows) || tableRows < 100_000)
    throw new Error(`--rows, of the sparse tables, takes whole numbers of at least 100000\n\n${usage}`);
  const stamp = new Date().toISOString().replace(/[:.]/g, '-');
  return {
    chosen,
    rounds,
    roundSeconds,
    tableRows,
    out: values.out ?? join(paths.results, `${stamp}.local.json`),
  };
}

async function commit(): Promise<string> {
  const git = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)('git', args, { cwd: paths.root })).stdout.trim();
  try {
    const hash = await git('rev-parse', '--short', 'HEAD');
    return (await git('status', '--porcelain', '--untracked-files=no')) === ''
      ? hash
      : `${hash} with changes`;
  } catch {
    return 'unknown';
  }
}

async function runScenario(
  scenario: Scenario,
  { rounds, roundSeconds, tableRows }: BenchArguments,
): Promise<ScenarioResult | Error> {
  const log = (line: string): void => void process.stderr.write(`${scenario.name}: ${line}\n`);
  log(scenario.question);
  try {
    return await scenario.run({ rounds, roundSeconds, tableRows, log });
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function noteText(name: string, note: string): string {
  return note.includes('\n') ? `${name}:\n  ${note.replaceAll('\n', '\n  ')}` : `${name}: ${note}`;
}

const options = readArguments();
const unlock = await lockBench();
const machine = {
  cpu: cpus()[0]?.model.trim() ?? 'unknown',
  cores: availableParallelism(),
  memoryBytes: totalmem(),
  node: process.version,
  commit: await commit(),
  startedAt: new Date().toISOString(),
  loadAverageAtStart: loadavg()[0] ?? 0,
};
const lines: BarLine[] = [];
const outcomes: Record<string, unknown> = {};
const notes: string[] = [];
for (const scenario of options.chosen) {
  const outcome = await runScenario(scenario, options);
  const found = barLines(scenario, outcome);
  lines.push(...found);
  if (found.some(({ verdict }) => verdict === 'INVALID' || verdict === 'not measured')) process.exitCode = 1;
  if (outcome instanceof Error) {
    notes.push(`${scenario.name}: failed: ${outcome.message}`);
    outcomes[scenario.name] = { failed: outcome.message };
  } else {
    if (outcome.skipped !== undefined) notes.push(`${scenario.name}: SKIPPED: ${outcome.skipped}`);
    notes.push(...[...outcome.invalid, ...outcome.notes].map((note) => noteText(scenario.name, note)));
    outcomes[scenario.name] = { ...outcome, lines: found };
  }
}

process.stdout.write(
  `${machine.cpu}, ${machine.cores} cores, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, node ${machine.node}, ` +
    `commit ${machine.commit}, load average ${machine.loadAverageAtStart.toFixed(2)} at the start\n` +
    `medians of ${options.rounds} rounds of ${options.roundSeconds} s\n\n${barTable(lines)}\n\n${notes.join('\n')}\n`,
);
await mkdir(dirname(options.out), { recursive: true });
const { rounds, roundSeconds, tableRows } = options;
await writeFile(
  options.out,
  `${JSON.stringify({ machine, rounds, roundSeconds, tableRows, outcomes }, null, 2)}\n`,
);
await unlock();
process.stderr.write(`figures: ${options.out}\n`);
