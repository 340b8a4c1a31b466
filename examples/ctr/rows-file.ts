/**
 * `rows.bin`: the table's rows in one byte a number. gzip of: magic, u32 rows of the table, u32 dim, u32 rows that
 * are kept, one bit for each row of the table (is it kept?), then of each kept row the scale (the upper half of a
 * float32) and last of each kept row `dim` int8. All little-endian. A number is its int8 times its row's scale;
 * rows that are not kept are zero.
 */
import { gunzipSync, gzipSync } from 'node:zlib';

const magic = 'CTRROWS1';
const headerBytes = magic.length + 12;

/** A table of floats: row i is `values[i * dim]` to `values[i * dim + dim - 1]`. */
export interface Rows {
  readonly count: number;
  readonly dim: number;
  readonly values: Float32Array;
}

/**
 * Packs a table; the values of a row lose what is below 1/254 of the row's largest one.
 *
 * @param isKept whether a row is worth its bytes; the others become zero
 */
export function packRows({ count, dim, values }: Rows, isKept: (row: number) => boolean): Uint8Array {
  const kept = Array.from({ length: count }, (_, row) => row).filter(isKept);
  const bitmapBytes = Math.ceil(count / 8);
  const scalesAt = headerBytes + bitmapBytes;
  const valuesAt = scalesAt + 2 * kept.length;
  const bytes = new Uint8Array(valuesAt + kept.length * dim);
  const view = new DataView(bytes.buffer);
  bytes.set(Buffer.from(magic, 'latin1'));
  [count, dim, kept.length].forEach((number, at) => {
    view.setUint32(magic.length + 4 * at, number, true);
  });
  kept.forEach((row, at) => {
    bytes[headerBytes + (row >> 3)]! |= 1 << (row & 7);
    const numbers = values.subarray(row * dim, (row + 1) * dim);
    const scaleBits = upperHalfAbove(
      numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0) / 127,
    );
    view.setUint16(scalesAt + 2 * at, scaleBits, true);
    const scale = floatOfUpperHalf(scaleBits);
    if (scale === 0) return;
    for (let i = 0; i < dim; i++) view.setInt8(valuesAt + at * dim + i, Math.round(numbers[i]! / scale));
  });
  return gzipSync(bytes, { level: 9 });
}

/**
 * Unpacks what `packRows` made.
 *
 * @throws Error when the bytes are not that
 */
export function unpackRows(packed: Uint8Array): Rows {
  const bytes = gunzipSync(packed);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headerBytes || bytes.toString('latin1', 0, magic.length) !== magic) {
    throw new Error(`not rows of the CTR sample: expected them to begin with ${magic}`);
  }
  const [count, dim, kept] = [0, 4, 8].map((at) => view.getUint32(magic.length + at, true)) as [
    number,
    number,
    number,
  ];
  const scalesAt = headerBytes + Math.ceil(count / 8);
  const valuesAt = scalesAt + 2 * kept;
  if (bytes.length !== valuesAt + kept * dim) {
    throw new Error(`rows of the CTR sample: expected ${valuesAt + kept * dim} bytes, got ${bytes.length}`);
  }
  const values = new Float32Array(count * dim);
  let at = 0;
  for (let row = 0; row < count; row++) {
    if ((bytes[headerBytes + (row >> 3)]! & (1 << (row & 7))) === 0) continue;
    const scale = floatOfUpperHalf(view.getUint16(scalesAt + 2 * at, true));
    for (let i = 0; i < dim; i++) values[row * dim + i] = scale * view.getInt8(valuesAt + at * dim + i);
    at += 1;
  }
  return { count, dim, values };
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The upper half of the float32 bits of a number, rounded up, so that the float is not below the number. */
function upperHalfAbove(value: number): number {
  float[0] = value;
  return (word[0]! + 0xffff) >>> 16;
}

function floatOfUpperHalf(bits: number): number {
  word[0] = bits << 16;
  return float[0]!;
}
