/** A prepare process without an engine, which does what the path of a request says. */
import { readdirSync, writeSync } from 'node:fs';
import { getPriority } from 'node:os';
import type { PrepareReply, PrepareTask } from '../../src/model/prepare-messages.js';

let tasks = 0;

function send(reply: PrepareReply): Promise<void> {
  return new Promise((resolve) => process.send?.(reply, undefined, {}, () => resolve()));
}

process.on('message', async ({ id, request, excluded }: PrepareTask) => {
  tasks++;
  const [, phase, deed] = /^(\w+):(\w+)$/.exec(request.path) ?? [];
  const isExcluded = excluded.some((other) => other.form === phase);
  if (!isExcluded) await send({ id, phase: phase as 'original' });
  if (deed === 'hang' && !isExcluded) {
    writeSync(2, `hangs in ${process.pid}\n`);
    // Deaf to messages, and at no cost to the other tests.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }
  if (deed === 'crash' && !isExcluded) {
    writeSync(2, 'the last words\n');
    process.kill(process.pid, 'SIGSEGV');
    return;
  }
  const source = deed === 'threads' ? niceOfThreads() : deed === 'pid' ? String(process.pid) : request.path;
  const formReason = `task ${tasks}; ${excluded.map((other) => `${other.form}: ${other.reason}`).join('; ')}`;
  await send({ id, model: { source, formReason } as never });
});
process.on('disconnect', () => process.exit(0));

/** The nice values of all threads of this process, with blanks between. */
function niceOfThreads(): string {
  return readdirSync('/proc/self/task')
    .map((thread) => getPriority(Number(thread)))
    .join(' ');
}
