import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServerConfig } from '../config/schema.js';
import { errorToData, ServingError } from '../errors.js';
import type { Logger } from '../observe/logger.js';
import { errorReply } from './error-reply.js';
import { addOipRoutes } from './oip/routes.js';
import { BodyReader, type BodyTaker } from './request-body.js';
import type { InferenceService } from './service.js';
import { addTrafficRoutes } from './traffic-routes.js';

/** What the routes work with. */
export interface ServingRoutesOptions {
  readonly service: InferenceService;
  readonly config: ServerConfig;
  readonly logger: Logger;
  /** Whether the server takes no new connections any more: it is not ready, and ends those that it has. */
  readonly isClosing: () => boolean;
}

/** A route's work; what it resolves to is the reply's body. */
export type RouteHandler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** Adds a route. Other methods on the same path are answered with 405. */
export type AddRoute = (method: 'GET' | 'POST' | 'PUT', path: string, handler: RouteHandler) => void;

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

/**
 * Adds all routes to a Fastify scope. The scope keeps body parsing and error replies to itself, so that a service
 * that mounts it under a prefix is not changed elsewhere.
 */
export function addServingRoutes(scope: FastifyInstance, options: ServingRoutesOptions): void {
  const { service, config, logger, isClosing } = options;
  const bodies = new BodyReader(config, (error) => {
    service.recordRefusal('', undefined, 'http', errorToData(error).code);
  });
  scope.removeAllContentTypeParsers();
  // Types that Fastify knows by name it does not parse anew for every request.
  scope.addContentTypeParser(
    ['application/json', 'application/octet-stream', '*'],
    (_request: FastifyRequest, payload: FastifyRequest['raw'], done: BodyTaker) => bodies.read(payload, done),
  );
  scope.addHook('onRequest', (request, reply, done) => {
    const { traceparent, 'x-request-id': requestId } = request.headers;
    if (traceparent !== undefined) reply.header('traceparent', traceparent);
    if (requestId !== undefined) reply.header('x-request-id', requestId);
    if (isClosing()) reply.header('connection', 'close');
    done();
  });
  scope.setErrorHandler((error, request, reply) => sendError(error, request, reply, logger));

  // Whatever becomes of a request, its body is counted out when its handler is done.
  const withBody =
    (handler: RouteHandler): RouteHandler =>
    async (request, reply) => {
      try {
        return await handler(request, reply);
      } finally {
        if (request.body instanceof Buffer) bodies.release(request.body);
      }
    };
  const taken = new Map<string, Set<string>>();
  const add: AddRoute = (method, path, handler) => {
    taken.set(path, (taken.get(path) ?? new Set()).add(method));
    if (method === 'GET') taken.get(path)!.add('HEAD');
    scope.route({ method, url: path, handler: withBody(handler) });
  };
  addOipRoutes(add, service, { serverName: config.serverName, isClosing });
  if (service.traffic) addTrafficRoutes(add, service.traffic);
  add('GET', '/metrics', async (_request, reply) => {
    reply.header('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    return service.metrics();
  });
  for (const [path, known] of taken) {
    const handler = withBody(async (request) => {
      throw new ServingError(
        'SRV_METHOD_NOT_ALLOWED',
        `${request.method} is not allowed here; ${[...known].join(' and ')} is`,
      );
    });
    scope.route({ method: methods.filter((method) => !known.has(method)), url: path, handler });
  }
  scope.setNotFoundHandler(
    withBody(async (request) => {
      throw new ServingError(
        'SRV_NOT_FOUND',
        `nothing answers at ${request.method} ${request.url.split('?')[0]}`,
      );
    }),
  );
}

function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  logger: Logger,
): FastifyReply {
  const { status, headers, body, isInternal } = errorReply(error, request.id);
  const { traceparent } = request.headers;
  const context = {
    requestId: request.id,
    path: request.url,
    status,
    ...(traceparent ? { traceparent } : {}),
  };
  if (isInternal) logger.error({ ...context, err: error }, 'request failed');
  else logger.debug({ ...context, code: errorToData(error).code }, body);
  // The rest of a body that is not read would be taken for the next request.
  if (!request.raw.complete) reply.header('connection', 'close');
  return reply.code(status).headers(headers).send(body);
}
