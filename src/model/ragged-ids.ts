/** Ragged rows: how many ids each row of a request has, from its lengths or offsets. */
import { ServingError } from '../errors.js';
import type { FixedTensor, Tensor } from '../tensor/tensor.js';

/** The input that says which ids belong to which row. */
export interface RaggedInput {
  readonly name: string;
  /** Its place among the inputs of a request. */
  readonly input: number;
  /** The place of the ids. */
  readonly ids: number;
  readonly kind: 'lengths' | 'offsets';
}

/**
 * The number of ids of each row, as INT32 [rows].
 *
 * @throws SRV_BAD_BAGS when a length is negative, or offsets descend, do not begin at 0 or lead beyond the ids, or
 *   lengths do not add up to the ids
 */
export function lengthsOf({ name, input, ids, kind }: RaggedInput, sent: readonly Tensor[]): FixedTensor {
  const { data } = sent[input] as FixedTensor;
  const total = sent[ids]!.data.length;
  const rows = data.length;
  const lengths = new Int32Array(rows);
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    let length = Number(data[row]);
    if (kind === 'offsets') {
      if (length !== sum) {
        // Only reached by the first row: later ones begin where the one before was made to end.
        throw bad(name, `offset ${row} is ${length}, expected ${sum}`);
      }
      const end = row + 1 < rows ? Number(data[row + 1]) : total;
      if (end < length || end > total) {
        throw bad(name, `offset ${row + 1} is ${end}, expected ${length} to ${total}`);
      }
      length = end - length;
    } else if (length < 0 || length > total - sum) {
      throw bad(
        name,
        `length ${row} is ${length}, expected 0 to ${total - sum}, what is left of ${total} ids`,
      );
    }
    lengths[row] = length;
    sum += length;
  }
  if (sum !== total) throw bad(name, `the rows have ${sum} ids, but ${total} were sent`);
  return { datatype: 'INT32', shape: [rows], data: lengths };
}

function bad(name: string, problem: string): ServingError {
  return new ServingError('SRV_BAD_BAGS', `input '${name}': ${problem}`);
}

/** Cuts ragged rows `from` to `to` out of a tensor that has one element for each id. */
export function raggedRows(tensor: FixedTensor, lengths: Int32Array, from: number, to: number): FixedTensor {
  let start = 0;
  for (let row = 0; row < from; row++) start += lengths[row]!;
  let end = start;
  for (let row = from; row < to; row++) end += lengths[row]!;
  return { ...tensor, shape: [end - start], data: tensor.data.subarray(start, end) };
}
