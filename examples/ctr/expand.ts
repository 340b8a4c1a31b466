/** Unpacks the sample's rows into what `onnx-serving table build` reads. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rowsFile } from './artefacts.js';
import { type Rows, unpackRows } from './rows-file.js';

/**
 * Writes `rows.npy`, FP32 [1000001, 16] (64 MB), in which row i belongs to key i; rows of ids that were never seen
 * or too seldom are zero. Takes about a third of a second.
 *
 * @param directory made where it is not there
 * @param packed the packed rows
 * @returns the file's path; a half-written file never has it
 */
export function writeRows(directory: string, packed = rowsFile): string {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, 'rows.npy');
  writeFileSync(`${path}.part`, npyBytes(unpackRows(readFileSync(packed))));
  renameSync(`${path}.part`, path);
  return path;
}

/** A NumPy file, format 1.0. */
function npyBytes({ count, dim, values }: Rows): Uint8Array {
  const description = `{'descr': '<f4', 'fortran_order': False, 'shape': (${count}, ${dim}), }`;
  const prefixBytes = 10;
  // The data begins at a multiple of 64 bytes; the header is filled up with blanks and ends a line.
  const headerBytes = Math.ceil((prefixBytes + description.length + 1) / 64) * 64 - prefixBytes;
  const bytes = Buffer.alloc(prefixBytes + headerBytes + values.byteLength);
  bytes.write('\x93NUMPY\x01\x00', 'latin1');
  bytes.writeUInt16LE(headerBytes, 8);
  bytes.write(`${description.padEnd(headerBytes - 1)}\n`, prefixBytes, 'latin1');
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), prefixBytes + headerBytes);
  return bytes;
}
