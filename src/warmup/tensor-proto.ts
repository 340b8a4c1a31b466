/** Tensors as TensorFlow's protobuf messages, and those made after them, hold them: typed lists of elements. */
import { ServingError } from '../errors.js';
import {
  type ByteSource,
  expectType,
  fieldBytes,
  fieldInteger,
  fieldNumber,
  readFields,
  type WireField,
} from '../protobuf-wire.js';
import type { Datatype, FixedData } from '../tensor/datatype.js';
import { fixedDatatypes } from '../tensor/datatype.js';
import { elementCount, type Tensor } from '../tensor/tensor.js';

/** Numbers of `DataType` that the protocol has, the same in every message here. */
const datatypeOf: Readonly<Record<number, Datatype>> = {
  1: 'FP32',
  2: 'FP64',
  3: 'INT32',
  4: 'UINT8',
  5: 'INT16',
  6: 'INT8',
  7: 'BYTES',
  9: 'INT64',
  10: 'BOOL',
  14: 'BF16',
  17: 'UINT16',
  19: 'FP16',
  22: 'UINT32',
  23: 'UINT64',
};

/** How the elements of a list of numbers are encoded: varints, or floats of 4 or 8 bytes. */
export type ListKind = 'varints' | 'floats' | 'doubles';

/** The field numbers of one message of tensors. */
export interface TensorLayout {
  readonly dtype: number;
  readonly shape: number;
  /** The raw elements, little-endian; absent where the message has none. */
  readonly content?: number;
  /** The field that holds the elements of each datatype. */
  readonly lists: Readonly<Partial<Record<Datatype, readonly [field: number, kind: ListKind | 'bytes']>>>;
  /** Reads the dimensions out of the shape's message. */
  readonly readShape: (source: ByteSource, field: WireField) => readonly number[];
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads one tensor. A list of one element stands for a whole tensor of it, and the last of fewer elements than the
 * shape has for the rest, as TensorFlow writes them.
 *
 * @throws SRV_BAD_TENSOR when type, shape and elements do not fit
 */
export function readTensorProto(source: ByteSource, message: WireField, layout: TensorLayout): Tensor {
  let dtype = 0;
  let shape: readonly number[] = [];
  let content: Uint8Array | undefined;
  const fields: WireField[] = [];
  for (const field of readFields(source, message.start, message.end)) {
    if (field.number === layout.dtype) dtype = fieldNumber(source, expectType(field, 0));
    else if (field.number === layout.shape) shape = layout.readShape(source, expectType(field, 2));
    else if (field.number === layout.content) content = fieldBytes(source, expectType(field, 2));
    else fields.push(field);
  }
  const datatype = datatypeOf[dtype];
  const list = datatype && layout.lists[datatype];
  if (!datatype || !list) throw bad(`its data type ${dtype} has no datatype in the protocol`);
  const count = elementCount(shape, 'its shape');
  const own = fields.filter(({ number }) => number === list[0]);
  const listFields = new Set(Object.values(layout.lists).map(([field]) => field));
  const other = fields.find(({ number }) => number !== list[0] && listFields.has(number));
  if (other) throw bad(`it is ${datatype}, but has elements in field ${other.number}, not in ${list[0]}`);
  if (datatype === 'BYTES') {
    const strings = own.map((field) => textOf(fieldBytes(source, expectType(field, 2))));
    return { datatype, shape, data: filled(strings, count, datatype, shape, '') };
  }
  const { array, bytes } = fixedDatatypes[datatype];
  if (content && content.length > 0) {
    if (content.length !== count * bytes) {
      throw bad(`${datatype} [${shape}] has ${count * bytes} bytes, its content has ${content.length}`);
    }
    const data = new array(count);
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength).set(content);
    return { datatype, shape, data };
  }
  // An element takes a byte at least, or one stands for all; a huge shape over nothing must not become a huge array.
  if (count > maxFilled && own.length === 0) throw bad(`${datatype} [${shape}] has no elements`);
  const values = own.flatMap((field) => listOf(source, field, list[1] as ListKind));
  const complete = filled(values, count, datatype, shape, isBig(datatype) ? 0n : 0);
  const data = new array(count);
  for (let i = 0; i < count; i++) data[i] = (isBig(datatype) ? complete[i]! : Number(complete[i])) as never;
  return { datatype, shape, data: data as FixedData };
}

const maxFilled = 1 << 24;

function isBig(datatype: Datatype): boolean {
  return datatype === 'INT64' || datatype === 'UINT64';
}

function filled<T>(values: T[], count: number, datatype: Datatype, shape: readonly number[], zero: T): T[] {
  if (values.length > count) throw bad(`${datatype} [${shape}] has ${count} elements, ${values.length} came`);
  if (count > maxFilled && values.length < count) {
    throw bad(`${datatype} [${shape}] has ${count} elements, only ${values.length} came`);
  }
  const last = values.at(-1) ?? zero;
  while (values.length < count) values.push(last);
  return values;
}

/** The numbers of a field, packed into it or written one by one. */
export function listOf(source: ByteSource, field: WireField, kind: ListKind): (number | bigint)[] {
  if (kind === 'varints') return varints(source, field);
  const width = kind === 'floats' ? 4 : 8;
  expectType(field, field.type === 2 ? 2 : width === 4 ? 5 : 1);
  const bytes = fieldBytes(source, field);
  if (bytes.length % width !== 0) throw bad(`a list of ${bytes.length} bytes does not hold ${kind}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / width }, (_, i) =>
    width === 4 ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true),
  );
}

/** Packed into one field or written one by one; exact. */
function varints(source: ByteSource, field: WireField): bigint[] {
  if (field.type === 0) return [fieldInteger(source, field)];
  expectType(field, 2);
  const values: bigint[] = [];
  for (let start = field.start; start < field.end; ) {
    let end = start;
    while (end < field.end && source.byte(end) >= 0x80) end += 1;
    if (end === field.end) throw bad('a number is cut off');
    values.push(fieldInteger(source, { ...field, start, end: end + 1 }));
    start = end + 1;
  }
  return values;
}

/** The text of an element. @throws SRV_BAD_TENSOR when the engine's strings cannot hold it */
export function textOf(bytes: Uint8Array): string {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw bad("an element is not UTF-8, which the engine's strings are");
  }
  if (text.includes('\0')) {
    throw bad("an element has a NUL character, which the engine's strings cannot hold");
  }
  return text;
}

function bad(what: string): ServingError {
  return new ServingError('SRV_BAD_TENSOR', what);
}
