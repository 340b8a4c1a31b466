/** What makes the generator's users click: the probability that a model can learn, known exactly. */
import { categoryColumns, denseColumns, pairs } from './columns.js';
import { mix } from './random.js';

/** A row without its label. */
export interface Features {
  /** 13 counts; NaN where the log has none. */
  readonly dense: Float64Array;
  /** For each of the 26 columns the category's rank by frequency, from 0; -1 where the log has none. */
  readonly ranks: Int32Array;
}

/** Makes clicks of 22 % of the rows. */
const bias = -2.18;
/** Rank at which effects are 1/sqrt(2) of those of the first ones: the rarer a category, the more ordinary. */
const ordinaryFrom = 200;
const pairDeviation = 0.45;
const pairRank = 2;

/**
 * The probability of a click: the logistic function of a bias, an effect of each category, five interactions of
 * rank 2 between columns, and a monotone, saturating effect of each count (a missing count has the effect of 0).
 */
export function truth(row: Features): number {
  const effects = allEffects();
  let logOdds = bias;
  for (let column = 0; column < categoryColumns.length; column++) {
    logOdds += effects.main[column]![row.ranks[column]! + 1]!;
  }
  for (const { left, right, leftVectors, rightVectors } of effects.pairs) {
    const at = (row.ranks[left]! + 1) * pairRank;
    const partner = (row.ranks[right]! + 1) * pairRank;
    for (let i = 0; i < pairRank; i++) logOdds += leftVectors[at + i]! * rightVectors[partner + i]!;
  }
  for (let column = 0; column < denseColumns.length; column++) {
    logOdds += denseEffect(column, row.dense[column]!);
  }
  return 1 / (1 + Math.exp(-logOdds));
}

function denseEffect(column: number, count: number): number {
  const { min, logMean, logDeviation, weight } = denseColumns[column]!;
  const logCount = Number.isNaN(count) ? 0 : Math.log(1 + count - min);
  return weight * Math.tanh((logCount - logMean) / (1.5 * logDeviation));
}

interface PairEffects {
  readonly left: number;
  readonly right: number;
  readonly leftVectors: Float32Array;
  readonly rightVectors: Float32Array;
}

interface Effects {
  /** For each column the effect of each rank, that of a missing category first. */
  readonly main: readonly Float32Array[];
  readonly pairs: readonly PairEffects[];
}

let made: Effects | undefined;

/** The tables of effects: a second's work, done when first asked for. */
function allEffects(): Effects {
  made ??= {
    main: categoryColumns.map(({ vocabulary, weight }, column) => normals(vocabulary, 1, weight, column)),
    pairs: pairs.map(([leftName, rightName], pair) => {
      const left = categoryColumns.findIndex(({ name }) => name === leftName);
      const right = categoryColumns.findIndex(({ name }) => name === rightName);
      const vectors = (column: number, salt: number): Float32Array =>
        normals(categoryColumns[column]!.vocabulary, pairRank, pairDeviation, salt);
      return {
        left,
        right,
        leftVectors: vectors(left, 100 + 2 * pair),
        rightVectors: vectors(right, 101 + 2 * pair),
      };
    }),
  };
  return made;
}

/** `width` numbers for a missing category and for each rank, normal and smaller for rare ranks. */
function normals(vocabulary: number, width: number, deviation: number, salt: number): Float32Array {
  return Float32Array.from({ length: (vocabulary + 1) * width }, (_, index) => {
    const radius = Math.sqrt(-2 * Math.log((mix(index, 2 * salt + 1_000) + 1) / 2 ** 32));
    const normal = radius * Math.cos((2 * Math.PI * mix(index, 2 * salt + 1_001)) / 2 ** 32);
    const rank = Math.max(0, Math.floor(index / width) - 1);
    return (deviation * normal) / Math.sqrt(1 + rank / ordinaryFrom);
  });
}
