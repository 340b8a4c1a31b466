const firstPauseMs = 1000;
const longestPauseMs = 300_000;

/** How long to wait before something that has failed `failures` times in a row is tried again, in ms. */
export function retryPauseMs(failures: number): number {
  return Math.min(firstPauseMs * 2 ** Math.max(0, failures - 1), longestPauseMs);
}
