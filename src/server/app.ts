import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify, { type ConnectionError, type FastifyInstance, type FastifyPluginAsync } from 'fastify';
import { resolveServerConfig } from '../config/load.js';
import type { ServerConfig, ServerOptions } from '../config/schema.js';
import { ServingError } from '../errors.js';
import { type Logger, silentLogger } from '../observe/logger.js';
import { errorReply } from './error-reply.js';
import { addServingRoutes } from './plugin.js';
import type { InferenceService } from './service.js';

/** A runtime as the server sees it: whoever has a service can be served. */
export interface Serves {
  readonly service: InferenceService;
}

/** What a server may be handed instead of making it itself. */
export interface ServerDependencies {
  /** @default no log */
  readonly logger?: Logger;
}

/**
 * Makes the HTTP server of a runtime. It is not listening yet: call `listen`. Closing it stops accepting, answers
 * what was accepted, and leaves the runtime open.
 *
 * @throws SRV_BAD_CONFIG for options that are not valid
 */
export async function createServer(
  runtime: Serves,
  options: ServerOptions = {},
  dependencies: ServerDependencies = {},
): Promise<FastifyInstance> {
  const config = resolveServerConfig(options);
  const logger = dependencies.logger ?? silentLogger();
  const app = Fastify({
    logger: false,
    requestIdHeader: 'x-request-id',
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    clientErrorHandler: answerClientError,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1024 },
    requestTimeout: requestTimeoutOf(config),
    keepAliveTimeout: config.keepAliveTimeoutMs,
    http: {
      headersTimeout: config.headerTimeoutMs,
      connectionsCheckingInterval: 1000,
    },
  });
  if (config.maxConnections > 0) app.server.maxConnections = config.maxConnections;
  let isClosing = false;
  app.addHook('preClose', async () => {
    isClosing = true;
    if (!app.server.listening) return;
    await sleep(lingerMs);
    closeConnectionsAsTheyIdle(app);
  });
  if (logger.isLevelEnabled('debug')) logRequests(app, logger);
  addServingRoutes(app, { service: runtime.service, config, logger, isClosing: () => isClosing });
  await app.ready();
  return app;
}

/** Options of the plugin. */
export interface ServingPluginOptions extends ServerDependencies {
  readonly runtime: Serves;
  /** Limits and the reported name; the settings of a listening socket do not count here. */
  readonly server?: ServerOptions;
}

/**
 * Mounts all routes inside an existing Fastify service.
 *
 * @example
 * await app.register(servingPlugin, { prefix: '/models', runtime: rt });
 */
export const servingPlugin: FastifyPluginAsync<ServingPluginOptions> = async (scope, options) => {
  addServingRoutes(scope, {
    service: options.runtime.service,
    config: resolveServerConfig(options.server ?? {}),
    logger: options.logger ?? silentLogger(),
    isClosing: () => false,
  });
};

// Connections in use are told to close with their next answer. To close an idle one at once would cut off the request
// that is on its way just then.
const lingerMs = 100;

/** A client that keeps its connection after its last answer must not hold the drain. */
function closeConnectionsAsTheyIdle(app: FastifyInstance): void {
  const timer = setInterval(() => app.server.closeIdleConnections(), 20);
  app.server.once('close', () => clearInterval(timer));
}

/** Answers what Node refuses before there is a request: headers or body that come too slowly, or no HTTP at all. */
function answerClientError(error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const { line, thrown } = clientErrors[error.code] ?? notHttp;
  const { body } = errorReply(thrown(error), '');
  socket.end(
    `HTTP/1.1 ${line}\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

interface ClientErrorAnswer {
  readonly line: string;
  readonly thrown: (error: ConnectionError) => ServingError;
}

const clientErrors: Readonly<Record<string, ClientErrorAnswer>> = {
  ERR_HTTP_REQUEST_TIMEOUT: {
    line: '408 Request Timeout',
    thrown: () =>
      new ServingError(
        'SRV_REQUEST_TIMEOUT',
        'the request did not arrive in time (header_timeout_ms, body_timeout_ms)',
      ),
  },
  HPE_HEADER_OVERFLOW: {
    line: '431 Request Header Fields Too Large',
    thrown: () => new ServingError('SRV_BAD_REQUEST', 'the request headers are too large'),
  },
};

const notHttp: ClientErrorAnswer = {
  line: '400 Bad Request',
  thrown: (error) => new ServingError('SRV_BAD_REQUEST', `the request is not HTTP: ${error.message}`),
};

function requestTimeoutOf({ headerTimeoutMs, bodyTimeoutMs }: ServerConfig): number {
  // Node counts one time for head and body; 0 switches it off.
  return headerTimeoutMs === 0 || bodyTimeoutMs === 0 ? 0 : headerTimeoutMs + bodyTimeoutMs;
}

function logRequests(app: FastifyInstance, logger: Logger): void {
  app.addHook('onResponse', (request, reply, done) => {
    const { traceparent } = request.headers;
    logger.debug(
      {
        requestId: request.id,
        method: request.method,
        path: request.url,
        status: reply.statusCode,
        ms: reply.elapsedTime,
        ...(traceparent === undefined ? {} : { traceparent }),
      },
      'request',
    );
    done();
  });
}
