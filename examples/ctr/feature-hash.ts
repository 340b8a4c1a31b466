/**
 * Ids of categories, as the reference CTR model makes them: a string hash modulo the number of table rows.
 *
 * The hash is the one that CPython 2 gives a string on 64-bit machines, so that ids are the same as those of
 * models trained with the reference's reader.
 */

/** Keys of the embedding table: ids are 0 to `tableRows - 1`. */
export const tableRows = 1_000_001;

const multiplier = 1_000_003;
const two32 = 2 ** 32;

/**
 * The id of a category.
 *
 * @param column number of the column: 14 to 39 for C1 to C26 (the label is column 0, I1 to I13 are 1 to 13)
 * @param text the category as the log has it; '' where it is missing
 */
export function hashId(column: number, text: string): number {
  return pythonHashModulo(column + text, tableRows);
}

/**
 * `hash(text) % modulus` of CPython 2 on a 64-bit machine: 0 or more for any text.
 *
 * The 64-bit state is kept in two halves: low * multiplier stays below 2^53, so that plain numbers are exact.
 *
 * @param text hashed as UTF-8; ASCII in the reference's data
 * @param modulus 1 to 2^21
 */
export function pythonHashModulo(text: string, modulus: number): number {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length === 0) return 0;
  let low = (bytes[0]! << 7) >>> 0;
  let high = 0;
  for (const byte of bytes) {
    const product = low * multiplier;
    high = (Math.imul(high, multiplier) + Math.floor(product / two32)) >>> 0;
    low = ((product % two32) ^ byte) >>> 0;
  }
  low = (low ^ bytes.length) >>> 0;
  // CPython keeps -1 for errors.
  if (high === two32 - 1 && low === two32 - 1) low -= 1;
  const signedHigh = high | 0;
  const remainder = ((signedHigh % modulus) * (two32 % modulus) + (low % modulus)) % modulus;
  return remainder < 0 ? remainder + modulus : remainder;
}
