import { fetchInputs, openHttpTarget } from '../src/loadtest/http-target.js';
import { encodeBody } from '../src/loadtest/request-body.js';
import { generateTensors } from '../src/loadtest/request-tensors.js';

/**
 * Sends requests made up from a model's metadata, some at a time, and fails when one fails.
 *
 * @throws when the model is unknown or a request does not succeed
 */
export async function sendRequests(
  url: string,
  model: string,
  options: { readonly count: number; readonly atATime: number },
): Promise<void> {
  const inputs = await fetchInputs({ url, model });
  const [tensors] = generateTensors({ inputs }, { count: 1, rows: 1, shapes: {}, ranges: {}, seed: 1 });
  const target = await openHttpTarget({
    url,
    model,
    bodies: [encodeBody(tensors!, 'json')],
    rowsPerRequest: 1,
  });
  try {
    for (let sent = 0; sent < options.count; sent += options.atATime) {
      const failures = await Promise.all(
        Array.from({ length: options.atATime }, (_, i) => target.send(sent + i)),
      );
      const failure = failures.find((reason) => reason !== undefined);
      if (failure) throw new Error(`${model} at ${url}: ${failure}`);
    }
  } finally {
    await target.close();
  }
}

/** How many models of a server are ready. */
export async function countReady(url: string): Promise<number> {
  const reply = await fetch(`${url}/v2/repository/index`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"ready":true}',
    signal: AbortSignal.timeout(30_000),
  });
  const models = (await reply.json()) as { state?: string }[];
  return models.filter(({ state }) => state === 'READY').length;
}
