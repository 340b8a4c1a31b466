/**
 * Files of protocol bodies: JSON lines, a single JSON body, and binary bodies.
 *
 * A binary body is JSON with raw tensors behind it, as one posts it; the length of its JSON, which goes into the header
 * `Inference-Header-Content-Length`, stands nowhere in the file: it is where the JSON's outermost object ends. Where the
 * tensors end follows from `binary_data_size`, so several bodies may stand one behind the other.
 */
import { messageOf, ServingError } from '../errors.js';
import { scanInferBody } from '../native/binding.js';
import { readInferRequest } from '../oip/infer-request.js';
import { badFile, type RequestPlace, type WarmUpRequest, type WarmUpRequests } from './request.js';

/** The key of a body's parameters that lists the rows of batches, comma-separated. */
export const batchSizesParameter = 'warm_up_batch_sizes';

/** One body within a file. Positions count from the file's start. */
export interface BodySpan {
  readonly start: number;
  /** Where its JSON ends and its binary tensors begin. */
  readonly jsonEnd: number;
  readonly end: number;
  /** Its envelope's parameters, unchecked. */
  readonly parameters: unknown;
}

/** Reads protocol bodies in JSON, one a line; empty lines are skipped. */
export async function readJsonLines(file: string, bytes: Buffer): Promise<WarmUpRequests> {
  const requests: WarmUpRequest[] = [];
  let number = 0;
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    number += 1;
    const line = bytes.subarray(start, end);
    start = end + 1;
    if (isBlank(line)) continue;
    requests.push(await readBody(line, undefined, { file, unit: 'line', number }));
  }
  return { requests, batchSizes: [] };
}

/** Reads a file that is one protocol body in JSON. */
export async function readJsonBody(file: string, bytes: Buffer): Promise<WarmUpRequests> {
  return { requests: [await readBody(bytes, undefined, { file })], batchSizes: [] };
}

/** Reads binary bodies, one behind the other. */
export async function readBinaryBodies(file: string, bytes: Buffer): Promise<WarmUpRequests> {
  const spans = bodySpans(file, bytes);
  const sizes = new Set<number>();
  const requests: WarmUpRequest[] = [];
  for (const [index, { start, jsonEnd, end, parameters }] of spans.entries()) {
    const place: RequestPlace = spans.length === 1 ? { file } : { file, unit: 'request', number: index + 1 };
    for (const size of readBatchSizes(parameters, place)) sizes.add(size);
    requests.push(await readBody(bytes.subarray(start, end), jsonEnd - start, place));
  }
  return { requests, batchSizes: [...sizes] };
}

/**
 * Where the bodies of a file stand. Blanks between them are skipped.
 *
 * @throws SRV_BAD_WARM_UP_FILE when one is cut off, or does not begin with its JSON
 */
export function bodySpans(file: string, bytes: Buffer): readonly BodySpan[] {
  const spans: BodySpan[] = [];
  for (let start = skipBlanks(bytes, 0); start < bytes.length; ) {
    const place: RequestPlace = { file, unit: 'request', number: spans.length + 1 };
    if (bytes[start] !== 0x7b) {
      throw badFile(place, `expected the "{" of a body's JSON at byte ${start}, found ${hex(bytes[start]!)}`);
    }
    const jsonEnd = endOfJson(bytes, start);
    if (jsonEnd === undefined) throw badFile(place, `the JSON that begins at byte ${start} does not end`);
    const { binaryBytes, parameters } = outlineOf(bytes.subarray(start, jsonEnd), place);
    const end = jsonEnd + binaryBytes;
    if (end > bytes.length) {
      throw badFile(
        place,
        `its tensors have ${binaryBytes} bytes (binary_data_size), but ${bytes.length - jsonEnd} are left in the file`,
      );
    }
    spans.push({ start, jsonEnd, end, parameters });
    start = skipBlanks(bytes, end);
  }
  return spans;
}

/** The end of the JSON object that begins at `start`; undefined when it does not end. */
export function endOfJson(bytes: Uint8Array, start: number): number | undefined {
  let depth = 0;
  let inString = false;
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (inString) {
      if (byte === 0x5c) at += 1;
      else if (byte === 0x22) inString = false;
    } else if (byte === 0x22) inString = true;
    else if (byte === 0x7b || byte === 0x5b) depth += 1;
    else if (byte === 0x7d || byte === 0x5d) {
      depth -= 1;
      if (depth === 0) return at + 1;
    }
  }
  return undefined;
}

function outlineOf(
  json: Buffer,
  place: RequestPlace,
): { readonly binaryBytes: number; readonly parameters: unknown } {
  let envelope: { readonly inputs?: unknown; readonly parameters?: unknown };
  try {
    envelope = JSON.parse(scanInferBody(json).envelope) as typeof envelope;
  } catch (error) {
    throw badFile(place, `its JSON cannot be read: ${messageOf(error)}`);
  }
  const inputs = Array.isArray(envelope.inputs) ? (envelope.inputs as readonly unknown[]) : [];
  let binaryBytes = 0;
  for (const input of inputs) {
    const size = (input as { parameters?: { binary_data_size?: unknown } } | null)?.parameters
      ?.binary_data_size;
    if (typeof size === 'number' && Number.isSafeInteger(size) && size > 0) binaryBytes += size;
  }
  return { binaryBytes, parameters: envelope.parameters };
}

function readBatchSizes(parameters: unknown, place: RequestPlace): readonly number[] {
  const text = (parameters as Readonly<Record<string, unknown>> | null | undefined)?.[batchSizesParameter];
  if (text === undefined) return [];
  if (typeof text !== 'string' || !/^\d+(,\d+)*$/.test(text)) {
    throw badFile(
      place,
      `${batchSizesParameter}: expected numbers such as "1,4,16", got ${JSON.stringify(text)}`,
    );
  }
  return text.split(',').map(Number);
}

async function readBody(
  body: Buffer,
  jsonBytes: number | undefined,
  place: RequestPlace,
): Promise<WarmUpRequest> {
  try {
    const { inputs, outputs } = await readInferRequest(body, jsonBytes);
    return { place, content: { kind: 'tensors', inputs }, outputs: outputs?.map(({ name }) => name) };
  } catch (error) {
    if (error instanceof ServingError && error.code !== 'SRV_INTERNAL') throw badFile(place, error.message);
    throw error;
  }
}

function skipBlanks(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && isBlankByte(bytes[at]!)) at += 1;
  return at;
}

function isBlank(bytes: Buffer): boolean {
  return skipBlanks(bytes, 0) === bytes.length;
}

function isBlankByte(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function hex(byte: number): string {
  return `0x${byte.toString(16).padStart(2, '0')}`;
}
