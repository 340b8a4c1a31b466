/** HTTP as it is on the wire: bodies come back as sent, nothing is decompressed or followed. */
import { type IncomingHttpHeaders, request } from 'node:http';

/** What to send. */
export interface Call {
  /** @default POST with a body, GET without */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON. */
  readonly body?: Buffer | string | object;
}

/** What came back. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** One request on a connection of its own. */
export function call(url: string, { method, headers = {}, body }: Call = {}): Promise<Answer> {
  const bytes =
    body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = request(url, {
      method: method ?? (bytes === undefined ? 'GET' : 'POST'),
      headers,
      agent: false,
    });
    sent.on('response', (reply) => {
      const chunks: Buffer[] = [];
      reply.on('data', (chunk: Buffer) => chunks.push(chunk));
      reply.on('end', () =>
        resolve({ status: reply.statusCode!, headers: reply.headers, body: Buffer.concat(chunks) }),
      );
      reply.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(bytes);
  });
}

/** The JSON of an answer. */
export function json<T = Record<string, unknown>>(answer: Answer): T {
  return JSON.parse(answer.body.toString()) as T;
}

/** The error text of an answer. */
export function errorOf(answer: Answer): string {
  return json<{ error: string }>(answer).error;
}

/** An input of the protocol's JSON form. */
export function jsonInput(name: string, datatype: string, shape: readonly number[], data: unknown): object {
  return { name, datatype, shape, data };
}

/** A body of JSON and binary tensors behind it, with its header. */
export function binaryBody(
  head: object,
  ...sections: readonly Buffer[]
): { headers: Record<string, string>; body: Buffer } {
  const text = Buffer.from(JSON.stringify(head));
  return {
    headers: { 'inference-header-content-length': String(text.length) },
    body: Buffer.concat([text, ...sections]),
  };
}

/** Float32 values as bytes. */
export function floatBytes(...values: readonly number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}
