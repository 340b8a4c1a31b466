/** Networks that give back what their embedding stages gathered, and tables to gather from. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OnnxModel } from '../../src/model/onnx-writer.js';
import { type BuildTableOptions, type BuiltVersion, buildTable } from '../../src/sparse/builder.js';

/**
 * `y` = the values of `rows` [batch, width], then those of `dense` [batch, 2]: what was gathered comes out as it is.
 */
export function concatModel(width: number, target = 'rows'): OnnxModel {
  return {
    nodes: [{ op: 'Concat', inputs: [target, 'dense'], outputs: ['y'], attributes: { axis: { int: 1 } } }],
    inputs: [
      { name: 'dense', datatype: 'FP32', shape: ['batch', 2] },
      { name: target, datatype: 'FP32', shape: ['batch', width] },
    ],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', width + 2] }],
  };
}

/** Gives every input back, under `<name>_out`. All are [batch, ...]. */
export function mirrorModel(
  inputs: Readonly<
    Record<string, readonly [datatype: 'FP32' | 'INT64', ...shape: readonly (number | string)[]]>
  >,
): OnnxModel {
  const specs = Object.entries(inputs).map(([name, [datatype, ...shape]]) => ({ name, datatype, shape }));
  return {
    nodes: specs.map(({ name }) => ({ op: 'Identity', inputs: [name], outputs: [`${name}_out`] })),
    inputs: specs,
    outputs: specs.map((spec) => ({ ...spec, name: `${spec.name}_out` })),
  };
}

/** A row of the tables of tests: `[key, 2 key, ...]`, exact in every type of rows for small keys. */
export function rowOf(key: number, dim: number): number[] {
  return Array.from({ length: dim }, (_, index) => key * (index + 1));
}

/** Builds a version of a table out of rows by key. */
export async function makeTable(
  table: string,
  rows: Readonly<Record<string, readonly number[]>>,
  options: Partial<BuildTableOptions> = {},
): Promise<BuiltVersion> {
  mkdirSync(table, { recursive: true });
  const input = join(table, 'rows.txt');
  writeFileSync(
    input,
    Object.entries(rows)
      .map(([key, row]) => `${key}:${row.join(' ')}\n`)
      .join(''),
  );
  return await buildTable({ threads: 1, ...options, output: table, inputs: [input] });
}

/** Rows of `rowOf` for keys 0 to count - 1. */
export function countedRows(count: number, dim: number): Record<string, number[]> {
  return Object.fromEntries(Array.from({ length: count }, (_, key) => [key, rowOf(key, dim)]));
}
