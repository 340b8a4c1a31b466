/** Opening a model's own file and trying it. */
import { messageOf, ServingError } from '../errors.js';
import type { EngineSession } from './engine-session.js';
import type { OnnxSummary } from './onnx-file.js';
import { servedValues } from './served-values.js';
import { type TrialResult, tryModel } from './trial.js';

/** What trying a model's own file showed. */
export interface TriedOriginal {
  readonly served: ReturnType<typeof servedValues>;
  readonly result: TrialResult;
  /** Opening it, ms; 0 where the CPU engine does not. */
  readonly loadMs: number;
}

/**
 * Opens a model, runs it on generated inputs and closes it.
 *
 * @param isCpu whether it will be served on the CPU. A model for another provider may use kernels that the CPU does not have,
 *   which is told in the result
 * @throws SRV_MODEL_INVALID, SRV_MODEL_UNSUPPORTED when a model for the CPU does not open
 */
export async function tryOriginal(
  path: string,
  summary: OnnxSummary,
  isCpu: boolean,
  open: () => Promise<EngineSession>,
): Promise<TriedOriginal> {
  const startedAt = performance.now();
  let session: EngineSession;
  try {
    session = await open();
  } catch (error) {
    if (isCpu) throw refusalOf(path, error);
    const reason = `not tried: the CPU engine does not open it: ${messageOf(error)}`;
    const result = {
      trial: { ran: false, reason },
      batching: { rowsIndependent: false, reason },
      samples: [],
    };
    return { served: servedValues(path, summary), result, loadMs: 0 };
  }
  const loadMs = performance.now() - startedAt;
  try {
    const served = servedValues(path, summary, session.outputs);
    const result = await tryModel(session, summary, served.outputs);
    if (isCpu) return { served, result, loadMs };
    const { ran, reason = 'tried on the CPU; durations there say nothing about this provider' } =
      result.trial;
    return { served, result: { ...result, trial: { ran, reason } }, loadMs };
  } finally {
    await session.close();
  }
}

function refusalOf(path: string, error: unknown): ServingError {
  const text = messageOf(error).trim();
  const isBroken =
    /protobuf parsing failed|deserialize tensor|external data|out of bounds|not a valid (model|graph)/i;
  return new ServingError(
    isBroken.test(text) ? 'SRV_MODEL_INVALID' : 'SRV_MODEL_UNSUPPORTED',
    `${path}: the engine does not load the model: ${text}`,
    { cause: error },
  );
}
