import { drawOf } from './sticky-key.js';

/** What a choice is made among. */
export interface Weighted {
  /** 0: never chosen. */
  readonly weight: number;
  /** Hash of its name, see `hashText`. */
  readonly hash: number;
}

/** One of them by chance, each as often as its share of the weights; undefined when no weight is above 0. */
export function chooseByChance<Item extends Weighted>(
  items: readonly Item[],
  random: () => number,
): Item | undefined {
  let total = 0;
  for (const { weight } of items) total += weight;
  let left = random() * total;
  let last: Item | undefined;
  for (const item of items) {
    if (item.weight === 0) continue;
    last = item;
    left -= item.weight;
    if (left < 0) return item;
  }
  // What rounding has left over.
  return last;
}

/** The one that has a key, see `drawOf`; undefined when no weight is above 0. */
export function chooseByKey<Item extends Weighted>(items: readonly Item[], key: number): Item | undefined {
  let first: Item | undefined;
  let soonest = Number.POSITIVE_INFINITY;
  for (const item of items) {
    if (item.weight === 0) continue;
    const draw = drawOf(key, item.hash, item.weight);
    if (draw < soonest || first === undefined) {
      first = item;
      soonest = draw;
    }
  }
  return first;
}
