/** Draws ranks by Zipf's law: rank r (from 0) with a probability in proportion to (r + 1)^-exponent. */
import type { RandomStream } from './random.js';

/** A Zipf distribution over `size` ranks. A draw takes the same time for any size (Walker's alias method). */
export class ZipfRanks {
  readonly size: number;
  /** How likely a slot stands for its own rank; else it stands for that of `#others`. */
  readonly #own: Float64Array;
  readonly #others: Int32Array;

  constructor(size: number, exponent: number) {
    this.size = size;
    const weights = Float64Array.from({ length: size }, (_, rank) => (rank + 1) ** -exponent);
    const mean = weights.reduce((sum, weight) => sum + weight, 0) / size;
    this.#own = weights.map((weight) => weight / mean);
    this.#others = Int32Array.from({ length: size }, (_, rank) => rank);
    const short: number[] = [];
    const long: number[] = [];
    this.#own.forEach((share, rank) => void (share < 1 ? short : long).push(rank));
    while (short.length > 0 && long.length > 0) {
      const filled = short.pop()!;
      const giver = long.at(-1)!;
      this.#others[filled] = giver;
      this.#own[giver]! -= 1 - this.#own[filled]!;
      if (this.#own[giver]! < 1) short.push(long.pop()!);
    }
    // What is left is 1 but for rounding.
    for (const rank of [...short, ...long]) this.#own[rank] = 1;
  }

  draw(random: RandomStream): number {
    const slot = Math.floor(random.uniform() * this.size);
    return random.uniform() < this.#own[slot]! ? slot : this.#others[slot]!;
  }
}
