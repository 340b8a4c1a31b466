import { messageOf, ServingError } from '../errors.js';
import { type Datatype, isDatatype } from '../tensor/datatype.js';
import { elementCount } from '../tensor/tensor.js';
import {
  bad,
  type Parameters,
  readBoolean,
  readParameters,
  readUnsigned,
  requireArray,
  requireObject,
  show,
} from './json-values.js';

/** Dimensions that a tensor may have; the number reader takes no more. */
const maxRank = 64;

/** An output that a request names, and whether it wants it in binary. */
export interface RequestedOutput {
  readonly name: string;
  /** Absent: as the request says for all outputs. */
  readonly binary?: boolean;
}

/** An input without its elements. */
export interface DescribedInput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Elements of the shape. */
  readonly count: number;
  /** Bytes of its elements behind the JSON; undefined where they stand in the JSON. */
  readonly binarySize: number | undefined;
  /** What stands in the place of elements in the JSON: the number of their section, if it is one. */
  readonly ordinal: unknown;
}

/** All that the JSON of an inference request says, but for the elements of its tensors. */
export interface Envelope {
  /** To be echoed; undefined when none was sent. */
  readonly id: string | undefined;
  readonly inputs: readonly DescribedInput[];
  /** Undefined: all outputs. */
  readonly outputs: readonly RequestedOutput[] | undefined;
  /** Whether outputs that do not say otherwise are wanted in binary. */
  readonly wantsBinary: boolean;
  /** How long the request may wait, in ms; undefined when it does not say. */
  readonly timeoutMs: number | undefined;
  /** 1 is the most urgent; 0 the model's default. */
  readonly priority: number;
  /** All parameters as they came. */
  readonly parameters: Parameters;
}

// Without its elements, a request of a client is like its last one: they are read once. The oldest is forgotten.
const known = new Map<string, Envelope>();
const maxKnown = 128;
const maxKnownLength = 2048;

/**
 * Reads the envelope of a request.
 *
 * @param text the JSON with every `inputs[i].data` replaced by its ordinal number
 * @throws SRV_BAD_JSON, SRV_BAD_REQUEST
 */
export function readEnvelope(text: string): Envelope {
  const before = known.get(text);
  if (before) return before;
  const envelope = checkEnvelope(parseEnvelope(text));
  if (!mayComeOnce(envelope) && text.length <= maxKnownLength) {
    if (known.size >= maxKnown) known.delete(known.keys().next().value!);
    known.set(text, envelope);
  }
  return envelope;
}

/** With an identity of its own, or a parameter that may be one, such as the key of a user, a request comes once. */
function mayComeOnce({ id, parameters }: Envelope): boolean {
  if (id !== undefined) return true;
  for (const name in parameters) if (!recurring.has(name)) return true;
  return false;
}

const recurring: ReadonlySet<string> = new Set(['timeout', 'priority', 'binary_data_output']);

/** The protocol's phrase before what is wrong with the text; a defect stays one. */
export function notReadable(error: unknown): unknown {
  if (error instanceof ServingError && error.code !== 'SRV_BAD_JSON') return error;
  return new ServingError('SRV_BAD_JSON', `failed to parse the request JSON buffer: ${messageOf(error)}`);
}

function parseEnvelope(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw notReadable(error);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw new ServingError('SRV_BAD_JSON', `the request JSON is ${show(value)}; expected an object`);
}

function checkEnvelope(value: Readonly<Record<string, unknown>>): Envelope {
  const parameters = readParameters(value.parameters, 'the request');
  const inputs = requireArray(value.inputs, 'inputs').map(describeInput);
  const { id, outputs } = value;
  if (id !== undefined && typeof id !== 'string') throw bad(`id: expected a string, got ${show(id)}`);
  const timeoutUs = readUnsigned(parameters.timeout, 'timeout');
  return {
    id,
    inputs,
    outputs: outputs === undefined ? undefined : requireArray(outputs, 'outputs').map(readOutput),
    wantsBinary: readBoolean(parameters.binary_data_output, 'binary_data_output') ?? false,
    timeoutMs: timeoutUs ? timeoutUs / 1000 : undefined,
    priority: readUnsigned(parameters.priority, 'priority') ?? 0,
    parameters,
  };
}

function describeInput(value: unknown, index: number): DescribedInput {
  const input = requireObject(value, `inputs[${index}]`);
  const { name, datatype } = input;
  if (typeof name !== 'string') throw bad(`inputs[${index}].name: expected a string, got ${show(name)}`);
  if (!isDatatype(datatype)) {
    throw bad(
      `input '${name}': datatype ${show(datatype)} is not one of the protocol's (FP32, INT64, BYTES, ...)`,
    );
  }
  const shape = requireArray(input.shape, `shape of input '${name}'`) as readonly number[];
  if (shape.length > maxRank) {
    throw bad(`input '${name}': shape has ${shape.length} dimensions; at most ${maxRank} are read`);
  }
  const count = elementCount(shape, `input '${name}'`);
  const binarySize = readSize(input.parameters, name);
  if (binarySize !== undefined && input.data !== undefined) {
    throw bad(`input '${name}' has both data and binary_data_size`);
  }
  if (binarySize === undefined && input.data === undefined) {
    throw bad(`input '${name}' has neither data nor binary_data_size`);
  }
  return { name, datatype, shape, count, binarySize, ordinal: input.data };
}

function readSize(parameters: unknown, name: string): number | undefined {
  if (parameters === undefined) return undefined;
  const read = readParameters(parameters, `input '${name}'`);
  return readUnsigned(read.binary_data_size, `binary_data_size of input '${name}'`);
}

function readOutput(value: unknown, index: number): RequestedOutput {
  const output = requireObject(value, `outputs[${index}]`);
  const { name } = output;
  if (typeof name !== 'string') throw bad(`outputs[${index}].name: expected a string, got ${show(name)}`);
  if (output.parameters === undefined) return { name };
  const parameters = readParameters(output.parameters, `output '${name}'`);
  if (parameters.classification !== undefined) {
    throw new ServingError('SRV_BAD_REQUEST', `output '${name}': classification is not supported`);
  }
  const binary = readBoolean(parameters.binary_data, `binary_data of output '${name}'`);
  return binary === undefined ? { name } : { name, binary };
}
