/** Names for what is not whole yet, on places that rename. */
import { randomBytes } from 'node:crypto';
import { ServingError } from '../errors.js';

/** A new hidden name in the directory of a path. */
export function hiddenBeside(path: string): string {
  const at = path.lastIndexOf('/') + 1;
  return `${path.slice(0, at)}.${path.slice(at)}.${randomBytes(6).toString('hex')}`;
}

/** What a place can do with files and directories. */
export interface Moves {
  /** False where the place does not rename: `from` is not there, or `to` is. */
  rename(from: string, to: string, signal?: AbortSignal): Promise<boolean>;
  /** Removes a file or a directory, if it is there. */
  remove(path: string, signal?: AbortSignal): Promise<void>;
}

/** Runs `use` with a hidden name beside `path`. What has the name when that fails is removed. */
export async function underHiddenName(
  path: string,
  remove: Moves['remove'],
  use: (hidden: string) => Promise<void>,
): Promise<void> {
  const hidden = hiddenBeside(path);
  try {
    await use(hidden);
  } catch (error) {
    await remove(hidden).catch(() => undefined);
    throw error;
  }
}

/** Where files are put in place, for errors, and what gives that up. */
export interface PlaceOptions {
  readonly label: string;
  readonly signal: AbortSignal | undefined;
}

/**
 * Puts a directory in the place of the one at `path`, if there is one, which comes back if that fails.
 *
 * @param fill writes the directory, under the name that it is given
 * @throws SRV_REMOTE_REFUSED, and what `fill` and `moves` throw
 */
export async function replaceDirectory(
  path: string,
  fill: (staged: string) => Promise<void>,
  moves: Moves,
  options: PlaceOptions,
): Promise<void> {
  await underHiddenName(path, moves.remove.bind(moves), async (staged) => {
    await fill(staged);
    await takePlace(staged, path, moves, options);
  });
}

/**
 * Gives what is at `staged` the name `path`, where a place renames to no name that is taken: for a moment there is nothing. What
 * had the name comes back if that fails.
 *
 * @throws SRV_REMOTE_REFUSED, and what `moves` throw
 */
export async function takePlace(
  staged: string,
  path: string,
  moves: Moves,
  { label, signal }: PlaceOptions,
): Promise<void> {
  const aside = hiddenBeside(path);
  const hadOne = await moves.rename(path, aside, signal);
  try {
    if (!(await moves.rename(staged, path, signal))) {
      throw new ServingError('SRV_REMOTE_REFUSED', `${label}${path}: nothing can be renamed to it.`);
    }
  } catch (error) {
    if (hadOne) await moves.rename(aside, path);
    throw error;
  }
  if (hadOne) await moves.remove(aside, signal);
}
