/** The columns of an impression, in the shape of the Criteo display advertising data: I1 to I13 and C1 to C26. */

/** A count: the minimum plus exp(mean + deviation * normal), rounded down. */
export interface DenseColumn {
  readonly name: string;
  /** Least value, which a missing count is served as too. */
  readonly min: number;
  readonly logMean: number;
  readonly logDeviation: number;
  /** Share of rows without a value. */
  readonly missing: number;
  /** Half of the way, in log-odds, from the least count's effect to the greatest one's; negative where it falls. */
  readonly weight: number;
}

/** A category out of a vocabulary, drawn by Zipf's law. */
export interface CategoryColumn {
  readonly name: string;
  /** Number as `hashId` takes it: 14 to 39. */
  readonly column: number;
  readonly vocabulary: number;
  readonly exponent: number;
  /** Share of rows without a value. */
  readonly missing: number;
  /** Standard deviation of the categories' effects, in log-odds. */
  readonly weight: number;
}

const dense: readonly (readonly [
  min: number,
  logMean: number,
  deviation: number,
  missing: number,
  weight: number,
])[] = [
  [0, 0.6, 1.4, 0.4, 0.5],
  [-3, 2.0, 1.6, 0, 0.2],
  [0, 1.9, 1.5, 0.2, -0.3],
  [0, 1.7, 1.1, 0.2, -0.2],
  [0, 7.5, 2.2, 0.03, -0.6],
  [0, 3.6, 1.7, 0.2, -0.4],
  [0, 1.4, 1.4, 0.05, 0.5],
  [0, 2.1, 1.1, 0, -0.1],
  [0, 3.8, 1.5, 0.05, 0.3],
  [0, 0.0, 0.6, 0.4, 0.4],
  [0, 0.6, 1.1, 0.05, 0.6],
  [0, 0.0, 1.0, 0.75, 0.2],
  [0, 1.8, 1.2, 0.2, -0.3],
];

const categories: readonly (readonly [
  vocabulary: number,
  exponent: number,
  missing: number,
  weight: number,
])[] = [
  [1_400, 1.1, 0, 0.3],
  [550, 1.0, 0, 0.3],
  [200_000, 1.25, 0.04, 0.375],
  [80_000, 1.25, 0.04, 0.3],
  [300, 1.1, 0, 0.225],
  [20, 0.9, 0.15, 0.3],
  [12_000, 1.15, 0, 0.3],
  [600, 1.1, 0, 0.225],
  [12, 1.0, 0, 0.225],
  [40_000, 1.2, 0, 0.3],
  [5_000, 1.1, 0, 0.3],
  [150_000, 1.25, 0.04, 0.3],
  [3_000, 1.1, 0, 0.225],
  [26, 1.0, 0, 0.375],
  [12_000, 1.15, 0, 0.225],
  [120_000, 1.25, 0.04, 0.3],
  [10, 0.8, 0, 0.375],
  [4_500, 1.1, 0, 0.225],
  [2_000, 1.1, 0.4, 0.225],
  [10, 0.8, 0.4, 0.15],
  [100_000, 1.25, 0.04, 0.225],
  [18, 1.0, 0.75, 0.15],
  [15, 0.9, 0, 0.375],
  [30_000, 1.2, 0.04, 0.225],
  [80, 1.0, 0.4, 0.225],
  [20_000, 1.2, 0.4, 0.225],
];

/** I1 to I13. */
export const denseColumns: readonly DenseColumn[] = dense.map(
  ([min, logMean, logDeviation, missing, weight], index) => ({
    name: `I${index + 1}`,
    min,
    logMean,
    logDeviation,
    missing,
    weight,
  }),
);

/** C1 to C26. */
export const categoryColumns: readonly CategoryColumn[] = categories.map(
  ([vocabulary, exponent, missing, weight], index) => ({
    name: `C${index + 1}`,
    column: 14 + index,
    vocabulary,
    exponent,
    missing,
    weight,
  }),
);

/** Pairs of category columns whose categories go together or do not: an effect of rank 2 in both. */
export const pairs: readonly (readonly [name: string, name: string])[] = [
  ['C1', 'C9'],
  ['C2', 'C6'],
  ['C5', 'C14'],
  ['C23', 'C25'],
  ['C17', 'C20'],
];

/** Ids of a row, and so embeddings. */
export const slots = categoryColumns.length;
