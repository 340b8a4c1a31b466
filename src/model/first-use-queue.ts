import type { Clock } from '../batching/clock.js';
import { ServingError } from '../errors.js';
import type { InferCall } from '../server/service.js';
import { type QueueRules, type WaitLimits, waitLimitsOf } from './queue-rules.js';

/** What the queue works with. */
export interface FirstUseQueueOptions {
  readonly clock: Clock;
  /** Loads a model; settled when requests may go on to it, or why they may not. */
  readonly load: (model: string) => Promise<void>;
}

interface Waiting extends WaitLimits {
  readonly model: string;
  readonly arrivedAt: number;
  readonly isAbandoned: (() => boolean) | undefined;
  /** Ends the waiting, with the reason where the request does not go on to its model. */
  readonly end: (reason?: unknown) => void;
}

/** Nothing tells that a caller went away: it is asked this often. */
const askAbandonedMs = 1000;
/** What a timer can be set to. */
const longestTimerMs = 2 ** 31 - 1;

/**
 * The requests that wait for the load of their model, which the first of them begins.
 *
 * A request that gives up leaves the load alone: it is what the others wait for. All share one timer.
 */
export class FirstUseQueue {
  readonly #options: FirstUseQueueOptions;
  /** Who waits for the loads that go on, by model, in the order of arrival. */
  readonly #byModel = new Map<string, Set<Waiting>>();
  #sweepAt = Number.POSITIVE_INFINITY;
  #sweepTimer: { cancel(): void } | undefined;

  constructor(options: FirstUseQueueOptions) {
    this.#options = options;
  }

  /**
   * Waits for the load of a request's model.
   *
   * @param arrivedAt when the request came, by the clock: its time to wait began then
   * @throws SRV_CANCELLED, SRV_QUEUE_FULL, SRV_DEADLINE_EXCEEDED, or why the model could not be loaded
   */
  async wait(
    call: Pick<InferCall, 'model' | 'priority' | 'timeoutMs' | 'signal' | 'isAbandoned'>,
    rules: QueueRules,
    arrivedAt: number,
  ): Promise<void> {
    const { model, signal, isAbandoned } = call;
    // Nothing is loaded for somebody who is gone.
    if (signal?.aborted || isAbandoned?.()) throw cancelled(model);
    const limits = waitLimitsOf(rules, call, arrivedAt);
    const others = this.#byModel.get(model) ?? this.#begin(model);
    this.#admit(model, others, limits.priority, rules);
    await new Promise<void>((resolve, reject) => {
      const withdraw = (): void => waiting.end(cancelled(model));
      const end = (reason?: unknown): void => {
        others.delete(waiting);
        signal?.removeEventListener('abort', withdraw);
        this.#rest();
        if (reason === undefined) resolve();
        else reject(reason);
      };
      const waiting: Waiting = { ...limits, model, arrivedAt, isAbandoned, end };
      signal?.addEventListener('abort', withdraw, { once: true });
      others.add(waiting);
      this.#watch(this.#nextLookAt(waiting));
    });
  }

  #begin(model: string): Set<Waiting> {
    const waiting = new Set<Waiting>();
    this.#byModel.set(model, waiting);
    const end = (reason?: unknown): void => {
      this.#byModel.delete(model);
      for (const one of waiting) one.end(reason);
    };
    void this.#options.load(model).then(() => end(), end);
    return waiting;
  }

  #admit(
    model: string,
    waiting: ReadonlySet<Waiting>,
    priority: number,
    { maxQueueSize, maxQueueSizes }: QueueRules,
  ): void {
    const ofPriority = (): number => [...waiting].filter((one) => one.priority === priority).length;
    const own = maxQueueSizes?.get(priority) ?? Number.POSITIVE_INFINITY;
    const isFull = (): boolean =>
      waiting.size >= maxQueueSize || (Number.isFinite(own) && ofPriority() >= own);
    if (!isFull()) return;
    this.#sweep();
    if (!isFull()) return;
    const limit =
      waiting.size >= maxQueueSize
        ? `${maxQueueSize} requests wait for its load (max_queue_size)`
        : `${own} requests of priority ${priority} wait for its load (queue_policies)`;
    throw new ServingError('SRV_QUEUE_FULL', `the queue of ${model} is full: ${limit}`);
  }

  /** Ends the waiting of those whose deadline has passed or whose caller is gone. */
  #sweep(): void {
    const now = this.#options.clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const one of [...this.#byModel.values()].flatMap((waiting) => [...waiting])) {
      if (one.deadlineAt <= now) one.end(expired(one, now));
      else if (one.isAbandoned?.()) one.end(cancelled(one.model));
      else next = Math.min(next, this.#nextLookAt(one));
    }
    this.#watch(next);
  }

  #nextLookAt({ deadlineAt, isAbandoned }: Waiting): number {
    return isAbandoned ? Math.min(deadlineAt, this.#options.clock.now() + askAbandonedMs) : deadlineAt;
  }

  /** Sees to it that those who wait are looked at then, if not before. */
  #watch(at: number): void {
    if (at >= this.#sweepAt) return;
    this.#sweepTimer?.cancel();
    this.#sweepAt = at;
    const { clock } = this.#options;
    const wait = Math.min(Math.max(0, at - clock.now()), longestTimerMs);
    this.#sweepTimer = clock.setTimer(() => {
      this.#sweepAt = Number.POSITIVE_INFINITY;
      this.#sweep();
    }, wait);
  }

  /** Stops looking where nobody waits. */
  #rest(): void {
    for (const waiting of this.#byModel.values()) if (waiting.size > 0) return;
    this.#sweepTimer?.cancel();
    this.#sweepAt = Number.POSITIVE_INFINITY;
  }
}

function expired({ model, arrivedAt }: Waiting, now: number): ServingError {
  return new ServingError(
    'SRV_DEADLINE_EXCEEDED',
    `the deadline of a request to ${model} passed after ${Math.round(now - arrivedAt)} ms, while the model was being loaded`,
  );
}

function cancelled(model: string): ServingError {
  return new ServingError(
    'SRV_CANCELLED',
    `the caller withdrew a request to ${model}, or went away, before the model was loaded`,
  );
}
