import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';

/** The name under which standard input is an input. */
export const standardInput = '-';

/**
 * The files of a build, in the order in which later rows replace earlier ones: as given, and below a directory all
 * regular files by path, without hidden ones and links.
 *
 * @param inputs files, directories, `-` for standard input
 * @throws SRV_IO for what cannot be looked at; SRV_BAD_INPUT_FILE for a directory without files
 */
export async function listInputFiles(inputs: readonly string[]): Promise<readonly string[]> {
  const lists: (readonly string[])[] = [];
  for (const input of inputs) lists.push(await filesAt(input));
  return lists.flat();
}

async function filesAt(input: string): Promise<readonly string[]> {
  if (input === standardInput) return [input];
  const facts = await stat(input).catch((cause: unknown) => {
    throw unreadable(input, cause);
  });
  if (!facts.isDirectory()) return [input];
  const files = await filesBelow(input);
  if (files.length === 0) {
    throw new ServingError('SRV_BAD_INPUT_FILE', `${input} holds no files, expected at least one of rows`);
  }
  // By code units: the order must not depend on a locale.
  return files.sort((a, b) => (a < b ? -1 : 1));
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((cause: unknown) => {
    throw unreadable(directory, cause);
  });
  const files: string[] = [];
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.name.startsWith('.')) continue;
    if (entry.isDirectory()) files.push(...(await filesBelow(path)));
    else if (entry.isFile()) files.push(path);
  }
  return files;
}

function unreadable(path: string, cause: unknown): ServingError {
  return new ServingError('SRV_IO', `${path} cannot be read: ${messageOf(cause)}`, { cause });
}
