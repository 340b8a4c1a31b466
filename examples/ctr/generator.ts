/** Ad impressions in the shape of the Criteo data, drawn from a truth that is known; nobody's data is in them. */
import { categoryColumns, denseColumns } from './columns.js';
import { mix, RandomStream } from './random.js';
import { type Features, truth } from './truth.js';
import { ZipfRanks } from './zipf.js';

/** One row of the log. */
export interface Impression extends Features {
  /** What the truth says of this row. */
  readonly probability: number;
  /** 1 for a click. */
  readonly label: 0 | 1;
}

/** Seeds of the streams of rows; a row of one is in another by chance only. */
export const seeds = { training: 1, evaluation: 2, demo: 3 } as const;

/** Share of a count's spread that the user's overall activity explains. */
const activityShare = 0.3;

let vocabularies: readonly ZipfRanks[] | undefined;

/** An endless stream of rows; the same seed gives the same rows. */
export class ImpressionStream {
  readonly #random: RandomStream;

  constructor(seed: number) {
    this.#random = new RandomStream(seed);
    vocabularies ??= categoryColumns.map(({ vocabulary, exponent }) => new ZipfRanks(vocabulary, exponent));
  }

  next(): Impression {
    const random = this.#random;
    const activity = random.normal() * Math.sqrt(activityShare);
    const dense = new Float64Array(denseColumns.length);
    denseColumns.forEach(({ min, logMean, logDeviation, missing }, column) => {
      const spread = activity + random.normal() * Math.sqrt(1 - activityShare);
      const count = min + Math.floor(Math.exp(logMean + logDeviation * spread));
      dense[column] = random.uniform() < missing ? Number.NaN : count;
    });
    const ranks = new Int32Array(categoryColumns.length);
    categoryColumns.forEach(({ missing }, column) => {
      const rank = vocabularies![column]!.draw(random);
      ranks[column] = random.uniform() < missing ? -1 : rank;
    });
    const probability = truth({ dense, ranks });
    return { dense, ranks, probability, label: random.uniform() < probability ? 1 : 0 };
  }
}

/** A category as the log has it: 8 hex digits, or '' for rank -1. */
export function categoryText(column: number, rank: number): string {
  return rank < 0
    ? ''
    : mix(rank, 5_000 + column)
        .toString(16)
        .padStart(8, '0');
}
