import { type FixedData, type FixedDatatype, fixedDatatypes } from './datatype.js';

const chunkBytes = 1024 * 1024;
const largestShared = 64 * 1024;

/**
 * Makes element arrays for short-lived tensors out of shared chunks: an ArrayBuffer for each tensor costs more
 * than reading 400 numbers into it. A chunk lives as long as any of its tensors.
 */
export class TensorArena {
  #chunk = new ArrayBuffer(chunkBytes);
  #used = 0;

  /** Elements that are zero, owned by the caller. */
  take(datatype: FixedDatatype, count: number): FixedData {
    const { array, bytes } = fixedDatatypes[datatype];
    const length = count * bytes;
    if (length > largestShared) return new array(count);
    if (this.#used + length > chunkBytes) {
      this.#chunk = new ArrayBuffer(chunkBytes);
      this.#used = 0;
    }
    const data = new array(this.#chunk, this.#used, count);
    this.#used += Math.ceil(length / 8) * 8;
    return data;
  }
}
