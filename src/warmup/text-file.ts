import { badFile, type WarmUpRequest, type WarmUpRequests } from './request.js';

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Reads a text file whose every line is a request: the one BYTES element of a model's only input. */
export function readTextLines(file: string, bytes: Buffer): WarmUpRequests {
  const lines = splitLines(bytes);
  const requests = lines.flatMap((line, index): WarmUpRequest[] => {
    if (line.length === 0) return [];
    const place = { file, unit: 'line', number: index + 1 } as const;
    if (line.includes(0))
      throw badFile(place, "it has a NUL character, which the engine's strings cannot hold");
    try {
      return [{ place, content: { kind: 'text', text: utf8.decode(line) } }];
    } catch {
      throw badFile(place, "it is not UTF-8, which the engine's strings are");
    }
  });
  return { requests, batchSizes: [] };
}

function splitLines(bytes: Buffer): readonly Buffer[] {
  const lines: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    const isWindows = end > start && bytes[end - 1] === 0x0d;
    lines.push(bytes.subarray(start, isWindows ? end - 1 : end));
    start = end + 1;
  }
  return lines;
}
