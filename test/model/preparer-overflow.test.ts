/** What becomes of the others while a model hangs. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Preparer } from '../../src/model/preparer.js';
import { until } from '../support/until.js';

const processFile = fileURLToPath(new URL('./fake-prepare-process.js', import.meta.url));

interface Opened {
  readonly preparer: Preparer;
  /** Waits until a model hangs; the id of its process. */
  hanging(path: string): Promise<number>;
}

function openPreparer(t: TestContext, overflowAfterMs = 1): Opened {
  const pids = new Map<string, number>();
  const preparer = new Preparer({
    processFile,
    overflowAfterMs,
    onEngineLine: (line, path) => {
      const pid = /^hangs in (\d+)$/.exec(line)?.[1];
      if (path !== undefined && pid !== undefined) pids.set(path, Number(pid));
    },
  });
  t.after(() => preparer.close());
  return {
    preparer,
    hanging: async (path) => {
      await until(`${path} hangs`, () => pids.has(path));
      return pids.get(path)!;
    },
  };
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('while a model hangs, those that wait and those that come are prepared in order by one other process', async (t) => {
  const { preparer, hanging } = openPreparer(t);
  const hung = preparer.prepare({ path: 'original:hang' });
  const waiting = ['a', 'b'].map((path) => preparer.prepare({ path }));
  const pid = await hanging('original:hang');
  const coming = ['c', 'original:pid'].map((path) => preparer.prepare({ path }));
  const models = await Promise.all([...waiting, ...coming]);
  assert.deepEqual(
    models.map(({ formReason }) => formReason),
    ['task 1; ', 'task 2; ', 'task 3; ', 'task 4; '],
  );
  const overflow = Number(models[3]!.source);
  assert.notEqual(overflow, pid);
  assert.ok(isThere(overflow), 'it stays while the model hangs');
  process.kill(pid, 'SIGKILL');
  await assert.rejects(hung, { code: 'SRV_MODEL_CRASHED', message: /signal SIGKILL/ });
  await until('the other process has ended', () => !isThere(overflow));
});

test('there is no third process: where two models hang the others wait, until one of them is over or all is closed', async (t) => {
  const { preparer, hanging } = openPreparer(t);
  const hung = Promise.allSettled(
    ['original:hang', 'reading:hang'].map((path) => preparer.prepare({ path })),
  );
  const withdraw = new AbortController();
  const withdrawn = preparer.prepare({ path: 'a' }, { signal: withdraw.signal });
  let isPrepared = false;
  const waiting = preparer.prepare({ path: 'b' }).finally(() => {
    isPrepared = true;
  });
  const first = await hanging('original:hang');
  const second = await hanging('reading:hang');
  withdraw.abort();
  await assert.rejects(withdrawn, { code: 'SRV_CANCELLED' });
  assert.equal(isPrepared, false);
  process.kill(first, 'SIGKILL');
  assert.match((await waiting).formReason, /^task 1;/);
  await Promise.all([preparer.close(), preparer.close()]);
  assert.equal(isThere(second), false);
  assert.deepEqual(
    (await hung).map((result) => result.status === 'rejected' && result.reason.code),
    ['SRV_MODEL_CRASHED', 'SRV_SHUTTING_DOWN'],
  );
});

test('a form that ends its process is left out, in the one as in the other', async (t) => {
  const { preparer, hanging } = openPreparer(t);
  const slow = preparer.prepare({ path: 'prepared:hang' });
  const pid = await hanging('prepared:hang');
  const { formReason } = await preparer.prepare({ path: 'prepacked:crash' });
  assert.match(formReason, /^task 1; prepacked: .*signal SIGSEGV/);
  process.kill(pid, 'SIGKILL');
  assert.match((await slow).formReason, /^task 1; prepared: .*signal SIGKILL/);
});
