/** Commands that are ended by a signal: what they do is given up in good order. */

/**
 * Runs `use` with a signal that SIGINT and SIGTERM abort. The process lives until `use` has ended, also where nothing
 * but a pause is left to wait for.
 */
export async function untilSignal<Result>(use: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  // Pauses of monitors and publishers do not keep a process alive: in a server they must not.
  const hold = setInterval(() => undefined, 2 ** 31 - 1);
  try {
    return await use(stop.signal);
  } finally {
    clearInterval(hold);
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
