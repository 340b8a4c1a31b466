import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isStable } from '../../src/loadtest/stability.js';

const windows = (...pairs: [number, number][]): { throughput: number; latencyMs: number }[] =>
  pairs.map(([throughput, latencyMs]) => ({ throughput, latencyMs }));

test('three windows within a tenth are stable, whatever came before', () => {
  assert.equal(isStable(windows([10, 9], [100, 1], [105, 1.05], [98, 0.97]), 0.1), true);
});

test('two windows are never stable', () => {
  assert.equal(isStable(windows([100, 1], [100, 1]), 0.1), false);
});

test('throughput alone or latency alone does not make windows stable', () => {
  assert.equal(isStable(windows([100, 1], [100, 2], [100, 1]), 0.1), false);
  assert.equal(isStable(windows([100, 1], [150, 1], [100, 1]), 0.1), false);
});

test('windows without a success are not stable, however alike', () => {
  assert.equal(isStable(windows([0, 0], [0, 0], [0, 0]), 0.1), false);
});
