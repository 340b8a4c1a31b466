/** Naming a process so that a later one can tell whether it still lives. */
import { readFileSync } from 'node:fs';

/** A process id and its start time: an id alone is soon given to another process. */
export function processIdentity(pid: number): string {
  return `${pid}-${startTime(pid) ?? '0'}`;
}

/** Whether the process of an identity still lives. */
export function isAlive(identity: string): boolean {
  const match = /^(\d+)-(\d+)$/.exec(identity);
  if (!match) return false;
  const pid = Number(match[1]);
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return match[2] === '0' || (startTime(pid) ?? '0') === match[2];
}

/** Clock ticks after boot at which the process started; undefined where there is no /proc. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
