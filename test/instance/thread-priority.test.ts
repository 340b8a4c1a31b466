import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { atLowPriority, mayRaisePriority } from '../../src/instance/thread-priority.js';

test('work at low priority ends at the priority of before, also when it fails, and is that of one thread', async () => {
  const before = getPriority(0);
  const during = await atLowPriority(async () => {
    const other = await priorityOfNewThread();
    return [getPriority(0), other];
  });
  // A thread inherits the nice value of the one that starts it, on Linux.
  assert.deepEqual(during, mayRaisePriority() ? [10, 10] : [before, before]);
  await assert.rejects(
    atLowPriority(() => Promise.reject(new Error('no model'))),
    /no model/,
  );
  assert.equal(getPriority(0), before);
  assert.equal(await priorityOfNewThread(), before);
});

test('who is root in a user namespace alone keeps his priority, because he could not take it back', (t) => {
  if (spawnSync('unshare', ['-r', 'true']).status !== 0) {
    t.skip('a user namespace is not allowed here');
    return;
  }
  const module = new URL('../../src/instance/thread-priority.js', import.meta.url).href;
  const program = `
    import { getPriority } from 'node:os';
    import { atLowPriority } from '${module}';
    const before = getPriority(0);
    await atLowPriority(async () => undefined);
    if (getPriority(0) !== before) throw new Error('another priority');`;
  const { status, stderr } = spawnSync(
    'unshare',
    ['-r', process.execPath, '--input-type=module', '-e', program],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
});

function priorityOfNewThread(): Promise<number> {
  return new Promise((resolve, reject) => {
    const program = `require('node:worker_threads').parentPort.postMessage(require('node:os').getPriority(0))`;
    const worker = new Worker(program, { eval: true });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}
