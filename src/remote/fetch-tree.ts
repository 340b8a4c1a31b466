/** A fetch for stores that list directories and read files: the walk, the names, the limits. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { throwIfAborted } from './abort.js';
import { type ExpectedFile, FetchCount, receiveFile } from './receive-file.js';
import type { Fetched, FetchOptions, RemoteEntry } from './remote-store.js';

/** One file that is about to be read. */
export interface OpenedFile extends Omit<ExpectedFile, 'label'> {
  /** Its bytes; ending the iteration early gives the connection up. */
  readonly source: AsyncIterable<Uint8Array>;
}

/** What a store brings for `fetchTree`. */
export interface TreeSource {
  readonly label: string;
  /** Opens a file; undefined where the path is none, but may be a directory. */
  read(path: string): Promise<OpenedFile | undefined>;
  /** As `RemoteStore.list`: undefined where the path is no directory. */
  list(path: string): Promise<readonly RemoteEntry[] | undefined>;
}

/** Deeper trees than this are taken for a loop. */
const maxDepth = 64;

/** Fetches the file or directory at `path`, one file after the other. */
export async function fetchTree(
  source: TreeSource,
  path: string,
  target: string,
  options: FetchOptions = {},
): Promise<Fetched> {
  const alone = await source.read(path);
  if (alone) {
    const count = new FetchCount(options, alone.bytes);
    const bytes = await receiveFile(alone.source, target, { ...alone, label: source.label + path }, count);
    return { kind: 'file', files: 1, bytes };
  }
  const entries = await source.list(path);
  if (!entries) throw missing(source, path);
  const count = new FetchCount(options);
  const walk = async (
    from: string,
    to: string,
    found: readonly RemoteEntry[],
    depth: number,
  ): Promise<void> => {
    if (depth > maxDepth) {
      throw new ServingError(
        'SRV_REMOTE_TOO_LARGE',
        `${source.label}${path}: more than ${maxDepth} directories deep.`,
      );
    }
    await mkdir(to).catch((cause: unknown) => {
      throw new ServingError('SRV_IO', `The directory ${to} cannot be made: ${messageOf(cause)}.`, { cause });
    });
    for (const { name, isDirectory } of found) {
      throwIfAborted(options.signal);
      requireSegment(name, `${source.label}${from}`);
      const below = joinRemote(from, name);
      if (isDirectory) {
        await walk(below, join(to, name), (await source.list(below)) ?? [], depth + 1);
        continue;
      }
      const opened = await source.read(below);
      // It was listed a moment ago.
      if (!opened) throw missing(source, below);
      await receiveFile(opened.source, join(to, name), { ...opened, label: source.label + below }, count);
    }
  };
  await walk(path, target, entries, 1);
  return { kind: 'directory', files: count.files, bytes: count.bytes };
}

function missing(source: TreeSource, path: string): ServingError {
  return new ServingError('SRV_REMOTE_NOT_FOUND', `${source.label}${path} is not there.`);
}

/** A path within a store with one more segment. */
export function joinRemote(path: string, name: string): string {
  return `${path.replace(/\/+$/, '')}/${name}`;
}

/**
 * Refuses names that would lead out of a directory: what a server calls a file is not to be trusted.
 *
 * @throws SRV_REMOTE_DAMAGED
 */
export function requireSegment(name: string, where: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (name === '' || name === '.' || name === '..' || /[/\\\x00-\x1f\x7f]/.test(name)) {
    throw new ServingError(
      'SRV_REMOTE_DAMAGED',
      `${where}: expected names of files, got ${JSON.stringify(name)}.`,
    );
  }
}
