/** A message that is put together of stretches of a file and new bytes, and written without being held in memory. */
import type { FileHandle } from 'node:fs/promises';
import { ServingError } from '../../errors.js';
import { type WireField, WireWriter } from '../../protobuf-wire.js';
import type { Span } from './wire-graph.js';

const chunkBytes = 1 << 20;

/** Parts of a message, in order. */
export class WirePatch {
  readonly #parts: (Span | Uint8Array)[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** A field as it stands in the source, tag and all. */
  keep(field: WireField): this {
    return this.#add({ start: field.fieldStart, end: field.end }, field.end - field.fieldStart);
  }

  /** New fields. */
  add(fields: WireWriter): this {
    const bytes = fields.toBytes();
    return this.#add(bytes, bytes.length);
  }

  /** A message as a field of this one. */
  message(number: number, message: WirePatch): this {
    const head = new WireWriter().bytes(number, new Uint8Array(0)).toBytes();
    // Tag as written for an empty value, then the true length.
    this.#add(head.subarray(0, head.length - 1), head.length - 1);
    const length = varint(message.#length);
    this.#add(length, length.length);
    for (const part of message.#parts) this.#parts.push(part);
    this.#length += message.#length;
    return this;
  }

  /**
   * Writes the message.
   *
   * @throws SRV_IO when the source is shorter than it was
   */
  async writeTo(target: FileHandle, source: FileHandle, signal?: AbortSignal): Promise<void> {
    for (const part of this.#parts) {
      if (part instanceof Uint8Array) await target.writeFile(part);
      else await copySpan(source, part, target, signal);
    }
  }

  #add(part: Span | Uint8Array, length: number): this {
    const last = this.#parts.at(-1);
    if (last && !(last instanceof Uint8Array) && !(part instanceof Uint8Array) && last.end === part.start) {
      this.#parts[this.#parts.length - 1] = { start: last.start, end: part.end };
    } else this.#parts.push(part);
    this.#length += length;
    return this;
  }
}

/**
 * Appends a stretch of one file to another.
 *
 * @throws SRV_IO when the source ends before it
 */
export async function copySpan(
  source: FileHandle,
  span: Span,
  target: FileHandle,
  signal?: AbortSignal,
): Promise<void> {
  const chunk = new Uint8Array(Math.min(chunkBytes, span.end - span.start));
  for (let at = span.start; at < span.end; ) {
    signal?.throwIfAborted();
    const { bytesRead } = await source.read(chunk, 0, Math.min(chunk.length, span.end - at), at);
    if (bytesRead === 0) throw new ServingError('SRV_IO', `the source ended while it was read, at ${at}`);
    await target.writeFile(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
