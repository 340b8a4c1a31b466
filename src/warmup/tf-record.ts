/** TFRecord, the framing of TensorFlow's files: length and its checksum, bytes and their checksum. */
import { badFile, type RequestPlace } from './request.js';

const headBytes = 12;
const footBytes = 4;

/**
 * The records of a file, as views of it. Every checksum is compared.
 *
 * @throws SRV_BAD_WARM_UP_FILE when the file ends within a record, or a checksum differs
 */
export function* readTfRecords(file: string, bytes: Buffer): Generator<Buffer> {
  let number = 0;
  for (let at = 0; at < bytes.length; ) {
    number += 1;
    const place: RequestPlace = { file, unit: 'record', number };
    if (at + headBytes > bytes.length) {
      throw badFile(place, `it is cut off: its head needs ${headBytes} bytes, ${bytes.length - at} are left`);
    }
    requireSum(bytes.subarray(at, at + 8), bytes.readUInt32LE(at + 8), 'length', place);
    const length = Number(bytes.readBigUInt64LE(at));
    const end = at + headBytes + length;
    if (end + footBytes > bytes.length) {
      throw badFile(
        place,
        `it is cut off: it claims ${length} bytes and a checksum, ${bytes.length - at - headBytes} bytes are left`,
      );
    }
    const record = bytes.subarray(at + headBytes, end);
    requireSum(record, bytes.readUInt32LE(end), 'data', place);
    yield record;
    at = end + footBytes;
  }
}

/** A record with its frame, as TensorFlow writes it. */
export function writeTfRecord(record: Uint8Array): Buffer {
  const framed = Buffer.alloc(headBytes + record.length + footBytes);
  framed.writeBigUInt64LE(BigInt(record.length), 0);
  framed.writeUInt32LE(maskedSum(framed.subarray(0, 8)), 8);
  framed.set(record, headBytes);
  framed.writeUInt32LE(maskedSum(record), headBytes + record.length);
  return framed;
}

function requireSum(bytes: Uint8Array, expected: number, what: string, place: RequestPlace): void {
  const sum = maskedSum(bytes);
  if (sum === expected) return;
  throw badFile(
    place,
    `the checksum of its ${what} is ${sum.toString(16)}, the file says ${expected.toString(16)}: it is damaged, or no TFRecord`,
  );
}

/** CRC-32C, rotated and offset, so that a checksum of data that holds checksums is not one of them. */
function maskedSum(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) sum = table[(sum ^ bytes[at]!) & 0xff]! ^ (sum >>> 8);
  sum = (sum ^ 0xffffffff) >>> 0;
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0x82f63b78 : sum >>> 1;
  return sum;
});
