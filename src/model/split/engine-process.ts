/** Runs models in a process of their own, so that what the engine takes or breaks is not this process's. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { errorFromData, messageOf, ServingError } from '../../errors.js';
import type { TensorMap } from '../../tensor/tensor.js';
import type {
  PrepareProcessOptions,
  RunModelReply,
  RunModelResult,
  RunModelTask,
} from '../prepare-messages.js';

const keptText = 2000;

/**
 * Opens a model without optimising it, runs it on each of the inputs and closes it.
 *
 * @param outputs the outputs to fetch
 * @throws SRV_MODEL_CRASHED when the process ended, as it does where memory does not suffice; SRV_INTERNAL with the
 * engine's text when the model does not open; SRV_CANCELLED
 */
export async function runModel(
  path: string,
  runs: readonly TensorMap[],
  outputs: readonly string[],
  signal?: AbortSignal,
): Promise<readonly RunModelResult[]> {
  const options: PrepareProcessOptions = { cacheMaxBytes: 0 };
  const child = fork(
    fileURLToPath(new URL('../prepare-process.js', import.meta.url)),
    [JSON.stringify(options)],
    { serialization: 'advanced', stdio: ['ignore', 'pipe', 'pipe', 'ipc'], execArgv: [] },
  );
  const stop = (): void => void child.kill('SIGKILL');
  signal?.addEventListener('abort', stop, { once: true });
  try {
    signal?.throwIfAborted();
    return await answerOf(child, { id: 1, runModel: path, runs, outputs });
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new ServingError('SRV_CANCELLED', `${path}: the run was withdrawn`, { cause: error });
  } finally {
    signal?.removeEventListener('abort', stop);
    stop();
  }
}

function answerOf(child: ChildProcess, task: RunModelTask): Promise<readonly RunModelResult[]> {
  return new Promise((resolve, reject) => {
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (part: Buffer) => {
        text = (text + part.toString('utf8')).slice(-keptText);
      });
    }
    child.on('message', (reply: RunModelReply) => {
      if ('results' in reply) resolve(reply.results);
      else reject(errorFromData(reply.error));
    });
    child.on('error', (error) => {
      text += messageOf(error);
    });
    child.on('close', (code, ended) => {
      const how = ended ? `signal ${ended}` : `exit code ${code}`;
      reject(
        new ServingError(
          'SRV_MODEL_CRASHED',
          `${task.runModel}: the process that ran it ended: ${how}${text === '' ? '' : `; ${text.trim()}`}`,
        ),
      );
    });
    child.send(task, () => {});
  });
}
