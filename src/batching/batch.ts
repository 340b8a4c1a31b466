import { ServingError } from '../errors.js';
import type { RunInput, RunMessage, RunOutput, RunResult } from '../instance/messages.js';
import type { Slot } from '../instance/slab.js';
import { type FixedDatatype, fixedDatatypes } from '../tensor/datatype.js';
import type { FixedTensor, Signature, StringTensor, Tensor } from '../tensor/tensor.js';
import type { Job } from './job.js';
import type { BatchPart } from './padding.js';

const alignment = 64;

/** What a slot must hold for a batch, in bytes. */
export interface BatchLayout {
  readonly rows: number;
  readonly inputOffsets: readonly number[];
  /** Where the rows that each stage gathers go. */
  readonly targetOffsets: readonly number[];
  /** Of inputs and targets together. */
  readonly inputBytes: number;
}

/** The room that the rows of a gather stage need. */
export interface TargetRoom {
  /** Index of the job input that has an element for each gathered row. */
  readonly countedBy: number;
  /** Whether only the first dimension of that input counts: its other ones are combined. */
  readonly isCombined: boolean;
  /** Bytes of one gathered row. */
  readonly rowBytes: number;
}

/** Lays the inputs of jobs out one behind the other, then the targets of stages; strings take no room. */
export function layOut(jobs: readonly BatchPart[], targets: readonly TargetRoom[]): BatchLayout {
  let rows = 0;
  for (const job of jobs) rows += job.rows;
  const inputOffsets: number[] = [];
  let at = 0;
  const count = jobs[0]!.inputs.length;
  for (let i = 0; i < count; i++) {
    inputOffsets.push(at);
    let bytes = 0;
    for (const job of jobs) {
      const input = job.inputs[i]!;
      if (input.datatype !== 'BYTES') bytes += input.data.byteLength;
    }
    at += Math.ceil(bytes / alignment) * alignment;
  }
  const targetOffsets: number[] = [];
  for (const { countedBy, isCombined, rowBytes } of targets) {
    targetOffsets.push(at);
    let count = 0;
    for (const job of jobs) {
      const counted = job.inputs[countedBy]!;
      count += isCombined ? counted.shape[0]! : counted.data.length;
    }
    at += Math.ceil((count * rowBytes) / alignment) * alignment;
  }
  return { rows, inputOffsets, targetOffsets, inputBytes: at };
}

/** Copies the rows of every job into the slot and says what the worker is to run. */
export function assemble(
  jobs: readonly BatchPart[],
  layout: BatchLayout,
  slot: Slot,
  versionId: number,
  fetch: readonly number[],
): RunMessage {
  const first = jobs[0]!;
  const inputs: RunInput[] = first.inputs.map((tensor, index) => {
    const shape = jobs.length === 1 ? tensor.shape : mergedShape(jobs, index);
    if (tensor.datatype === 'BYTES') {
      const strings = jobs.flatMap((job) => (job.inputs[index] as StringTensor).data);
      return { shape, strings };
    }
    const offset = slot.offset + layout.inputOffsets[index]!;
    copyRows(jobs, index, tensor.datatype, slot.buffer, offset);
    return { shape, offset };
  });
  return {
    versionId,
    slab: slot.slab,
    ...(slot.buffer instanceof SharedArrayBuffer ? { shared: slot.buffer } : {}),
    inputs,
    targets: layout.targetOffsets.map((offset) => slot.offset + offset),
    fetch,
    replyOffset: slot.offset + layout.inputBytes,
    replyBytes: slot.bytes - layout.inputBytes,
  };
}

/** First dimensions add up: to the rows of the batch, or to the keys of ragged rows. */
function mergedShape(jobs: readonly BatchPart[], index: number): number[] {
  let first = 0;
  for (const job of jobs) first += job.inputs[index]!.shape[0]!;
  return [first, ...jobs[0]!.inputs[index]!.shape.slice(1)];
}

function copyRows(
  jobs: readonly BatchPart[],
  index: number,
  datatype: FixedDatatype,
  buffer: ArrayBufferLike,
  offset: number,
): void {
  const { array, bytes } = fixedDatatypes[datatype];
  let length = 0;
  for (const job of jobs) length += (job.inputs[index] as FixedTensor).data.length;
  // One view a batch: a view costs more than copying a short row.
  const target = new array(buffer, offset, length) as Float32Array;
  let at = 0;
  for (const job of jobs) {
    const { data } = job.inputs[index] as FixedTensor;
    if (data.BYTES_PER_ELEMENT !== bytes)
      throw new ServingError('SRV_INTERNAL', `${datatype} data of wrong width`);
    target.set(data as Float32Array, at);
    at += data.length;
  }
}

/**
 * Cuts a batch's outputs into the jobs' own, copied out of the slot.
 *
 * @returns for each job its outputs, in the order of `fetch`
 * @throws SRV_MODEL_RUN_FAILED when outputs of a merged batch have no row for each input row
 */
export function splitResult(
  jobs: readonly Job[],
  rows: number,
  result: RunResult,
  slot: Slot,
  signature: Signature,
  fetch: readonly number[],
): Tensor[][] {
  const perJob: Tensor[][] = jobs.map(() => []);
  result.outputs.forEach((output, position) => {
    const { name, datatype } = signature.outputs[fetch[position]!]!;
    if (jobs.length > 1 && output.shape[0] !== rows) {
      throw new ServingError(
        'SRV_MODEL_RUN_FAILED',
        `output ${name} of a batch of ${rows} rows has shape [${output.shape}]: the model does not keep rows apart`,
      );
    }
    cut(jobs, rows, output, slot, datatype as FixedDatatype, perJob);
  });
  return perJob;
}

function cut(
  jobs: readonly Job[],
  rows: number,
  output: RunOutput,
  slot: Slot,
  datatype: FixedDatatype,
  perJob: Tensor[][],
): void {
  if ('strings' in output) {
    let at = 0;
    jobs.forEach((job, index) => {
      const count = jobs.length === 1 ? output.strings.length : (output.strings.length / rows) * job.rows;
      const shape = jobs.length === 1 ? output.shape : [job.rows, ...output.shape.slice(1)];
      perJob[index]!.push({ datatype: 'BYTES', shape, data: output.strings.slice(at, at + count) });
      at += count;
    });
    return;
  }
  let length = 1;
  for (const dim of output.shape) length *= dim;
  const whole =
    'data' in output ? output.data : new fixedDatatypes[datatype].array(slot.buffer, output.offset, length);
  const perRow = jobs.length === 1 ? 0 : length / rows;
  let at = 0;
  jobs.forEach((job, index) => {
    const count = jobs.length === 1 ? length : perRow * job.rows;
    const shape = jobs.length === 1 ? output.shape : [job.rows, ...output.shape.slice(1)];
    perJob[index]!.push({ datatype, shape, data: whole.slice(at, at + count) });
    at += count;
  });
}

/** The outputs that any of the jobs wants, ascending. */
export function commonFetch(jobs: readonly Job[]): readonly number[] {
  const first = jobs[0]!.fetch;
  if (jobs.every((job) => job.fetch === first)) return first;
  const union = new Set<number>();
  for (const job of jobs) for (const index of job.fetch) union.add(index);
  return [...union].sort((a, b) => a - b);
}

/** The outputs that a job wants, in its order, out of those that its batch fetched. */
export function pick(outputs: Tensor[], wanted: readonly number[], fetched: readonly number[]): Tensor[] {
  return wanted.map((index) => outputs[fetched.indexOf(index)]!);
}
