import { type ErrorCode, type ErrorKind, ServingError } from '../errors.js';

const statusOfKind: Readonly<Record<ErrorKind, number>> = {
  invalid_argument: 400,
  not_found: 404,
  already_exists: 409,
  unsupported: 501,
  resource_exhausted: 503,
  unavailable: 503,
  deadline_exceeded: 504,
  cancelled: 499,
  data_corrupt: 500,
  permission_denied: 403,
  internal: 500,
};

// Where HTTP has a status that says more than the kind's.
const statusOfCode: Partial<Readonly<Record<ErrorCode, number>>> = {
  SRV_BODY_TOO_LARGE: 413,
  SRV_METHOD_NOT_ALLOWED: 405,
  SRV_REQUEST_TIMEOUT: 408,
};

/** Seconds after which a refused client may try again. */
const retryAfterSeconds = '1';

/** Characters of a message that a client is told. */
const maxMessageLength = 2000;

/** An error as an HTTP reply. */
export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Whether an operator must see the error, because the client is not told all of it. */
  readonly isInternal: boolean;
}

/**
 * Turns any thrown value into a reply. Details of internal errors stay in the log.
 *
 * @param requestId what the client may quote to find the log line
 */
export function errorReply(thrown: unknown, requestId: string): ErrorReply {
  const error = asServingError(thrown);
  const status = statusOfCode[error.code] ?? statusOfKind[error.kind];
  const isInternal = error.kind === 'internal';
  const message = isInternal
    ? `internal error; the server's log has it as request ${requestId}`
    : error.message;
  const canRetry = status === 503 && error.code !== 'SRV_MODEL_QUARANTINED';
  return {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'x-request-id': requestId,
      ...(canRetry ? { 'retry-after': retryAfterSeconds } : {}),
      // Whose failure it was, where a public name is split over variants.
      ...(typeof error.details?.variant === 'string' ? { 'x-variant': error.details.variant } : {}),
    },
    body: JSON.stringify({ error: shortened(message), code: error.code }),
    isInternal,
  };
}

/** Names in a message may be the client's own, of any length. */
function shortened(message: string): string {
  return message.length > maxMessageLength ? `${message.slice(0, maxMessageLength)}…` : message;
}

/** Fastify's own errors carry a status; everything else that is not ours is a defect. */
function asServingError(thrown: unknown): ServingError {
  if (thrown instanceof ServingError) return thrown;
  const { statusCode, code, message } = thrown as { statusCode?: unknown; code?: unknown; message?: unknown };
  if (statusCode === 413) return new ServingError('SRV_BODY_TOO_LARGE', String(message));
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new ServingError('SRV_BAD_REQUEST', `${message}${code ? ` (${code})` : ''}`);
  }
  return new ServingError('SRV_INTERNAL', String(message), { cause: thrown });
}
