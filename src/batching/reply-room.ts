import type { RunResult } from '../instance/messages.js';
import { type FixedDatatype, fixedDatatypes } from '../tensor/datatype.js';
import type { Signature } from '../tensor/tensor.js';

const alignment = 64;

/**
 * How many bytes of a slot a version's outputs need. It begins with what the signature tells, and learns when a
 * result did not fit and came as a copy.
 */
export class ReplyRoom {
  #bytesPerRow: number;

  constructor(signature: Signature) {
    this.#bytesPerRow = staticBytesPerRow(signature);
  }

  /** Bytes for the outputs of a batch. */
  bytes(rows: number): number {
    return this.#bytesPerRow * Math.max(1, rows);
  }

  learn(result: RunResult, rows: number): void {
    let bytes = 0;
    for (const output of result.outputs) if ('data' in output) bytes += output.data.byteLength + alignment;
    if (bytes === 0) return;
    this.#bytesPerRow = Math.max(this.#bytesPerRow, Math.ceil((bytes / Math.max(1, rows)) * 1.25));
  }
}

/** Bytes of one row of all outputs, as far as the signature tells; free dimensions count as 1. */
function staticBytesPerRow(signature: Signature): number {
  let bytes = 0;
  for (const { datatype, shape } of signature.outputs) {
    if (datatype === 'BYTES') continue;
    let count = 1;
    for (const dim of shape.slice(1)) count *= Math.max(1, dim);
    bytes += Math.ceil((count * fixedDatatypes[datatype as FixedDatatype].bytes) / alignment) * alignment;
  }
  return Math.max(alignment, bytes);
}
