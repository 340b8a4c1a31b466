import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  acceptAgain,
  isRejected,
  obsoleteVersions,
  rejectionOf,
  staleVersions,
  versionsToLoad,
} from '../../src/lifecycle/policy.js';
import { retryPauseMs } from '../../src/lifecycle/retry.js';
import type { VersionState } from '../../src/lifecycle/version.js';

const version = (number: number, content = `content ${number}`) => ({
  version: number,
  fingerprint: { content, settings: '{}' },
});
const held = (number: number, state: VersionState, content?: string) => ({
  ...version(number, content),
  state,
});
const numbers = (versions: readonly { readonly version: number }[]): number[] =>
  versions.map((one) => one.version);
const rules = { isForced: false, rejected: new Set<string>(), mayRetry: () => true };

test('what is announced and not served as it ought to be is loaded', () => {
  const announced = [version(1), version(2), version(3, 'new'), version(4)];
  const there = [held(1, 'ready'), held(3, 'ready', 'old'), held(4, 'failed')];
  assert.deepEqual(numbers(versionsToLoad(announced, there, rules)), [2, 3, 4]);
  const mayRetry = (one: { readonly version: number }): boolean => one.version !== 4;
  assert.deepEqual(numbers(versionsToLoad(announced, there, { ...rules, mayRetry })), [2, 3]);
  const rejected = new Set(['new']);
  assert.deepEqual(numbers(versionsToLoad(announced, there, { ...rules, rejected })), [2, 4]);
  assert.deepEqual(numbers(versionsToLoad(announced, there, { ...rules, isForced: true })), [1, 2, 3, 4]);
});

test('what was rolled back from does not come back with other settings, and others do', () => {
  const changed = [1, 2].map((number) => ({
    version: number,
    fingerprint: { content: `content ${number}`, settings: '{"max_batch_size":8}' },
  }));
  const rejected = new Set(['content 2']);
  assert.deepEqual(numbers(versionsToLoad(changed, [held(1, 'ready')], { ...rules, rejected })), [1]);
});

test('a content is rolled back from whatever its tables become, and of one content its tables alone', () => {
  const state = (content: string, tables: string) => ({ content, settings: '', tables });
  const ofContent = new Set([rejectionOf(state('new', 't1'), state('old', 't1'))]);
  assert.ok(isRejected(state('new', 't2'), ofContent));
  assert.ok(!isRejected(state('old', 't1'), ofContent));
  const ofTables = new Set([rejectionOf(state('same', 't2'), state('same', 't1'))]);
  assert.ok(isRejected(state('same', 't2'), ofTables));
  assert.ok(!isRejected(state('same', 't3'), ofTables));
  acceptAgain(state('same', 't2'), ofTables);
  assert.equal(ofTables.size, 0);
});

test('nothing is unloaded before something that ought to be served is', () => {
  const none = new Set<string>();
  const old = held(1, 'ready');
  assert.deepEqual(obsoleteVersions([version(2)], [old, held(2, 'failed')], none), []);
  assert.deepEqual(obsoleteVersions([version(2)], [old, held(2, 'ready')], none), [old]);
  assert.deepEqual(obsoleteVersions([], [old], none), []);
  assert.deepEqual(obsoleteVersions([version(2)], [old, held(2, 'ready')], new Set(['content 2'])), []);
});

test('what may go before a load is all but what is announced as it is and not loaded anew', () => {
  const [one, two, three] = [version(1), version(2), version(3)];
  const there = [held(1, 'ready'), held(2, 'ready'), held(3, 'ready', 'old'), held(0, 'ready')];
  assert.deepEqual(numbers(staleVersions([one, two, three], [three], there)), [3, 0]);
  assert.deepEqual(numbers(staleVersions([one, two, three], [one, two, three], there)), [1, 2, 3, 0]);
});

test('a model whose place is gone is unloaded, whatever state its versions are in', () => {
  const ready = held(1, 'ready');
  assert.deepEqual(obsoleteVersions(undefined, [ready, held(2, 'failed')], new Set()), [ready]);
});

test('pauses between tries double, and end at five minutes', () => {
  assert.deepEqual([1, 2, 3, 9, 10, 1000].map(retryPauseMs), [1000, 2000, 4000, 256_000, 300_000, 300_000]);
});
