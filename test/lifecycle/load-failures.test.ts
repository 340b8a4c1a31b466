import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoadFailures } from '../../src/lifecycle/load-failures.js';
import { ManualClock } from '../support/manual-clock.js';

const state = (content: string, version = 1) => ({
  name: 'm',
  version,
  fingerprint: { content, settings: '{}' },
});

test('a failed load is due again after a pause that doubles while the same goes on to fail', async () => {
  const clock = new ManualClock();
  const due: string[] = [];
  const failures = new LoadFailures(clock, (name) => due.push(name));
  for (const [at, pauseMs] of [1000, 2000, 4000].entries()) {
    assert.deepEqual(failures.note(state('a'), false), { failures: at + 1, pauseMs });
    assert.ok(!failures.mayTry(state('a')));
    assert.ok(failures.mayTry(state('b')), 'another content may be tried at once');
    assert.ok(failures.mayTry(state('a', 2)), 'and so may another version');
    await clock.advance(pauseMs - 1);
    assert.equal(due.length, at);
    await clock.advance(1);
    assert.equal(due.length, at + 1);
    assert.ok(failures.mayTry(state('a')));
  }
  assert.deepEqual(failures.note(state('b'), false), { failures: 1, pauseMs: 1000 });
});

test('what cannot get better is not tried again, and nothing is due of what was cleared, forgotten or closed', async () => {
  const clock = new ManualClock();
  const due: string[] = [];
  const failures = new LoadFailures(clock, (name) => due.push(name));
  assert.equal(failures.note(state('a'), true).pauseMs, Number.POSITIVE_INFINITY);
  await clock.advance(1e9);
  assert.ok(!failures.mayTry(state('a')));
  failures.note(state('a', 2), false);
  failures.note(state('a', 3), false);
  failures.clear('m', 2);
  assert.ok(failures.mayTry(state('a', 2)));
  failures.forget('m');
  assert.ok(failures.mayTry(state('a', 1)) && failures.mayTry(state('a', 3)));
  failures.note(state('a', 4), false);
  failures.close();
  assert.equal(failures.note(state('a', 5), false).pauseMs, Number.POSITIVE_INFINITY);
  await clock.advance(1e9);
  assert.deepEqual([due, clock.timers], [[], 0]);
});

test('a timer that ends a moment too early loses no retry', () => {
  let ends = (): void => undefined;
  const clock = {
    now: () => 0,
    setTimer: (callback: () => void) => {
      ends = callback;
      return { cancel: () => undefined };
    },
  };
  const failures = new LoadFailures(clock, () => assert.ok(failures.mayTry(state('a'))));
  failures.note(state('a'), false);
  assert.ok(!failures.mayTry(state('a')));
  ends();
  assert.ok(failures.mayTry(state('a')));
});
