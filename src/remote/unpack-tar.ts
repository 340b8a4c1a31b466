import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { Parser, type ReadEntry } from 'tar';
import { messageOf, ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import { type ArchiveEntry, badArchive, type UnpackContext } from './archive-entry.js';

const kinds: Readonly<Record<string, readonly [ArchiveEntry['kind'], string]>> = {
  File: ['file', 'a file'],
  OldFile: ['file', 'a file'],
  ContiguousFile: ['file', 'a file'],
  Directory: ['directory', 'a directory'],
  SymbolicLink: ['other', 'a symbolic link'],
  Link: ['other', 'a hard link'],
  CharacterDevice: ['other', 'a device'],
  BlockDevice: ['other', 'a device'],
  FIFO: ['other', 'a named pipe'],
};

/** Long names, and what pax headers say beside. */
const maxMetaBytes = 64 << 10;

/** Reads a tar, compressed or not, and hands its entries on. @throws SRV_BAD_ARCHIVE, and what the sink throws */
export async function unpackTar(file: string, isCompressed: boolean, context: UnpackContext): Promise<void> {
  const { label, sink } = context;
  let failure: unknown;
  let hasEndMark = false;
  let work = Promise.resolve();
  const fail = (error: unknown): void => {
    failure ??= error;
  };
  const parser = new Parser({ strict: true, maxMetaEntrySize: maxMetaBytes });
  parser.on('error', (cause: unknown) => fail(badArchive(label, messageOf(cause), cause)));
  parser.on('ignoredEntry', () => fail(badArchive(label, `a header of more than ${maxMetaBytes} bytes`)));
  parser.on('eof', () => {
    hasEndMark = true;
  });
  let last: ReadEntry | undefined;
  parser.on('entry', (entry: ReadEntry) => {
    last = entry;
    work = work
      .then(() => (failure === undefined ? sink(describe(entry)) : undefined))
      .catch(fail)
      // What is left of an entry must be read, or the parser waits for ever.
      .then(() => void entry.resume());
  });
  const ended = new Promise<void>((resolve) => parser.once('end', () => resolve()));
  try {
    for await (const chunk of tarBytes(file, isCompressed, context)) {
      if (!parser.write(chunk)) await new Promise<void>((resolve) => parser.once('drain', () => resolve()));
      if (failure !== undefined) break;
    }
  } catch (error) {
    fail(error);
  }
  if (failure === undefined) {
    parser.end();
    await ended;
  }
  // Of an archive that is left in its middle nothing more comes: whoever reads an entry must not wait for it.
  last?.end();
  await work;
  if (failure !== undefined) throw failure;
  if (!hasEndMark) throw badArchive(label, 'it ends before its end mark, so it is not whole');
}

function describe(entry: ReadEntry): ArchiveEntry {
  const [kind, kindText] = kinds[entry.type] ?? ['other', `of the type ${entry.type}`];
  return { path: entry.path, kind, kindText, bytes: entry.size, content: entry };
}

/** The bytes of the tar itself. */
async function* tarBytes(
  file: string,
  isCompressed: boolean,
  { label, signal, maxBytes }: UnpackContext,
): AsyncGenerator<Buffer> {
  const stream = createReadStream(file, { highWaterMark: 256 << 10 });
  const source = isCompressed ? stream.pipe(createGunzip({ chunkSize: 256 << 10 })) : stream;
  stream.on('error', (error) => source.destroy(error));
  let bytes = 0;
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      throwIfAborted(signal);
      bytes += chunk.byteLength;
      if (bytes > maxBytes) {
        throw new ServingError(
          'SRV_REMOTE_TOO_LARGE',
          `The archive ${label} has more than ${maxBytes} bytes when it is decompressed, which is the limit.`,
        );
      }
      yield chunk;
    }
  } catch (cause) {
    if (cause instanceof ServingError) throw cause;
    throw badArchive(label, messageOf(cause), cause);
  } finally {
    stream.destroy();
    source.destroy();
  }
}
