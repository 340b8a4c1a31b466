import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import { messageOf, ServingError } from '../errors.js';

const inflaters = { gzip: promisify(gunzip), 'x-gzip': promisify(gunzip), deflate: promisify(inflate) };

/** How much the bodies of requests may take, in bytes. */
export interface BodyLimits {
  /** One body, as sent and decompressed. */
  readonly maxBodySize: number;
  /** All bodies together that are in memory. */
  readonly maxInflightBytes: number;
}

/** Is handed the body of a request, or why there is none. */
export type BodyTaker = (error: Error | null, body?: Buffer) => void;

/** Reads request bodies within limits. One for a server. */
export class BodyReader {
  readonly #limits: BodyLimits;
  readonly #onRefused: (error: Error) => void;
  #inflight = 0;

  /** @param onRefused told of every body that is not handed over */
  constructor(limits: BodyLimits, onRefused: (error: Error) => void) {
    this.#limits = limits;
    this.#onRefused = onRefused;
  }

  /** Bytes of bodies in memory. */
  get inflightBytes(): number {
    return this.#inflight;
  }

  /**
   * Reads a body to its end and decompresses it. The bytes are counted until `release`.
   *
   * A callback instead of a promise: this is on the way of every request, and Fastify waits with a callback anyway.
   *
   * @param done is given SRV_BODY_TOO_LARGE, SRV_QUEUE_FULL when all bodies together are over their limit,
   * SRV_BAD_REQUEST for a body that ends early or cannot be decompressed
   */
  read(request: IncomingMessage, done: BodyTaker): void {
    const refuse = (error: Error): void => {
      this.#onRefused(error);
      done(error);
    };
    const { 'content-length': declared, 'content-encoding': encoding } = request.headers;
    const { maxBodySize } = this.#limits;
    if (Number(declared ?? 0) > maxBodySize) {
      refuse(tooLarge('is', Number(declared), maxBodySize));
    } else if (encoding === undefined || encoding === 'identity') {
      this.#collect(request, (body) => done(null, body), refuse);
    } else {
      const decompress = (body: Buffer): void => {
        this.#decompress(body, encoding.trim().toLowerCase()).then(
          (inflated) => done(null, inflated),
          refuse,
        );
      };
      this.#collect(request, decompress, refuse);
    }
  }

  /** Gives back what `read` counted. */
  release(body: Buffer): void {
    this.#inflight -= body.length;
  }

  #collect(
    request: IncomingMessage,
    take: (body: Buffer) => void,
    refuse: (error: ServingError) => void,
  ): void {
    const chunks: Buffer[] = [];
    let length = 0;
    let isOver = false;
    const fail = (error: ServingError): void => {
      isOver = true;
      this.#inflight -= length;
      refuse(error);
    };
    request.on('data', (chunk: Buffer) => {
      if (isOver) return;
      length += chunk.length;
      this.#inflight += chunk.length;
      if (length > this.#limits.maxBodySize) {
        fail(tooLarge('has more than', this.#limits.maxBodySize, this.#limits.maxBodySize));
      } else if (this.#inflight > this.#limits.maxInflightBytes) {
        fail(this.#full());
      } else {
        chunks.push(chunk);
      }
    });
    request.on('end', () => {
      if (isOver) return;
      isOver = true;
      take(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length));
    });
    // Of a connection that breaks, Node tells by `close` too; an error without listeners is not thrown here.
    request.on('close', () => {
      if (!isOver) fail(endedEarly('the connection was closed', length));
    });
  }

  async #decompress(body: Buffer, encoding: string): Promise<Buffer> {
    const inflateBody = Object.hasOwn(inflaters, encoding)
      ? inflaters[encoding as keyof typeof inflaters]
      : undefined;
    const { maxBodySize, maxInflightBytes } = this.#limits;
    try {
      if (!inflateBody) {
        throw new ServingError(
          'SRV_BAD_REQUEST',
          `Content-Encoding '${encoding}' is not supported; expected gzip, deflate or identity`,
        );
      }
      const inflated = (await inflateBody(body, { maxOutputLength: maxBodySize })) as Buffer;
      if (this.#inflight + inflated.length - body.length > maxInflightBytes) throw this.#full();
      this.#inflight += inflated.length;
      return inflated;
    } catch (error) {
      if (error instanceof ServingError) throw error;
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        throw tooLarge('decompressed has more than', maxBodySize, maxBodySize);
      }
      throw new ServingError(
        'SRV_BAD_REQUEST',
        `the ${encoding} body cannot be decompressed: ${messageOf(error)}`,
      );
    } finally {
      this.#inflight -= body.length;
    }
  }

  #full(): ServingError {
    return new ServingError(
      'SRV_QUEUE_FULL',
      `request bodies in memory are at their limit of ${this.#limits.maxInflightBytes} bytes (max_inflight_bytes)`,
    );
  }
}

function tooLarge(verb: string, bytes: number, limit: number): ServingError {
  return new ServingError(
    'SRV_BODY_TOO_LARGE',
    `the request body ${verb} ${bytes} bytes; the limit is ${limit} (max_body_size)`,
  );
}

function endedEarly(reason: string, length: number): ServingError {
  return new ServingError('SRV_BAD_REQUEST', `the request body ended after ${length} bytes: ${reason}`);
}
