import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ServingError } from '../../src/errors.js';
import { Preparer, type PreparerOptions } from '../../src/model/preparer.js';
import { until } from '../support/until.js';

const processFile = fileURLToPath(new URL('./fake-prepare-process.js', import.meta.url));

function openPreparer(t: TestContext, options: PreparerOptions = {}): Preparer {
  const preparer = new Preparer({ processFile, ...options });
  t.after(() => preparer.close());
  return preparer;
}

test('models are prepared one after the other in one process', async (t) => {
  const preparer = openPreparer(t);
  const models = await Promise.all(['a', 'b', 'c'].map((path) => preparer.prepare({ path })));
  assert.deepEqual(
    models.map(({ source, formReason }) => `${source} ${formReason}`),
    ['a task 1; ', 'b task 2; ', 'c task 3; '],
  );
});

test('the process gives way, with the threads that it starts', {
  skip: process.platform !== 'linux',
}, async (t) => {
  const preparer = openPreparer(t);
  const { source } = await preparer.prepare({ path: 'original:threads' });
  const nice = source.split(' ').map(Number);
  assert.ok(nice.filter((value) => value === 10).length > 1, source);
});

test('a crash of the original refuses that model alone, with the signal and the last words', async (t) => {
  const lines: string[] = [];
  const preparer = openPreparer(t, { onEngineLine: (line, path) => lines.push(`${path} ${line}`) });
  const [crash, next] = await Promise.allSettled([
    preparer.prepare({ path: 'original:crash' }),
    preparer.prepare({ path: 'next' }),
  ]);
  assert.equal(next.status, 'fulfilled');
  assert.equal(crash.status, 'rejected');
  const error = crash.reason as ServingError;
  assert.equal(error.code, 'SRV_MODEL_CRASHED');
  assert.match(error.message, /original:crash.*signal SIGSEGV/);
  assert.deepEqual(error.details?.output, ['the last words']);
  assert.deepEqual(lines, ['original:crash the last words']);
});

test('a crash of a prepared form tries the model again without that form', async (t) => {
  const preparer = openPreparer(t);
  const model = await preparer.prepare({ path: 'prepacked:crash' });
  assert.match(model.formReason, /prepacked: trying it ended the process: signal SIGSEGV/);
});

test('a model that takes too long is refused, or loses the form that takes too long', async (t) => {
  const preparer = openPreparer(t, { modelTimeoutMs: 1500 });
  await assert.rejects(preparer.prepare({ path: 'original:hang' }), {
    code: 'SRV_MODEL_CRASHED',
    message: /did not finish within 1500 ms/,
  });
  const model = await preparer.prepare({ path: 'prepared:hang' });
  assert.match(model.formReason, /prepared: .*did not finish/);
});

test('a process that ends before it opened the model is no fault of the model, once', async (t) => {
  const preparer = openPreparer(t);
  await assert.rejects(preparer.prepare({ path: 'reading:crash' }), { code: 'SRV_MODEL_CRASHED' });
  assert.match((await preparer.prepare({ path: 'fine' })).formReason, /^task 1;/);
});

test('a process that cannot be started refuses the model instead of keeping its caller', async (t) => {
  const preparer = openPreparer(t, { processFile: '/nowhere/process.js' });
  await assert.rejects(preparer.prepare({ path: 'a' }), {
    code: 'SRV_MODEL_CRASHED',
    message: /exit code 1/,
  });
});

test('a withdrawn model is answered at once, waiting or not', async (t) => {
  const preparer = openPreparer(t, { modelTimeoutMs: 1500 });
  const withdraw = new AbortController();
  const running = preparer.prepare({ path: 'original:hang' }, { signal: withdraw.signal });
  const waiting = preparer.prepare({ path: 'b' }, { signal: withdraw.signal });
  withdraw.abort();
  for (const promise of [running, waiting]) await assert.rejects(promise, { code: 'SRV_CANCELLED' });
  assert.equal((await preparer.prepare({ path: 'c' })).source, 'c');
  await assert.rejects(preparer.prepare({ path: 'd' }, { signal: withdraw.signal }), {
    code: 'SRV_CANCELLED',
  });
});

test('closing ends a busy process, rejects what waits and may be done twice', async () => {
  const preparer = new Preparer({ processFile });
  const results = Promise.allSettled(['original:hang', 'b'].map((path) => preparer.prepare({ path })));
  await sleep(100);
  await Promise.all([preparer.close(), preparer.close()]);
  for (const result of await results) {
    assert.equal(result.status, 'rejected');
    assert.equal((result.reason as ServingError).code, 'SRV_SHUTTING_DOWN');
  }
  await assert.rejects(preparer.prepare({ path: 'c' }), { code: 'SRV_SHUTTING_DOWN' });
});

/** Starts a parent that prepares one model and then does `afterwards`; resolves to both process ids and how it ends. */
async function parentProcess(t: TestContext, afterwards: string) {
  const preparerUrl = new URL('../../src/model/preparer.js', import.meta.url).href;
  const program = `
    import { Preparer } from ${JSON.stringify(preparerUrl)};
    const preparer = new Preparer({ processFile: ${JSON.stringify(processFile)} });
    await preparer.prepare({ path: 'a' });
    const { readFileSync } = await import('node:fs');
    console.log(readFileSync('/proc/self/task/' + process.pid + '/children', 'utf8'));
    ${afterwards}`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => parent.kill('SIGKILL'));
  const [children] = (await Promise.race([
    once(parent.stdout, 'data'),
    once(parent, 'close').then(([code]) => Promise.reject(new Error(`the parent ended with ${code}`))),
  ])) as [Buffer];
  return { parent, child: Number(children.toString().trim()) };
}

const needsProc = { skip: process.platform === 'linux' ? false : 'needs /proc' };

test('an idle prepare process does not keep its parent from ending', needsProc, async (t) => {
  const { parent } = await parentProcess(t, '');
  await until('the parent has ended', () => parent.exitCode !== null || parent.signalCode !== null);
  assert.equal(parent.exitCode, 0);
});

test('the prepare process ends when its parent is killed', needsProc, async (t) => {
  const { parent, child } = await parentProcess(t, 'setInterval(() => {}, 1000);');
  process.kill(child, 0);
  parent.kill('SIGKILL');
  await until('the prepare process has ended', () => !isThere(child));
});

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
