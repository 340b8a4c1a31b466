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

/** Reads request bodies within limits. One for a server. */
export class BodyReader {
  readonly #limits: BodyLimits;
  #inflight = 0;

  constructor(limits: BodyLimits) {
    this.#limits = limits;
  }

  /** Bytes of bodies in memory. */
  get inflightBytes(): number {
    return this.#inflight;
  }

  /**
   * Reads a body to its end and decompresses it. The bytes are counted until `release`.
   *
   * @throws SRV_BODY_TOO_LARGE, SRV_QUEUE_FULL when all bodies together are over their limit, SRV_BAD_REQUEST for
   * a body that ends early or cannot be decompressed
   */
  async read(request: IncomingMessage): Promise<Buffer> {
    const declared = Number(request.headers['content-length'] ?? 0);
    if (declared > this.#limits.maxBodySize) throw tooLarge('is', declared, this.#limits.maxBodySize);
    const body = await this.#collect(request);
    const encoding = request.headers['content-encoding'];
    if (encoding === undefined || encoding === 'identity') return body;
    return this.#decompress(body, encoding.trim().toLowerCase());
  }

  /** Gives back what `read` counted. */
  release(body: Buffer): void {
    this.#inflight -= body.length;
  }

  #collect(request: IncomingMessage): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let length = 0;
      let isOver = false;
      const fail = (error: () => ServingError): void => {
        if (isOver) return;
        isOver = true;
        this.#inflight -= length;
        reject(error());
      };
      request.on('data', (chunk: Buffer) => {
        if (isOver) return;
        length += chunk.length;
        this.#inflight += chunk.length;
        if (length > this.#limits.maxBodySize) {
          fail(() => tooLarge('has more than', this.#limits.maxBodySize, this.#limits.maxBodySize));
        } else if (this.#inflight > this.#limits.maxInflightBytes) {
          fail(() => this.#full());
        } else {
          chunks.push(chunk);
        }
      });
      request.on('end', () => {
        if (isOver) return;
        isOver = true;
        resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length));
      });
      // Of a connection that breaks, Node tells by `close` too; an error without listeners is not thrown here.
      request.on('close', () => fail(() => endedEarly('the connection was closed', length)));
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
