import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

/** What `usableCpus` looks at; tests hand in their own. */
export interface CpuFacts {
  /** CPUs that the process may be scheduled on. */
  readonly parallelism: number;
  /** The text of a file, or undefined where it cannot be read. */
  readonly readText: (file: string) => string | undefined;
}

/** The facts of this process. */
export function cpuFactsOfProcess(): CpuFacts {
  return {
    parallelism: availableParallelism(),
    readText: (file) => {
      try {
        return readFileSync(file, 'utf8');
      } catch {
        return undefined;
      }
    },
  };
}

/**
 * Whole CPUs that this process can really use: those it may be scheduled on, limited by the CPU quota of its
 * cgroup and of every cgroup above it (versions 2 and 1). At least 1.
 */
export function usableCpus(facts: CpuFacts = cpuFactsOfProcess()): number {
  // A share of a CPU cannot keep a thread busy: 2.5 CPUs feed two threads without throttling.
  return Math.max(1, Math.floor(Math.min(facts.parallelism, cgroupQuota(facts.readText))));
}

const cgroupRoot = '/sys/fs/cgroup';

function cgroupQuota(readText: CpuFacts['readText']): number {
  let quota = Number.POSITIVE_INFINITY;
  for (const line of readText('/proc/self/cgroup')?.split('\n') ?? []) {
    const [hierarchy, controllers = '', path] = splitCgroupLine(line);
    if (path === undefined) continue;
    if (hierarchy === '0' && controllers === '') {
      for (const directory of upwards(path)) {
        quota = Math.min(quota, quotaV2(readText(join(cgroupRoot, directory, 'cpu.max'))));
      }
    } else if (controllers.split(',').includes('cpu')) {
      for (const mount of ['cpu', controllers]) {
        for (const directory of upwards(path)) {
          const at = join(cgroupRoot, mount, directory);
          quota = Math.min(
            quota,
            quotaV1(readText(join(at, 'cpu.cfs_quota_us')), readText(join(at, 'cpu.cfs_period_us'))),
          );
        }
      }
    }
  }
  return quota;
}

function splitCgroupLine(line: string): [string | undefined, string | undefined, string | undefined] {
  const first = line.indexOf(':');
  const second = line.indexOf(':', first + 1);
  if (first < 0 || second < 0) return [undefined, undefined, undefined];
  return [line.slice(0, first), line.slice(first + 1, second), line.slice(second + 1)];
}

/** A cgroup and all above it: inside a container the path of the host may be shown, of which only the root exists. */
function upwards(path: string): string[] {
  const all = [path];
  for (let at = path; at !== '/' && at !== '.'; ) {
    at = dirname(at);
    all.push(at);
  }
  return all;
}

function quotaV2(text: string | undefined): number {
  const [quota, period] = text?.trim().split(/\s+/) ?? [];
  return quota === undefined || quota === 'max' ? Number.POSITIVE_INFINITY : ratio(quota, period ?? '100000');
}

function quotaV1(quota: string | undefined, period: string | undefined): number {
  return quota === undefined || period === undefined
    ? Number.POSITIVE_INFINITY
    : ratio(quota.trim(), period.trim());
}

/** A quota of -1 or an unreadable one is no limit. */
function ratio(quota: string, period: string): number {
  const cpus = Number(quota) / Number(period);
  return cpus > 0 ? cpus : Number.POSITIVE_INFINITY;
}
