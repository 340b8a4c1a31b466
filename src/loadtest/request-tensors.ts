import { ServingError } from '../errors.js';
import { datatypes } from '../tensor/datatype.js';
import {
  elementCount,
  type Signature,
  type Tensor,
  type TensorMap,
  type TensorSpec,
  tensor,
} from '../tensor/tensor.js';
import { seededRandom } from './load.js';

/** How input values are made up. */
export interface GeneratorOptions {
  /** Distinct requests to make; the load goes round them. */
  readonly count: number;
  /** Rows of each request: the first dimension of every input where the model leaves it free. */
  readonly rows: number;
  /** Full shapes by input name, for inputs with other free dimensions. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Lowest and highest value by input name. Absent: -1 to 1 for floats, 0 to 1 for integers. */
  readonly ranges: Readonly<Record<string, readonly [number, number]>>;
  readonly seed: number;
}

/**
 * Makes requests that fit a model's inputs from random values; one seed always makes the same ones.
 *
 * @throws SRV_BAD_CONFIG when a free dimension has no size, a shape does not fit the model, or a name is unknown
 */
export function generateTensors(
  signature: Pick<Signature, 'inputs'>,
  options: GeneratorOptions,
): TensorMap[] {
  const names = signature.inputs.map((input) => input.name);
  for (const name of [...Object.keys(options.shapes), ...Object.keys(options.ranges)]) {
    if (!names.includes(name)) {
      throw new ServingError('SRV_BAD_CONFIG', `the model has no input ${name}; it has ${names.join(', ')}`);
    }
  }
  const random = seededRandom(options.seed);
  const shapes = signature.inputs.map((input) => requestShape(input, options));
  return Array.from({ length: options.count }, () =>
    Object.fromEntries(
      signature.inputs.map((input, i) => [
        input.name,
        randomTensor(input, shapes[i] ?? [], options.ranges[input.name], random),
      ]),
    ),
  );
}

function requestShape(input: TensorSpec, options: GeneratorOptions): readonly number[] {
  const given = options.shapes[input.name];
  if (given) {
    const fits =
      given.length === input.shape.length &&
      input.shape.every((dim, axis) => dim === -1 || dim === given[axis]);
    if (!fits) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `--shape ${input.name}:${given} does not fit the model's [${input.shape}]`,
      );
    }
    return given;
  }
  return input.shape.map((dim, axis) => {
    if (dim !== -1) return dim;
    if (axis === 0) return options.rows;
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `input ${input.name} has the shape [${input.shape}]; give its size with --shape ${input.name}:${input.shape
        .map((free, i) => (free !== -1 ? free : i === 0 ? options.rows : 16))
        .join(',')}`,
    );
  });
}

function randomTensor(
  input: TensorSpec,
  shape: readonly number[],
  range: readonly [number, number] | undefined,
  random: () => number,
): Tensor {
  const { datatype } = input;
  const count = elementCount(shape, input.name);
  const isFloat = datatype === 'FP32' || datatype === 'FP64' || datatype === 'FP16' || datatype === 'BF16';
  const [low, high] = range ?? (isFloat ? [-1, 1] : [0, 1]);
  const whole = (): number => low + Math.floor(random() * (high - low + 1));
  if (datatype === 'BYTES')
    return tensor(
      datatype,
      shape,
      Array.from({ length: count }, () => `${whole()}`),
    );
  if (datatype === 'FP16' || datatype === 'BF16') {
    const bits = datatype === 'FP16' ? halfBits : bfloatBits;
    return tensor(
      datatype,
      shape,
      Uint16Array.from({ length: count }, () => bits(low + random() * (high - low))),
    );
  }
  const values = Array.from({ length: count }, () => (isFloat ? low + random() * (high - low) : whole()));
  return tensor(datatype, shape, values);
}

const scratch = new DataView(new ArrayBuffer(4));

function bfloatBits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint16(0);
}

/** Bits of a half-precision number, truncated: good enough for made-up values. */
function halfBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
  if (exponent <= 0) return sign;
  if (exponent >= 31) return sign | 0x7bff;
  return sign | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}

/**
 * Takes the tensors out of an Open Inference Protocol JSON request, flat or nested.
 *
 * @throws SRV_BAD_TENSOR, SRV_BAD_REQUEST when the body is not such a request
 */
export function tensorsOfBody(body: string): TensorMap {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch (cause) {
    throw new ServingError('SRV_BAD_REQUEST', 'not JSON', { cause });
  }
  const inputs = (parsed as { inputs?: unknown } | null)?.inputs;
  if (!Array.isArray(inputs)) throw new ServingError('SRV_BAD_REQUEST', 'no "inputs" list');
  return Object.fromEntries(inputs.map(namedTensor));
}

function namedTensor(input: unknown): [string, Tensor] {
  const { name, datatype, shape, data } = (input ?? {}) as Record<string, unknown>;
  const known = datatypes.find((candidate) => candidate === datatype);
  if (typeof name !== 'string' || !known || !Array.isArray(shape) || !Array.isArray(data)) {
    throw new ServingError('SRV_BAD_REQUEST', 'an input needs name, datatype, shape and data');
  }
  const flat = data.flat(Number.POSITIVE_INFINITY) as unknown[];
  const isWide = known === 'INT64' || known === 'UINT64';
  const values = isWide ? flat.map(exactInteger) : flat;
  return [name, tensor(known, shape as number[], values as number[])];
}

function exactInteger(value: unknown): bigint {
  if (typeof value === 'string' && /^-?\d+$/.test(value)) return BigInt(value);
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value);
  throw new ServingError(
    'SRV_BAD_TENSOR',
    `${String(value)} is not an exact 64-bit integer; above 2^53 write it as a string of digits`,
  );
}

/** Rows of a request: the first dimension of its first tensor, 1 for a scalar. */
export function rowsOf(tensors: TensorMap): number {
  return Object.values(tensors)[0]?.shape[0] ?? 1;
}
