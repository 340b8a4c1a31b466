import { type BodyProtocol, encodeBody } from '../src/loadtest/request-body.js';
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
  const { bytes, headers } = encodeBody(tensors!, protocol);
  const { 'content-length': _, ...sent } = headers;
  const reply = await fetch(`${url}/v2/models/mlp/infer`, {
    method: 'POST',
    headers: sent,
    body: bytes,
    signal: AbortSignal.timeout(10_000),
  });
  const body = Buffer.from(await reply.arrayBuffer());
  if (reply.status !== 200) return `status ${reply.status}: ${body.toString().slice(0, 200)}`;
  const value = outputValue(body, reply.headers.get('inference-header-content-length'), protocol);
  if (typeof value === 'string') return value;
  if (!infers) return undefined;
  const expected = mlpAnswer(tensors!.x!.data as Float32Array);
  const isClose = Math.abs(value - expected) <= 1e-4 * Math.max(1, Math.abs(expected));
  return isClose ? undefined : `answered ${value}; expected ${expected}`;
}

/** The one number of the reply, or what is wrong with its form. */
function outputValue(body: Buffer, headerLength: string | null, protocol: BodyProtocol): number | string {
  if (protocol === 'json') {
    const { outputs } = JSON.parse(body.toString()) as Reply;
    const value = outputs?.find(({ name }) => name === 'y')?.data?.[0];
    return value ?? `no output y in ${body.toString().slice(0, 200)}`;
  }
  if (headerLength === null) return 'no Inference-Header-Content-Length in the reply';
  const at = Number(headerLength);
  return body.length === at + 4 ? body.readFloatLE(at) : `${body.length - at} bytes of output; expected 4`;
}
