/** Ids of a request as keys of a table. */
import { type EmbeddingSettings, hashFunctions, idsNames } from '../config/embedding-settings.js';
import { ServingError } from '../errors.js';
import { hashIds, placeIds } from '../native/tables.js';
import type { FixedTensor, Tensor } from '../tensor/tensor.js';

type NumberIds = BigInt64Array | BigUint64Array | Int32Array;

/**
 * Makes the function that turns the ids inputs of a stage into one tensor of keys: UINT64 [rows, slots], or [ids]
 * for ragged rows.
 *
 * @param inputs where the ids are among the inputs of a request
 * @throws by the function: SRV_BAD_SIGNATURE when several ids inputs do not have as many rows
 */
export function idsEncoder(
  stage: EmbeddingSettings,
  inputs: readonly number[],
): (sent: readonly Tensor[]) => FixedTensor {
  const { columns, hash, rows = 0, datatype = 'INT64' } = stage;
  const modulus = hash?.modulus ?? 0;
  const isRagged = (stage.lengths ?? stage.offsets) !== undefined;
  if (datatype === 'BYTES') return textEncoder(stage, inputs, modulus);
  const isKeyItself = modulus === 0 && rows === 0 && datatype !== 'INT32';
  if (inputs.length === 1 && !columns && isKeyItself) {
    return (sent) => {
      const { data, shape } = sent[inputs[0]!] as FixedTensor;
      return keysOf(keyBits(data as BigInt64Array), keyShape(shape, isRagged));
    };
  }
  if (inputs.length === 1) {
    return (sent) => {
      const { data, shape } = sent[inputs[0]!] as FixedTensor;
      const stride = columns ? shape[1]! : 1;
      const taken = columns ?? [0];
      const out = new BigUint64Array((data.length / stride) * taken.length);
      taken.forEach((column, slot) => {
        placeIds(data as NumberIds, stride, column, out, taken.length, slot, modulus, rows);
      });
      return keysOf(out, columns ? [shape[0]!, taken.length] : keyShape(shape, isRagged));
    };
  }
  return (sent) => {
    const slots = inputs.length;
    const count = commonRows(stage, inputs, sent);
    const out = new BigUint64Array(count * slots);
    inputs.forEach((input, slot) => {
      const { data } = sent[input] as FixedTensor;
      placeIds(data as NumberIds, 1, 0, out, slots, slot, modulus, rows);
    });
    return keysOf(out, [count, slots]);
  };
}

function textEncoder(
  stage: EmbeddingSettings,
  inputs: readonly number[],
  modulus: number,
): (sent: readonly Tensor[]) => FixedTensor {
  const { columns, hash } = stage;
  const hashFunction = hashFunctions.indexOf(hash?.function ?? 'none');
  const seed = BigInt(hash?.seed ?? 0);
  const firstColumn = hash?.column ?? -1;
  const isRagged = (stage.lengths ?? stage.offsets) !== undefined;
  return (sent) => {
    const first = sent[inputs[0]!]!;
    let texts = first.data as readonly string[];
    let shape = keyShape(first.shape, isRagged);
    if (inputs.length > 1) {
      const count = commonRows(stage, inputs, sent);
      const columnsOfTexts = inputs.map((input) => sent[input]!.data as readonly string[]);
      texts = Array.from({ length: count }, (_, row) => columnsOfTexts.map((texts) => texts[row]!)).flat();
      shape = [count, inputs.length];
    } else if (columns) {
      const stride = first.shape[1]!;
      const all = texts;
      texts = Array.from({ length: first.shape[0]! }, (_, row) =>
        columns.map((column) => all[row * stride + column]!),
      ).flat();
      shape = [first.shape[0]!, columns.length];
    }
    const out = new BigUint64Array(texts.length);
    // In ragged rows no id has a column of its own.
    const slots = isRagged ? 1 : Math.max(1, shape[1]!);
    hashIds(texts, hashFunction, seed, modulus, firstColumn, slots, out);
    return keysOf(out, shape);
  };
}

/** The rows of several ids inputs: as many in each. */
function commonRows(stage: EmbeddingSettings, inputs: readonly number[], sent: readonly Tensor[]): number {
  const rows = inputs.map((input) => sent[input]!.data.length);
  const odd = rows.findIndex((count) => count !== rows[0]);
  if (odd < 0) return rows[0]!;
  const names = idsNames(stage);
  throw new ServingError(
    'SRV_BAD_SIGNATURE',
    `input '${names[odd]}' has ${rows[odd]} rows, but '${names[0]}' has ${rows[0]}: together they are the ids of a row`,
  );
}

/** Ids of one slot a row, [B], are keys [B, 1]. */
function keyShape(shape: readonly number[], isRagged: boolean): readonly number[] {
  return shape.length === 1 && !isRagged ? [shape[0]!, 1] : shape;
}

function keyBits(ids: BigInt64Array | BigUint64Array): BigUint64Array {
  return ids instanceof BigUint64Array ? ids : new BigUint64Array(ids.buffer, ids.byteOffset, ids.length);
}

function keysOf(data: BigUint64Array, shape: readonly number[]): FixedTensor {
  return { datatype: 'UINT64', shape, data };
}
