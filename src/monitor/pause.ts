import type { Clock } from '../batching/clock.js';
import { abortError } from '../remote/abort.js';

/** Waits by a clock; an abort ends it with its reason. */
export function pause(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    const onAbort = (): void => {
      timer.cancel();
      reject(abortError(signal!));
    };
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** How long to wait before the next look, ms: the interval, and while looks fail twice as long each time, up to a limit. */
export function grownPauseMs(
  { intervalS, maxPauseS }: { readonly intervalS: number; readonly maxPauseS: number },
  failuresInARow: number,
): number {
  if (failuresInARow <= 1) return intervalS * 1000;
  const grown = intervalS * 2 ** Math.min(failuresInARow - 1, 30);
  return Math.max(intervalS, Math.min(grown, maxPauseS)) * 1000;
}
