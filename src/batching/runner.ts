import type { RunMessage, RunResult } from '../instance/messages.js';

/** Something that runs batches: the instances of a device, or the main thread on the idle path. */
export interface Runner {
  /** Whether a batch may be given to it now. */
  readonly hasIdle: boolean;
  /** Whether a batch may be given to it behind one that it runs. */
  readonly hasRoomAhead: boolean;
  /** Instances that run something now. */
  readonly busy: number;
  /** Why it will never run anything again; undefined while it can. */
  readonly lostReason: string | undefined;
  run(message: RunMessage): Promise<RunResult>;
  /** Takes it out of service for good. */
  markLost(reason: string): void;
}
