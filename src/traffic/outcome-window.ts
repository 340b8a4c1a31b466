/** Sixteen buckets to an octave, from a microsecond to a quarter of an hour: a percentile is at most 4.5 % too high. */
const bucketsPerOctave = 16;
const octaves = 30;
const sliceCount = 10;

/** What happened within the window. */
export interface Outcomes {
  readonly requests: number;
  readonly errors: number;
  /** Of the requests that were answered, in seconds; undefined when there was none. */
  readonly p50: number | undefined;
  readonly p99: number | undefined;
}

interface Slice {
  /** Which slice of time it is, counted from the clock's zero. */
  at: number;
  requests: number;
  errors: number;
  readonly latencies: Uint32Array;
}

/** Requests of the last seconds, counted in ten slices of time, the oldest of which is dropped as a whole. */
export class OutcomeWindow {
  readonly #sliceMs: number;
  readonly #slices: readonly Slice[];

  constructor(windowMs: number) {
    this.#sliceMs = windowMs / sliceCount;
    this.#slices = Array.from({ length: sliceCount }, () => ({
      at: -1,
      requests: 0,
      errors: 0,
      latencies: new Uint32Array(bucketsPerOctave * octaves),
    }));
  }

  /** Counts a request that ended at `now`; `seconds` is undefined for one that failed. */
  record(now: number, seconds: number | undefined): void {
    const at = Math.floor(now / this.#sliceMs);
    const slice = this.#slices[at % sliceCount]!;
    if (slice.at !== at) reset(slice, at);
    slice.requests += 1;
    if (seconds === undefined) slice.errors += 1;
    else slice.latencies[bucketOf(seconds)]! += 1;
  }

  /** What happened in the slices that are not too old at `now`. */
  outcomes(now: number): Outcomes {
    const newest = Math.floor(now / this.#sliceMs);
    const within = this.#slices.filter(({ at }) => at >= 0 && at > newest - sliceCount);
    const requests = within.reduce((sum, slice) => sum + slice.requests, 0);
    const errors = within.reduce((sum, slice) => sum + slice.errors, 0);
    return {
      requests,
      errors,
      p50: percentile(within, requests - errors, 0.5),
      p99: percentile(within, requests - errors, 0.99),
    };
  }

  /** Forgets everything. */
  clear(): void {
    for (const slice of this.#slices) reset(slice, -1);
  }
}

function reset(slice: Slice, at: number): void {
  slice.at = at;
  slice.requests = 0;
  slice.errors = 0;
  slice.latencies.fill(0);
}

function bucketOf(seconds: number): number {
  const bucket = Math.floor(Math.log2(seconds * 1e6) * bucketsPerOctave);
  return Math.min(Math.max(bucket, 0), bucketsPerOctave * octaves - 1);
}

function percentile(slices: readonly Slice[], count: number, share: number): number | undefined {
  if (count === 0) return undefined;
  const rank = Math.ceil(count * share);
  let seen = 0;
  for (let bucket = 0; bucket < bucketsPerOctave * octaves; bucket++) {
    for (const { latencies } of slices) seen += latencies[bucket]!;
    if (seen >= rank) return 2 ** ((bucket + 1) / bucketsPerOctave) / 1e6;
  }
  return undefined;
}
