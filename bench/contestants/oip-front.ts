/** What the Fastify contestants have in common, so that they differ in nothing but what a scenario asks about. */
import type { AddressInfo, Server } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';

/** The part of a request that a contestant works with: one FP32 input of 400 floats a row. */
export interface DecodedRequest {
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** The client wants the output's bytes instead of JSON. */
  readonly wantsBinary: boolean;
}

interface JsonRequest {
  readonly inputs: readonly { readonly shape: number[]; readonly data?: readonly number[] }[];
}

/** A Fastify with the settings that the product's own front has: no log, bodies as Buffers of up to 64 MiB. */
export function contestantFront(): FastifyInstance {
  const app = Fastify({ logger: false, bodyLimit: 64 * 1024 * 1024, keepAliveTimeout: 72_000 });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.get('/v2/health/live', async () => ({ live: true }));
  return app;
}

/** Listens on a free loopback port and tells it to the parent process on standard output. */
export async function announce(app: FastifyInstance): Promise<void> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  announcePort(app.server);
}

/** Tells the port of a listening server to the parent process, and ends with it. */
export function announcePort(server: Server): void {
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`${JSON.stringify({ port })}\n`);
  // The parent closes standard input when it goes away, however it goes.
  process.stdin.resume().on('end', () => process.exit(0));
}

/** Reads a request as one would by hand: JSON.parse, or JSON.parse of the header and the bytes behind it. */
export function decodeRequest(body: Buffer, headerLength: string | undefined): DecodedRequest {
  if (headerLength === undefined) {
    const { inputs } = JSON.parse(body.toString('utf8')) as JsonRequest;
    const [input] = inputs;
    return { shape: input!.shape, data: Float32Array.from(input!.data!), wantsBinary: false };
  }
  const length = Number(headerLength);
  const { inputs } = JSON.parse(body.toString('utf8', 0, length)) as JsonRequest;
  const bytes = Uint8Array.prototype.slice.call(body, length);
  return { shape: inputs[0]!.shape, data: new Float32Array(bytes.buffer), wantsBinary: true };
}

/** A reply with its content type and, for a binary one, the length of its JSON header. */
export interface EncodedReply {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
}

/** Writes the reply to a request: output `y`, one FP32 a row. */
export function encodeReply(rows: Float32Array, wantsBinary: boolean): EncodedReply {
  const output = { name: 'y', datatype: 'FP32', shape: [rows.length, 1] };
  if (!wantsBinary) {
    return {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model_name: 'mlp',
        model_version: '1',
        outputs: [{ ...output, data: Array.from(rows) }],
      }),
    };
  }
  const parameters = { binary_data_size: rows.byteLength };
  const header = Buffer.from(
    JSON.stringify({ model_name: 'mlp', model_version: '1', outputs: [{ ...output, parameters }] }),
  );
  const bytes = Buffer.from(rows.buffer, rows.byteOffset, rows.byteLength);
  return {
    headers: {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(header.length),
    },
    body: Buffer.concat([header, bytes]),
  };
}
