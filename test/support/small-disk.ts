/** Disks that are really full: file systems of some megabytes, which root may mount, or anybody in a user namespace. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { makeDirectory, removeDirectory } from './test-models.js';

/** A file system of its own. */
export interface SmallDisk {
  /** Where it is mounted. */
  readonly path: string;
  /** Takes what is free, but for these bytes. @param leave whole pages of 4 KiB */
  fill(leave?: number): void;
  /** Takes away what `fill` wrote. */
  makeRoom(): void;
}

const namespaced = 'ONNX_SERVING_TEST_IN_NAMESPACE';

/**
 * Runs tests that mount small disks. Who may not mount runs the whole file once more in a user namespace, where he may; who may
 * not do that either skips them and says so.
 *
 * @param file `import.meta.url` of the file
 * @param define defines the tests
 */
export function withSmallDisks(file: string, define: () => void): void {
  if (mayMount()) {
    define();
    return;
  }
  test('full disks, in a user namespace', (t) => {
    if (process.env[namespaced] !== undefined || !mayMountInNamespace()) {
      t.skip('mounting a file system is not allowed here, and neither is it in a user namespace');
      return;
    }
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      ['-rm', process.execPath, '--test', fileURLToPath(file)],
      { env: { ...env, [namespaced]: '1' }, encoding: 'utf8' },
    );
    if (status !== 0) throw new Error(`${stdout}\n${stderr}`);
  });
}

/** Mounts a disk until the end of the test. */
export function mountSmallDisk(t: TestContext, megabytes: number): SmallDisk {
  const path = makeDirectory('disk');
  mount(path, megabytes);
  t.after(() => {
    spawnSync('umount', ['-l', path]);
    removeDirectory(path);
  });
  const ballast = join(path, 'ballast');
  return {
    path,
    fill: (leave = 0) => {
      const file = openSync(ballast, 'a');
      try {
        for (let free = freeBytes(path); free > leave; free = freeBytes(path)) {
          writeSync(file, Buffer.alloc(Math.min(free - leave, 1 << 20)));
        }
      } finally {
        closeSync(file);
      }
    },
    makeRoom: () => rmSync(ballast),
  };
}

function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/** Asked in a namespace that is gone with the answer, and its mount with it. */
function mayMountInNamespace(): boolean {
  return spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'onnx-serving-test', tmpdir()]).status === 0;
}

function mayMount(): boolean {
  const path = makeDirectory('mount');
  try {
    mount(path, 1);
    spawnSync('umount', ['-l', path]);
    return true;
  } catch {
    return false;
  } finally {
    removeDirectory(path);
  }
}

function mount(path: string, megabytes: number): void {
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'onnx-serving-test', path],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`mount: ${stderr}`);
}
