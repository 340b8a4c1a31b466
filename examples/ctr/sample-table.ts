/** The table of the sample: built from `rows.bin` with the command that users build theirs with. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot, rowsFile, tableDirectory } from './artefacts.js';
import { writeRows } from './expand.js';

const workPrefix = '.making-';
/** Work that is older than this was left by a process that was killed. */
const leftoverAfterMs = 3_600_000;

/**
 * Builds the newest version of the table, unless one is there that is not older than `rows.bin`: a second's work.
 * Any number of processes may do it at once: each builds on the side, the first one's version stays.
 *
 * @param table directory of the table; made where it is not there
 * @param rows the packed rows
 * @returns how long it took in seconds; undefined when there was nothing to do
 * @throws Error when the directory cannot be written, and with the builder's own words when that fails
 */
export async function prepareTable(table = tableDirectory, rows = rowsFile): Promise<number | undefined> {
  const newest = newestVersion(table);
  if (newest > 0 && statSync(join(table, String(newest))).mtimeMs >= statSync(rows).mtimeMs) return undefined;
  const start = performance.now();
  const work = makeWorkDirectory(table);
  try {
    const made = join(work, 'table');
    const version = String(newest + 1);
    const npy = writeRows(work, rows);
    await onnxServing('table', 'build', npy, '--output', made, '--name', 'ctr', '--version', version);
    publish(join(made, version), join(table, version));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return (performance.now() - start) / 1000;
}

/** The newest version's number; 0 when there is none. */
function newestVersion(table: string): number {
  return Math.max(
    0,
    ...namesIn(table)
      .filter((name) => /^[1-9]\d*$/.test(name))
      .map(Number),
  );
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    // Whatever else there is, making the directory will say.
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}

/** A directory beside the versions: on the same disk, ignored by git, and no version to those who read the table. */
function makeWorkDirectory(table: string): string {
  try {
    mkdirSync(table, { recursive: true });
    for (const name of namesIn(table).filter((name) => name.startsWith(workPrefix)))
      removeLeftover(join(table, name));
    return mkdtempSync(join(table, workPrefix));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === undefined || !['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'ENOSPC'].includes(code)) throw error;
    throw new Error(
      `The sample's table cannot be made in ${table}: ${message}.\n` +
        'It is made once, of rows.bin: run this as a user who may write there, or in a copy of the repository.',
    );
  }
}

function removeLeftover(work: string): void {
  const made = statSync(work, { throwIfNoEntry: false });
  if (made && Date.now() - made.mtimeMs > leftoverAfterMs) rmSync(work, { recursive: true, force: true });
}

/** The version appears whole; where another process was first, that one's stays, which is the same. */
function publish(made: string, version: string): void {
  try {
    renameSync(made, version);
  } catch (error) {
    if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

function onnxServing(...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [join(packageRoot, 'bin/onnx-serving.js'), ...args], (error, _out, err) => {
      if (error) reject(new Error(`onnx-serving ${args.join(' ')}\n${err.trim() || error.message}`));
      else resolve();
    });
  });
}
