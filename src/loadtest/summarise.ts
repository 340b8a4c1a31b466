import { type Load, loadName } from './load.js';
import { notSent } from './offer.js';
import type { LoadResult } from './report.js';
import type { LoadTarget } from './target.js';
import { type LoadWindow, latencyHistogram } from './window.js';

/** Adds up what the windows counted. */
export function countRequests(
  windows: readonly LoadWindow[],
): Pick<LoadResult['requests'], 'succeeded' | 'failed' | 'failures'> {
  const failures: Record<string, number> = {};
  for (const window of windows) {
    for (const [reason, count] of window.failures) failures[reason] = (failures[reason] ?? 0) + count;
  }
  return {
    succeeded: windows.reduce((sum, window) => sum + window.succeeded, 0),
    failed: windows.reduce((sum, window) => sum + window.failed, 0),
    failures,
  };
}

/**
 * Turns windows into the figures of a load.
 *
 * @param windows every window, listed one by one
 * @param kept the windows that the figures are taken from
 */
export function summarise(
  load: Load,
  windows: readonly LoadWindow[],
  kept: readonly LoadWindow[],
  target: Pick<LoadTarget, 'rowsPerRequest' | 'isInProcess'>,
): Omit<LoadResult, 'isStable' | 'requests' | 'stages'> {
  const latency = latencyHistogram();
  const lateness = latencyHistogram();
  let seconds = 0;
  let succeeded = 0;
  let cpuSeconds = 0;
  let unsent = 0;
  for (const window of kept) {
    latency.add(window.latency);
    lateness.add(window.lateness);
    seconds += window.seconds;
    succeeded += window.succeeded;
    cpuSeconds += window.generatorCpuSeconds;
    unsent += window.failures.get(notSent) ?? 0;
  }
  // The histogram rounds percentiles up to the end of their bucket, beyond the largest value it saw.
  const percentileMs = (histogram: typeof latency, percentile: number): number =>
    histogram.totalCount > 0
      ? Math.min(histogram.getValueAtPercentile(percentile), histogram.maxValue) / 1000
      : 0;
  const requestsPerSecond = succeeded / seconds;
  const latenessP99 = percentileMs(lateness, 99);
  return {
    name: loadName(load),
    load: { ...load },
    windows: windows.map((window) => ({
      seconds: window.seconds,
      requestsPerSecond: window.throughput,
      p50Ms: percentileMs(window.latency, 50),
      p99Ms: percentileMs(window.latency, 99),
      failed: window.failed,
    })),
    seconds,
    requestsPerSecond,
    rowsPerSecond: requestsPerSecond * target.rowsPerRequest,
    latencyMs: {
      mean: latency.totalCount > 0 ? latency.mean / 1000 : 0,
      p50: percentileMs(latency, 50),
      p90: percentileMs(latency, 90),
      p99: percentileMs(latency, 99),
      p999: percentileMs(latency, 99.9),
      max: latency.totalCount > 0 ? latency.maxValue / 1000 : 0,
    },
    generator: {
      // Timers fire up to 2 ms after their time in a healthy generator; 10 ms is the event loop falling behind.
      isLate: unsent > 0 || latenessP99 > 10,
      isBusy: !target.isInProcess && cpuSeconds / seconds > 0.85,
      cpuShare: cpuSeconds / seconds,
      latenessMs: {
        p50: percentileMs(lateness, 50),
        p99: latenessP99,
        max: lateness.totalCount > 0 ? lateness.maxValue / 1000 : 0,
      },
    },
  };
}
