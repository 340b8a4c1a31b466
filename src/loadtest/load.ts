/** When the requests of an open loop are due: evenly, or as independent callers would send them. */
export type Arrival = 'fixed' | 'poisson';

/** A fixed number of callers, each sending its next request when the last one was answered. */
export interface ClosedLoad {
  readonly kind: 'closed';
  readonly concurrency: number;
}

/** Requests sent at their own times, whether or not the earlier ones were answered. */
export interface OpenLoad {
  readonly kind: 'open';
  readonly ratePerSecond: number;
  readonly arrival: Arrival;
  /** Seed of the Poisson arrivals; two runs with one seed send at the same offsets. */
  readonly seed: number;
}

/** How requests are offered to a target. */
export type Load = ClosedLoad | OpenLoad;

/** The name of a load in reports; `bench compare` matches loads by it. */
export function loadName(load: Load): string {
  return load.kind === 'closed'
    ? `concurrency ${load.concurrency}`
    : `rate ${load.ratePerSecond}/s ${load.arrival}`;
}

/** Uniform numbers in [0, 1) that depend on the seed alone (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** The intended send times of an open loop in ms from its start, without end. */
export function* arrivalTimes(load: OpenLoad): Generator<number, never> {
  const meanGapMs = 1000 / load.ratePerSecond;
  if (load.arrival === 'fixed') {
    for (let i = 0; ; i++) yield i * meanGapMs;
  }
  const random = seededRandom(load.seed);
  for (let at = 0; ; ) {
    at += -Math.log(1 - random()) * meanGapMs;
    yield at;
  }
}
