/** What Linux says about a process: CPU time and memory. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** `USER_HZ`, which the kernel fixes at 100 for what it shows to programs. */
const ticksPerSecond = 100;

/** User and system time of a process and its living descendants since they started, all threads, in seconds. */
export function cpuSeconds(pid: number): number {
  return processTree(pid).reduce((sum, member) => {
    const fields = statFields(member);
    // Fields 14 and 15 of proc(5); the first of these fields is number 3.
    return fields ? sum + (Number(fields[11]) + Number(fields[12])) / ticksPerSecond : sum;
  }, 0);
}

/** Memory of one process or a tree of them, in bytes. */
export interface Memory {
  /** Resident pages, each divided by the number of processes that map it. */
  readonly pss: number;
  /** Private anonymous pages: what is not backed by a file and not shared. */
  readonly anonymous: number;
}

/** Memory of a process alone. */
export function memoryOf(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const bytes = (field: string): number => {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text);
    if (!found) throw new Error(`smaps_rollup has no ${field}`);
    return Number(found[1]) * 1024;
  };
  return { pss: bytes('Pss'), anonymous: bytes('Anonymous') };
}

/** Memory of a process and its living descendants together. */
export function memoryOfTree(pid: number): Memory {
  const sum = { pss: 0, anonymous: 0 };
  for (const member of processTree(pid)) {
    const memory = member === pid ? memoryOf(member) : memoryOfAny(member);
    sum.pss += memory?.pss ?? 0;
    sum.anonymous += memory?.anonymous ?? 0;
  }
  return sum;
}

/** The lowest PSS of a tree in a few readings: garbage that is about to go is not what is asked about. */
export async function settledPss(pid: number): Promise<number> {
  let lowest = Number.POSITIVE_INFINITY;
  for (let reading = 0; reading < 4; reading++) {
    await sleep(100);
    lowest = Math.min(lowest, memoryOfTree(pid).pss);
  }
  return lowest;
}

/** Memory of a process that may have ended. */
function memoryOfAny(pid: number): Memory | undefined {
  try {
    return memoryOf(pid);
  } catch {
    return undefined;
  }
}

/** A process and its living descendants. */
export function processTree(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(statFields(Number(name))?.[1]);
    const siblings = children.get(parent) ?? [];
    siblings.push(Number(name));
    children.set(parent, siblings);
  }
  const tree = [pid];
  for (const member of tree) tree.push(...(children.get(member) ?? []));
  return tree;
}

/** Fields of /proc/PID/stat from the third on (the second may hold spaces); undefined when the process is gone. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
