/** Sequence files made by hand, as their description says, to compare the reader and the writer with. */

export const bytesWritable = 'org.apache.hadoop.io.BytesWritable';
export const marker = Buffer.from('0123456789abcdef');
export const syncEscape: Buffer = Buffer.concat([Buffer.alloc(4, 0xff), marker]);

/** A header without compression; the fields that are not given are those of our writer. */
export function header(
  fields: { keyClass?: string; valueClass?: string; version?: number; flags?: number[]; rest?: Buffer } = {},
): Buffer {
  const { keyClass = bytesWritable, valueClass = bytesWritable, version = 6, flags = [0, 0], rest } = fields;
  return Buffer.concat([
    Buffer.from('SEQ'),
    Buffer.from([version]),
    text(keyClass),
    text(valueClass),
    Buffer.from(flags),
    rest ?? Buffer.alloc(4),
    marker,
  ]);
}

/** A text of fewer than 128 bytes with its length. */
export function text(characters: string): Buffer {
  const bytes = Buffer.from(characters);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

export function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function keyBytes(key: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(key);
  return bytes;
}

export function record(key: bigint, value: Buffer): Buffer {
  return Buffer.concat([bigEndian(8 + value.length), bigEndian(8), keyBytes(key), value]);
}

/** A record as Hadoop writes it: each BytesWritable begins with its length. */
export function hadoopRecord(key: bigint, value: Buffer): Buffer {
  return Buffer.concat([
    bigEndian(16 + value.length),
    bigEndian(12),
    bigEndian(8),
    keyBytes(key),
    bigEndian(value.length),
    value,
  ]);
}

export function floats(...values: number[]): Buffer {
  return Buffer.from(new Float32Array(values).buffer);
}
