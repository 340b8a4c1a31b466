import type { LoadReport, LoadResult } from './report.js';

/** One load found in both reports. Ratios are second over first. */
export interface LoadComparison {
  readonly name: string;
  readonly throughputRatio: number;
  readonly p50Ratio: number;
  readonly p99Ratio: number;
  /** Failed over all requests, in the first and the second report. */
  readonly failedShare: readonly [number, number];
  /** Both reports call this load stable. */
  readonly isStable: boolean;
  /** What got worse by more than was allowed; empty when nothing did or no limit was given. */
  readonly regressions: readonly string[];
}

/** What two reports have to say about each other. */
export interface ReportComparison {
  readonly loads: readonly LoadComparison[];
  /** Names of loads that only one of the reports has. */
  readonly unmatched: readonly string[];
  /** Whether a limit was given and something is over it. */
  readonly hasRegressed: boolean;
}

/**
 * Compares two reports load by load.
 *
 * @param maxRegression allowed loss, 0.1 for a tenth: less throughput, or more p50 or p99 latency, is a regression;
 *   so are failures that the first report did not have, and a load that the second report misses
 */
export function compareReports(
  first: LoadReport,
  second: LoadReport,
  maxRegression?: number,
): ReportComparison {
  const seconds = new Map(second.results.map((result) => [result.name, result]));
  const firstNames = new Set(first.results.map((result) => result.name));
  const missing = first.results.filter((result) => !seconds.has(result.name)).map((result) => result.name);
  const loads = first.results.flatMap((before) => {
    const after = seconds.get(before.name);
    return after ? [compareLoads(before, after, maxRegression)] : [];
  });
  return {
    loads,
    unmatched: [
      ...missing,
      ...second.results.filter(({ name }) => !firstNames.has(name)).map(({ name }) => name),
    ],
    hasRegressed:
      maxRegression !== undefined &&
      (missing.length > 0 || loads.some((load) => load.regressions.length > 0)),
  };
}

function compareLoads(before: LoadResult, after: LoadResult, maxRegression?: number): LoadComparison {
  const throughputRatio = ratio(after.requestsPerSecond, before.requestsPerSecond);
  const p50Ratio = ratio(after.latencyMs.p50, before.latencyMs.p50);
  const p99Ratio = ratio(after.latencyMs.p99, before.latencyMs.p99);
  const failedShare = [failed(before), failed(after)] as const;
  const regressions: string[] = [];
  if (maxRegression !== undefined) {
    const limit = 1 + maxRegression;
    if (throughputRatio < 1 - maxRegression) regressions.push('throughput');
    if (p50Ratio > limit) regressions.push('p50');
    if (p99Ratio > limit) regressions.push('p99');
    if (failedShare[1] > failedShare[0]) regressions.push('failures');
  }
  return {
    name: before.name,
    throughputRatio,
    p50Ratio,
    p99Ratio,
    failedShare,
    isStable: before.isStable && after.isStable,
    regressions,
  };
}

/** Equal figures give 1, also when both are zero: a load that failed wholly has no latency. */
function ratio(after: number, before: number): number {
  return after === before ? 1 : after / before;
}

function failed({ requests }: LoadResult): number {
  const all = requests.succeeded + requests.failed;
  return all > 0 ? requests.failed / all : 0;
}
