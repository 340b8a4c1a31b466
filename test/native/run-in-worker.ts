import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const bindingUrl = new URL('../../src/native/binding.js', import.meta.url).href;

/**
 * Runs the body of an async function in a worker thread, with `binding` and `input` in scope, and waits until the
 * thread has ended.
 *
 * @returns what the body returned; an error comes back as `{ code, name, message }`
 */
export async function runInWorker(body: string, input: unknown): Promise<unknown> {
  const worker = new Worker(
    `const { parentPort, workerData: input } = require('node:worker_threads');
     import(${JSON.stringify(bindingUrl)})
       .then(async (binding) => { ${body} })
       .catch(({ code, name, message }) => ({ code, name, message }))
       .then((result) => parentPort.postMessage(result));`,
    { eval: true, workerData: input },
  );
  const [[result]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
  return result;
}
