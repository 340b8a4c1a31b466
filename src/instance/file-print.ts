import { statSync } from 'node:fs';

/** A file, and what its state was when it was looked at. */
export interface FilePrint {
  readonly path: string;
  /** Inode, size and time of change, which is what tells a new content of a version; empty where there was none. */
  readonly print: string;
}

/** Looks at files. */
export function filePrints(paths: readonly string[]): readonly FilePrint[] {
  return paths.map((path) => ({ path, print: printOf(path) }));
}

/** The first of the files that is another one now, or gone. */
export function changedFile(prints: readonly FilePrint[]): string | undefined {
  return prints.find(({ path, print }) => printOf(path) !== print)?.path;
}

function printOf(path: string): string {
  const facts = statSync(path, { bigint: true, throwIfNoEntry: false });
  return facts ? `${facts.ino} ${facts.size} ${facts.mtimeNs}` : '';
}
