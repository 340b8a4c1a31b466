/**
 * Reading and writing protobuf's wire format, field by field, without a schema.
 *
 * Own code, because protobufjs drops the fields it does not know when it encodes again, and decodes every weight
 * into memory. Here a field is a tag and a byte range: what is not looked at is neither read nor changed.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { ServingError } from './errors.js';

/** How a field's value is encoded: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
export type WireType = 0 | 1 | 2 | 5;

/** One field of a message: where it lies in its source. Positions count bytes from the start of the source. */
export interface WireField {
  readonly number: number;
  readonly type: WireType;
  /** Where the tag begins. */
  readonly fieldStart: number;
  /** Where the value begins, behind tag and length. */
  readonly start: number;
  /** Where the value ends. */
  readonly end: number;
}

const windowBytes = 64 * 1024;

/** Bytes that fields are read from: a buffer, or an open file of which only a window is held. */
export class ByteSource {
  readonly length: number;
  readonly #file: number | undefined;
  #window: Uint8Array;
  #windowStart = 0;

  private constructor(window: Uint8Array, length: number, file: number | undefined) {
    this.#window = window;
    this.length = length;
    this.#file = file;
  }

  /** Reads from a buffer, which is not copied and must not change meanwhile. */
  static ofBytes(bytes: Uint8Array): ByteSource {
    return new ByteSource(bytes, bytes.length, undefined);
  }

  /** Opens a file of any size; `close` it. Reads synchronously: for the prepare process and the command line. */
  static ofFile(path: string): ByteSource {
    const file = openSync(path, 'r');
    return new ByteSource(new Uint8Array(0), fstatSync(file).size, file);
  }

  /** Closes the file; nothing to do for a buffer. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
  }

  /** One byte. The position must be inside the source. */
  byte(position: number): number {
    const index = position - this.#windowStart;
    if (index >= 0 && index < this.#window.length) return this.#window[index]!;
    this.#moveWindow(position);
    return this.#window[position - this.#windowStart]!;
  }

  /** Bytes `start` to `end`: a view where they are at hand, else a copy. */
  bytes(start: number, end: number): Uint8Array {
    const from = start - this.#windowStart;
    const to = end - this.#windowStart;
    if (from >= 0 && to <= this.#window.length) return this.#window.subarray(from, to);
    return this.#read(start, end - start);
  }

  #moveWindow(position: number): void {
    this.#window = this.#read(position, Math.min(windowBytes, this.length - position));
    this.#windowStart = position;
  }

  #read(position: number, length: number): Uint8Array {
    const target = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const got =
        this.#file === undefined ? 0 : readSync(this.#file, target, done, length - done, position + done);
      if (got === 0) throw malformed(position + done, 'the source ends here');
      done += got;
    }
    return target;
  }
}

/**
 * The fields of one message, in the order they are written.
 *
 * @throws SRV_MODEL_INVALID when the bytes are not wire format or a field reaches past `end`
 */
export function* readFields(source: ByteSource, start = 0, end = source.length): Generator<WireField> {
  let position = start;
  while (position < end) {
    const fieldStart = position;
    const tag = readVarint(source, position, end);
    position = tag.next;
    const number = Math.floor(tag.value / 8);
    const type = tag.value % 8;
    if (number === 0) throw malformed(fieldStart, 'field number 0');
    let valueStart = position;
    if (type === 0) position = readVarint(source, position, end).next;
    else if (type === 1) position += 8;
    else if (type === 5) position += 4;
    else if (type === 2) {
      const length = readVarint(source, position, end);
      valueStart = length.next;
      position = length.next + length.value;
    } else throw malformed(fieldStart, `wire type ${type}`);
    if (position > end) {
      throw malformed(fieldStart, `field ${number} ends at byte ${position}, ${position - end} past its end`);
    }
    yield { number, type, fieldStart, start: valueStart, end: position };
  }
}

/** A varint field's value as a signed 64-bit integer, which protobuf's int64 and enums are. */
export function fieldInteger(source: ByteSource, field: WireField): bigint {
  let value = 0n;
  let shift = 0n;
  for (let position = field.start; position < field.end; position++) {
    value |= BigInt(source.byte(position) & 0x7f) << shift;
    shift += 7n;
  }
  return BigInt.asIntN(64, value);
}

/** A varint field's value as a number; exact up to 2^53. */
export function fieldNumber(source: ByteSource, field: WireField): number {
  return Number(fieldInteger(source, field));
}

/** A repeated integer field's values, whether packed into one field or written one by one. */
export function fieldIntegers(source: ByteSource, field: WireField): number[] {
  if (field.type === 0) return [fieldNumber(source, field)];
  const values: number[] = [];
  for (let start = field.start; start < field.end; ) {
    const { next } = readVarint(source, start, field.end);
    values.push(fieldNumber(source, { ...field, start, end: next }));
    start = next;
  }
  return values;
}

/** A length-delimited field's bytes. */
export function fieldBytes(source: ByteSource, field: WireField): Uint8Array {
  return source.bytes(field.start, field.end);
}

/** A string field's text. */
export function fieldString(source: ByteSource, field: WireField): string {
  const bytes = fieldBytes(source, field);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

/** The field, if it has the wire type that ONNX gives it.
 *
 * @throws SRV_MODEL_INVALID otherwise
 */
export function expectType(field: WireField, type: number): WireField {
  if (field.type === type) return field;
  throw new ServingError(
    'SRV_MODEL_INVALID',
    `not what was expected at byte ${field.fieldStart}: field ${field.number} has wire type ${field.type}, expected ${type}`,
  );
}

function readVarint(source: ByteSource, start: number, end: number): { value: number; next: number } {
  let value = 0;
  let scale = 1;
  for (let position = start; position < start + 10; position++) {
    if (position >= end) throw malformed(start, 'a number is cut off');
    const byte = source.byte(position);
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte < 0x80) return { value, next: position + 1 };
  }
  throw malformed(start, 'a number of more than ten bytes');
}

function malformed(position: number, what: string): ServingError {
  return new ServingError('SRV_MODEL_INVALID', `not protobuf at byte ${position}: ${what}`);
}

/** Builds one message. Large values are kept by reference and copied once, by `toBytes` of the outermost. */
export class WireWriter {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** An integer field; negative values take the ten bytes that protobuf gives them. */
  integer(number: number, value: number | bigint): this {
    return this.#tag(number, 0).#varint(BigInt.asUintN(64, BigInt(value)));
  }

  /** A 32-bit float field. */
  float(number: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#tag(number, 5).raw(bytes);
  }

  /** A bytes field; the bytes are not copied yet. */
  bytes(number: number, value: Uint8Array): this {
    return this.#tag(number, 2).#varint(BigInt(value.length)).raw(value);
  }

  /** A string field. */
  string(number: number, value: string): this {
    return this.bytes(number, Buffer.from(value, 'utf8'));
  }

  /** A message field. */
  message(number: number, message: WireWriter): this {
    this.#tag(number, 2).#varint(BigInt(message.#length));
    for (const part of message.#parts) this.raw(part);
    return this;
  }

  /** Bytes that are wire format already: whole fields, taken over as they are. */
  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    this.#length += bytes.length;
    return this;
  }

  /** The message, in one new buffer. */
  toBytes(): Uint8Array {
    return Buffer.concat(this.#parts, this.#length);
  }

  #tag(number: number, type: WireType): this {
    return this.#varint(BigInt(number * 8 + type));
  }

  #varint(value: bigint): this {
    const bytes: number[] = [];
    let rest = value;
    while (rest > 0x7fn) {
      bytes.push(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    bytes.push(Number(rest));
    return this.raw(Uint8Array.from(bytes));
  }
}
