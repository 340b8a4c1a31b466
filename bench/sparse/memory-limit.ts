import { execFile } from 'node:child_process';
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

// The shell stays until the end to read the peak of its group. $1 is the file for it.
const runAndTell = `peak=$1; shift; "$@"; code=$?
cat "${root}$(sed -n 's/^0:://p' /proc/self/cgroup)/memory.peak" > "$peak" 2>/dev/null`;

/**
 * A limit by a cgroup of version 2, made here or by systemd.
 *
 * @returns why there is none where neither can be
 */
export async function memoryLimit(bytes: number): Promise<MemoryLimit | string> {
  const own = await ownGroup(bytes);
  if (typeof own !== 'string') return own;
  const scope = await systemdScope(bytes);
  return typeof scope === 'string' ? `${own}; ${scope}` : scope;
}

async function ownGroup(bytes: number): Promise<MemoryLimit | string> {
  const enabled = await readFile(join(root, 'cgroup.subtree_control'), 'utf8').catch(() => undefined);
  if (enabled === undefined) return `${root} is no cgroup of version 2`;
  if (!enabled.split(/\s/).includes('memory')) return `${root} does not hand out its memory controller`;
  const prefix = `onnx-serving-bench-${process.pid}-`;
  const trial = join(root, `${prefix}trial`);
  try {
    await mkdir(trial);
    await rmdir(trial);
  } catch {
    return `${root} cannot be written (run as root)`;
  }
  // A group for each command, so that each has a peak of its own. A kernel without swap has no memory.swap.max.
  const script = `group=${root}/${prefix}$$; before=${root}$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir $group && echo ${bytes} > $group/memory.max || exit 1
if [ -e $group/memory.swap.max ]; then echo 0 > $group/memory.swap.max; fi
echo $$ > $group/cgroup.procs || exit 1
${runAndTell}
echo $$ > $before/cgroup.procs; rmdir $group; exit $code`;
  return {
    means: `cgroups ${join(root, prefix)}*`,
    wrap: (file, args, peakFile) => ['sh', ['-c', script, 'sh', peakFile, file, ...args]],
    async close() {
      // Those of shells that were killed.
      const left = (await readdir(root)).filter((name) => name.startsWith(prefix));
      for (const name of left) await rmdir(join(root, name));
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
  return {
    means: 'a scope of systemd',
    wrap: (file, args, peakFile) => [
      'systemd-run',
      [...scope, 'sh', '-c', `${runAndTell}\nexit $code`, 'sh', peakFile, file, ...args],
    ],
    close: () => Promise.resolve(),
  };
}
