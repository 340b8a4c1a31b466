/** What each version of a model answers: every version adds another number to the last bias of one network. */

/** What the last bias does to the answer: it is added to it, or to its log-odds. */
export type Answering = 'sum' | 'probability';

/** What the bias of a version is higher by: one of 21 numbers in turn, 0.8 or 1.3 from one version to the next. */
export function shiftOf(version: number): number {
  return (((version * 8) % 21) - 10) / 10;
}

/** The answer of a version, of that of the unshifted network to the same request. */
export function answerOf(version: number, base: number, answering: Answering): number {
  const shift = shiftOf(version);
  if (answering === 'sum') return base + shift;
  const odds = (base / (1 - base)) * Math.exp(shift);
  return odds / (1 + odds);
}

/** Far less than between two versions, and more than between two ways of adding up. */
export function isNear(value: number, expected: number, answering: Answering): boolean {
  const allowed =
    answering === 'sum' ? 1e-3 * Math.max(1, Math.abs(expected)) : 1e-6 + 1e-3 * expected * (1 - expected);
  return Math.abs(value - expected) <= allowed;
}
