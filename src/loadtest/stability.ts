/** Which latency the stability rule looks at beside the throughput. */
export type StabilityPercentile = 50 | 99;

/** The two figures of a window that have to agree with its neighbours. */
export interface WindowFigures {
  readonly throughput: number;
  readonly latencyMs: number;
}

/** How many consecutive windows must agree. */
export const stableWindows = 3;

/**
 * Whether the last three windows agree: in throughput and in latency each lies within the tolerance of the mean
 * of the three. Fewer than three windows, or a window without one success, are never stable.
 */
export function isStable(windows: readonly WindowFigures[], tolerance: number): boolean {
  const last = windows.slice(-stableWindows);
  if (last.length < stableWindows) return false;
  return (
    agree(
      last.map((window) => window.throughput),
      tolerance,
    ) &&
    agree(
      last.map((window) => window.latencyMs),
      tolerance,
    )
  );
}

function agree(values: readonly number[], tolerance: number): boolean {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.every((value) => value > 0 && Math.abs(value - mean) <= tolerance * mean);
}
