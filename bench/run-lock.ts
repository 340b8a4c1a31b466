import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { paths } from './paths.js';

/**
 * Makes this the only bench of the checkout: two would measure each other. A lock whose process is gone is taken over.
 *
 * @returns gives the lock back
 * @throws when another bench runs
 */
export async function lockBench(): Promise<() => Promise<void>> {
  const file = join(paths.cache, 'running');
  await mkdir(paths.cache, { recursive: true });
  try {
    await writeFile(file, String(process.pid), { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const owner = Number(await readFile(file, 'utf8'));
    if (isAlive(owner)) {
      throw new Error(`another bench runs as process ${owner}: two would measure each other`, {
        cause: error,
      });
    }
    await writeFile(file, String(process.pid));
  }
  return () => rm(file, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
