import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OutcomeWindow } from '../../src/traffic/outcome-window.js';

test('percentiles are at most 4.5 % above what was recorded, and never below', () => {
  const window = new OutcomeWindow(60_000);
  for (let ms = 1; ms <= 1000; ms++) window.record(5000, ms / 1000);
  const { requests, errors, p50, p99 } = window.outcomes(5000);
  assert.deepEqual([requests, errors], [1000, 0]);
  assert.ok(p50! >= 0.5 && p50! <= 0.5 * 1.045, String(p50));
  assert.ok(p99! >= 0.99 && p99! <= 0.99 * 1.045, String(p99));
});

test('failures count as requests and not as latencies', () => {
  const window = new OutcomeWindow(1000);
  window.record(0, undefined);
  assert.deepEqual(window.outcomes(0), { requests: 1, errors: 1, p50: undefined, p99: undefined });
  window.record(0, 0.01);
  assert.equal(window.outcomes(0).requests, 2);
  assert.ok(window.outcomes(0).p99! < 0.0105);
});

test('what is older than the window is forgotten, a tenth of it at a time', () => {
  const window = new OutcomeWindow(1000);
  window.record(50, 0.001);
  window.record(150, 0.001);
  assert.equal(window.outcomes(999).requests, 2);
  assert.equal(window.outcomes(1000).requests, 1);
  assert.equal(window.outcomes(1100).requests, 0);
  window.record(1050, 0.001);
  assert.equal(window.outcomes(1099).requests, 2);
  assert.equal(window.outcomes(100_000).requests, 0);
});

test('latencies outside of the buckets are kept in the first and last', () => {
  const window = new OutcomeWindow(1000);
  window.record(0, 0);
  window.record(0, 1e9);
  assert.equal(window.outcomes(0).requests, 2);
  assert.ok(window.outcomes(0).p99! > 1000);
});

test('a cleared window is empty', () => {
  const window = new OutcomeWindow(1000);
  window.record(0, 0.001);
  window.clear();
  assert.equal(window.outcomes(0).requests, 0);
});
