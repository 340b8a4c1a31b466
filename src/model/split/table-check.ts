/** Comparing the rows of a written table with those of the model. */
import { ServingError } from '../../errors.js';
import { randomNumbers } from './random-ids.js';
import type { OpenedTable, SplitRowType } from './split-tools.js';
import type { TensorRows } from './tensor-rows.js';

const rowsAtOnce = 4096;
const sampledRows = 65_536;

/**
 * Reads rows back from a table: the first and last, and others by lot, or all where they are few.
 *
 * @returns how many were read, and how many of them differ by more than storing them as `dtype` explains
 * @throws SRV_TABLE_MISMATCH when the table has not as many rows, or lacks one
 */
export async function compareRows(
  table: OpenedTable,
  matrix: TensorRows,
  dtype: SplitRowType,
  signal?: AbortSignal,
): Promise<{ readonly read: number; readonly different: number }> {
  const blocks = blocksOf(matrix.rows);
  let read = 0;
  let different = 0;
  for (const [start, end] of blocks) {
    signal?.throwIfAborted();
    // The reads below hold the thread.
    await new Promise((resolve) => setImmediate(resolve));
    const { rows, missing } = table.gather(keysOf(start, end), {});
    if (missing > 0) throw lacking(start, end, missing);
    const expected = matrix.read(start, end);
    for (let row = 0; row < end - start; row++) {
      const from = row * matrix.dim;
      const want = expected.subarray(from, from + matrix.dim);
      if (!isSameRow(want, rows.subarray(from, from + matrix.dim), dtype)) different++;
    }
    read += end - start;
  }
  return { read, different };
}

/**
 * Checks that a table has a row for every position.
 *
 * @throws SRV_TABLE_MISMATCH when it lacks one
 */
export async function checkAllRows(table: OpenedTable, rows: number, signal?: AbortSignal): Promise<void> {
  for (let start = 0; start < rows; start += rowsAtOnce) {
    signal?.throwIfAborted();
    await new Promise((resolve) => setImmediate(resolve));
    const end = Math.min(rows, start + rowsAtOnce);
    const { missing } = table.gather(keysOf(start, end), {});
    if (missing > 0) throw lacking(start, end, missing);
  }
}

function lacking(start: number, end: number, missing: number): ServingError {
  return new ServingError(
    'SRV_TABLE_MISMATCH',
    `the table lacks ${missing} of the rows ${start} to ${end - 1}, which the network can ask for`,
  );
}

function keysOf(start: number, end: number): BigUint64Array {
  return BigUint64Array.from({ length: end - start }, (_, at) => BigInt(start + at));
}

/** Stretches of rows in ascending order that do not overlap. */
function blocksOf(rows: number): [start: number, end: number][] {
  const all = Array.from({ length: Math.ceil(rows / rowsAtOnce) }, (_, block) => block);
  const wanted = sampledRows / rowsAtOnce;
  const random = randomNumbers(rows);
  const chosen =
    all.length <= wanted
      ? all
      : [
          ...new Set([
            0,
            all.length - 1,
            ...Array.from({ length: wanted - 2 }, () => Math.floor(random() * all.length)),
          ]),
        ].sort((a, b) => a - b);
  return chosen.map((block) => [block * rowsAtOnce, Math.min(rows, (block + 1) * rowsAtOnce)]);
}

/** Half an ulp of 16 bits, and half a step of 255 over the row's range, with room for the arithmetic in 32 bits. */
function isSameRow(want: Float32Array, got: Float32Array, dtype: SplitRowType): boolean {
  if (dtype === 'f32') {
    const bytes = (row: Float32Array) => Buffer.from(row.buffer, row.byteOffset, row.byteLength);
    return bytes(want).equals(bytes(got));
  }
  const finite = want.filter(Number.isFinite);
  const low = finite.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
  const high = finite.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const step = ((high - low) / 255) * 0.51 + largest * 2 ** -20;
  return want.every((value, at) => {
    const allowed = dtype === 'f16' ? Math.abs(value) * 2 ** -11 + 2 ** -25 : step;
    return Math.abs(value - got[at]!) <= allowed || Object.is(value, got[at]);
  });
}
