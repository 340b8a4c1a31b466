import type { JobResult } from '../batching/job.js';
import { ServingError } from '../errors.js';
import { fixedDatatypes } from '../tensor/datatype.js';
import type { FixedTensor, Tensor } from '../tensor/tensor.js';
import { raggedRows } from './ragged-ids.js';

/** A part of a request. */
export interface Piece {
  readonly inputs: readonly Tensor[];
  readonly rows: number;
}

/**
 * The same inputs in pieces of at most `maxRows` rows. The pieces are views: nothing is copied.
 *
 * @param ragged inputs that have no row for each row, each with the input that has their lengths
 */
export function splitRows(
  inputs: readonly Tensor[],
  rows: number,
  maxRows: number,
  ragged: ReadonlyMap<number, number> = new Map(),
): readonly Piece[] {
  const pieces: Piece[] = [];
  for (let from = 0; from < rows; from += maxRows) {
    const to = Math.min(rows, from + maxRows);
    const cut = inputs.map((tensor, index) => {
      const lengths = ragged.get(index);
      if (lengths === undefined) return rowsOf(tensor, rows, from, to);
      return raggedRows(tensor as FixedTensor, inputs[lengths]!.data as Int32Array, from, to);
    });
    pieces.push({ inputs: cut, rows: to - from });
  }
  return pieces;
}

function rowsOf(tensor: Tensor, rows: number, from: number, to: number): Tensor {
  const shape = [to - from, ...tensor.shape.slice(1)];
  const perRow = tensor.data.length / rows;
  if (tensor.datatype === 'BYTES') {
    return { datatype: 'BYTES', shape, data: tensor.data.slice(from * perRow, to * perRow) };
  }
  return { datatype: tensor.datatype, shape, data: tensor.data.subarray(from * perRow, to * perRow) };
}

/**
 * Joins the results of the pieces along their first dimension.
 *
 * @throws SRV_MODEL_RUN_FAILED when the pieces' outputs do not fit together
 */
export function joinResults(results: readonly JobResult[], outputNames: readonly string[]): JobResult {
  return outputNames.map((name, index) =>
    joinTensors(
      results.map((outputs) => outputs[index]!),
      name,
    ),
  );
}

function joinTensors(pieces: readonly Tensor[], name: string): Tensor {
  const first = pieces[0]!;
  const inner = first.shape.slice(1).join();
  if (pieces.some((piece) => piece.shape.slice(1).join() !== inner || piece.shape.length === 0)) {
    throw new ServingError(
      'SRV_MODEL_RUN_FAILED',
      `output ${name} has shapes [${pieces.map((piece) => `[${piece.shape}]`).join(', ')}] over the parts of a split ` +
        'request, which do not fit together; send fewer rows, or set allow_split_request to false',
    );
  }
  const rows = pieces.reduce((sum, piece) => sum + piece.shape[0]!, 0);
  const shape = [rows, ...first.shape.slice(1)];
  if (first.datatype === 'BYTES') {
    return { datatype: 'BYTES', shape, data: pieces.flatMap((piece) => piece.data as readonly string[]) };
  }
  const length = pieces.reduce((sum, piece) => sum + piece.data.length, 0);
  const data = new fixedDatatypes[first.datatype].array(length) as Float32Array;
  let at = 0;
  for (const piece of pieces) {
    data.set(piece.data as Float32Array, at);
    at += piece.data.length;
  }
  return { datatype: first.datatype, shape, data };
}
