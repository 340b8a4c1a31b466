import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isInPath } from '../wrk.js';

const run = promisify(execFile);
const root = '/sys/fs/cgroup';

/** Gives processes no more than some memory, page cache included. */
export interface MemoryLimit {
  /** How it is done, for the notes. */
  readonly means: string;
  /**
   * Program and arguments that run another one within the limit.
   *
   * @param peakFile receives the most memory that it took, in bytes, when it ended; nothing where the kernel does not
   *   tell
   */
  wrap(
    file: string,
    args: readonly string[],
    peakFile: string,
  ): readonly [file: string, args: readonly string[]];
  close(): Promise<void>;
}

/**
 * A limit by a cgroup, made here or by systemd.
 *
 * @returns why there is none where neither can be
 */
export async function memoryLimit(bytes: number): Promise<MemoryLimit | string> {
  const refusals: string[] = [];
  for (const limited of [groupOfVersion2, groupOfVersion1, systemdScope]) {
    const limit = await limited(bytes);
    if (typeof limit !== 'string') return limit;
    refusals.push(limit);
  }
  return refusals.join('; ');
}

async function groupOfVersion2(bytes: number): Promise<MemoryLimit | string> {
  const enabled = await readFile(join(root, 'cgroup.subtree_control'), 'utf8').catch(() => undefined);
  if (enabled === undefined) return `${root} is no cgroup of version 2`;
  if (!enabled.split(/\s/).includes('memory')) return `${root} does not hand out its memory controller`;
  return ownGroups({
    // A group that has processes, as ours, cannot have others below it.
    parent: root,
    before: join(root, await groupOfThisProcess('')),
    limits: [
      ['memory.max', bytes],
      ['memory.swap.max', 0],
    ],
    peak: 'memory.peak',
  });
}

async function groupOfVersion1(bytes: number): Promise<MemoryLimit | string> {
  const memory = join(root, 'memory');
  if (!existsSync(join(memory, 'memory.limit_in_bytes'))) return `${memory} is no cgroup of version 1`;
  // Below our own, whose limits go on to hold; a container may see its own as the root.
  const before = [join(memory, await groupOfThisProcess('memory')), memory].find(existsSync)!;
  return ownGroups({
    parent: before,
    before,
    limits: [
      ['memory.limit_in_bytes', bytes],
      // Memory and swap together, so no swap.
      ['memory.memsw.limit_in_bytes', bytes],
    ],
    peak: 'memory.max_usage_in_bytes',
  });
}

/** Path of the group of this process in the hierarchy of a controller; version 2 is that of none. */
async function groupOfThisProcess(controller: string): Promise<string> {
  const lines = (await readFile('/proc/self/cgroup', 'utf8')).trim().split('\n');
  const fields = lines.map((line) => /^\d+:([^:]*):(.*)$/.exec(line)!);
  return fields.find(([, controllers]) => controllers!.split(',').includes(controller))?.[2] ?? '/';
}

interface Groups {
  /** Directory of the group in which groups are made. */
  readonly parent: string;
  /** That of this process. */
  readonly before: string;
  /** Files of a group with what is written to them. A kernel without swap lacks those behind the first. */
  readonly limits: readonly (readonly [file: string, value: number])[];
  /** File with the most memory that a group took. */
  readonly peak: string;
}

/** A group for each command, so that each has a peak of its own. */
async function ownGroups({ parent, before, limits, peak }: Groups): Promise<MemoryLimit | string> {
  const prefix = `onnx-serving-bench-${process.pid}-`;
  const trial = join(parent, `${prefix}trial`);
  try {
    await mkdir(trial);
    await rmdir(trial);
  } catch {
    return `${parent} cannot be written (run as root)`;
  }
  const setLimits = limits.map(([file, value], at) => {
    const set = `echo ${value} > $group/${file} || exit 1`;
    return at === 0 ? set : `if [ -e $group/${file} ]; then ${set}; fi`;
  });
  // The shell leaves the group to remove it, also when somebody interrupts the bench. $1 is the file for the peak.
  const script = `trap : INT TERM; group=${parent}/${prefix}$$; peak=$1; shift
mkdir $group || exit 1
${setLimits.join('\n')}
echo $$ > $group/cgroup.procs || exit 1
"$@"; code=$?
cat $group/${peak} > "$peak" 2>/dev/null
echo $$ > ${before}/cgroup.procs; rmdir $group; exit $code`;
  return {
    means: `cgroups ${join(parent, prefix)}*`,
    wrap: (file, args, peakFile) => ['sh', ['-c', script, 'sh', peakFile, file, ...args]],
    async close() {
      // Those of shells that were killed.
      const left = (await readdir(parent)).filter((name) => name.startsWith(prefix));
      for (const name of left) await rmdir(join(parent, name));
    },
  };
}

async function systemdScope(bytes: number): Promise<MemoryLimit | string> {
  if (!(await isInPath('systemd-run'))) return 'there is no systemd-run';
  const scope = ['--scope', '--quiet', '-p', `MemoryMax=${bytes}`, '-p', 'MemorySwapMax=0', '--'];
  try {
    await run('systemd-run', [...scope, 'true']);
  } catch (error) {
    return `systemd-run makes no scope (${
      String((error as { stderr?: string }).stderr)
        .trim()
        .split('\n')[0]
    })`;
  }
  // The shell stays in the scope until the end, which takes its peak with it. $1 is the file for it.
  const script = `peak=$1; shift; "$@"; code=$?
cat "${root}$(sed -n 's/^0:://p' /proc/self/cgroup)/memory.peak" > "$peak" 2>/dev/null
exit $code`;
  return {
    means: 'a scope of systemd',
    wrap: (file, args, peakFile) => [
      'systemd-run',
      [...scope, 'sh', '-c', script, 'sh', peakFile, file, ...args],
    ],
    close: () => Promise.resolve(),
  };
}
