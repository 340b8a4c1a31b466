import { ServingError } from '../errors.js';
import { type Datatype, type FixedData, type FixedDatatype, fixedDatatypes } from './datatype.js';

/** A tensor of fixed-size elements. `data` has exactly the product of `shape` elements, row-major. */
export interface FixedTensor {
  readonly datatype: FixedDatatype;
  readonly shape: readonly number[];
  readonly data: FixedData;
}

/** A tensor of strings. The engine's strings are UTF-8 without NUL characters. */
export interface StringTensor {
  readonly datatype: 'BYTES';
  readonly shape: readonly number[];
  readonly data: readonly string[];
}

/** Elements with a datatype and a shape; the name is kept by whoever holds the tensor. */
export type Tensor = FixedTensor | StringTensor;

/** Tensors by input or output name. */
export type TensorMap = Readonly<Record<string, Tensor>>;

/** Name, datatype and shape of a model's input or output; -1 stands for a dimension that is free. */
export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
}

/** What a model takes and gives. Inputs and outputs keep the model's own order. */
export interface Signature {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/**
 * Number of elements of a shape; 1 for a scalar.
 *
 * @throws SRV_BAD_TENSOR when a dimension is not a non-negative integer or the product is not a safe integer.
 */
export function elementCount(shape: readonly number[], name = 'tensor'): number {
  let count = 1;
  let hasZero = false;
  for (const dim of shape) {
    if (!Number.isInteger(dim) || dim < 0) {
      throw new ServingError(
        'SRV_BAD_TENSOR',
        `${name}: shape [${shape}] has the dimension ${dim}; expected non-negative integers`,
      );
    }
    if (dim === 0) hasZero = true;
    else count *= dim;
    if (count > Number.MAX_SAFE_INTEGER) {
      throw new ServingError(
        'SRV_BAD_TENSOR',
        `${name}: shape [${shape}] has more elements than can be counted`,
      );
    }
  }
  return hasZero ? 0 : count;
}

/** Bytes that a tensor's elements take; for strings their UTF-8 length plus 4 bytes each, as on the wire. */
export function tensorBytes(tensor: Tensor): number {
  if (tensor.datatype !== 'BYTES') return tensor.data.byteLength;
  let bytes = 0;
  for (const element of tensor.data) bytes += 4 + Buffer.byteLength(element);
  return bytes;
}

type Elements = ArrayLike<number> | ArrayLike<bigint> | ArrayLike<boolean> | readonly string[];

/**
 * Makes a tensor from plain values. A typed array of the datatype's own kind is taken as it is, without a copy:
 * it must not change until the request is answered.
 *
 * @param datatype such as `FP32`; FP16 and BF16 take the bits as a Uint16Array
 * @param shape the full shape, batch dimension included
 * @throws SRV_BAD_TENSOR when the number of values is not the product of the shape, or a value does not fit
 */
export function tensor(datatype: Datatype, shape: readonly number[], values: Elements): Tensor {
  const count = elementCount(shape);
  if (values.length !== count) {
    throw new ServingError(
      'SRV_BAD_TENSOR',
      `tensor: ${values.length} values for shape [${shape}], which has ${count} elements`,
    );
  }
  if (datatype === 'BYTES') {
    return { datatype, shape, data: Array.from(values as readonly string[], requireString) };
  }
  const { array } = fixedDatatypes[datatype];
  if (values instanceof array) return { datatype, shape, data: values };
  if ((datatype === 'FP16' || datatype === 'BF16') && values.length > 0) {
    throw new ServingError('SRV_BAD_TENSOR', `tensor: ${datatype} takes its bits as a Uint16Array`);
  }
  const data = new array(count);
  for (let i = 0; i < count; i++) data[i] = fit(datatype, values[i] as number | bigint | boolean, i) as never;
  return { datatype, shape, data };
}

function requireString(value: unknown, index: number): string {
  if (typeof value === 'string') return value;
  throw new ServingError(
    'SRV_BAD_TENSOR',
    `tensor: element ${index} of a BYTES tensor is a ${typeof value}; expected a string`,
  );
}

const integerRange: Readonly<Record<string, readonly [bigint, bigint]>> = {
  BOOL: [0n, 1n],
  UINT8: [0n, 255n],
  UINT16: [0n, 65535n],
  UINT32: [0n, 4294967295n],
  UINT64: [0n, (1n << 64n) - 1n],
  INT8: [-128n, 127n],
  INT16: [-32768n, 32767n],
  INT32: [-2147483648n, 2147483647n],
  INT64: [-(1n << 63n), (1n << 63n) - 1n],
};

function fit(datatype: FixedDatatype, value: number | bigint | boolean, index: number): number | bigint {
  const range = integerRange[datatype];
  if (!range) return Number(value);
  const isWhole = typeof value !== 'number' || Number.isInteger(value);
  const whole = isWhole ? BigInt(value) : 0n;
  if (!isWhole || whole < range[0] || whole > range[1]) {
    throw new ServingError(
      'SRV_BAD_TENSOR',
      `tensor: element ${index} is ${value}; expected ${datatype}, ${range[0]} to ${range[1]}`,
    );
  }
  return datatype === 'INT64' || datatype === 'UINT64' ? whole : Number(whole);
}
