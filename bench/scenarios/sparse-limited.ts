import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { textTable } from '../../src/loadtest/text-table.js';
import { paths, scratchDir } from '../paths.js';
import { type Scenario, skipped } from '../scenario.js';
import { type FaultFigures, startProcess } from '../sparse/contestant-process.js';
import { type MemoryLimit, memoryLimit } from '../sparse/memory-limit.js';
import {
  buildArgs,
  keyFile,
  sequenceFile,
  snapshotOf,
  sparseTable,
  type TableSpec,
  tableContestant,
} from '../sparse/tables.js';
import { wrongRows } from '../sparse/turns.js';

const run = promisify(execFile);

const share = 'table over the memory allowed, built and served';
const builderMemory = 64 << 20;
/** Node itself has to live in it too. */
const leastMemory = 120e6;

/** A table that is larger than the memory: does it build, and what does serving it give? */
export const sparseLimited: Scenario = {
  name: 'sparse-limited',
  question: 'Does a table ten times the memory allowed to the process build, and how fast does it serve?',
  bars: [{ name: share, unit: 'x', limit: { atLeast: 10 } }],
  async run({ rounds, roundSeconds, tableRows: rows, log }) {
    const spec: TableSpec = { rows, dim: 16, dtype: 'f32' };
    const { files } = await snapshotOf(await sparseTable(spec, log));
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    const allowed = Math.floor(bytes / 10);
    if (allowed < leastMemory) {
      const least = Math.ceil((leastMemory / allowed) * (rows / 1e6));
      return skipped(
        `a tenth of ${(bytes / 1e6).toFixed(0)} MB is less than node itself takes; use --rows ${least}000000`,
      );
    }
    const limit = await memoryLimit(allowed);
    if (typeof limit === 'string') {
      return skipped(`no way to limit memory: ${limit}. It needs root and cgroups, or systemd`);
    }
    const input = await sequenceFile(0, rows, spec.dim, 0, log);
    const dir = await scratchDir('limited');
    try {
      log(`building within ${(allowed / 1e6).toFixed(0)} MB`);
      const table = join(dir, 'table');
      const building = await buildWithin(limit, input, table, dir);
      log(`built in ${building.seconds.toFixed(1)} s`);
      const serving = [];
      for (const keys of ['zipf', 'uniform'] as const) {
        serving.push(
          await serveWithin(limit, spec, table, dir, {
            distribution: keys,
            seconds: rounds * roundSeconds,
          }),
        );
      }
      return {
        measured: { [share]: bytes / allowed },
        invalid: serving.flatMap(({ invalid }) => invalid),
        notes: [
          `${limit.means}: ${(allowed / 1e6).toFixed(0)} MB, page cache included; the table has ${(bytes / 1e6).toFixed(0)} MB`,
          `table build --memory_limit ${builderMemory}: ${building.seconds.toFixed(1)} s, ` +
            `${(rows / building.seconds / 1e6).toFixed(2)} M rows/s on ${availableParallelism()} cores, ` +
            `peak ${megabytes(building.peakBytes)}`,
          servingTable(serving),
        ],
        figures: { allowed, bytes, building, serving },
      };
    } finally {
      await rm(dir, { recursive: true, force: true });
      await limit.close();
    }
  },
};

interface Building {
  readonly seconds: number;
  readonly peakBytes: number | undefined;
}

async function buildWithin(limit: MemoryLimit, input: string, table: string, dir: string): Promise<Building> {
  // Pages that somebody else read are charged to him, so nobody's may be there.
  await dropFromPageCache(input);
  const peakFile = join(dir, 'build-peak');
  const args = [paths.cli, ...buildArgs(input, table, 'f32'), '--memory_limit', String(builderMemory)];
  const startedAt = performance.now();
  await run(...mutable(limit.wrap(process.execPath, args, peakFile)));
  return { seconds: (performance.now() - startedAt) / 1000, peakBytes: await peakOf(peakFile) };
}

interface Serving {
  readonly distribution: string;
  readonly invalid: readonly string[];
  readonly first: FaultFigures;
  readonly later: FaultFigures;
  readonly peakBytes: number | undefined;
}

async function serveWithin(
  limit: MemoryLimit,
  spec: TableSpec,
  table: string,
  dir: string,
  options: { readonly distribution: 'zipf' | 'uniform'; readonly seconds: number },
): Promise<Serving> {
  const { distribution, seconds } = options;
  for (const { name } of (await snapshotOf(table)).files) await dropFromPageCache(join(table, '1', name));
  const keys = await keyFile(spec.rows, distribution);
  const peakFile = join(dir, `${distribution}-peak`);
  const command = await tableContestant(spec, table, { residence: 'mapped', keys });
  const contestant = await startProcess(...limit.wrap(...command, peakFile));
  let invalid: string[];
  let first: FaultFigures;
  let later: FaultFigures;
  try {
    first = await contestant.ask<FaultFigures>(`gather 832 1 ${seconds / 2}`);
    later = await contestant.ask<FaultFigures>(`gather 832 1 ${seconds}`);
    invalid = await wrongRows({ [distribution]: contestant });
  } finally {
    await contestant.stop();
  }
  return { distribution, invalid, first, later, peakBytes: await peakOf(peakFile) };
}

/** The arguments as execFile's type wants them. */
function mutable([file, args]: readonly [string, readonly string[]]): [string, string[]] {
  return [file, [...args]];
}

async function dropFromPageCache(file: string): Promise<void> {
  // Pages that are not written yet stay.
  await run('sync', [file]);
  await run('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}

async function peakOf(file: string): Promise<number | undefined> {
  const text = existsSync(file) ? (await readFile(file, 'utf8')).trim() : '';
  return text === '' ? undefined : Number(text);
}

function megabytes(bytes: number | undefined): string {
  return bytes === undefined ? 'unknown (the kernel does not tell)' : `${(bytes / 1e6).toFixed(0)} MB`;
}

function servingTable(serving: readonly Serving[]): string {
  return textTable([
    ['832 keys, mapped', 'keys/s at first', 'later', 'major faults', 'a key', 'minor faults', 'peak'],
    ...serving.map(({ distribution, first, later, peakBytes }) => [
      distribution,
      first.keysPerSecond.toFixed(0),
      later.keysPerSecond.toFixed(0),
      String(later.majorFaults),
      (later.majorFaults / later.keys).toFixed(2),
      String(later.minorFaults),
      megabytes(peakBytes),
    ]),
  ]);
}
