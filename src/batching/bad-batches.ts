const windowMs = 10_000;
const limit = 3;

/**
 * Counts batches that the engine refused as a whole. After three within ten seconds rows are kept apart for ten
 * seconds, so that neighbours do not pay for somebody's bad requests again and again.
 */
export class BadBatches {
  #at: number[] = [];
  #apartUntil = 0;

  /** Counts one, at clock time `now` in ms. */
  count(now: number): void {
    this.#at = this.#at.filter((at) => at > now - windowMs);
    this.#at.push(now);
    if (this.#at.length < limit) return;
    this.#apartUntil = now + windowMs;
    this.#at = [];
  }

  /** Whether rows of different jobs are to be kept apart. */
  keepsApart(now: number): boolean {
    return this.#apartUntil > now;
  }
}
