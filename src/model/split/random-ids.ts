/** Inputs to prove a split by: ids by lot, from the first to the last and from the end. */
import { type EmbeddingSettings, idsNames } from '../../config/embedding-settings.js';
import type { TensorMap } from '../../tensor/tensor.js';
import { generateInputs, type InputPlan } from '../generated-inputs.js';
import type { OnnxSummary, OnnxValueSummary } from '../onnx-file.js';

/** Which ids are drawn: all that Gather takes, none from the end, or the first two rows alone. */
export const idChoices = ['all', 'not negative', 'small'] as const;

/** How inputs are made. */
export interface InputChoice {
  readonly plan: InputPlan;
  readonly ids: (typeof idChoices)[number];
}

/** A stage, and the rows of its table. */
export interface IdsUser {
  readonly settings: EmbeddingSettings;
  readonly rows: number;
}

/**
 * Inputs of a model whose ids belong to stages: the others are made as for a trial.
 *
 * @param rows as for `generateInputs`
 * @param run counts up, so that each run has the first and the last ids in other rows
 */
export function randomInputs(
  summary: OnnxSummary,
  stages: readonly IdsUser[],
  { plan, ids }: InputChoice,
  rows: readonly number[],
  run: number,
): TensorMap {
  const inputs = generateInputs(summary.inputs, plan, rows);
  const random = randomNumbers(run + 1);
  for (const input of summary.inputs) {
    const sizes = rowsOfColumns(input, stages);
    if (sizes.length === 0) continue;
    const tensor = inputs[input.name]!;
    const width = tensor.shape[1] ?? 1;
    const data = tensor.data as BigInt64Array | Int32Array;
    for (let at = 0; at < data.length; at++) {
      const size = sizes[at % width] ?? sizes[0]!;
      const id = drawId(size, ids, Math.floor(at / width) + run, random);
      if (data instanceof BigInt64Array) data[at] = BigInt(id);
      else data[at] = id;
    }
  }
  return inputs;
}

/** For each column of an input the rows that its ids may ask for; one where all are alike, none without stages. */
function rowsOfColumns(input: OnnxValueSummary, stages: readonly IdsUser[]): number[] {
  const users = stages.filter(({ settings }) => idsNames(settings).includes(input.name));
  if (users.length === 0) return [];
  const sizeAt = (column: number): number => {
    const sizes = users
      .filter(({ settings }) => settings.columns?.includes(column) ?? true)
      .map(({ settings, rows }) => {
        const modulus = settings.hash?.modulus;
        // Where the modulus is within the rows, remainders are in range whatever the id is.
        return modulus !== undefined && modulus <= rows ? modulus * 3 : rows;
      });
    return Math.min(2 ** 31 - 1, ...(sizes.length > 0 ? sizes : [2]));
  };
  const width = Math.max(1, input.shape?.[1] ?? 1);
  return Array.from({ length: width }, (_, column) => sizeAt(column));
}

/** An id from -size to size - 1. */
function drawId(size: number, ids: InputChoice['ids'], turn: number, random: () => number): number {
  if (ids === 'small') return Math.floor(random() * Math.min(2, size));
  const edges = ids === 'all' ? [0, size - 1, -1, -size] : [0, size - 1];
  if (turn % 8 < edges.length) return edges[turn % 8]!;
  const id = Math.floor(random() * size);
  return ids === 'all' && random() < 0.25 ? id - size : id;
}

/** Numbers from 0 to 1 that are the same in each run of the program (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
