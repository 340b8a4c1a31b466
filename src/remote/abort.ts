import { ServingError } from '../errors.js';

/**
 * Throws when `signal` was aborted: the reason itself where it is a ServingError, such as a time limit that passed,
 * else SRV_CANCELLED.
 */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

/** The error that an aborted signal stands for. */
export function abortError(signal: AbortSignal): ServingError {
  return signal.reason instanceof ServingError
    ? signal.reason
    : new ServingError('SRV_CANCELLED', 'the fetch was given up');
}
