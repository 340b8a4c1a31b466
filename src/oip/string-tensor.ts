import { ServingError } from '../errors.js';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads BYTES elements: each a 4-byte little-endian length and so many bytes of UTF-8.
 *
 * @throws SRV_BAD_TENSOR when lengths and bytes do not add up to `count` elements, or an element is not text
 */
export function readStrings(section: Buffer, count: number, name: string): string[] {
  const strings: string[] = [];
  let at = 0;
  while (at < section.length) {
    if (strings.length === count) throw wrongCount(name, count, `more than ${count} elements`);
    if (at + 4 > section.length) throw cut(name, strings.length, 'its length is cut off');
    const length = section.readUInt32LE(at);
    at += 4;
    if (at + length > section.length) {
      throw cut(name, strings.length, `it claims ${length} bytes, ${section.length - at} are left`);
    }
    strings.push(decode(section.subarray(at, at + length), name, strings.length));
    at += length;
  }
  if (strings.length !== count) throw wrongCount(name, count, `${strings.length} elements`);
  return strings;
}

/** Writes BYTES elements, each with its length before it. */
export function writeStrings(strings: readonly string[]): Buffer {
  let bytes = 0;
  const lengths = strings.map((text) => {
    const length = Buffer.byteLength(text);
    bytes += 4 + length;
    return length;
  });
  const section = Buffer.allocUnsafe(bytes);
  let at = 0;
  strings.forEach((text, index) => {
    at = section.writeUInt32LE(lengths[index]!, at);
    at += section.write(text, at);
  });
  return section;
}

/**
 * Reads the JSON form of BYTES: strings, flat or nested as the shape.
 *
 * @throws SRV_BAD_TENSOR when an element is no string or their number is not that of the shape
 */
export function stringsFromJson(
  data: unknown,
  shape: readonly number[],
  count: number,
  name: string,
): string[] {
  const strings: string[] = [];
  const isNested = Array.isArray(data) && shape.length > 1 && Array.isArray(data[0]);
  collect(data, isNested ? shape : [count], 0, strings, name);
  if (strings.length !== count) throw wrongCount(name, count, `${strings.length} elements`);
  return strings;
}

function collect(data: unknown, shape: readonly number[], level: number, out: string[], name: string): void {
  if (level === shape.length || (level === 0 && !Array.isArray(data))) {
    if (typeof data !== 'string') {
      throw new ServingError(
        'SRV_BAD_TENSOR',
        `data[${out.length}] of input '${name}': expected a string, got ${JSON.stringify(data)?.slice(0, 32)}`,
      );
    }
    out.push(requireNoNul(data, name, out.length));
    return;
  }
  if (!Array.isArray(data) || data.length !== shape[level]) {
    throw wrongCount(
      name,
      shape[level]!,
      Array.isArray(data) ? `${data.length} at level ${level}` : 'no array',
    );
  }
  for (const item of data) collect(item, shape, level + 1, out, name);
}

function decode(bytes: Buffer, name: string, index: number): string {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new ServingError(
      'SRV_BAD_TENSOR',
      `element ${index} of BYTES input '${name}' is not UTF-8, which the engine's strings are`,
    );
  }
  return requireNoNul(text, name, index);
}

// The engine's Node package cuts a string at its first NUL, in silence.
function requireNoNul(text: string, name: string, index: number): string {
  if (!text.includes('\0')) return text;
  throw new ServingError(
    'SRV_BAD_TENSOR',
    `element ${index} of BYTES input '${name}' has a NUL character, which the engine's strings cannot hold`,
  );
}

function cut(name: string, index: number, what: string): ServingError {
  return new ServingError(
    'SRV_BAD_TENSOR',
    `element ${index} of BYTES input '${name}' is truncated: ${what}`,
  );
}

function wrongCount(name: string, count: number, got: string): ServingError {
  return new ServingError('SRV_BAD_TENSOR', `BYTES input '${name}': expected ${count} elements, got ${got}`);
}
