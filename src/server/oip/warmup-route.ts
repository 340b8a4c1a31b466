import type { FastifyReply, FastifyRequest } from 'fastify';
import { ServingError } from '../../errors.js';
import type { InferenceService } from '../service.js';
import type { ModelParams } from './infer-route.js';

const defaultCount = 100;
const maxCount = 10_000;
// Clients give an answer up that does not begin for longer.
const maxSeconds = 240;

/**
 * Answers `GET /v2/models/{model}/warmup`: a sample of its requests, as binary bodies one behind the other. `POST` keeps it
 * beside the model too, for the warm-up of its next version, and says where or why not.
 */
export async function warmUpRoute(
  service: InferenceService,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const { model } = request.params as ModelParams;
  const query = request.query as Readonly<Record<string, unknown>>;
  const unknown = Object.keys(query).find((key) => key !== 'count' && key !== 'seconds');
  if (unknown !== undefined) {
    throw new ServingError('SRV_BAD_REQUEST', `unknown parameter ${unknown}; there are count and seconds`);
  }
  const count = readNumber(query.count, 'count', 1, maxCount) ?? defaultCount;
  const seconds = readNumber(query.seconds, 'seconds', 1, maxSeconds);
  const gone = new AbortController();
  const { socket } = request.raw;
  const onClose = (): void => gone.abort();
  socket.once('close', onClose);
  const { bytes, requests, seen, file, failure } = await service
    .sampleTraffic(model, {
      count,
      signal: gone.signal,
      keeps: request.method === 'POST',
      ...(seconds === undefined ? {} : { ms: seconds * 1000 }),
    })
    .finally(() => socket.off('close', onClose));
  reply.header('content-type', 'application/octet-stream');
  reply.header('warm-up-requests', String(requests));
  reply.header('warm-up-seen', String(seen));
  // Paths and messages may have characters that no header may.
  if (file !== undefined) reply.header('warm-up-file', encodeURIComponent(file));
  if (failure !== undefined) reply.header('warm-up-failure', encodeURIComponent(failure));
  return bytes;
}

function readNumber(value: unknown, name: string, least: number, most: number): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new ServingError(
    'SRV_BAD_REQUEST',
    `${name} is ${JSON.stringify(value)}; expected a number from ${least} to ${most}`,
  );
}
