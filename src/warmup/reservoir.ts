/**
 * A uniform sample of a stream of unknown length: every item is in it with the same probability.
 *
 * Algorithm L: the items that are passed over are counted down and not looked at, so that an item costs a decrement,
 * and a long stream replaces ever fewer of the sample.
 */
export class Reservoir<T> {
  readonly capacity: number;
  readonly #random: () => number;
  readonly #items: (T | undefined)[] = [];
  #seen = 0;
  /** Items to pass over before the next one is taken. */
  #skip = 0;
  /** The largest of `capacity` random numbers, in effect. */
  #weight = 1;

  /**
   * @param capacity items of the sample, at least 1
   * @param random numbers from 0 to below 1
   */
  constructor(capacity: number, random: () => number) {
    this.capacity = capacity;
    this.#random = random;
  }

  /** Items of the stream so far. */
  get seen(): number {
    return this.#seen;
  }

  /** Whether the sample is as large as it will be. */
  get isFull(): boolean {
    return this.#items.length === this.capacity;
  }

  /** The sample, in no order that means anything. */
  get items(): readonly T[] {
    return this.#items.filter((item) => item !== undefined);
  }

  /**
   * Shows the next item of the stream.
   *
   * @param make called when it is taken; undefined for one that is not to be kept: it takes a place all the same, so
   *   that the others remain a uniform sample of those that are kept
   * @returns whether it was taken
   */
  offer(make: () => T | undefined): boolean {
    this.#seen += 1;
    if (this.#items.length < this.capacity) {
      this.#items.push(make());
      if (this.isFull) this.#planNext();
      return true;
    }
    if (this.#skip > 0) {
      this.#skip -= 1;
      return false;
    }
    this.#items[Math.floor(this.#random() * this.capacity)] = make();
    this.#planNext();
    return true;
  }

  #planNext(): void {
    this.#weight *= Math.exp(Math.log(1 - this.#random()) / this.capacity);
    this.#skip = Math.floor(Math.log(1 - this.#random()) / Math.log1p(-this.#weight));
  }
}
