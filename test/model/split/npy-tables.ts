/** Tables as plain `.npy` files, so that splitting is tested apart from the tables' own format. */
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OpenedTable, SplitTools, WriteTableTask } from '../../../src/model/split/split-tools.js';

export interface FakeTables extends SplitTools {
  readonly written: WriteTableTask[];
  readonly sequenceFiles: Omit<WriteTableTask, 'dtype'>[];
}

/**
 * @param change changes a row as it is read back, to stand for a table that is not what it should be
 */
export function npyTables(change: (row: Float32Array, key: number) => void = () => {}): FakeTables {
  const written: WriteTableTask[] = [];
  const sequenceFiles: Omit<WriteTableTask, 'dtype'>[] = [];
  return {
    written,
    sequenceFiles,
    async writeTable(task) {
      written.push(task);
      mkdirSync(task.directory);
      copyFileSync(task.npyFile, join(task.directory, 'rows.npy'));
    },
    async writeSequenceFiles(task) {
      sequenceFiles.push(task);
      mkdirSync(task.directory);
    },
    async openTable(directory) {
      const file = join(directory, 'rows.npy');
      if (!existsSync(file)) throw new Error(`no table at ${directory}`);
      return openNpy(file, change);
    },
  };
}

/** The matrix in a `.npy` file of version 1.0. */
export function readNpy(file: string): { rows: number; dim: number; values: Float32Array } {
  const bytes = readFileSync(file);
  const start = 10 + bytes.readUInt16LE(8);
  const [, rows, dim] = /'shape': \((\d+), (\d+)\)/.exec(bytes.toString('latin1', 10, start))!;
  const values = new Float32Array(
    bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length),
  );
  return { rows: Number(rows), dim: Number(dim), values };
}

function openNpy(file: string, change: (row: Float32Array, key: number) => void): OpenedTable {
  const { rows, dim, values } = readNpy(file);
  return {
    dim,
    version: 7,
    dtype: 'f32',
    countRows: async () => rows,
    close() {},
    gather(keys, { combiner, offsets, weights }) {
      let missing = 0;
      const found = Array.from(keys, (key) => {
        const row = values.slice(Number(key) * dim, (Number(key) + 1) * dim);
        if (row.length === 0) missing++;
        else change(row, Number(key));
        return row.length === 0 ? new Float32Array(dim) : row;
      });
      const starts = combiner ? [...offsets!] : found.map((_, at) => at);
      const gathered = new Float32Array(starts.length * dim);
      for (const [bag, start] of starts.entries()) {
        const members = found.slice(start, combiner ? (starts[bag + 1] ?? keys.length) : start + 1);
        for (let i = 0; i < dim; i++) {
          let sum = combiner ? 0 : members[0]![i]!;
          if (combiner) {
            for (const [at, row] of members.entries())
              sum = Math.fround(sum + row[i]! * (weights?.[start + at] ?? 1));
          }
          gathered[bag * dim + i] = combiner === 'mean' ? sum / members.length : sum;
        }
      }
      return { rows: gathered, missing };
    },
  };
}
