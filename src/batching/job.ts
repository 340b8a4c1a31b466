import type { ServingError } from '../errors.js';
import type { RequestStats } from '../observe/model-stats.js';
import type { Tensor } from '../tensor/tensor.js';

/** What a caller wants run: tensors that were checked against the signature. */
export interface JobRequest {
  /** In the signature's order. Not copied: they must not change until the job is settled. */
  readonly inputs: readonly Tensor[];
  /** Rows along the batch dimension; 1 where the model has none. */
  readonly rows: number;
  /** Bytes that the inputs hold while they wait. */
  readonly bytes: number;
  /** Indices of the wanted outputs in the signature. */
  readonly fetch: readonly number[];
  /** Jobs merge only with jobs of the same key: it names every dimension that is free, but the first. */
  readonly shapeKey: string;
  /** Length of the axes that are padded within a batch; 0 where none are. */
  readonly length: number;
  /** 1 is the most urgent; 0 stands for the model's default. */
  readonly priority: number;
  /** Clock time in ms at which waiting becomes useless; Infinity for never. */
  readonly deadlineAt: number;
  /** Clock time in ms from which on all that wait for less long go first; Infinity for never. */
  readonly delayAt: number;
  /** Tells whether the caller went away. Asked before the job is run, never during. */
  readonly isAbandoned?: (() => boolean) | undefined;
  /** Whether the caller is this process (its next jobs come in microtasks) or a socket. */
  readonly origin: 'process' | 'socket';
  /** Where its wait is counted. @default the version's own numbers */
  readonly counted?: RequestStats | undefined;
}

/** The outputs in the order of the job's `fetch`; the caller owns them. */
export type JobResult = readonly Tensor[];

/** A job as its caller sees it. */
export interface SubmittedJob {
  readonly result: Promise<JobResult>;
  /** Withdraws it: it is not run if it still waits, and its result is dropped if it runs. */
  cancel(): void;
}

/** A job that waits or runs. */
export interface Job extends JobRequest {
  /** Clock time of its arrival, in ms. */
  readonly enqueuedAt: number;
  /** Place in the queue: smaller goes first. Changed, as the next one, only while it is in none. */
  order: number;
  /** As asked for, until it is delayed. */
  delayAt: number;
  readonly resolve: (result: JobResult) => void;
  readonly reject: (error: ServingError) => void;
  /** Whether it was answered; a settled job may still lie in the queue until it is its turn. */
  isSettled: boolean;
  /** Whether it is counted in the queue. Kept by the queue. */
  isQueued: boolean;
}
