// Longer than most files: admission, taking, running and settling keep the same counts, which must agree after each.
import { errorFromData, messageOf, ServingError } from '../errors.js';
import type { FailedRow, RunMessage } from '../instance/messages.js';
import type { Slot, SlotAllocator } from '../instance/slab.js';
import type { ModelStats } from '../observe/model-stats.js';
import type { Signature } from '../tensor/tensor.js';
import { BadBatches } from './bad-batches.js';
import { assemble, commonFetch, layOut, pick, splitResult, type TargetRoom } from './batch.js';
import type { ByteBudget } from './byte-budget.js';
import type { Clock } from './clock.js';
import type { Job, JobRequest, JobResult, SubmittedJob } from './job.js';
import { cropOutputs, type PaddedInput, padTogether } from './padding.js';
import { ReplyRoom } from './reply-room.js';
import { delayedOrder, orderOf, RequestQueue } from './request-queue.js';
import type { Runner } from './runner.js';
import type { Scheduler } from './scheduler.js';

/** What a version's batcher needs to know. */
export interface BatcherOptions {
  /** Name and version, for messages. */
  readonly label: string;
  readonly versionId: number;
  readonly signature: Signature;
  /** Where the version is loaded. */
  readonly runners: readonly Runner[];
  /** Runs single jobs on the main thread when nothing else is going on; absent when switched off. */
  readonly idleRunner?: Runner | undefined;
  /** Whether rows of different jobs may share a batch. */
  readonly canMerge: boolean;
  /** Inputs that are padded so that rows of unlike lengths merge. */
  readonly padding: readonly PaddedInput[];
  /** What the model's gather stages put into a slot. */
  readonly targets: readonly TargetRoom[];
  /** Rows of a batch at most. */
  readonly maxBatchSize: number;
  /** How long a job may wait for others, in microseconds. */
  readonly maxQueueDelayUs: number;
  /** Rows that end the wait for others. @default maxBatchSize */
  readonly enoughRows?: number | undefined;
  /** Jobs that may wait. */
  readonly maxQueueSize: number;
  /** Jobs of a priority that may wait, for some priorities. */
  readonly maxQueueSizes?: ReadonlyMap<number, number> | undefined;
  /** Batches that may run at once, so that other models find an instance. @default as many as there are instances */
  readonly maxRunning?: number | undefined;
  /** Share of compute time against other models; 1 is the usual share. */
  readonly weight: number;
  readonly scheduler: Scheduler;
  readonly slots: SlotAllocator;
  readonly queueBytes: ByteBudget;
  readonly stats: ModelStats;
  readonly clock: Clock;
}

const minJobsToHalve = 8;
const minRowsAhead = 8;

/**
 * The queue of one version and the making of its batches.
 *
 * It admits or refuses a job at once. The scheduler tells it when an instance is free; it then takes what waits,
 * up to `maxBatchSize` rows. A batch that the engine refuses is split in halves until the bad job stands alone.
 */
export class Batcher {
  readonly options: BatcherOptions;
  /** Compute time used, weighted; the scheduler serves the smallest first. */
  virtualTime = 0;
  /** Whether the scheduler has it in its ready list. Kept by the scheduler. */
  isListed = false;
  readonly #queue = new RequestQueue();
  /** Halves of failed batches, and batches that found no memory: they go first. */
  readonly #retries: Job[][] = [];
  #running = 0;
  #runningJobs = 0;
  #runningRows = 0;
  readonly #badBatches = new BadBatches();
  readonly #replyRoom: ReplyRoom;
  readonly #maxRunning: number;
  #computeMs = 1;
  #delayTimer: { cancel(): void } | undefined;
  #closed: ServingError | undefined;
  readonly #onDrained: (() => void)[] = [];

  constructor(options: BatcherOptions) {
    this.options = options;
    this.#replyRoom = new ReplyRoom(options.signature);
    this.#maxRunning = options.maxRunning ?? Number.POSITIVE_INFINITY;
  }

  /** Jobs that wait. */
  get queueSize(): number {
    return this.#queue.size + this.#retries.reduce((sum, jobs) => sum + jobs.length, 0);
  }

  /** Jobs that are being run. */
  get inFlight(): number {
    return this.#runningJobs;
  }

  /** Batches that are being run. */
  get running(): number {
    return this.#running;
  }

  /**
   * Whether what waits is worth being given to a busy instance: rows of callers in this process, at least as many as
   * run now. Two batches of half the callers then take turns, and neither side waits for messages between threads.
   */
  get wantsRoomAhead(): boolean {
    const first = this.#queue.peek();
    return (
      first?.origin === 'process' &&
      this.#running < this.#maxRunning &&
      this.#queue.rows >= Math.max(minRowsAhead, this.#runningRows) &&
      this.#retries.length === 0
    );
  }

  /** Whether a batch could be taken now. */
  get hasWork(): boolean {
    if (this.#running >= this.#maxRunning) return false;
    if (this.#retries.length > 0) return true;
    const first = this.#queue.peek();
    if (!first) return false;
    const enoughRows = Math.min(this.#mergeLimit(), this.options.enoughRows ?? this.options.maxBatchSize);
    return this.#delayTimer === undefined || this.#queue.rows >= enoughRows;
  }

  /**
   * Queues a job.
   *
   * @throws SRV_QUEUE_FULL when the queue is at its limit, SRV_SHUTTING_DOWN when the version is being unloaded;
   * the promise is rejected with SRV_DEADLINE_EXCEEDED, SRV_CANCELLED or what the run threw
   */
  submit(request: JobRequest): SubmittedJob {
    this.#admit(request);
    const enqueuedAt = this.options.clock.now();
    let job!: Job;
    const result = new Promise<JobResult>((resolve, reject) => {
      job = {
        inputs: request.inputs,
        rows: request.rows,
        bytes: request.bytes,
        fetch: request.fetch,
        shapeKey: request.shapeKey,
        length: request.length,
        priority: request.priority,
        deadlineAt: request.deadlineAt,
        delayAt: request.delayAt,
        isAbandoned: request.isAbandoned,
        origin: request.origin,
        counted: request.counted,
        enqueuedAt,
        order: orderOf(enqueuedAt, request.priority),
        resolve,
        reject,
        isSettled: false,
        isQueued: false,
      };
    });
    this.#queue.push(job);
    this.#startDelay();
    this.options.scheduler.announce(this, job);
    return { result, cancel: () => this.#drop(job, cancelled()) };
  }

  /** Answers the waiting jobs whose deadline has passed or whose caller is gone; returns the next deadline. */
  sweep(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const job of this.#queue.waiting()) {
      if (job.deadlineAt <= now) this.#drop(job, this.#expired(job, now));
      else if (job.isAbandoned?.()) this.#drop(job, cancelled());
      else if (job.deadlineAt < next) next = job.deadlineAt;
    }
    for (const job of this.#retries.flat()) {
      if (this.#isStillWanted(job, now) && job.deadlineAt < next) next = job.deadlineAt;
    }
    return next;
  }

  /** Takes a batch and runs it. Returns false when there was nothing to run, or no memory to run it in. */
  dispatch(runner: Runner): boolean {
    const jobs = this.#take();
    if (jobs.length === 0) {
      // The last that waited were not wanted any more; whoever closes this waits to hear it.
      this.#afterChange();
      return false;
    }
    const startedAt = this.options.clock.now();
    const { parts, length } = padTogether(jobs, this.options.padding);
    const layout = layOut(parts, this.options.targets);
    const fetch = commonFetch(jobs);
    let slot: Slot | undefined;
    try {
      slot = this.options.slots.take(layout.inputBytes + this.#replyRoom.bytes(layout.rows));
    } catch (error) {
      for (const job of jobs) this.#settle(job, asServingError(error));
      this.#afterChange();
      return true;
    }
    if (!slot) {
      this.#retries.unshift(jobs);
      return false;
    }
    const message = assemble(parts, layout, slot, this.options.versionId, fetch);
    const assembledAt = this.options.clock.now();
    this.#running += 1;
    this.#runningJobs += jobs.length;
    this.#runningRows += layout.rows;
    this.options.scheduler.batchStarted();
    const charge = this.#computeMs / this.options.weight;
    this.virtualTime += charge;
    void this.#run(runner, jobs, layout.rows, length, fetch, message, slot, {
      startedAt,
      assembledAt,
      charge,
    });
    return true;
  }

  /** Refuses new jobs, answers the waiting ones with `reason` if given, and waits for the running ones. */
  async close(reason?: ServingError): Promise<void> {
    this.#closed ??=
      reason ?? new ServingError('SRV_SHUTTING_DOWN', `${this.options.label} is being unloaded`);
    if (reason) {
      for (const job of [...this.#queue.waiting()]) this.#drop(job, reason);
      for (const jobs of this.#retries.splice(0)) for (const job of jobs) this.#settle(job, reason);
    }
    while (this.#running > 0 || this.queueSize > 0) {
      await new Promise<void>((resolve) => this.#onDrained.push(resolve));
    }
    this.#delayTimer?.cancel();
  }

  #admit(request: JobRequest): void {
    if (this.#closed) throw this.#closed;
    const lost = this.#lostReason();
    if (lost !== undefined) {
      throw new ServingError('SRV_DEVICE_LOST', `no device of ${this.options.label} is left: ${lost}`);
    }
    const { maxQueueSize, maxQueueSizes, queueBytes, label, clock } = this.options;
    if (this.queueSize >= maxQueueSize) {
      this.sweep(clock.now());
      if (this.queueSize >= maxQueueSize) {
        throw new ServingError(
          'SRV_QUEUE_FULL',
          `the queue of ${label} is full: ${maxQueueSize} requests wait (max_queue_size)`,
        );
      }
    }
    const ownLimit = maxQueueSizes?.get(request.priority);
    if (ownLimit !== undefined && this.#queue.sizeOf(request.priority) >= ownLimit) {
      throw new ServingError(
        'SRV_QUEUE_FULL',
        `the queue of ${label} is full for priority ${request.priority}: ${ownLimit} requests wait (queue_policies)`,
      );
    }
    const full = queueBytes.take(request.bytes);
    if (full) {
      throw new ServingError(
        'SRV_QUEUE_FULL',
        `${full.isPart ? `the queue of ${label} is` : 'all queues together are'} full: ${full.used} bytes wait or run, ` +
          `this request has ${request.bytes}, the limit is ${full.limit} (max_queue_bytes of the ` +
          `${full.isPart ? 'model' : 'server'})`,
      );
    }
  }

  /** Why no device of this version is left; undefined while one is. */
  #lostReason(): string | undefined {
    const { runners } = this.options;
    return runners.every((runner) => runner.lostReason !== undefined) ? runners[0]?.lostReason : undefined;
  }

  #mergeLimit(): number {
    const { canMerge, maxBatchSize, clock } = this.options;
    return canMerge && !this.#badBatches.keepsApart(clock.now()) ? maxBatchSize : 1;
  }

  #startDelay(): void {
    const { maxQueueDelayUs, clock, scheduler } = this.options;
    if (maxQueueDelayUs <= 0 || this.#delayTimer || this.#mergeLimit() === 1) return;
    this.#delayTimer = clock.setTimer(() => {
      this.#delayTimer = undefined;
      scheduler.wake(this);
    }, maxQueueDelayUs / 1000);
  }

  /** Takes the jobs of the next batch out of the queue. Jobs of another shape keep their place. */
  #take(): Job[] {
    const now = this.options.clock.now();
    while (this.#retries.length > 0) {
      const jobs = this.#retries.shift()!.filter((job) => this.#isStillWanted(job, now));
      if (jobs.length > 0) return jobs;
    }
    const limit = this.#mergeLimit();
    const jobs: Job[] = [];
    const otherShapes: Job[] = [];
    let rows = 0;
    for (;;) {
      const job = this.#queue.peek();
      if (!job) break;
      const first = jobs[0];
      if (first && (rows + job.rows > limit || first.rows === 0)) break;
      this.#queue.pop();
      if (!this.#isStillWanted(job, now)) continue;
      if (job.delayAt <= now) {
        job.order = delayedOrder(job.order);
        job.delayAt = Number.POSITIVE_INFINITY;
        this.#queue.push(job);
        continue;
      }
      if (first && (job.shapeKey !== first.shapeKey || job.rows === 0)) {
        otherShapes.push(job);
        if (otherShapes.length >= limit) break;
        continue;
      }
      jobs.push(job);
      rows += job.rows;
      if (limit === 1) break;
    }
    for (const job of otherShapes) this.#queue.push(job);
    this.#delayTimer?.cancel();
    this.#delayTimer = undefined;
    if (this.#queue.size > 0) this.#startDelay();
    return jobs;
  }

  #isStillWanted(job: Job, now: number): boolean {
    if (job.isSettled) return false;
    if (job.deadlineAt <= now) this.#settle(job, this.#expired(job, now));
    else if (job.isAbandoned?.()) this.#settle(job, cancelled());
    return !job.isSettled;
  }

  async #run(
    runner: Runner,
    jobs: Job[],
    rows: number,
    length: number,
    fetch: readonly number[],
    message: RunMessage,
    slot: Slot,
    times: { readonly startedAt: number; readonly assembledAt: number; readonly charge: number },
  ): Promise<void> {
    const { stats, clock, slots, signature, weight } = this.options;
    try {
      const result = await runner.run(message);
      const ranAt = clock.now();
      const outputs = splitResult(jobs, rows, result, slot, signature, fetch);
      this.#replyRoom.learn(result, rows);
      const computeMs = (result.computeNs + result.gatherNs) / 1e6;
      this.virtualTime += computeMs / weight - times.charge;
      this.#computeMs = 0.8 * this.#computeMs + 0.2 * computeMs;
      stats.recordBatch({
        rows,
        requests: jobs.length,
        assemble: (times.assembledAt - times.startedAt) / 1000,
        gather: result.gatherNs / 1e9,
        compute: result.computeNs / 1e9,
        split: (clock.now() - ranAt) / 1000,
      });
      if (result.gathered) stats.recordGather(result.gathered.keys, result.gathered.missing);
      if (result.failedRows) this.#failRows(jobs, result.failedRows);
      const answer = (from: number, to: number): void => {
        for (let i = from; i < to; i++) {
          const job = jobs[i]!;
          stats.recordQueue((times.startedAt - job.enqueuedAt) / 1000, job.counted);
          const own =
            job.length === length
              ? outputs[i]!
              : cropOutputs(outputs[i]!, fetch, signature, length, job.length);
          this.#settle(job, job.fetch === fetch ? own : pick(own, job.fetch, fetch));
        }
      };
      if (this.#wouldIdle(jobs)) {
        // Callers of this process come back with their next rows as soon as they are answered. Half of them are
        // let go first, so that the instance runs their rows while the other half is answered.
        const half = jobs.length >> 1;
        answer(0, half);
        await new Promise<void>((resolve) => clock.atTurnEnd(resolve));
        answer(half, jobs.length);
      } else {
        answer(0, jobs.length);
      }
    } catch (error) {
      this.#failed(runner, jobs, asServingError(error));
    } finally {
      slots.give(slot);
      this.#running -= 1;
      this.#runningJobs -= jobs.length;
      this.#runningRows -= rows;
      this.options.scheduler.batchEnded();
      this.#afterChange();
    }
  }

  /** Answers the jobs that have a row which a stage fails; the others of the batch never notice. */
  #failRows(jobs: readonly Job[], failed: readonly FailedRow[]): void {
    let from = 0;
    for (const job of jobs) {
      // A job that is alone may count its rows otherwise.
      const to = jobs.length === 1 ? Number.POSITIVE_INFINITY : from + job.rows;
      const first = failed.find(({ row }) => row >= from && row < to);
      if (first) this.#settle(job, errorFromData(first.error));
      from = to;
    }
  }

  /** Whether the instance has nothing to run while the callers of these jobs are answered. */
  #wouldIdle(jobs: readonly Job[]): boolean {
    return (
      jobs.length >= minJobsToHalve &&
      jobs[0]!.origin === 'process' &&
      this.#running === 1 &&
      this.queueSize === 0
    );
  }

  #failed(runner: Runner, jobs: Job[], error: ServingError): void {
    if (error.code === 'SRV_DEVICE_LOST') {
      runner.markLost(error.message);
      if (this.#lostReason() === undefined) {
        this.#retry(jobs);
        return;
      }
      for (const job of [...this.#queue.waiting()]) this.#drop(job, error);
    }
    if (error.code === 'SRV_WORKER_DIED' && error.details?.started === false) {
      this.#retry(jobs);
      return;
    }
    const mayBeOneJobsFault = error.code === 'SRV_MODEL_RUN_FAILED' || error.code === 'SRV_OUT_OF_MEMORY';
    if (jobs.length === 1 || !mayBeOneJobsFault) {
      for (const job of jobs) this.#settle(job, error);
      return;
    }
    this.#badBatches.count(this.options.clock.now());
    const half = jobs.length >> 1;
    this.#retry(jobs.slice(0, half));
    this.#retry(jobs.slice(half));
  }

  #retry(jobs: Job[]): void {
    this.#retries.push(jobs);
    this.options.scheduler.wake(this);
  }

  #expired(job: Job, now: number): ServingError {
    return new ServingError(
      'SRV_DEADLINE_EXCEEDED',
      `the deadline of a request to ${this.options.label} passed after ${Math.round(now - job.enqueuedAt)} ms in the queue`,
    );
  }

  /** Settles a job that waits, or whose result nobody wants any more. */
  #drop(job: Job, error: ServingError): void {
    if (job.isSettled) return;
    this.#settle(job, error);
    this.#queue.forget(job);
    this.#afterChange();
  }

  #settle(job: Job, outcome: JobResult | ServingError): void {
    if (job.isSettled) return;
    job.isSettled = true;
    this.options.queueBytes.give(job.bytes);
    if (outcome instanceof ServingError) job.reject(outcome);
    else job.resolve(outcome);
  }

  #afterChange(): void {
    if (this.#onDrained.length === 0 || this.#running > 0 || this.queueSize > 0) return;
    for (const resolve of this.#onDrained.splice(0)) resolve();
  }
}

function cancelled(): ServingError {
  return new ServingError('SRV_CANCELLED', 'the caller withdrew the request or went away');
}

function asServingError(error: unknown): ServingError {
  return error instanceof ServingError
    ? error
    : new ServingError('SRV_INTERNAL', messageOf(error), { cause: error });
}
