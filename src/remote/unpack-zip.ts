import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { messageOf, ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import { type ArchiveEntry, badArchive, type UnpackContext } from './archive-entry.js';

/** Reads a zip and hands its entries on. @throws SRV_BAD_ARCHIVE, and what the sink throws */
export async function unpackZip(file: string, { label, sink, signal }: UnpackContext): Promise<void> {
  try {
    // Names are judged by the sink, as those of every format are.
    const zip = await openPromise(file, { autoClose: false, decodeStrings: true, strictFileNames: true });
    try {
      for await (const entry of zip.eachEntry()) {
        throwIfAborted(signal);
        if (entry.isEncrypted()) throw badArchive(label, `${JSON.stringify(entry.fileName)} is encrypted`);
        await sink(describe(zip, entry, label));
      }
    } finally {
      zip.close();
    }
  } catch (cause) {
    if (cause instanceof ServingError) throw cause;
    throw badArchive(label, messageOf(cause), cause);
  }
}

function describe(zip: ZipFile, entry: Entry, label: string): ArchiveEntry {
  const path = entry.fileName;
  const [kind, kindText] = kindOf(entry);
  return { path, kind, kindText, bytes: entry.uncompressedSize, content: contentOf(zip, entry, label) };
}

/** The upper half of the attributes is the mode of the file, where a Unix made the archive. */
function kindOf(entry: Entry): readonly [ArchiveEntry['kind'], string] {
  const isUnix = entry.versionMadeBy >> 8 === 3;
  const type = isUnix ? (entry.externalFileAttributes >>> 16) & 0o170000 : 0;
  switch (type) {
    case 0o120000:
      return ['other', 'a symbolic link'];
    case 0o020000:
    case 0o060000:
      return ['other', 'a device'];
    case 0o010000:
      return ['other', 'a named pipe'];
    case 0o140000:
      return ['other', 'a socket'];
    default:
      return entry.fileName.endsWith('/') ? ['directory', 'a directory'] : ['file', 'a file'];
  }
}

async function* contentOf(zip: ZipFile, entry: Entry, label: string): AsyncGenerator<Uint8Array> {
  let sum = 0;
  const stream = await zip.openReadStreamPromise(entry);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      sum = crc32(chunk, sum);
      yield chunk;
    }
  } catch (cause) {
    throw cause instanceof ServingError
      ? cause
      : badArchive(label, `${JSON.stringify(entry.fileName)}: ${messageOf(cause)}`, cause);
  } finally {
    stream.destroy();
  }
  if (sum !== entry.crc32) {
    throw badArchive(label, `${JSON.stringify(entry.fileName)} does not have the checksum of the archive`);
  }
}
