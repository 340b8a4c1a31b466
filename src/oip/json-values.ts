/** Values of a request's JSON, checked one by one: all throw SRV_BAD_REQUEST that says where and what came. */
import { ServingError } from '../errors.js';

/** Parameters of a request, an input or an output. */
export type Parameters = Readonly<Record<string, unknown>>;
const noParameters: Parameters = {};
const unsupportedParameters = [
  'sequence_id',
  'sequence_start',
  'sequence_end',
  'shared_memory_region',
] as const;

/** The parameters at `where`; none when absent. */
export function readParameters(value: unknown, where: string): Parameters {
  if (value === undefined) return noParameters;
  const parameters = requireObject(value, `parameters of ${where}`);
  for (const name of unsupportedParameters) {
    if (parameters[name]) throw bad(`parameters of ${where}: ${name} is not supported by this server`);
  }
  return parameters;
}

/** A non-negative integer; undefined when absent. */
export function readUnsigned(value: unknown, where: string): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw bad(`${where}: expected a non-negative integer, got ${show(value)}`);
}

/** True or false; undefined when absent. */
export function readBoolean(value: unknown, where: string): boolean | undefined {
  if (value === undefined || typeof value === 'boolean') return value;
  throw bad(`${where}: expected true or false, got ${show(value)}`);
}

/** A JSON object. */
export function requireObject(value: unknown, where: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw bad(`${where}: expected an object, got ${show(value)}`);
}

/** A JSON array. */
export function requireArray(value: unknown, where: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw bad(`${where}: expected an array, got ${show(value)}`);
}

/** A value as errors quote it: short. */
export function show(value: unknown): string {
  const text = JSON.stringify(value);
  return text === undefined ? 'nothing' : text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** The error of a request that is not what the protocol asks for. */
export function bad(message: string): ServingError {
  return new ServingError('SRV_BAD_REQUEST', message);
}
