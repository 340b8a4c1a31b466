/** A lock that processes take by a file, and that ends with its holder. */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, ServingError } from './errors.js';
import { isAlive, processIdentity } from './process-identity.js';

const pollMs = 50;

/**
 * Takes a lock file, waiting while a living process holds it; the lock of an ended process is broken. Resolves to
 * the function that gives it back, or to undefined when `waitMs` passed first.
 *
 * @throws SRV_IO where it cannot be written, as on a full disk
 */
export async function takeLock(path: string, waitMs: number): Promise<(() => void) | undefined> {
  const own = processIdentity(process.pid);
  // The lock appears with its holder's name in it, by a link: a lock file that is still empty could not be judged.
  const named = `${path}.${own}`;
  try {
    writeFileSync(named, own, { mode: 0o600 });
    const endsAt = performance.now() + waitMs;
    for (;;) {
      try {
        linkSync(named, path);
        return () => rmSync(path, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      if (!isHeld(path)) rmSync(path, { force: true });
      else if (performance.now() > endsAt) return undefined;
      else await sleep(pollMs);
    }
  } catch (cause) {
    throw new ServingError('SRV_IO', `The lock ${path} cannot be taken: ${messageOf(cause)}.`, { cause });
  } finally {
    try {
      rmSync(named, { force: true });
    } catch {
      // Where no file can be, none is left.
    }
  }
}

function isHeld(path: string): boolean {
  try {
    return isAlive(readFileSync(path, 'utf8'));
  } catch {
    return false;
  }
}
