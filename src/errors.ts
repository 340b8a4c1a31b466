/**
 * The one error class of this project, and the registry of its codes.
 *
 * Callers match `code`, never the message. A released code is never reused for another meaning; `kind` says
 * what class of failure it is, and only `server/error-reply.ts` turns a kind into an HTTP status.
 */

export const errorKinds = [
  'invalid_argument',
  'not_found',
  'already_exists',
  'unsupported',
  'resource_exhausted',
  'unavailable',
  'deadline_exceeded',
  'cancelled',
  'data_corrupt',
  'permission_denied',
  'internal',
] as const;

/** What class of failure an error is. */
export type ErrorKind = (typeof errorKinds)[number];

/** Every code with its kind and the sentence that documents it. `docs/errors.md` repeats this table. */
export const errorCodes = {
  SRV_BAD_CONFIG: ['invalid_argument', 'The configuration, a flag or a model.json is not valid.'],
  SRV_BAD_REQUEST: ['invalid_argument', 'The request is not what the protocol asks for.'],
  SRV_BAD_JSON: ['invalid_argument', 'The JSON of a request cannot be read.'],
  SRV_BAD_TENSOR: [
    'invalid_argument',
    'A tensor does not fit its own description: count, range, encoding or byte length.',
  ],
  SRV_BAD_SIGNATURE: [
    'invalid_argument',
    'The tensors of a request do not fit the model: name, datatype or shape.',
  ],
  SRV_BATCH_TOO_LARGE: ['invalid_argument', 'The request has more rows than the model takes at once.'],
  SRV_BODY_TOO_LARGE: ['invalid_argument', 'The body, as sent or decompressed, is over its limit.'],
  SRV_REQUEST_TIMEOUT: ['deadline_exceeded', 'The headers or the body of a request came too slowly.'],
  SRV_MODEL_RUN_FAILED: ['invalid_argument', 'The engine refused to run the model on these values.'],
  SRV_MODEL_NOT_FOUND: ['not_found', 'No model, or no version or label of it, has this name.'],
  SRV_NOT_FOUND: ['not_found', 'Nothing answers at this path.'],
  SRV_METHOD_NOT_ALLOWED: ['invalid_argument', 'The path exists, but not for this method.'],
  SRV_MODEL_NOT_READY: ['unavailable', 'The model is known but no version of it is ready.'],
  SRV_MODEL_QUARANTINED: [
    'unavailable',
    'The model ended the process twice while running and is not loaded until its file changes.',
  ],
  SRV_MODEL_INVALID: ['data_corrupt', 'The model file is empty, truncated or not ONNX.'],
  SRV_MODEL_UNSUPPORTED: ['unsupported', 'The engine or the protocol cannot serve this model.'],
  SRV_MODEL_CRASHED: ['data_corrupt', 'Loading or trying the model ended the prepare process.'],
  SRV_MODEL_LOAD_FAILED: ['unavailable', 'A ready model could not be opened by an instance.'],
  SRV_MODEL_CORRUPT: ['data_corrupt', 'A mapped model file changed while it was being served.'],
  SRV_FOREIGN_FORMAT: [
    'unsupported',
    'The file is a model of another framework; it must be converted first.',
  ],
  SRV_QUEUE_FULL: ['unavailable', 'The queue is full, in requests or in bytes.'],
  SRV_DEADLINE_EXCEEDED: ['deadline_exceeded', 'The deadline passed while the request waited.'],
  SRV_CANCELLED: ['cancelled', 'The caller went away or withdrew the request.'],
  SRV_SHUTTING_DOWN: ['unavailable', 'The server drains and takes no new work.'],
  SRV_OUT_OF_MEMORY: [
    'resource_exhausted',
    'Memory for the batch could not be had, on the host or the device.',
  ],
  SRV_DEVICE_LOST: ['unavailable', 'No instance of any device of this model is left to run it.'],
  SRV_PROVIDER_MISSING: ['unsupported', 'An execution provider is not installed on this machine.'],
  SRV_WORKER_DIED: ['unavailable', 'The instance that ran the batch ended; it is being replaced.'],
  SRV_MODEL_CONTROL_OFF: [
    'permission_denied',
    'Loading, unloading and changing traffic by request is switched off.',
  ],
  SRV_TRAFFIC_NOT_FOUND: ['not_found', 'No traffic is split under this name.'],
  SRV_BAD_INPUT_FILE: [
    'data_corrupt',
    'A file of rows for a sparse table is damaged, or not in the format that it was read as.',
  ],
  SRV_TABLE_NOT_FOUND: ['not_found', 'No sparse table, or no version of it, is at this place.'],
  SRV_TABLE_CORRUPT: ['data_corrupt', 'A file of a sparse table is damaged, or not what its manifest says.'],
  SRV_TABLE_UNSUPPORTED: ['unsupported', 'A sparse table has a form that this software does not read.'],
  SRV_TABLE_MISMATCH: ['invalid_argument', 'Sparse tables, deltas or rows do not fit each other.'],
  SRV_MISSING_KEY: ['not_found', 'A sparse table has no row for a key, and that is an error there.'],
  SRV_BAD_BAGS: ['invalid_argument', 'The offsets or lengths of ragged ids do not fit the ids.'],
  SRV_BAD_WARM_UP_FILE: [
    'data_corrupt',
    'A file of warm-up requests is empty or damaged, or holds what is no request.',
  ],
  SRV_WARM_UP_FAILED: [
    'unavailable',
    'A request of the warm-up could not be read or run, so the version is not served.',
  ],
  SRV_REMOTE_UNAVAILABLE: [
    'unavailable',
    'A remote store cannot be reached, answers an error, or does not answer in time.',
  ],
  SRV_REMOTE_NOT_FOUND: ['not_found', 'A remote store has nothing at this path.'],
  SRV_REMOTE_REFUSED: [
    'permission_denied',
    'A remote store does not let these credentials read or write this path.',
  ],
  SRV_REMOTE_DAMAGED: [
    'data_corrupt',
    'What a remote store gave is incomplete, or not what its digest or its listing says.',
  ],
  SRV_REMOTE_CHANGED: ['unavailable', 'A remote file was replaced while it was being fetched.'],
  SRV_REMOTE_TOO_LARGE: [
    'resource_exhausted',
    'A remote place or an archive holds more files or bytes than may be taken.',
  ],
  SRV_BAD_ARCHIVE: ['data_corrupt', 'An archive cannot be read, or holds what must not be unpacked.'],
  SRV_NOT_PUBLISHABLE: [
    'invalid_argument',
    'A directory holds nothing to publish: no complete version, one that still changes, or names that stores do not take.',
  ],
  SRV_PUBLISH_CONFLICT: [
    'unavailable',
    'Another publisher is at work on the same target, or has put something else there.',
  ],
  SRV_IO: ['unavailable', 'A file or directory could not be read or written.'],
  SRV_PORT_IN_USE: ['unavailable', 'The port is taken.'],
  SRV_INTERNAL: ['internal', 'A defect of this software; the log has the detail under the request id.'],
} as const satisfies Record<string, readonly [ErrorKind, string]>;

/** A registered error code, such as `SRV_MODEL_NOT_FOUND`. */
export type ErrorCode = keyof typeof errorCodes;

/** Further facts of an error, for programs: plain JSON values only. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

/** An error as plain data: the form that crosses threads, processes and sockets. */
export interface ErrorData {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details?: ErrorDetails;
}

/** The error class of every rejection and throw of this package. */
export class ServingError extends Error {
  override readonly name = 'ServingError';
  /** What failed, for programs to match. */
  readonly code: ErrorCode;
  /** The class of failure that the code belongs to. */
  readonly kind: ErrorKind;
  /** Further facts, absent when there are none. */
  readonly details: ErrorDetails | undefined;

  constructor(code: ErrorCode, message: string, options: { details?: ErrorDetails; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.kind = errorCodes[code][0];
    this.details = options.details;
  }
}

/** Takes any thrown value apart into plain data; a value that is not ours becomes `SRV_INTERNAL`. */
export function errorToData(thrown: unknown): ErrorData {
  if (thrown instanceof ServingError) {
    return {
      code: thrown.code,
      message: thrown.message,
      ...(thrown.details ? { details: thrown.details } : {}),
    };
  }
  return { code: 'SRV_INTERNAL', message: messageOf(thrown) };
}

/** Rebuilds an error from its plain data. An unknown code (a newer peer) becomes `SRV_INTERNAL`. */
export function errorFromData(data: ErrorData): ServingError {
  const code = Object.hasOwn(errorCodes, data.code) ? data.code : 'SRV_INTERNAL';
  return new ServingError(code, data.message, data.details ? { details: data.details } : {});
}

/** The message of any thrown value. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
