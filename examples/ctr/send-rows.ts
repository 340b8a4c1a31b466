/** Sends rows, a request each, with a fixed number of requests on their way. */
import type { ModelInput } from './model-input.js';

/** What came back, and how long it took. */
export interface SentRows {
  /** In the order of the rows. */
  readonly probabilities: Float64Array;
  /** From sending a request to its whole answer, ascending. */
  readonly latenciesMs: Float64Array;
  readonly seconds: number;
}

/**
 * Sends all rows.
 *
 * @throws what `infer` threw first; no further row is sent then
 */
export async function sendRows(
  rows: readonly ModelInput[],
  concurrency: number,
  infer: (row: ModelInput) => Promise<number>,
): Promise<SentRows> {
  const probabilities = new Float64Array(rows.length);
  const latenciesMs = new Float64Array(rows.length);
  let next = 0;
  const start = performance.now();
  const sendNext = async (): Promise<void> => {
    while (next < rows.length) {
      const at = next++;
      const sentAt = performance.now();
      try {
        probabilities[at] = await infer(rows[at]!);
      } catch (error) {
        next = rows.length;
        throw error;
      }
      latenciesMs[at] = performance.now() - sentAt;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, sendNext));
  const seconds = (performance.now() - start) / 1000;
  return { probabilities, latenciesMs: latenciesMs.sort(), seconds };
}

/** The value below which that share of ascending values lies; NaN when there are none. */
export function quantile(ascending: Float64Array, share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? Number.NaN;
}
