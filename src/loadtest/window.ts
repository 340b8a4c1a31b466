import { build, type Histogram } from 'hdr-histogram-js';

const hourUs = 3_600_000_000;

/** A latency histogram: microseconds up to an hour, three significant digits. */
export function latencyHistogram(): Histogram {
  return build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: hourUs,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 32,
  });
}

/** Records a duration, held to what the histogram can count. */
export function recordMs(histogram: Histogram, ms: number): void {
  histogram.recordValue(Math.min(hourUs, Math.max(1, Math.round(ms * 1000))));
}

/** What was counted in one span of a load. Latencies are those of successes alone. */
export class LoadWindow {
  readonly latency = latencyHistogram();
  readonly lateness = latencyHistogram();
  readonly failures = new Map<string, number>();
  /** Successes before the window closed: the ones that throughput counts. */
  succeeded = 0;
  failed = 0;
  seconds = 0;
  generatorCpuSeconds = 0;
  readonly #startedAt = performance.now();
  readonly #cpuAtStart = process.cpuUsage();
  #isOpen = true;

  /**
   * Counts a request. After the window closed (requests answered while the load drains) the latency and the
   * failure still count, the throughput does not: a request left out because it was slow would flatter the tail.
   */
  record(latencyMs: number, failure: string | undefined): void {
    if (failure !== undefined) {
      this.failed++;
      this.failures.set(failure, (this.failures.get(failure) ?? 0) + 1);
      return;
    }
    recordMs(this.latency, latencyMs);
    if (this.#isOpen) this.succeeded++;
  }

  /** Fixes the length of the window and what its generator cost. */
  close(): void {
    this.#isOpen = false;
    this.seconds = (performance.now() - this.#startedAt) / 1000;
    const cpu = process.cpuUsage(this.#cpuAtStart);
    this.generatorCpuSeconds = (cpu.user + cpu.system) / 1e6;
  }

  /** Successes per second. */
  get throughput(): number {
    return this.seconds > 0 ? this.succeeded / this.seconds : 0;
  }
}
