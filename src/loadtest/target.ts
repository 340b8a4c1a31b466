import type { ModelStatistics } from './server-statistics.js';

/** What a load is offered to: a server, or a runtime in this process. */
export interface LoadTarget {
  /** What is measured, for the report: a URL or a model path. */
  readonly description: string;
  /** Rows of each request, to turn requests into rows; the mean where recorded requests differ. */
  readonly rowsPerRequest: number;
  /** Whether the target works in the generator's own process, whose CPU then says nothing about the generator. */
  readonly isInProcess: boolean;
  /**
   * Sends the request of this number (targets go round their requests) and waits for the whole answer.
   * Resolves to undefined when it succeeded, else to the reason that the failure is counted under, such as
   * `http 503` or `timeout`. Never rejects.
   */
  send(index: number): Promise<string | undefined>;
  /** The server's own counters, absent where it keeps none. Never rejects. */
  statistics(): Promise<ModelStatistics | undefined>;
  /** Ends connections or the runtime. Idempotent. */
  close(): Promise<void>;
}
