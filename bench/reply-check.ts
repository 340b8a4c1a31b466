import { type BodyProtocol, encodeBody, type RequestBody } from '../src/loadtest/request-body.js';
import { mlpAnswer, mlpTensors } from './mlp.js';

interface Reply {
  readonly outputs?: readonly { readonly name: string; readonly data?: readonly number[] }[];
}

/**
 * Sends one request and compares the reply with the network computed in plain JavaScript.
 *
 * @param infers false for a contestant whose reply is fixed: then only its form is looked at
 * @returns what is wrong with the reply, undefined when nothing is
 */
export async function checkReply(
  url: string,
  protocol: BodyProtocol,
  infers: boolean,
): Promise<string | undefined> {
  const [tensors] = mlpTensors(1);
  const value = await askForOne(`${url}/v2/models/mlp/infer`, encodeBody(tensors!, protocol), protocol, 'y');
  if (typeof value === 'string') return value;
  return infers ? difference(value, mlpAnswer(tensors!.x!.data as Float32Array)) : undefined;
}

/** What is wrong with an answer; undefined when it is near enough. */
export function difference(value: number, expected: number): string | undefined {
  const isClose = Math.abs(value - expected) <= 1e-4 * Math.max(1, Math.abs(expected));
  return isClose ? undefined : `answered ${value}; expected ${expected}`;
}

/**
 * Sends a request whose reply has one output of one FP32.
 *
 * @returns that number, or what is wrong with the reply's form
 */
export async function askForOne(
  url: string,
  { bytes, headers }: RequestBody,
  protocol: BodyProtocol,
  output: string,
): Promise<number | string> {
  const { 'content-length': _, ...sent } = headers;
  const reply = await fetch(url, {
    method: 'POST',
    headers: sent,
    body: bytes,
    signal: AbortSignal.timeout(10_000),
  });
  const body = Buffer.from(await reply.arrayBuffer());
  if (reply.status !== 200) return `status ${reply.status}: ${body.toString().slice(0, 200)}`;
  return outputValue(body, reply.headers.get('inference-header-content-length'), protocol, output);
}

/** The one number of the reply, or what is wrong with its form. */
function outputValue(
  body: Buffer,
  headerLength: string | null,
  protocol: BodyProtocol,
  output: string,
): number | string {
  if (protocol === 'json') {
    const { outputs } = JSON.parse(body.toString()) as Reply;
    const value = outputs?.find(({ name }) => name === output)?.data?.[0];
    return value ?? `no output ${output} in ${body.toString().slice(0, 200)}`;
  }
  if (headerLength === null) return 'no Inference-Header-Content-Length in the reply';
  const at = Number(headerLength);
  return body.length === at + 4 ? body.readFloatLE(at) : `${body.length - at} bytes of output; expected 4`;
}
