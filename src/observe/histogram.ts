/**
 * A fixed-bucket histogram that costs one binary search and three additions a sample.
 *
 * Own code instead of the metrics library's class: seven stages are recorded for every request, and hashing a
 * label set for each costs more than the rest of the bookkeeping together.
 */
export class Histogram {
  readonly bounds: readonly number[];
  /** Samples per bucket, not cumulative; the last one is the overflow above every bound. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  /** @param bounds ascending upper bounds, each inclusive as Prometheus has it */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  record(value: number): void {
    let low = 0;
    let high = this.bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value <= this.bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.counts[low]! += 1;
    this.sum += value;
    this.count += 1;
  }
}

/** A histogram of all samples of several with the same bounds. */
export function sumOf(histograms: readonly Histogram[]): Histogram {
  const sum = new Histogram(histograms[0]?.bounds ?? []);
  for (const one of histograms) {
    one.counts.forEach((count, index) => {
      sum.counts[index]! += count;
    });
    sum.sum += one.sum;
    sum.count += one.count;
  }
  return sum;
}

/** Upper bounds of the stage histograms, in seconds: 5 us to 10 s, three to a decade. */
export const latencyBounds: readonly number[] = [
  5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1,
  2.5, 5, 10,
];

/** Upper bounds of the batch size histogram, in rows. */
export const rowBounds: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
