import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a directory and those above it, readable by its owner alone. One that is there is kept as it is.
 *
 * Node's own recursive form never returns in file systems that refuse with ENOENT, such as /proc.
 *
 * @throws the operating system's error
 */
export function makeDirectory(path: string): void {
  if (tryMake(path)) return;
  makeDirectory(dirname(path));
  if (!tryMake(path)) mkdirSync(path, { mode: 0o700 });
}

/** False when the directory above is missing. */
function tryMake(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && dirname(path) !== path) return false;
    if (code !== 'EEXIST') throw error;
    // A file of that name is an error to whoever writes below it.
    return true;
  }
}
