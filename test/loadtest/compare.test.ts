import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareReports } from '../../src/loadtest/compare.js';
import { environmentFacts, type LoadReport, type LoadResult } from '../../src/loadtest/report.js';

function result(
  name: string,
  figures: { rate: number; p50: number; p99: number; failed?: number },
): LoadResult {
  return {
    name,
    load: { kind: 'closed', concurrency: 1 },
    isStable: true,
    windows: [],
    seconds: 1,
    requests: { succeeded: 100, failed: figures.failed ?? 0, failures: {}, warmupFailed: 0 },
    requestsPerSecond: figures.rate,
    rowsPerSecond: figures.rate,
    latencyMs: { mean: 1, p50: figures.p50, p90: 1, p99: figures.p99, p999: 1, max: 1 },
    generator: { isLate: false, isBusy: false, cpuShare: 0, latenessMs: { p50: 0, p99: 0, max: 0 } },
  };
}

function report(...results: LoadResult[]): LoadReport {
  return {
    kind: 'onnx-serving-bench',
    schemaVersion: 1,
    startedAt: '2026-01-01T00:00:00Z',
    environment: environmentFacts(),
    target: 'fake',
    settings: {
      windowMs: 1,
      warmupMs: 1,
      maxWindows: 3,
      tolerance: 0.1,
      stabilityPercentile: 50,
      rowsPerRequest: 1,
    },
    labels: {},
    results,
  };
}

const base = report(result('a', { rate: 100, p50: 10, p99: 20 }));

test('ratios are those of the second report to the first', () => {
  const { loads, hasRegressed } = compareReports(base, report(result('a', { rate: 200, p50: 5, p99: 30 })));
  assert.equal(loads[0]!.throughputRatio, 2);
  assert.equal(loads[0]!.p50Ratio, 0.5);
  assert.equal(loads[0]!.p99Ratio, 1.5);
  assert.equal(hasRegressed, false);
});

test('a loss beyond the limit is a regression, one within it is not', () => {
  const worse = report(result('a', { rate: 95, p50: 10.5, p99: 30 }));
  assert.deepEqual(compareReports(base, worse, 0.1).loads[0]!.regressions, ['p99']);
  assert.equal(compareReports(base, worse, 0.1).hasRegressed, true);
  assert.equal(compareReports(base, worse, 0.6).hasRegressed, false);
});

test('new failures and a load that is gone are regressions', () => {
  const failing = report(result('a', { rate: 100, p50: 10, p99: 20, failed: 1 }));
  assert.deepEqual(compareReports(base, failing, 0.1).loads[0]!.regressions, ['failures']);
  const { unmatched, hasRegressed } = compareReports(
    base,
    report(result('b', { rate: 1, p50: 1, p99: 1 })),
    0.1,
  );
  assert.deepEqual(unmatched, ['a', 'b']);
  assert.equal(hasRegressed, true);
});

test('a load that failed wholly in the second report is a regression', () => {
  const dead = report(result('a', { rate: 0, p50: 0, p99: 0, failed: 5 }));
  assert.deepEqual(compareReports(base, dead, 0.1).loads[0]!.regressions, ['throughput', 'failures']);
});
