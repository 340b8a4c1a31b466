/** Telling whether two results of the same model are the same. */
import { elementCount, type Tensor, type TensorMap } from '../tensor/tensor.js';

/** How far floats may be apart: `relative` of the expected value plus `ofLargest` of the tensor's largest. */
export interface Tolerance {
  readonly relative: number;
  readonly ofLargest: number;
}

/** Why two results differ, or undefined where they are the same within the tolerance; 'exact' compares bits. */
export function firstDifference(
  expected: TensorMap,
  got: TensorMap,
  tolerance: Tolerance | 'exact',
): string | undefined {
  for (const [name, want] of Object.entries(expected)) {
    const have = got[name];
    if (!have) return `${name} is missing`;
    if (have.datatype !== want.datatype) return `${name} is ${have.datatype} instead of ${want.datatype}`;
    if (String(have.shape) !== String(want.shape)) {
      return `${name} has shape [${have.shape}] instead of [${want.shape}]`;
    }
    const difference =
      tolerance === 'exact' ? bitDifference(want, have) : valueDifference(want, have, tolerance);
    if (difference !== undefined) return `${name} differs ${difference}`;
  }
  return undefined;
}

/** Row `row` of a tensor, as a batch of one. The tensor's leading dimension is its rows. */
export function rowOf(tensor: Tensor, row: number): Tensor {
  const shape = [1, ...tensor.shape.slice(1)];
  const size = elementCount(shape);
  const data = tensor.data.slice(row * size, (row + 1) * size);
  return { datatype: tensor.datatype, shape, data } as Tensor;
}

function bitDifference(want: Tensor, have: Tensor): string | undefined {
  if (want.datatype === 'BYTES' || have.datatype === 'BYTES') return discreteDifference(want, have);
  const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
    Buffer.from(buffer, byteOffset, byteLength);
  return bytes(want.data).equals(bytes(have.data)) ? undefined : 'in its bits';
}

function discreteDifference(want: Tensor, have: Tensor): string | undefined {
  for (let i = 0; i < want.data.length; i++) {
    if (want.data[i] !== have.data[i]) return `at ${i}: ${have.data[i]} instead of ${want.data[i]}`;
  }
  return undefined;
}

function valueDifference(want: Tensor, have: Tensor, tolerance: Tolerance): string | undefined {
  const read = numberReader(want);
  if (!read) return discreteDifference(want, have);
  let largest = 0;
  for (let i = 0; i < want.data.length; i++) {
    const size = Math.abs(read(want, i));
    if (Number.isFinite(size) && size > largest) largest = size;
  }
  for (let i = 0; i < want.data.length; i++) {
    const a = read(want, i);
    const b = read(have, i);
    if (Object.is(a, b) || a === b) continue;
    const allowed = tolerance.relative * Math.abs(a) + tolerance.ofLargest * largest;
    if (!(Math.abs(a - b) <= allowed) || !Number.isFinite(a)) return `at ${i}: ${b} instead of ${a}`;
  }
  return undefined;
}

function numberReader(tensor: Tensor): ((tensor: Tensor, index: number) => number) | undefined {
  if (tensor.datatype === 'FP32' || tensor.datatype === 'FP64') return (of, i) => of.data[i] as number;
  if (tensor.datatype === 'FP16') return (of, i) => halfValue(of.data[i] as number);
  return undefined;
}

/** The number of the bits of an FP16. */
export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
