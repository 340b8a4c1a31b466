import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { FileTarget } from '../../src/publish/file-target.js';
import { lockTarget, type TargetLock } from '../../src/publish/target-lock.js';
import { ManualClock } from '../support/manual-clock.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';
import { until } from '../support/until.js';

const root = makeDirectory('target-lock');
after(() => removeDirectory(root));

const target = new FileTarget();
let made = 0;
const newPath = (): string => join(root, `lock-${++made}`);
const times = { leaseMs: 3000, waitMs: 10_000 };

const isConflict = (said: string) => (error: unknown) => {
  assert.ok(error instanceof ServingError && error.code === 'SRV_PUBLISH_CONFLICT', String(error));
  assert.ok(error.message.includes(said), error.message);
  return true;
};

/** Moves the clock on in steps, with real time between them for the disk, until the promise is settled. */
async function whileTimePasses<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  let isSettled = false;
  const settled = work.finally(() => {
    isSettled = true;
  });
  settled.catch(() => undefined);
  await until('the work is settled', async () => {
    await clock.advance(100);
    return isSettled;
  });
  return settled;
}

test('one holds it, the next one gets it when it is given back', async () => {
  const clock = new ManualClock();
  const path = newPath();
  const first = await lockTarget(target, path, { clock, ...times });
  const second = lockTarget(target, path, { clock, leaseMs: 1e9, waitMs: 1e9 });
  await first.confirm();
  await first.release();
  const lock = await whileTimePasses(clock, second);
  await lock.confirm();
  await lock.release();
  assert.equal(await target.readLock(path), undefined);
});

test('a holder that lives is waited for no longer than asked', async () => {
  const path = newPath();
  const clock = new ManualClock();
  const first = await lockTarget(target, path, { clock, ...times });
  const second = lockTarget(target, path, { clock, leaseMs: 1_000_000, waitMs: 2000 });
  await assert.rejects(whileTimePasses(clock, second), isConflict('waited 2 s (lock_wait)'));
  await first.confirm();
  await first.release();
});

test('the lock of one that ended is broken after its lease', async () => {
  const clock = new ManualClock();
  const path = newPath();
  writeFileSync(path, 'elsewhere:1:abc 4');
  const lock = await whileTimePasses(clock, lockTarget(target, path, { clock, leaseMs: 3000, waitMs: 1e9 }));
  assert.notEqual(readFileSync(path, 'utf8'), 'elsewhere:1:abc 4');
  await lock.release();
});

test('one that lost its lock stops, writes nothing more, and leaves the lock of the other alone', async () => {
  const clock = new ManualClock();
  const path = newPath();
  const lock: TargetLock = await lockTarget(target, path, { clock, ...times });
  writeFileSync(path, 'other:2:def 0');
  await assert.rejects(lock.confirm(), isConflict('another publisher took over'));
  await clock.advance(1000);
  await until('the renewal finds it', () => lock.signal.aborted);
  assert.throws(() => lock.signal.throwIfAborted(), isConflict('did not renew its lock in time (lease)'));
  await lock.release();
  assert.equal(readFileSync(path, 'utf8'), 'other:2:def 0');
});

test('a held lock is renewed', async () => {
  const clock = new ManualClock();
  const path = newPath();
  const lock = await lockTarget(target, path, { clock, ...times });
  for (const beat of ['1', '2']) {
    await clock.advance(1000);
    await until('it is renewed', () => readFileSync(path, 'utf8').endsWith(` ${beat}`));
    // The next timer is set when the renewal has ended.
    await until('the timer is set', () => clock.timers === 1);
  }
  await lock.release();
});
