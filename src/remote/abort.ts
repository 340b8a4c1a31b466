import { ServingError } from '../errors.js';

/**
 * Throws when `signal` was aborted: the reason itself where it is a ServingError, such as a time limit that passed,
 * else SRV_CANCELLED.
 */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

/**
 * Rejects when the signal was aborted and the work has not ended by then, whether or not the work notices: a file system may
 * hang for ever.
 *
 * @param grace what the work has to clean up after the abort. @default no time
 */
export async function endedBy<T>(
  work: Promise<T>,
  signal: AbortSignal,
  grace: () => Promise<void> = async () => {},
): Promise<T> {
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => void grace().then(() => reject(abortError(signal)));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  work.catch(() => undefined);
  aborted.catch(() => undefined);
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** The error that an aborted signal stands for. */
export function abortError(signal: AbortSignal): ServingError {
  return signal.reason instanceof ServingError
    ? signal.reason
    : new ServingError('SRV_CANCELLED', 'the fetch was given up');
}
