import { ServingError } from '../errors.js';
import type { AddRoute } from './plugin.js';
import type { TrafficControl } from './service.js';

/** Adds the routes of public names and what they are split over. */
export function addTrafficRoutes(add: AddRoute, traffic: TrafficControl): void {
  add('GET', '/v2/traffic', async () => ({ traffic: traffic.list() }));
  add('GET', '/v2/traffic/:name', async ({ params }) => traffic.get(nameOf(params)));
  add('PUT', '/v2/traffic/:name', async ({ params, body }) => traffic.set(nameOf(params), readBody(body)));
}

function nameOf(params: unknown): string {
  return (params as { readonly name: string }).name;
}

function readBody(body: unknown): unknown {
  try {
    return JSON.parse(body instanceof Buffer ? body.toString() : '');
  } catch {
    throw new ServingError('SRV_BAD_JSON', 'failed to parse the request JSON buffer: expected an object');
  }
}
