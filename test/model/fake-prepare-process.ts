/** A prepare process without an engine, which does what the path of a request says. */
import { writeSync } from 'node:fs';
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
  if (deed === 'hang' && !isExcluded) for (;;);
  if (deed === 'crash' && !isExcluded) {
    writeSync(2, 'the last words\n');
    process.kill(process.pid, 'SIGSEGV');
    return;
  }
  const formReason = `task ${tasks}; ${excluded.map((other) => `${other.form}: ${other.reason}`).join('; ')}`;
  await send({ id, model: { source: request.path, formReason } as never });
});
process.on('disconnect', () => process.exit(0));
