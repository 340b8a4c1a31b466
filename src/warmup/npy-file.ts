/** NumPy's `.npy` files as tensors. */
import { readFile } from 'node:fs/promises';
import { messageOf, ServingError } from '../errors.js';
import type { FixedDatatype } from '../tensor/datatype.js';
import { fixedDatatypes } from '../tensor/datatype.js';
import { elementCount, type Tensor } from '../tensor/tensor.js';
import { badFile } from './request.js';

/** NumPy's type codes of little-endian and one-byte elements. */
const datatypeOf: Readonly<Record<string, FixedDatatype>> = {
  '|b1': 'BOOL',
  '|u1': 'UINT8',
  '<u2': 'UINT16',
  '<u4': 'UINT32',
  '<u8': 'UINT64',
  '|i1': 'INT8',
  '<i2': 'INT16',
  '<i4': 'INT32',
  '<i8': 'INT64',
  '<f2': 'FP16',
  '<f4': 'FP32',
  '<f8': 'FP64',
};

/**
 * Reads an array. Text (`<U`) and bytes (`|S`) become BYTES.
 *
 * @throws SRV_IO when the file cannot be read, SRV_BAD_WARM_UP_FILE when it is no array, or one of another type or order
 */
export async function readNpy(file: string): Promise<Tensor> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}`, { cause });
  }
  return parseNpy(file, bytes);
}

/** The array in the bytes of a file. */
export function parseNpy(file: string, bytes: Buffer): Tensor {
  const bad = (what: string): ServingError => badFile({ file }, what);
  if (bytes.length < 10 || bytes.toString('latin1', 0, 6) !== '\x93NUMPY') throw bad('it is no .npy file');
  const lengthBytes = bytes[6] === 1 ? 2 : 4;
  const start = 8 + lengthBytes;
  const headerLength =
    lengthBytes === 2 ? bytes.readUInt16LE(8) : bytes.length < 12 ? 0 : bytes.readUInt32LE(8);
  const end = start + headerLength;
  if (end > bytes.length) throw bad(`its header of ${headerLength} bytes is cut off`);
  const header = bytes.toString('utf8', start, end);
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const dims = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || dims === undefined) throw bad('its header has no descr and shape of one type');
  if (!/'fortran_order':\s*False/.test(header)) {
    throw bad('its elements are in Fortran order; save np.ascontiguousarray(array)');
  }
  const shape = dims.split(',').flatMap((dim) => (dim.trim() === '' ? [] : [Number(dim)]));
  const count = elementCount(shape, file);
  const data = bytes.subarray(end);
  const text = /^(?:<U|\|S)(\d+)$/.exec(descr);
  const datatype = datatypeOf[descr];
  const width = text
    ? Number(text[1]) * (descr.startsWith('<U') ? 4 : 1)
    : datatype && fixedDatatypes[datatype].bytes;
  if (width === undefined) {
    throw bad(`its elements are of type ${descr}; little-endian numbers, booleans and text are read`);
  }
  if (data.length !== count * width) {
    throw bad(`${descr} of shape (${shape}) has ${count * width} bytes, ${data.length} came`);
  }
  if (!datatype)
    return { datatype: 'BYTES', shape, data: textsOf(data, count, width, descr.startsWith('<U')) };
  const { array } = fixedDatatypes[datatype];
  const elements = new array(count);
  new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength).set(data);
  return { datatype, shape, data: elements };
}

/** Elements of one width, filled up with NULs, which are no part of them. */
function textsOf(data: Buffer, count: number, width: number, isUcs4: boolean): string[] {
  return Array.from({ length: count }, (_, index) => {
    const element = data.subarray(index * width, (index + 1) * width);
    if (!isUcs4) return element.toString('utf8').replace(/\0+$/, '');
    const points: number[] = [];
    for (let at = 0; at < width; at += 4) points.push(element.readUInt32LE(at));
    while (points.at(-1) === 0) points.pop();
    return String.fromCodePoint(...points);
  });
}
