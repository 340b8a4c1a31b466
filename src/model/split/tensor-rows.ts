/** The rows of a matrix that lies in a model file or in its external data, read a stretch at a time. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, isAbsolute, join, normalize, sep } from 'node:path';
import { messageOf, ServingError } from '../../errors.js';
import { fixedDatatypes } from '../../tensor/datatype.js';
import type { Span, WireTensor } from './wire-graph.js';

/** The element types that rows can be made of, by `TensorProto.DataType`. */
export const rowElementTypes: Readonly<Record<number, 'FP32' | 'FP16' | 'FP64'>> = {
  1: 'FP32',
  10: 'FP16',
  11: 'FP64',
};

/** The field of typed elements that holds an element type as they are in memory. */
const plainTypedField: Readonly<Record<number, number>> = { 1: 4, 11: 10 };

/** Where the elements of a tensor lie, one stretch or several, in the model file or in another. */
export interface TensorPlace {
  /** Absolute path. */
  readonly file: string;
  readonly spans: readonly Span[];
}

/**
 * Where the elements of a tensor lie as plain little-endian memory.
 *
 * @throws SRV_MODEL_INVALID when external data is missing, outside of the model's directory or too short
 * @throws SRV_MODEL_UNSUPPORTED when the elements are stored one by one, each with a tag
 */
export function placeOfTensor(modelFile: string, tensor: WireTensor): TensorPlace {
  const bytes = tensorBytes(tensor);
  const { external, raw, typed } = tensor;
  if (external) {
    const file = externalPath(modelFile, tensor.name, external.location);
    const { offset } = external;
    const size = sizeOf(modelFile, tensor.name, file);
    const length = external.length ?? bytes;
    if (length !== bytes || offset < 0 || offset + length > size) {
      throw invalid(
        modelFile,
        `'${tensor.name}' needs ${bytes} bytes at ${offset} of its external data '${external.location}', which has ${size} bytes and is told to give ${length}`,
      );
    }
    return { file, spans: [{ start: offset, end: offset + length }] };
  }
  const isPlain = typed.every(
    ({ number, type }) => number === plainTypedField[tensor.elementType] && type === 2,
  );
  if (!raw && !isPlain) {
    throw new ServingError(
      'SRV_MODEL_UNSUPPORTED',
      `${modelFile}: the elements of '${tensor.name}' are stored one by one; save the model anew with raw data (onnx.save_model with save_as_external_data, or numpy_helper.from_array)`,
    );
  }
  const spans = raw ? [raw] : typed.map(({ start, end }) => ({ start, end }));
  const stored = spans.reduce((sum, span) => sum + span.end - span.start, 0);
  if (stored !== bytes) {
    throw invalid(
      modelFile,
      `'${tensor.name}' of shape [${tensor.shape}] needs ${bytes} bytes of elements, but holds ${stored}`,
    );
  }
  return { file: modelFile, spans };
}

/** Bytes that a tensor's elements take by type and shape; 0 for types that are not of whole bytes. */
export function tensorBytes({ elementType, shape }: WireTensor): number {
  const info = Object.values(fixedDatatypes).find(({ onnx }) => onnx === elementType);
  return shape.reduce((product, size) => product * size, info?.bytes ?? 0);
}

/**
 * The absolute path of external data.
 *
 * @throws SRV_MODEL_INVALID when it lies outside of the model's directory
 */
export function externalPath(modelFile: string, name: string, location: string): string {
  if (location === '' || isAbsolute(location) || normalize(location).split(sep)[0] === '..') {
    throw invalid(
      modelFile,
      `the external data '${location}' of '${name}' lies outside the model's directory`,
    );
  }
  return join(dirname(modelFile), location);
}

function sizeOf(modelFile: string, name: string, file: string): number {
  const handle = openFile(modelFile, name, file);
  try {
    return fstatSync(handle).size;
  } finally {
    closeSync(handle);
  }
}

function openFile(modelFile: string, name: string, file: string): number {
  try {
    return openSync(file, 'r');
  } catch (error) {
    throw invalid(modelFile, `the elements of '${name}' cannot be read from ${file}: ${messageOf(error)}`);
  }
}

function invalid(modelFile: string, what: string): ServingError {
  return new ServingError('SRV_MODEL_INVALID', `${modelFile}: ${what}`, { details: { path: modelFile } });
}

/** An open matrix of rows. Reads synchronously; close it. */
export class TensorRows {
  readonly rows: number;
  readonly dim: number;
  /** The first row among those read so far that holds 64-bit floats which 32 bits cannot hold. */
  inexactRow: number | undefined;
  readonly #place: TensorPlace;
  readonly #type: 'FP32' | 'FP16' | 'FP64';
  readonly #elementBytes: number;
  readonly #file: number;
  #isClosed = false;

  /** @throws SRV_MODEL_INVALID, SRV_MODEL_UNSUPPORTED */
  constructor(modelFile: string, tensor: WireTensor) {
    const [rows = 0, dim = 0] = tensor.shape;
    this.rows = rows;
    this.dim = dim;
    this.#type = rowElementTypes[tensor.elementType]!;
    this.#elementBytes = fixedDatatypes[this.#type].bytes;
    this.#place = placeOfTensor(modelFile, tensor);
    this.#file = openFile(modelFile, tensor.name, this.#place.file);
  }

  /** Rows `start` to `end` as 32-bit floats, in a new array. The rows must be there. */
  read(start: number, end: number): Float32Array {
    const rowBytes = this.dim * this.#elementBytes;
    const bytes = new Uint8Array((end - start) * rowBytes);
    this.#fill(bytes, start * rowBytes);
    if (this.#type === 'FP32') return new Float32Array(bytes.buffer);
    const values =
      this.#type === 'FP16'
        ? halvesToFloats(new Uint16Array(bytes.buffer))
        : Float32Array.from(new Float64Array(bytes.buffer));
    if (this.#type === 'FP64' && this.inexactRow === undefined) {
      const at = new Float64Array(bytes.buffer).findIndex((value, i) => !Object.is(value, values[i]));
      if (at >= 0) this.inexactRow = start + Math.floor(at / this.dim);
    }
    return values;
  }

  close(): void {
    if (!this.#isClosed) closeSync(this.#file);
    this.#isClosed = true;
  }

  #fill(target: Uint8Array, from: number): void {
    let done = 0;
    let spanStart = 0;
    for (const span of this.#place.spans) {
      const length = span.end - span.start;
      while (done < target.length && from + done < spanStart + length) {
        const at = from + done - spanStart;
        const got = readSync(
          this.#file,
          target,
          done,
          Math.min(target.length - done, length - at),
          span.start + at,
        );
        if (got === 0) {
          throw new ServingError(
            'SRV_IO',
            `${this.#place.file} ended while it was read, at ${span.start + at}`,
          );
        }
        done += got;
      }
      spanStart += length;
    }
  }
}

/** Half-precision numbers as 32-bit floats, which hold all of them. */
export function halvesToFloats(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length);
  for (let at = 0; at < halves.length; at++) {
    const bits = halves[at]!;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size =
      exponent === 31
        ? fraction
          ? Number.NaN
          : Number.POSITIVE_INFINITY
        : exponent === 0
          ? fraction * 2 ** -24
          : (1 + fraction / 1024) * 2 ** (exponent - 15);
    values[at] = bits & 0x8000 ? -size : size;
  }
  return values;
}
