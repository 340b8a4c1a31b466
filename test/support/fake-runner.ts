import type { Runner } from '../../src/batching/runner.js';
import type { RunMessage, RunResult } from '../../src/instance/messages.js';
import type { Slot } from '../../src/instance/slab.js';

/** Memory that stands for slabs, so that batching is tested without the addon. */
export class FakeSlots {
  readonly maxBytes: number;
  /** Slots in use. */
  used = 0;
  readonly #buffer = new ArrayBuffer(1 << 20);
  #at = 0;

  constructor(maxBytes = 1 << 20) {
    this.maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#buffer.byteLength;
  }

  take(bytes: number): Slot | undefined {
    if (this.used >= this.maxBytes) return undefined;
    this.used += 1;
    const size = Math.ceil(bytes / 64) * 64;
    if (this.#at + size > this.#buffer.byteLength) this.#at = 0;
    const slot = { slab: 1, offset: this.#at, bytes: size, buffer: this.#buffer };
    this.#at += size;
    return slot;
  }

  give(): void {
    this.used -= 1;
  }

  close(): void {}

  get buffer(): ArrayBuffer {
    return this.#buffer;
  }
}

/** A run that a test has not answered yet. */
export interface PendingRun {
  readonly message: RunMessage;
  /** Rows of the batch. */
  readonly rows: number;
  /** Answers with each input row, doubled. */
  succeed(computeMs?: number): void;
  fail(error: Error): void;
}

/** An instance group that runs nothing until the test says so. The model doubles FP32 rows of one column. */
export class FakeRunner implements Runner {
  readonly size: number;
  readonly runs: PendingRun[] = [];
  lostReason: string | undefined;
  busy = 0;
  hasRoomAhead = false;
  readonly #slots: FakeSlots;

  constructor(slots: FakeSlots, size = 1) {
    this.#slots = slots;
    this.size = size;
  }

  get hasIdle(): boolean {
    return this.lostReason === undefined && this.busy < this.size;
  }

  markLost(reason: string): void {
    this.lostReason = reason;
  }

  run(message: RunMessage): Promise<RunResult> {
    this.busy += 1;
    return new Promise((resolve, reject) => {
      const input = message.inputs[0]! as { shape: readonly number[]; offset: number };
      const rows = input.shape[0]!;
      this.runs.push({
        message,
        rows,
        succeed: (computeMs = 1) => {
          this.busy -= 1;
          const count = input.shape.reduce((product, dim) => product * dim, 1);
          const from = new Float32Array(this.#slots.buffer, input.offset, count);
          const to = new Float32Array(this.#slots.buffer, message.replyOffset, count);
          to.set(from.map((value) => 2 * value));
          resolve({
            outputs: message.fetch.map(() => ({ shape: input.shape, offset: message.replyOffset })),
            gatherNs: 0,
            computeNs: computeMs * 1e6,
          });
        },
        fail: (error) => {
          this.busy -= 1;
          reject(error);
        },
      });
    });
  }
}
