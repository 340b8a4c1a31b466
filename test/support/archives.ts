/** Archives for tests, with whatever an honest program would not put in them. */
import { crc32, deflateRawSync } from 'node:zlib';

/** An entry of a tar as its header has it. */
export interface TarEntry {
  readonly name: string;
  readonly content?: string | Buffer;
  /** The type flag: 0 file, 1 hard link, 2 symbolic link, 3 and 4 devices, 5 directory, 6 pipe. @default '0' */
  readonly type?: string;
  readonly linkName?: string;
}

/** A tar of these entries; without `end` it lacks its end mark. */
export function tarOf(entries: readonly TarEntry[], end = true): Buffer {
  const blocks = entries.flatMap(({ name, content = '', type = '0', linkName = '' }) => {
    const body = Buffer.from(content as string);
    const head = Buffer.alloc(512);
    head.write(name, 0, 100);
    head.write('0000644\0', 100);
    head.write('0000000\0', 108);
    head.write('0000000\0', 116);
    head.write(`${body.length.toString(8).padStart(11, '0')}\0`, 124);
    head.write('00000000000\0', 136);
    head.write('        ', 148);
    head.write(type, 156);
    head.write(linkName, 157, 100);
    head.write('ustar\0' + '00', 257);
    const sum = head.reduce((total, byte) => total + byte, 0);
    head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return [head, body, Buffer.alloc((512 - (body.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(end ? 1024 : 0)]);
}

/** An entry of a zip. */
export interface ZipEntry {
  readonly name: string;
  readonly content?: string | Buffer;
  /** The Unix mode with its type. @default a file */
  readonly mode?: number;
  /** What the archive says of it, if that is not true. */
  readonly crc?: number;
  readonly size?: number;
}

/** A zip of these entries. */
export function zipOf(entries: readonly ZipEntry[]): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content = '', mode = 0o100644, crc, size } of entries) {
    const raw = Buffer.from(content as string);
    const packed = deflateRawSync(raw);
    const path = Buffer.from(name);
    const facts = Buffer.alloc(26);
    facts.writeUInt16LE(20, 0);
    facts.writeUInt16LE(0x800, 2);
    facts.writeUInt16LE(8, 4);
    facts.writeUInt32LE(crc ?? crc32(raw), 10);
    facts.writeUInt32LE(packed.length, 14);
    facts.writeUInt32LE(size ?? raw.length, 18);
    facts.writeUInt16LE(path.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), facts, path, packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((mode << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), facts, tail, path]));
    bodies.push(local);
    offset += local.length;
  }
  const index = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(index.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...bodies, index, end]);
}
