/** Small files of rows for tests, in the formats that the builder reads. */
import { writeFileSync } from 'node:fs';

/** A row of a test: its key and its floats. */
export type TestRow = readonly [bigint, readonly number[]];

/** Lines `key:value`. */
export function writeKeyValue(path: string, rows: readonly TestRow[]): string {
  writeFileSync(path, rows.map(([key, row]) => `${key}:${row.join(' ')}\n`).join(''));
  return path;
}

/** Lines `key,x,y`. */
export function writeCsv(path: string, rows: readonly TestRow[]): string {
  writeFileSync(path, rows.map(([key, row]) => `${key},${row.join(',')}\n`).join(''));
  return path;
}

/** A sequence file of 8-byte keys and values of bytes, without a sync escape. */
export function writeSequence(path: string, rows: readonly (readonly [bigint, Uint8Array])[]): string {
  const className = Buffer.from('\x22org.apache.hadoop.io.BytesWritable', 'latin1');
  const head = Buffer.concat([
    Buffer.from('SEQ\x06', 'latin1'),
    className,
    className,
    Buffer.alloc(2 + 4),
    Buffer.alloc(16, 7),
  ]);
  const records = rows.map(([key, value]) => {
    const record = Buffer.alloc(16 + value.length);
    record.writeUInt32BE(8 + value.length, 0);
    record.writeUInt32BE(8, 4);
    record.writeBigUInt64LE(key, 8);
    record.set(value, 16);
    return record;
  });
  writeFileSync(path, Buffer.concat([head, ...records]));
  return path;
}

/** The little-endian float32 bytes of a row. */
export function floatBytes(row: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(row).buffer);
}

/** A `.npy` file of a two-dimensional float32 array, or of a one-dimensional one of keys. */
export function writeNpy(path: string, data: readonly (readonly number[])[] | BigUint64Array): string {
  const isKeys = data instanceof BigUint64Array;
  const shape = isKeys ? `(${data.length},)` : `(${data.length}, ${data[0]?.length ?? 0})`;
  const header = `{'descr': '${isKeys ? '<u8' : '<f4'}', 'fortran_order': False, 'shape': ${shape}, }`;
  const padded = `${header.padEnd(117)}\n`;
  const body = isKeys ? new Uint8Array(data.buffer) : floatBytes(data.flat());
  writeFileSync(
    path,
    Buffer.concat([Buffer.from('\x93NUMPY\x01\x00\x76\x00', 'latin1'), Buffer.from(padded), body]),
  );
  return path;
}
