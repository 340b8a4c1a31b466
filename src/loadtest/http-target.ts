/** A target behind HTTP: what is asked before a load, and the requests of the load itself. */
import Type from 'typebox';
import Value from 'typebox/value';
import { messageOf, ServingError } from '../errors.js';
import { isDatatype } from '../tensor/datatype.js';
import type { TensorSpec } from '../tensor/tensor.js';
import { HttpConnections, postBytes } from './http-connections.js';
import type { HttpReply } from './reply-reader.js';
import type { RequestBody } from './request-body.js';
import { type ModelStatistics, parseStatistics } from './server-statistics.js';
import type { LoadTarget } from './target.js';

/** Where a model is served. */
export interface ModelAddress {
  /** Address of the server, such as `http://127.0.0.1:9292`; a path in it is kept as a prefix. */
  readonly url: string;
  readonly model: string;
  /** Absent: the server's choice. */
  readonly version?: string;
}

/** A model over HTTP and the requests to send it. */
export interface HttpTargetOptions extends ModelAddress {
  /** At least one; the load goes round them. */
  readonly bodies: readonly RequestBody[];
  readonly rowsPerRequest: number;
  /** @default 30000 */
  readonly timeoutMs?: number;
  /** Bound on open connections; requests beyond it wait for one, and that wait counts. @default 1024 */
  readonly maxConnections?: number;
}

const Metadata = Type.Object({
  inputs: Type.Array(
    Type.Object({ name: Type.String(), datatype: Type.String(), shape: Type.Array(Type.Integer()) }),
  ),
});

const lookupTimeoutMs = 10_000;

/**
 * Asks the server for a model's inputs.
 *
 * @throws SRV_IO when the server cannot be reached, SRV_MODEL_NOT_FOUND or SRV_BAD_REQUEST with what it answered
 */
export async function fetchInputs(address: ModelAddress): Promise<TensorSpec[]> {
  const url = modelUrl(address);
  const { status, body } = await getJson(url);
  if (status !== 200) throw refused(`GET ${url}`, status, body);
  if (!Value.Check(Metadata, body)) {
    throw new ServingError('SRV_BAD_REQUEST', `GET ${url}: the answer is no model metadata`);
  }
  return body.inputs.map(({ name, datatype, shape }) => {
    if (!isDatatype(datatype)) {
      throw new ServingError(
        'SRV_BAD_REQUEST',
        `GET ${url}: input ${name} has the unknown datatype ${datatype}`,
      );
    }
    return { name, datatype, shape };
  });
}

/**
 * Opens a target and sends it the first request, so that a wrong name or shape stops the run before it starts.
 *
 * @throws SRV_IO when the server cannot be reached, SRV_BAD_CONFIG for a bad URL, SRV_BAD_REQUEST with the
 *   server's words when it refuses the first request
 */
export async function openHttpTarget(options: HttpTargetOptions): Promise<LoadTarget> {
  const target = new HttpTarget(options);
  try {
    await target.sendFirst();
  } catch (error) {
    await target.close();
    throw error;
  }
  return target;
}

class HttpTarget implements LoadTarget {
  readonly description: string;
  readonly rowsPerRequest: number;
  readonly isInProcess = false;
  readonly #requests: readonly Buffer[];
  readonly #connections: HttpConnections;
  readonly #inferUrl: URL;
  readonly #statsUrl: string;

  constructor(options: HttpTargetOptions) {
    const base = modelUrl(options);
    const url = new URL(`${base}/infer`);
    this.description = base;
    this.rowsPerRequest = options.rowsPerRequest;
    this.#requests = options.bodies.map(({ headers, bytes }) => postBytes(url, headers, bytes));
    this.#connections = new HttpConnections({
      url,
      maxConnections: options.maxConnections ?? 1024,
      timeoutMs: options.timeoutMs ?? 30_000,
    });
    this.#inferUrl = url;
    this.#statsUrl = `${base}/stats`;
  }

  async sendFirst(): Promise<void> {
    let reply: HttpReply;
    try {
      reply = await this.#connections.send(this.#requests[0]!, true);
    } catch (cause) {
      throw new ServingError('SRV_IO', `POST ${this.#inferUrl.href}: ${failureReason(cause)}`, { cause });
    }
    if (reply.status < 200 || reply.status > 299) {
      throw refused(`POST ${this.#inferUrl.href}`, reply.status, reply.text);
    }
  }

  async send(index: number): Promise<string | undefined> {
    try {
      const request = this.#requests[index % this.#requests.length]!;
      const { status, bytes } = await this.#connections.send(request, false);
      if (status < 200 || status > 299) return `http ${status}`;
      return bytes > 0 ? undefined : 'empty reply';
    } catch (error) {
      return failureReason(error);
    }
  }

  async statistics(): Promise<ModelStatistics | undefined> {
    try {
      const { status, body } = await getJson(this.#statsUrl);
      return status === 200 ? parseStatistics(body) : undefined;
    } catch {
      // The breakdown is an extra: a server without statistics is measured all the same.
      return undefined;
    }
  }

  async close(): Promise<void> {
    this.#connections.close();
  }
}

function failureReason(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? messageOf(error);
}

function modelUrl({ url, model, version }: ModelAddress): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new ServingError('SRV_BAD_CONFIG', `--url ${url}: not a URL such as http://127.0.0.1:9292`, {
      cause,
    });
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    throw new ServingError('SRV_BAD_CONFIG', `--url ${url}: expected http:// or https://`);
  }
  const prefix = parsed.origin + parsed.pathname.replace(/\/$/, '');
  const versionPart = version === undefined ? '' : `/versions/${encodeURIComponent(version)}`;
  return `${prefix}/v2/models/${encodeURIComponent(model)}${versionPart}`;
}

function refused(what: string, status: number, body: unknown): ServingError {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const code = status === 404 ? 'SRV_MODEL_NOT_FOUND' : 'SRV_BAD_REQUEST';
  return new ServingError(code, `${what}: the server answers ${status}: ${text?.slice(0, 500) ?? ''}`);
}

async function getJson(url: string): Promise<{ status: number; body: unknown }> {
  try {
    const reply = await fetch(url, { signal: AbortSignal.timeout(lookupTimeoutMs) });
    const text = await reply.text();
    let body: unknown = text;
    try {
      body = JSON.parse(text);
    } catch {
      // Not JSON: the caller quotes the text.
    }
    return { status: reply.status, body };
  } catch (cause) {
    const inner = (cause as { cause?: unknown }).cause;
    throw new ServingError('SRV_IO', `GET ${url}: ${failureReason(inner ?? cause)}`, { cause });
  }
}
