/** What a stage of `model.json` feeds the network for given ids: told anew here, to prove a split by. */
import { type EmbeddingSettings, idsNames } from '../../config/embedding-settings.js';
import { ServingError } from '../../errors.js';
import type { Tensor, TensorMap } from '../../tensor/tensor.js';
import type { TensorRows } from './tensor-rows.js';

/** Gives rows by key: the part of an open table that is needed here. */
export interface RowLookup {
  readonly dim: number;
  gather(
    keys: BigUint64Array,
    options: {
      readonly combiner?: 'sum' | 'mean' | 'sqrtn';
      readonly offsets?: Int32Array;
      readonly weights?: Float32Array;
    },
  ): { readonly rows: Float32Array; readonly missing: number };
}

/** The ids of a stage, by row and slot, as keys. */
export interface StageKeys {
  readonly rows: number;
  readonly slots: number;
  readonly keys: BigUint64Array;
}

/** The keys that a stage makes of its inputs. Only what a split writes: integers, no ragged rows. */
export function stageKeys(stage: EmbeddingSettings, inputs: TensorMap): StageKeys {
  const tensors = idsNames(stage).map((name) => inputs[name]!);
  const rows = tensors[0]!.shape[0]!;
  const widths = tensors.map(({ shape }) => shape[1] ?? 1);
  const all = tensors.flatMap((tensor, input) =>
    Array.from({ length: widths[input]! }, (_, column) => ({ tensor, width: widths[input]!, column })),
  );
  const columns = stage.columns?.map((column) => all[column]!) ?? all;
  const keys = new BigUint64Array(rows * columns.length);
  for (let row = 0; row < rows; row++) {
    for (const [slot, { tensor, width, column }] of columns.entries()) {
      const id = BigInt(tensor.data[row * width + column]!);
      keys[row * columns.length + slot] = BigInt.asUintN(64, positionOf(stage, id));
    }
  }
  return { rows, slots: columns.length, keys };
}

function positionOf({ hash, rows }: EmbeddingSettings, id: bigint): bigint {
  const modulus = hash?.modulus === undefined ? undefined : BigInt(hash.modulus);
  const number = modulus === undefined ? id : ((id % modulus) + modulus) % modulus;
  return rows !== undefined && number < 0n ? number + BigInt(rows) : number;
}

/**
 * The tensor that a stage feeds.
 *
 * @param shape that of the target, -1 for free dimensions
 * @throws SRV_TABLE_MISMATCH when a row is missing
 */
export function stageTensor(
  stage: EmbeddingSettings,
  inputs: TensorMap,
  lookup: RowLookup,
  shape: readonly number[],
): Tensor {
  const { rows, slots, keys } = stageKeys(stage, inputs);
  const combiner = stage.combiner ?? 'none';
  const weights = stage.weights === undefined ? undefined : (inputs[stage.weights]!.data as Float32Array);
  const gathered = lookup.gather(
    keys,
    combiner === 'none'
      ? {}
      : {
          combiner,
          offsets: Int32Array.from({ length: rows }, (_, row) => row * slots),
          ...(weights ? { weights } : {}),
        },
  );
  if (gathered.missing > 0) {
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `the table ${stage.table} lacks ${gathered.missing} of ${keys.length} rows that the network asks for`,
    );
  }
  const [, ...rest] = shape;
  const full = [rows, ...rest.map((size) => (size === -1 ? slots : size))];
  return { datatype: 'FP32', shape: full, data: gathered.rows };
}

/** The rows of the model itself, in the place of a table. */
export function lookupOf(matrix: TensorRows): RowLookup {
  return {
    dim: matrix.dim,
    gather(keys, { combiner, offsets, weights }) {
      const { dim } = matrix;
      const found = Array.from(keys, (key) =>
        key < BigInt(matrix.rows) ? matrix.read(Number(key), Number(key) + 1) : undefined,
      );
      const missing = found.filter((row) => row === undefined).length;
      if (combiner === undefined) {
        const rows = new Float32Array(keys.length * dim);
        for (const [at, row] of found.entries()) rows.set(row ?? [], at * dim);
        return { rows, missing };
      }
      const rows = new Float32Array(offsets!.length * dim);
      for (const [bag, start] of offsets!.entries()) {
        const end = offsets![bag + 1] ?? keys.length;
        for (let at = start; at < end; at++) {
          const factor = weights?.[at] ?? 1;
          for (let i = 0; i < dim; i++) rows[bag * dim + i]! += (found[at]?.[i] ?? 0) * factor;
        }
        const divisor = combiner === 'mean' ? end - start : 1;
        for (let i = 0; i < dim; i++) rows[bag * dim + i]! /= divisor;
      }
      return { rows, missing };
    },
  };
}
