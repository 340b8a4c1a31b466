import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrivalTimes, type OpenLoad } from '../../src/loadtest/load.js';

function firstArrivals(load: OpenLoad, count: number): number[] {
  const arrivals = arrivalTimes(load);
  return Array.from({ length: count }, () => arrivals.next().value);
}

test('fixed arrivals are evenly spaced', () => {
  assert.deepEqual(
    firstArrivals({ kind: 'open', ratePerSecond: 100, arrival: 'fixed', seed: 1 }, 4),
    [0, 10, 20, 30],
  );
});

test('Poisson arrivals keep the rate, vary as they should and depend on the seed alone', () => {
  const load: OpenLoad = { kind: 'open', ratePerSecond: 100, arrival: 'poisson', seed: 7 };
  const times = firstArrivals(load, 20_000);
  assert.deepEqual(firstArrivals(load, 20_000), times);
  assert.notDeepEqual(firstArrivals({ ...load, seed: 8 }, 3), times.slice(0, 3));
  const gaps = times.map((at, i) => at - (times[i - 1] ?? 0));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
  assert.ok(Math.abs(mean - 10) < 0.3, `mean gap ${mean} ms`);
  assert.ok(Math.abs(deviation - 10) < 0.5, `deviation ${deviation} ms`);
});
