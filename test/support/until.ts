import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Waits, turn by turn of the event loop, until a condition holds: for states that nothing announces.
 *
 * @throws when it does not hold after `limitMs`, naming `what`
 */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limitMs = 20_000,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await nextTurn();
  }
}
