import { performance } from 'node:perf_hooks';
import { errorToData, ServingError } from '../errors.js';
import type { LoadMessage, LoadResult, Reply, RunMessage, RunResult } from './messages.js';
import { Predictor } from './predictor.js';
import { atLowPriority } from './thread-priority.js';

// The tasks of one instance. A task answers errors as data, because a thrown class loses its name and code on
// the way to the main thread.
const predictors = new Map<number, Predictor>();

// A batch may arrive while another one runs; the engine gives the thread back in between, but runs keep their order.
let running: Promise<unknown> = Promise.resolve();

/** Opens a predictor for a version; a version that is open already is kept. */
export async function load(message: LoadMessage): Promise<Reply<LoadResult>> {
  try {
    const startedAt = performance.now();
    if (!predictors.has(message.versionId)) {
      const twin = message.sessionOf === undefined ? undefined : predictors.get(message.sessionOf);
      const open = (): Promise<Predictor> => Predictor.open(message, twin);
      // Threads that the engine makes keep the priority that they begin with.
      const isLow = message.lowPriority && message.intraOpThreads <= 1;
      predictors.set(message.versionId, await (isLow ? atLowPriority(open) : open()));
    }
    return { ok: { loadMs: performance.now() - startedAt } };
  } catch (error) {
    return { error: errorToData(error) };
  }
}

/** Closes the predictor of a version, if there is one. */
export async function unload(message: { readonly versionId: number }): Promise<Reply<null>> {
  try {
    const predictor = predictors.get(message.versionId);
    predictors.delete(message.versionId);
    await predictor?.close();
    return { ok: null };
  } catch (error) {
    return { error: errorToData(error) };
  }
}

/** Runs one batch. The slot belongs to this thread until the reply is sent. */
export function run(message: RunMessage): Promise<Reply<RunResult>> {
  const reply = running.then(() => runNow(message));
  running = reply;
  return reply;
}

async function runNow(message: RunMessage): Promise<Reply<RunResult>> {
  try {
    const predictor = predictors.get(message.versionId);
    if (!predictor) {
      throw new ServingError(
        'SRV_INTERNAL',
        `version id ${message.versionId} is not loaded in this instance`,
      );
    }
    const ran = (): Promise<RunResult> => predictor.run(message);
    return { ok: await (message.lowPriority ? atLowPriority(ran) : ran()) };
  } catch (error) {
    return { error: errorToData(error) };
  }
}
