import { messageOf, ServingError } from '../errors.js';
import type { TensorMap } from '../tensor/tensor.js';
import type { ModelStatistics } from './server-statistics.js';
import type { LoadTarget } from './target.js';

/** The part of a runtime that the harness uses; what `openRuntime` gives fits it. */
export interface InferenceRuntime {
  infer(
    model: string,
    inputs: TensorMap,
    options?: { readonly version?: number; readonly timeoutMs?: number },
  ): Promise<unknown>;
  close(): Promise<void>;
}

/** A model of a runtime in this process and the requests to send it. */
export interface InProcessTargetOptions {
  /** Closed together with the target. */
  readonly runtime: InferenceRuntime;
  readonly model: string;
  readonly version?: number;
  /** At least one; the load goes round them. */
  readonly requests: readonly TensorMap[];
  readonly rowsPerRequest: number;
  /** @default 30000 */
  readonly timeoutMs?: number;
  /** The runtime's counters of the model. Absent: no stage breakdown. */
  readonly statistics?: () => ModelStatistics;
}

/**
 * Makes a target of a runtime in this process. The first request is sent, so that a wrong shape stops the run
 * before it starts; what the runtime throws then is thrown on.
 */
export async function openInProcessTarget(options: InProcessTargetOptions): Promise<LoadTarget> {
  const { runtime, model, requests } = options;
  const inferOptions = {
    timeoutMs: options.timeoutMs ?? 30_000,
    ...(options.version === undefined ? {} : { version: options.version }),
  };
  await runtime.infer(model, requests[0]!, inferOptions);
  return {
    description: `in process: ${model}`,
    rowsPerRequest: options.rowsPerRequest,
    isInProcess: true,
    async send(index) {
      try {
        await runtime.infer(model, requests[index % requests.length]!, inferOptions);
        return undefined;
      } catch (error) {
        return error instanceof ServingError ? error.code : messageOf(error);
      }
    },
    statistics: async () => options.statistics?.(),
    close: () => runtime.close(),
  };
}
