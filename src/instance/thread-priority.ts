import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';

/** Weighs a tenth of a thread of normal priority: what others leave, and a little where they leave nothing. */
const lowNice = 10;
const capSysNice = 23n;

/**
 * Does work of this thread with what others leave of the processor, where that can be taken back: lowering a
 * thread's priority is anybody's right, raising it again is not. Elsewhere it is plain work.
 */
export async function atLowPriority<T>(work: () => Promise<T>): Promise<T> {
  if (!mayRaisePriority()) return work();
  // On Linux the process 0 is the calling thread, and a nice value is a thread's own.
  setPriority(0, lowNice);
  try {
    return await work();
  } finally {
    setPriority(0, 0);
  }
}

/** In a user namespace, such as that of a container without root, capabilities do not reach the scheduler. */
function isOutermostNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
}

/** Whether this thread may go back to the nice value 0 from a higher one. */
export function mayRaisePriority(): boolean {
  if (process.platform !== 'linux') return false;
  try {
    const status = readFileSync('/proc/thread-self/status', 'latin1');
    const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)![1]}`);
    if (((capabilities >> capSysNice) & 1n) === 1n && isOutermostNamespace()) return true;
    // The limit counts from 1, for a nice value of 19, to 40: 20 is the nice value 0.
    const limits = readFileSync('/proc/self/limits', 'latin1');
    const limit = /^Max nice priority\s+(\S+)/m.exec(limits)![1]!;
    return limit === 'unlimited' || Number(limit) >= 20;
  } catch {
    return false;
  }
}
