import { tensorBytes } from '../tensor/tensor.js';
import { Reservoir } from './reservoir.js';
import { type EncodedRequest, encodeBinary, joinBodies, type RequestToWrite } from './write-requests.js';

/** A uniform sample of the requests of one model, in bounded memory. */
export class TrafficSample {
  readonly #reservoir: Reservoir<EncodedRequest>;
  readonly #maxRequestBytes: number;

  /**
   * @param options.count requests to keep
   * @param options.maxBytes of all of them together; a request that is larger than its share is not kept
   */
  constructor(options: {
    readonly count: number;
    readonly maxBytes: number;
    readonly random: () => number;
  }) {
    this.#reservoir = new Reservoir(options.count, options.random);
    this.#maxRequestBytes = Math.floor(options.maxBytes / options.count);
  }

  /** Requests that were seen. */
  get seen(): number {
    return this.#reservoir.seen;
  }

  /** Whether more requests were seen than are kept. */
  get isFull(): boolean {
    return this.#reservoir.isFull;
  }

  /** Requests that are kept. */
  get size(): number {
    return this.#reservoir.items.length;
  }

  /** Shows a request that was answered; it is copied when it is kept. Returns whether the sample changed. */
  offer(request: RequestToWrite): boolean {
    return this.#reservoir.offer(() => {
      const bytes = request.inputs.reduce((sum, { tensor }) => sum + tensorBytes(tensor), 0);
      if (bytes > this.#maxRequestBytes) return undefined;
      const encoded = encodeBinary(request);
      return encoded.bytes > this.#maxRequestBytes ? undefined : encoded;
    });
  }

  /** The sample as a file of binary bodies; empty when there is none. */
  toBytes(batchSizes: readonly number[]): Buffer {
    return joinBodies(this.#reservoir.items, batchSizes);
  }
}
