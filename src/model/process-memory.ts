/** What this process holds for itself. */
import { readFileSync } from 'node:fs';

/**
 * Anonymous memory of this process, bytes: what it does not share with others through a file. Resident size would
 * count a mapped page once per mapping. Without /proc the resident size has to do.
 */
export function anonymousBytes(): number {
  try {
    const match = /^Anonymous:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/smaps_rollup', 'latin1'));
    if (match) return Number(match[1]) * 1024;
  } catch {
    // No /proc on this system.
  }
  return process.memoryUsage.rss();
}
