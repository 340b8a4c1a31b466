/** The dense network: 26 embeddings of 16 numbers and 13 counts in, the log-odds of a click out. */
import { denseColumns, slots } from './columns.js';
import { type Layer, newLayer } from './layer.js';
import { RandomStream } from './random.js';

/** Numbers of an embedding. */
export const dim = 16;
/** Elements of the first layer's input: the embeddings slot by slot, then the counts. */
export const inputWidth = slots * dim + denseColumns.length;
/** Outputs of the two hidden layers. */
export const hiddenWidths = [32, 16] as const;
/** Elements of the head's input: the second layer's output, the sums over the slots, the interactions. */
export const headWidth = hiddenWidths[1] + 2 * dim;

/**
 * Two hidden layers with relu, and a head that also sees, for each of the 16 dimensions, the sum s over the slots
 * and the sum of the products of all pairs of slots, (s^2 - sum of squares) / 2: the wide half of a factorisation
 * machine, which learns effects and interactions of categories much faster than the layers do.
 */
export interface Network {
  readonly first: Layer;
  readonly second: Layer;
  /** One output. */
  readonly head: Layer;
}

/** A network to be trained: dimension 0 starts as the categories' effects, the others as their interactions. */
export function newNetwork(seed: number): Network {
  const random = new RandomStream(seed);
  const first = newLayer(inputWidth, hiddenWidths[0], random);
  const second = newLayer(hiddenWidths[0], hiddenWidths[1], random);
  const head = newLayer(headWidth, 1, random);
  const sums = hiddenWidths[1];
  head.weights.fill(0, sums);
  head.weights[sums] = 1;
  head.weights.fill(1, sums + dim + 1);
  return { first, second, head };
}

/** A count as the first layer sees it: its logarithm, roughly centred and scaled. */
export function scaledCount(column: number, count: number): number {
  const { min, logMean, logDeviation } = denseColumns[column]!;
  return (Math.log(Math.max(count - min + 1, 1)) - logMean) / logDeviation;
}
