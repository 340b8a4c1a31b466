import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { medianRatio } from '../median.js';
import { type Scenario, skipped } from '../scenario.js';
import { type ContestantProcess, type GatherFigures, startProcess } from '../sparse/contestant-process.js';
import { nativeProgram } from '../sparse/native-program.js';
import { keyFile, sparseCache, sparseTable, startTable, type TableSpec } from '../sparse/tables.js';
import { gatherInTurns, rates, ratesTable, withContestants, wrongRows } from '../sparse/turns.js';

const ratio = 'keys/s over LMDB, one core';
const variants = ['readahead get', 'readahead cursor', 'random get', 'random cursor'] as const;

/** The store that is usually embedded for this. */
export const sparseLmdb: Scenario = {
  name: 'sparse-lmdb',
  question: 'How many rows a second does one core get, against LMDB in process with the same keys and rows?',
  bars: [{ name: ratio, unit: 'x', limit: { atLeast: 10 } }],
  async run({ rounds, roundSeconds, tableRows: rows, log }) {
    if (!existsSync('/usr/include/lmdb.h')) {
      return skipped('LMDB is not installed: apt-get install liblmdb-dev');
    }
    const spec: TableSpec = { rows, dim: 16, dtype: 'f32' };
    const directory = await sparseTable(spec, log);
    const keys = await keyFile(rows, 'uniform');
    const program = await nativeProgram('lmdb_contestant');
    const environment = join(sparseCache, `lmdb-${rows}x${spec.dim}`);
    const startLmdb = (variant: string): Promise<ContestantProcess> =>
      startProcess(program, [environment, keys, String(rows), String(spec.dim), ...variant.split(' ')]);
    const starts = Object.fromEntries(
      variants.map((variant) => [`LMDB ${variant}`, () => startLmdb(variant)]),
    );
    const run = { rounds, batch: 832, threads: 1, seconds: roundSeconds / 4 };
    return withContestants(
      {
        'ours, mapped': () => startTable(spec, directory, { residence: 'mapped', keys }),
        'ours, memory': () => startTable(spec, directory, { residence: 'memory', keys }),
        ...starts,
      },
      async (contestants) => {
        const invalid = await wrongRows(contestants);
        const found = await gatherInTurns(contestants, run);
        const best = bestOf(found, rounds);
        return {
          // Both read a file through the page cache, and LMDB is what was best in the round.
          measured: { [ratio]: medianRatio(rates(found['ours, mapped']!), best) },
          invalid,
          notes: [`832 uniform keys, ${rows / 1e6} M rows\n${ratesTable(found)}`],
          figures: found,
        };
      },
    );
  },
};

/** The best of LMDB's variants in each round. */
function bestOf(found: Readonly<Record<string, readonly GatherFigures[]>>, rounds: number): number[] {
  const lmdb = Object.entries(found).filter(([name]) => name.startsWith('LMDB'));
  return Array.from({ length: rounds }, (_, round) =>
    Math.max(...lmdb.map(([, figures]) => figures[round]!.keysPerSecond)),
  );
}
