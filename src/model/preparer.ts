/** The queue of models to prepare, and what becomes of each. The processes that take them are in prepare-lane.ts. */
import { errorFromData, ServingError } from '../errors.js';
import {
  type PrepareEnd,
  PrepareLane,
  type PrepareLaneOptions,
  type PrepareOutcome,
} from './prepare-lane.js';
import type { ExcludedForm } from './prepare-messages.js';
import type { PreparedModel, PrepareRequest } from './prepared-model.js';

/** How models are prepared. */
export interface PreparerOptions extends PrepareLaneOptions {
  /** Time after which a model holds others up, ms: they go to a second process then. @default 10000 */
  readonly overflowAfterMs?: number;
}

interface Job {
  readonly id: number;
  readonly request: PrepareRequest;
  readonly resolve: (model: PreparedModel) => void;
  readonly reject: (error: ServingError) => void;
  /** Why the answer is no longer wanted. */
  withdrawn: ServingError | undefined;
  excluded: readonly ExcludedForm[];
  /** Whether it was begun anew once, because the process ended before it opened the model. */
  isSecondTry: boolean;
  /** Whether it has taken so long that others are not to wait for it. */
  isSlow: boolean;
}

/** A process and the model that it has. */
interface Seat {
  readonly lane: PrepareLane;
  job: Job | undefined;
}

const defaultOverflowAfterMs = 10_000;

/**
 * Prepares models, one after the other, in a process of its own that is started with the first model and started
 * again after one that crashed it. An idle process does not keep this one from ending.
 *
 * While a model takes long, the others go to a second process, as a model that hangs may do so for minutes. There is no
 * third: each may take the memory of a whole model.
 */
export class Preparer {
  readonly #options: PreparerOptions;
  readonly #waiting: Job[] = [];
  readonly #first: Seat;
  readonly #overflow: Seat;
  #nextId = 1;
  #isClosed = false;

  constructor(options: PreparerOptions = {}) {
    this.#options = options;
    this.#first = { lane: new PrepareLane(options), job: undefined };
    this.#overflow = { lane: new PrepareLane(options), job: undefined };
  }

  /**
   * Prepares one model. A withdrawn one that is already being prepared is finished for the cache.
   *
   * @throws SRV_MODEL_INVALID, SRV_MODEL_UNSUPPORTED, SRV_MODEL_CRASHED, SRV_IO, SRV_CANCELLED, SRV_SHUTTING_DOWN
   */
  prepare(request: PrepareRequest, options: { readonly signal?: AbortSignal } = {}): Promise<PreparedModel> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(closedError());
      if (signal?.aborted) return reject(cancelledError(request));
      const withdraw = (): void => this.#withdraw(job, cancelledError(request));
      const settle = (finish: () => void): void => {
        signal?.removeEventListener('abort', withdraw);
        finish();
      };
      const job: Job = {
        id: this.#nextId++,
        request,
        resolve: (model) => settle(() => resolve(model)),
        reject: (error) => settle(() => reject(error)),
        withdrawn: undefined,
        excluded: [],
        isSecondTry: false,
        isSlow: false,
      };
      signal?.addEventListener('abort', withdraw, { once: true });
      this.#waiting.push(job);
      this.#next();
    });
  }

  /** Ends the processes, whatever they do, and rejects what is not prepared yet. Resolves once they have ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const job of this.#waiting.splice(0)) job.reject(closedError());
    await Promise.all([this.#first.lane.close(), this.#overflow.lane.close()]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #withdraw(job: Job, error: ServingError): void {
    const at = this.#waiting.indexOf(job);
    if (at >= 0) this.#waiting.splice(at, 1);
    job.withdrawn = error;
    job.reject(error);
  }

  /** Gives what waits to whoever may take it. */
  #next(): void {
    if (this.#isClosed) return;
    this.#fill(this.#first);
    if (this.#first.job?.isSlow) this.#fill(this.#overflow);
    else if (!this.#overflow.job) void this.#overflow.lane.close();
  }

  #fill(seat: Seat): void {
    if (seat.job) return;
    seat.job = this.#waiting.shift();
    if (seat.job) void this.#prepare(seat, seat.job);
  }

  async #prepare(seat: Seat, job: Job): Promise<void> {
    const { id, request, excluded } = job;
    const noteSlow = (): void => {
      job.isSlow = true;
      this.#next();
    };
    const timer = setTimeout(noteSlow, this.#options.overflowAfterMs ?? defaultOverflowAfterMs);
    const outcome = await seat.lane.prepare({ id, request, excluded });
    clearTimeout(timer);
    seat.job = undefined;
    this.#settle(job, outcome);
    this.#next();
  }

  #settle(job: Job, outcome: PrepareOutcome): void {
    if ('model' in outcome) job.resolve(outcome.model);
    else if ('error' in outcome) job.reject(errorFromData(outcome.error));
    else this.#settleEnd(job, outcome);
  }

  /** A model whose process ended is refused, or goes to the head of the queue to be tried otherwise. */
  #settleEnd(job: Job, ended: PrepareEnd): void {
    const { phase, end, isTimedOut } = ended;
    if (this.#isClosed) job.reject(closedError());
    else if (job.withdrawn) job.reject(job.withdrawn);
    else if (phase === 'prepared' || phase === 'prepacked') {
      job.excluded = [...job.excluded, { form: phase, reason: `trying it ended the process: ${end}` }];
      this.#waiting.unshift(job);
    } else if (phase === 'reading' && !isTimedOut && !job.isSecondTry) {
      // The engine had not been handed the model yet: whatever ended the process, it was not this model.
      job.isSecondTry = true;
      this.#waiting.unshift(job);
    } else job.reject(crashError(job.request, ended));
  }
}

function crashError(request: PrepareRequest, { end, output }: PrepareEnd): ServingError {
  return new ServingError(
    'SRV_MODEL_CRASHED',
    `${request.path}: the prepare process ended while trying the model: ${end}`,
    { details: { path: request.path, end, output } },
  );
}

function closedError(): ServingError {
  return new ServingError('SRV_SHUTTING_DOWN', 'the preparer is closed');
}

function cancelledError(request: PrepareRequest): ServingError {
  return new ServingError('SRV_CANCELLED', `${request.path}: preparing was withdrawn`);
}
