import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes a directory and those above it, readable by its owner alone unless `mode` says otherwise. One that is there is
 * kept as it is.
 *
 * Node's own recursive form never returns in file systems that refuse with ENOENT, such as /proc.
 *
 * @throws the operating system's error
 */
export function makeDirectory(path: string, mode = 0o700): void {
  if (tryMake(path, mode)) return;
  makeDirectory(dirname(path), mode);
  if (!tryMake(path, mode)) mkdirSync(path, { mode });
}

/** False when the directory above is missing. */
function tryMake(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && dirname(path) !== path) return false;
    if (code !== 'EEXIST') throw error;
    // A file of that name is an error to whoever writes below it.
    return true;
  }
}
