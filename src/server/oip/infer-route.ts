import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { errorToData, ServingError } from '../../errors.js';
import { type InferRequest, readInferRequest, readRawRequest } from '../../oip/infer-request.js';
import { chooseEncoding, compress, isWorthCompressing } from '../reply-compression.js';
import type { InferenceService, RequestRouting } from '../service.js';
import { writeInferReply } from './infer-reply.js';

/** Parameters of a path that names a model. */
export interface ModelParams {
  readonly model: string;
  readonly version?: string;
}

const protocol = 'http';
const headerLengthName = 'inference-header-content-length';

/** What a path names behind `versions/`: a number is a version, anything else a label. */
export interface ChosenVersion {
  readonly version: number | undefined;
  readonly label: string | undefined;
}

/**
 * The version or label of a path; neither where it has none.
 *
 * @throws SRV_MODEL_NOT_FOUND when it is a number that no version can have
 */
export function chosenVersion(params: ModelParams): ChosenVersion {
  if (params.version === undefined) return { version: undefined, label: undefined };
  if (!/^\d+$/.test(params.version)) return { version: undefined, label: params.version };
  const version = Number(params.version);
  if (Number.isSafeInteger(version)) return { version, label: undefined };
  throw new ServingError(
    'SRV_MODEL_NOT_FOUND',
    `Request for unknown model: '${params.model}' version ${params.version} is not found`,
  );
}

/** Answers `POST /v2/models/{model}[/versions/{version}]/infer`. */
export async function inferRoute(
  service: InferenceService,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const startedAt = performance.now();
  const params = request.params as ModelParams;
  const reading = readRequest(service, request, params);
  const read = reading instanceof Promise ? await reading : reading;
  const decodedAt = performance.now();
  const { socket } = request.raw;
  const answer = await service.infer({
    model: params.model,
    ...chosenVersion(params),
    inputs: read.inputs,
    outputs: read.outputs?.map((output) => output.name),
    timeoutMs: read.timeoutMs,
    priority: read.priority,
    isAbandoned: () => socket.destroyed,
    protocol,
    origin: 'socket',
    decodeSeconds: (decodedAt - startedAt) / 1000,
    routing: new HttpRouting(read, request.raw.headers),
  });
  const answeredAt = performance.now();
  const writing = writeInferReply(answer, read);
  const { body, headerLength } = writing instanceof Promise ? await writing : writing;
  const encoding = chooseEncoding(request.headers['accept-encoding']);
  answer.recordEncode((performance.now() - answeredAt) / 1000);
  if (answer.variant !== undefined) reply.header('x-variant', answer.variant);
  if (headerLength === undefined) {
    // Without the charset Fastify would add it, for every reply anew.
    reply.header('content-type', 'application/json; charset=utf-8');
  } else {
    reply.header('content-type', 'application/octet-stream');
    reply.header(headerLengthName, String(headerLength));
  }
  if (encoding === undefined || !isWorthCompressing(body.length)) return body;
  reply.header('content-encoding', encoding);
  reply.header('vary', 'accept-encoding');
  return compress(body, encoding);
}

/** Looks for keys only when it is asked. */
class HttpRouting implements RequestRouting {
  readonly #request: InferRequest;
  readonly #headers: IncomingHttpHeaders;

  constructor(request: InferRequest, headers: IncomingHttpHeaders) {
    this.#request = request;
    this.#headers = headers;
  }

  get id(): string | undefined {
    return this.#request.id;
  }

  parameter(name: string): unknown {
    const { parameters } = this.#request;
    return Object.hasOwn(parameters, name) ? parameters[name] : undefined;
  }

  header(name: string): string | undefined {
    const value = this.#headers[name.toLowerCase()];
    return Array.isArray(value) ? value[0] : value;
  }
}

function readRequest(
  service: InferenceService,
  request: FastifyRequest,
  params: ModelParams,
): InferRequest | Promise<InferRequest> {
  const refuse = (error: unknown): never => {
    service.recordRefusal(
      params.model,
      Number(params.version) || undefined,
      protocol,
      errorToData(error).code,
    );
    throw error;
  };
  try {
    const body = request.body instanceof Buffer ? request.body : Buffer.alloc(0);
    const headerLength = readHeaderLength(request.headers[headerLengthName], body.length);
    if (headerLength === 0) {
      const { version, label } = chosenVersion(params);
      return readRawRequest(body, service.model(params.model, version, label).signature);
    }
    const reading = readInferRequest(body, headerLength);
    return reading instanceof Promise ? reading.catch(refuse) : reading;
  } catch (error) {
    return refuse(error);
  }
}

function readHeaderLength(value: string | string[] | undefined, bodyLength: number): number | undefined {
  if (value === undefined) return undefined;
  const length = Number(value);
  if (typeof value === 'string' && /^\d+$/.test(value) && length <= bodyLength) return length;
  throw new ServingError(
    'SRV_BAD_REQUEST',
    `Inference-Header-Content-Length is '${value}'; expected a number from 0 to the body's length, ${bodyLength}`,
  );
}
