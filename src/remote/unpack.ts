/** Archives: what they may hold, and where it goes. */
import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import { badArchive, type EntrySink } from './archive-entry.js';
import { FetchCount, receiveFile } from './receive-file.js';
import type { Fetched, FetchOptions } from './remote-store.js';
import { unpackTar } from './unpack-tar.js';
import { unpackZip } from './unpack-zip.js';

/** What an archive is, told by its first bytes. */
export type ArchiveFormat = 'tar' | 'tar.gz' | 'zip';

/** What bytes an archive of tar may have beside those of its files, for each file: headers and padding. */
const overheadBytes = 8 << 10;

/** The format of a file by its first bytes; undefined where it is no archive. */
export async function archiveFormat(file: string): Promise<ArchiveFormat | undefined> {
  const handle = await open(file);
  try {
    const head = Buffer.alloc(512);
    const { bytesRead } = await handle.read(head, 0, 512, 0);
    if (['PK\u0003\u0004', 'PK\u0005\u0006'].includes(head.toString('latin1', 0, Math.min(bytesRead, 4))))
      return 'zip';
    if (bytesRead >= 2 && head[0] === 0x1f && head[1] === 0x8b) return 'tar.gz';
    return bytesRead === 512 && isTarHeader(head) ? 'tar' : undefined;
  } finally {
    await handle.close();
  }
}

/** Old archives have no magic, but the sum over every header stands in it, counted with blanks in its place. */
function isTarHeader(head: Buffer): boolean {
  const stated = Number.parseInt(head.toString('latin1', 148, 156).replaceAll('\0', ' ').trim(), 8);
  let sum = 8 * 0x20;
  for (let at = 0; at < 512; at++) if (at < 148 || at >= 156) sum += head[at]!;
  return stated === sum && head[0] !== 0;
}

/**
 * Unpacks an archive into a new directory. Nothing is written outside of it: names that lead elsewhere, links, devices
 * and names that come twice are refused, and so is what exceeds the limits.
 *
 * @param label how messages call the archive
 * @throws SRV_BAD_ARCHIVE, SRV_REMOTE_TOO_LARGE, SRV_IO, SRV_CANCELLED
 */
export async function unpackArchive(
  file: string,
  target: string,
  label: string,
  options: FetchOptions = {},
): Promise<Fetched> {
  const format = await archiveFormat(file);
  if (!format) throw badArchive(label, 'expected tar, tar.gz or zip, got something else');
  const count = new FetchCount(options);
  const made = new Set<string>();
  await mkdir(target);
  const sink: EntrySink = async (entry) => {
    throwIfAborted(options.signal);
    const segments = safeSegments(entry.path, label);
    const where = join(target, ...segments);
    if (entry.kind === 'other') throw badArchive(label, `${quoted(entry.path)} is ${entry.kindText}`);
    if (segments.length === 0) {
      if (entry.kind === 'file') throw badArchive(label, 'a file without a name');
      return;
    }
    const directory = entry.kind === 'directory' ? where : dirname(where);
    await mkdir(directory, { recursive: true }).catch((cause: unknown) => {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'EEXIST' || code === 'ENOTDIR') {
        throw badArchive(label, `${quoted(entry.path)} lies below a file`);
      }
      throw new ServingError('SRV_IO', `The directory ${directory} cannot be made: ${messageOf(cause)}.`, {
        cause,
      });
    });
    if (entry.kind === 'directory') {
      count.addFile(label);
      return;
    }
    if (made.has(where)) throw badArchive(label, `${quoted(entry.path)} comes twice`);
    made.add(where);
    const expected = { label: `${label}, ${entry.path}`, bytes: entry.bytes };
    await receiveFile(entry.content, where, expected, count);
  };
  const { maxBytes, maxFiles } = options.limits ?? { maxBytes: Infinity, maxFiles: Infinity };
  const context = { label, sink, signal: options.signal, maxBytes: maxBytes + maxFiles * overheadBytes };
  if (format === 'zip') await unpackZip(file, context);
  else await unpackTar(file, format === 'tar.gz', context);
  return { kind: 'directory', files: count.files, bytes: count.bytes };
}

function safeSegments(path: string, label: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (path.startsWith('/') || /^[a-z]:/i.test(path) || /[\\\x00-\x1f\x7f]/.test(path)) {
    throw badArchive(label, `expected names relative to it, got ${quoted(path)}`);
  }
  const segments = path.split('/').filter((segment) => segment !== '' && segment !== '.');
  if (segments.includes('..')) throw badArchive(label, `${quoted(path)} leads out of it`);
  return segments;
}

function quoted(path: string): string {
  return JSON.stringify(path.length > 200 ? `${path.slice(0, 200)}...` : path);
}
