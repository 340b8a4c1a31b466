import type { Clock } from '../batching/clock.js';
import type { ShadowSettings } from '../config/traffic-settings.js';
import { errorToData } from '../errors.js';
import { Histogram } from '../observe/histogram.js';
import type { InferAnswer, InferCall, NamedTensor, ShadowStatus } from '../server/service.js';
import { type Tensor, tensorBytes } from '../tensor/tensor.js';
import { compareAnswers } from './compare-answers.js';
import { targetOf, targetText, type VariantTarget, type VariantTargets } from './variant-target.js';

/** How often it is tried again whether there is room. */
const retryMs = 5;
/** How long a copy waits for room before it is dropped. */
const maxWaitMs = 1000;
/** Bytes of inputs that copies may keep from being freed. */
const maxBytes = 64 * 1024 * 1024;
/** Behind every request of half a minute: one level is worth a second. */
const priority = 32;

/** Bounds of differences in latency, in seconds; below 0 the shadow was faster. */
const differenceBounds: readonly number[] = [
  -1, -0.1, -0.05, -0.01, -0.005, -0.001, -1e-4, 0, 1e-4, 0.001, 0.005, 0.01, 0.05, 0.1, 1, 10,
];

/** What a lane works with. */
export interface ShadowLaneOptions {
  readonly infer: (call: InferCall) => Promise<InferAnswer>;
  readonly targets: VariantTargets;
  readonly clock: Clock;
  /** Whether an instance is idle and nothing waits for it. */
  readonly hasRoom: () => boolean;
  readonly random: () => number;
}

/** A request that was answered, with its answer. */
interface Copy {
  readonly call: InferCall;
  readonly outputs: readonly NamedTensor[];
  /** How long the caller waited for the answer, in seconds. */
  readonly seconds: number;
  readonly dropAt: number;
  readonly bytes: number;
}

/**
 * Gives copies of answered requests to a shadow, while nothing else wants the instances, and compares the answers.
 *
 * Callers have their answers before. A copy waits until an instance is idle and no queue holds anything; when that
 * takes too long, or too many wait, it is dropped: under load shadows go first.
 */
export class ShadowLane {
  readonly tag: string;
  readonly target: VariantTarget;
  readonly sample: number;
  compared = 0;
  failed = 0;
  shed = 0;
  lastFailure: string | null = null;
  /** The largest since the start; undefined before the first comparison. */
  maxAbsDifference: number | undefined;
  argmaxFlips = 0;
  argmaxRows = 0;
  /** The shadow's latency less that of the served answer, in seconds. */
  readonly latencyDifference = new Histogram(differenceBounds);
  readonly #maxInFlight: number;
  readonly #options: ShadowLaneOptions;
  #waiting: Copy[] = [];
  #running = 0;
  /** Of the copies that wait and run. */
  #bytes = 0;
  #isPlanned = false;
  #timer: { cancel(): void } | undefined;
  #isClosed = false;

  /** @param name the public name */
  constructor(name: string, settings: ShadowSettings, options: ShadowLaneOptions) {
    this.tag = settings.tag;
    this.target = targetOf(name, settings);
    this.sample = settings.sample ?? 1;
    this.#maxInFlight = settings.max_in_flight ?? 8;
    this.#options = options;
  }

  /** Takes a copy of an answered request, if it is in the sample and there is a place for it. */
  offer(call: InferCall, outputs: readonly NamedTensor[], seconds: number): void {
    const { random, clock } = this.#options;
    if (this.#isClosed || (this.sample < 1 && random() >= this.sample)) return;
    const bytes = call.inputs.reduce((sum, { tensor }) => sum + tensorBytes(tensor), 0);
    if (this.#waiting.length + this.#running >= this.#maxInFlight || this.#bytes + bytes > maxBytes) {
      this.shed += 1;
      return;
    }
    this.#bytes += bytes;
    // What a caller in this process gave and got is its own again.
    const isOwned = call.origin === 'process';
    this.#waiting.push({
      call: isOwned ? { ...call, inputs: call.inputs.map(copied) } : call,
      outputs: isOwned ? outputs.map(copied) : outputs,
      seconds,
      dropAt: clock.now() + maxWaitMs,
      bytes,
    });
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    // What the caller asks next, on hearing the answer, comes first.
    clock.atTurnEnd(() => {
      this.#isPlanned = false;
      this.#pump();
    });
  }

  /** Drops what waits. What runs is answered and not looked at. */
  close(): void {
    this.#isClosed = true;
    this.#waiting = [];
    this.#timer?.cancel();
  }

  status(): ShadowStatus {
    const { label } = this.target;
    const { count, sum } = this.latencyDifference;
    const largest = this.maxAbsDifference;
    return {
      tag: this.tag,
      model: this.target.model,
      version: this.#options.targets.readyVersion(this.target) ?? null,
      ...(label === undefined ? {} : { label }),
      sample: this.sample,
      compared: this.compared,
      failed: this.failed,
      shed: this.shed,
      last_failure: this.lastFailure,
      max_abs_difference:
        largest === undefined ? null : largest === Number.POSITIVE_INFINITY ? 'Infinity' : largest,
      argmax_flips: this.argmaxFlips,
      argmax_rows: this.argmaxRows,
      latency_difference_ms: count === 0 ? null : (sum / count) * 1000,
    };
  }

  #pump(): void {
    if (this.#isClosed) return;
    const { clock, hasRoom } = this.#options;
    const now = clock.now();
    // They came in order: the first ones have waited longest.
    while (this.#waiting[0] && this.#waiting[0].dropAt <= now) {
      this.#bytes -= this.#waiting.shift()!.bytes;
      this.shed += 1;
    }
    if (this.#waiting.length > 0 && hasRoom()) void this.#run(this.#waiting.shift()!);
    if (this.#waiting.length === 0 || this.#timer) return;
    this.#timer = clock.setTimer(() => {
      this.#timer = undefined;
      this.#pump();
    }, retryMs);
  }

  async #run({ call, outputs, seconds, bytes }: Copy): Promise<void> {
    const { infer, targets, clock } = this.#options;
    const version = targets.readyVersion(this.target);
    if (version === undefined) {
      this.#bytes -= bytes;
      this.#fail(`${targetText(this.target)} is not ready`);
      return;
    }
    this.#running += 1;
    const startedAt = clock.now();
    try {
      const answer = await infer({
        model: this.target.model,
        version,
        inputs: call.inputs,
        outputs: call.outputs,
        timeoutMs: call.timeoutMs,
        priority,
        protocol: 'shadow',
        origin: 'socket',
      });
      const elapsed = (clock.now() - startedAt) / 1000;
      this.#compare(outputs, answer.outputs, elapsed - seconds);
    } catch (error) {
      const { code, message } = errorToData(error);
      if (!this.#isClosed) this.#fail(`${code}: ${message}`);
    } finally {
      this.#running -= 1;
      this.#bytes -= bytes;
      this.#pump();
    }
  }

  #compare(served: readonly NamedTensor[], shadow: readonly NamedTensor[], seconds: number): void {
    const difference = compareAnswers(served, shadow);
    if (typeof difference === 'string') {
      this.#fail(difference);
      return;
    }
    this.compared += 1;
    this.maxAbsDifference = Math.max(this.maxAbsDifference ?? 0, difference.maxAbs);
    this.argmaxFlips += difference.flips;
    this.argmaxRows += difference.rows;
    this.latencyDifference.record(seconds);
  }

  #fail(reason: string): void {
    this.failed += 1;
    this.lastFailure = reason;
  }
}

function copied({ name, tensor }: NamedTensor): NamedTensor {
  return { name, tensor: { ...tensor, data: tensor.data.slice() } as Tensor };
}
