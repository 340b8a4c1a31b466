/** Processes that make a version of a table, as others see them: by the hidden directory that they work in. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './until.js';

const attempts = 20;

/** The names in a directory; none when it is not there, or not any more. */
export function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** The directory in which a process makes a version; undefined while, or when, it makes none. */
export function workOf(table: string, { pid }: ChildProcess): string | undefined {
  const name = namesIn(table).find((one) => new RegExp(`^\\.building-\\d+-${pid}-`).test(one));
  return name && join(table, name);
}

/** Ends a process at once, and waits for its end. */
export async function killed(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/**
 * Starts a process that makes a version and kills it in the middle. One that was done before it was killed is started
 * again, without its version.
 *
 * @param isFar whether the work, in the given directory, is as far as it should be
 */
export async function killMidway(
  table: string,
  version: number,
  start: () => ChildProcess,
  isFar: (work: string) => boolean,
): Promise<void> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const child = start();
    await until('the work is far enough, or done', () => {
      const work = workOf(table, child);
      return hasEnded(child) || (work !== undefined && isFar(work));
    });
    await killed(child);
    if (workOf(table, child) !== undefined) return;
    if (child.exitCode !== 0 && child.signalCode === null)
      throw new Error(`it failed with ${child.exitCode}`);
    rmSync(join(table, String(version)), { recursive: true, force: true });
  }
  throw new Error(`none of ${attempts} processes could be killed before its work was done`);
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}
