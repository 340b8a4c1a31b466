import { Histogram, latencyBounds, rowBounds } from './histogram.js';

/** The stages of a request, in the order it travels. All are measured on the main thread but gather and compute. */
export const stages = ['decode', 'queue', 'assemble', 'gather', 'compute', 'encode', 'total'] as const;

/** One stage of a request. */
export type Stage = (typeof stages)[number];

/** The stages that each request has for itself; the others are those of its batch. */
export const requestStages = ['decode', 'queue', 'encode', 'total'] as const satisfies readonly Stage[];

/** What is counted of each request: of all to a version, or of those that a variant got. */
export interface RequestStats {
  readonly stages: Readonly<Record<(typeof requestStages)[number], Histogram>>;
  /** Requests by protocol, then by outcome: `ok` or an error code. */
  readonly requests: Map<string, Map<string, number>>;
}

/** How often something happened and how long it took in all, as the statistics extension reports it. */
export interface DurationCount {
  count: number;
  ns: number;
}

interface BatchSizeStats {
  readonly computeInput: DurationCount;
  readonly computeInfer: DurationCount;
  readonly computeOutput: DurationCount;
}

const zero = (): DurationCount => ({ count: 0, ns: 0 });

function add(to: DurationCount, seconds: number, times = 1): void {
  to.count += times;
  to.ns += Math.round(seconds * 1e9) * times;
}

/**
 * What one version has done since it was loaded. Written on the main thread only.
 *
 * `requests` and the stages of requests are without those that came through a variant, which counts them itself
 * (`VariantStats`); everything else is of all.
 */
export class ModelStats implements RequestStats {
  readonly stages: Readonly<Record<Stage, Histogram>> = {
    decode: new Histogram(latencyBounds),
    queue: new Histogram(latencyBounds),
    assemble: new Histogram(latencyBounds),
    gather: new Histogram(latencyBounds),
    compute: new Histogram(latencyBounds),
    encode: new Histogram(latencyBounds),
    total: new Histogram(latencyBounds),
  };
  readonly batchRows = new Histogram(rowBounds);
  readonly requests = new Map<string, Map<string, number>>();
  readonly success = zero();
  readonly fail = zero();
  readonly queue = zero();
  readonly computeInput = zero();
  readonly computeInfer = zero();
  readonly computeOutput = zero();
  readonly batchSizes = new Map<number, BatchSizeStats>();
  /** Rows that came back with success. */
  inferenceCount = 0;
  /** Batches that the engine ran. */
  executionCount = 0;
  /** Keys that gather stages looked up, and those of them that the tables lacked. */
  readonly gatheredKeys = { looked: 0, missing: 0 };
  /** Unix time in ms of the last request; 0 before the first. */
  lastInferenceAt = 0;

  /**
   * Counts one answered request.
   *
   * @param seconds from the decoded body to the result
   * @param counted takes it in the place of this version's own: that of the variant which got the request
   */
  recordRequest(
    protocol: string,
    outcome: string,
    seconds: number,
    now: number,
    counted: RequestStats = this,
  ): void {
    let byOutcome = counted.requests.get(protocol);
    if (!byOutcome) {
      byOutcome = new Map();
      counted.requests.set(protocol, byOutcome);
    }
    byOutcome.set(outcome, (byOutcome.get(outcome) ?? 0) + 1);
    add(outcome === 'ok' ? this.success : this.fail, seconds);
    this.lastInferenceAt = now;
  }

  /** Counts one batch that ran, for each of its `requests`. Times in seconds. */
  recordBatch(batch: {
    readonly rows: number;
    readonly requests: number;
    readonly assemble: number;
    readonly gather: number;
    readonly compute: number;
    readonly split: number;
  }): void {
    this.executionCount += 1;
    this.inferenceCount += batch.rows;
    this.batchRows.record(batch.rows);
    let size = this.batchSizes.get(batch.rows);
    if (!size) {
      size = { computeInput: zero(), computeInfer: zero(), computeOutput: zero() };
      this.batchSizes.set(batch.rows, size);
    }
    add(size.computeInput, batch.assemble + batch.gather);
    add(size.computeInfer, batch.compute);
    add(size.computeOutput, batch.split);
    add(this.computeInput, batch.assemble + batch.gather, batch.requests);
    add(this.computeInfer, batch.compute, batch.requests);
    add(this.computeOutput, batch.split, batch.requests);
    this.stages.assemble.record(batch.assemble);
    this.stages.gather.record(batch.gather);
    this.stages.compute.record(batch.compute);
  }

  /** Counts the keys of one batch. */
  recordGather(looked: number, missing: number): void {
    this.gatheredKeys.looked += looked;
    this.gatheredKeys.missing += missing;
  }

  /** Records how long a request waited in the queue, in seconds; `counted` as for `recordRequest`. */
  recordQueue(seconds: number, counted: RequestStats = this): void {
    counted.stages.queue.record(seconds);
    add(this.queue, seconds);
  }
}
