/** How soon something new is used: on a server that does nothing else, and at half of its maximum. */
import { median } from '../median.js';
import type { BarSpec } from '../scenario.js';

/** What the server does beside. */
export const states = ['idle', 'half load'] as const;
export type State = (typeof states)[number];

/** Under a second in both states, in the median and at worst. @param what is measured: `rename to first answer` */
export function stateBars(what: string): BarSpec[] {
  return states.flatMap((state) =>
    (['median', 'worst'] as const).map((which) => ({
      name: barName(state, what, which),
      unit: 's' as const,
      limit: { atMost: 1 },
    })),
  );
}

/** The figures of those bars. */
export function stateFigures(
  what: string,
  seconds: Readonly<Record<State, readonly number[]>>,
): Record<string, number> {
  return Object.fromEntries(
    states.flatMap((state) => [
      [barName(state, what, 'median'), median(seconds[state])],
      [barName(state, what, 'worst'), Math.max(...seconds[state])],
    ]),
  );
}

function barName(state: State, what: string, which: 'median' | 'worst'): string {
  return `${state}: ${what}, ${which}`;
}
