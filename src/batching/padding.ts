import { type FixedData, fixedDatatypes } from '../tensor/datatype.js';
import type { Signature, Tensor, TensorSpec } from '../tensor/tensor.js';
import type { Job } from './job.js';

/** An input whose free axes may be padded, so that rows of unlike lengths share a batch. */
export interface PaddedInput {
  /** Index in the signature. */
  readonly input: number;
  /** Axes that are padded; never 0. */
  readonly axes: readonly number[];
  /** What is written behind a row's own elements. */
  readonly value: number | string;
}

/** What a batch is made of: a job, or a job whose inputs were padded. */
export interface BatchPart {
  readonly inputs: readonly Tensor[];
  readonly rows: number;
}

/**
 * The one length that all padded axes of a request have; 0 when they differ, and the request can only run alone.
 */
export function commonLength(inputs: readonly Tensor[], padding: readonly PaddedInput[]): number {
  let length = -1;
  for (const { input, axes } of padding) {
    for (const axis of axes) {
      const own = inputs[input]!.shape[axis]!;
      if (length >= 0 && own !== length) return 0;
      length = own;
    }
  }
  return Math.max(0, length);
}

/** Pads the inputs of jobs to the longest of them. Jobs of one length come back as they are. */
export function padTogether(
  jobs: readonly Job[],
  padding: readonly PaddedInput[],
): { readonly parts: readonly BatchPart[]; readonly length: number } {
  const length = jobs.reduce((longest, job) => Math.max(longest, job.length), 0);
  if (jobs.every((job) => job.length === length)) return { parts: jobs, length };
  const parts = jobs.map((job) => {
    if (job.length === length) return job;
    const inputs = [...job.inputs];
    for (const { input, axes, value } of padding) {
      const tensor = inputs[input]!;
      const shape = tensor.shape.map((dim, axis) => (axes.includes(axis) ? length : dim));
      inputs[input] = resize(tensor, shape, value);
    }
    return { inputs, rows: job.rows };
  });
  return { parts, length };
}

/** Cuts padding off a job's outputs: every free axis but the first that has the padded length. */
export function cropOutputs(
  outputs: readonly Tensor[],
  fetch: readonly number[],
  signature: Signature,
  padded: number,
  own: number,
): Tensor[] {
  return outputs.map((tensor, position) =>
    cropOutput(tensor, signature.outputs[fetch[position]!]!, padded, own),
  );
}

function cropOutput(tensor: Tensor, spec: TensorSpec, padded: number, own: number): Tensor {
  const shape = tensor.shape.map((dim, axis) =>
    axis > 0 && spec.shape[axis] === -1 && dim === padded ? own : dim,
  );
  return resize(tensor, shape, tensor.datatype === 'BYTES' ? '' : 0);
}

/** The tensor in another shape of the same rank: what fits is kept in its place, the rest is `value`. */
export function resize(tensor: Tensor, shape: readonly number[], value: number | string): Tensor {
  const count = shape.reduce((product, dim) => product * dim, 1);
  if (tensor.datatype === 'BYTES') {
    const data = new Array<string>(count).fill(String(value));
    copyOverlap(tensor.shape, shape, (from, to, length) => {
      for (let i = 0; i < length; i++) data[to + i] = tensor.data[from + i]!;
    });
    return { datatype: 'BYTES', shape, data };
  }
  const { datatype } = tensor;
  const source = tensor.data as Float32Array;
  const data: FixedData = new fixedDatatypes[datatype].array(count);
  if (value !== 0)
    data.fill((datatype === 'INT64' || datatype === 'UINT64' ? BigInt(value) : Number(value)) as never);
  copyOverlap(tensor.shape, shape, (from, to, length) => {
    (data as Float32Array).set(source.subarray(from, from + length), to);
  });
  return { datatype, shape, data };
}

/** Calls back for each run of elements that two shapes share, with its place in either. */
function copyOverlap(
  from: readonly number[],
  to: readonly number[],
  copy: (from: number, to: number, length: number) => void,
): void {
  const last = from.length - 1;
  const walk = (axis: number, fromAt: number, toAt: number): void => {
    const shared = Math.min(from[axis]!, to[axis]!);
    if (axis === last) {
      if (shared > 0) copy(fromAt, toAt, shared);
      return;
    }
    const fromStep = from.slice(axis + 1).reduce((product, dim) => product * dim, 1);
    const toStep = to.slice(axis + 1).reduce((product, dim) => product * dim, 1);
    for (let i = 0; i < shared; i++) walk(axis + 1, fromAt + i * fromStep, toAt + i * toStep);
  };
  walk(0, 0, 0);
}
