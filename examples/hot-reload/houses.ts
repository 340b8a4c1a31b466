/** Houses and what they sell for: a generator whose truth is known, so that nothing has to be downloaded. */

/** What a model is told of a house, in this order: m², rooms, years, km to the centre, floor. */
export type House = readonly [area: number, rooms: number, age: number, distance: number, floor: number];

/** A house that was sold. */
export interface Sale {
  readonly house: House;
  readonly price: number;
}

/** The spread of prices around what a house is worth: no model can be better than this, in the mean of |log error|. */
const spread = 0.05;

/** Numbers in [0, 1) from a fixed start (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * A sale on a day. Prices rise by 2 % a day, so that a model of yesterday is a little wrong today.
 *
 * @param day with fractions
 */
export function drawSale(random: () => number, day: number): Sale {
  const area = 30 + 150 * random() ** 2;
  const rooms = Math.max(1, Math.round(area / 28 + 2 * random() - 1));
  const age = 100 * random();
  const distance = 15 * random();
  const floor = Math.floor(6 * random());
  const worth =
    Math.log(4000 * area) -
    0.05 * distance -
    0.012 * age +
    // Old houses with high rooms are liked again.
    0.00012 * age ** 2 +
    0.03 * rooms +
    0.01 * floor +
    0.02 * day;
  const noise = spread * (random() + random() + random() - 1.5) * 2;
  return { house: [area, rooms, age, distance, floor], price: Math.exp(worth + noise) };
}
