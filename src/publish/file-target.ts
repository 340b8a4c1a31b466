/** A directory of this machine, or a mounted one, to publish to. */
import { link, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { replaceDirectory } from '../monitor/install-model.js';
import { throwIfAborted } from '../remote/abort.js';
import { hiddenBeside } from './hidden-name.js';
import type { DirectoryFile, LockOutcome, PublishTarget, TargetOptions, Upload } from './publish-target.js';

/** Files and directories appear by rename. */
export class FileTarget implements PublishTarget {
  readonly label = '';

  async write(path: string, upload: Upload, { signal }: TargetOptions = {}): Promise<void> {
    const temporary = hiddenBeside(path);
    makePlace(dirname(path));
    try {
      await writeWhole(temporary, upload, signal);
      await rename(temporary, path).catch((cause: unknown) => refuse(path, cause));
      await flushDirectory(dirname(path));
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    const staged = hiddenBeside(path);
    const aside = hiddenBeside(path);
    makePlace(dirname(path));
    try {
      for (const file of files) {
        const place = join(staged, file.path);
        makePlace(dirname(place));
        await writeWhole(place, file, signal);
      }
      await replaceDirectory({ staged, target: path, aside });
      await flushDirectory(dirname(path));
    } finally {
      await rm(staged, { recursive: true, force: true });
    }
  }

  async read(path: string): Promise<Buffer | undefined> {
    try {
      return await readFile(path);
    } catch (cause) {
      if (['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '')) return undefined;
      return refuse(path, cause);
    }
  }

  async createLock(path: string, text: string): Promise<LockOutcome> {
    makePlace(dirname(path));
    // A link gives the lock its name and its text in one step.
    const temporary = hiddenBeside(path);
    try {
      await writeFile(temporary, text, { flag: 'wx' });
      await link(temporary, path);
      return 'created';
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'EEXIST') return 'exists';
      // Some mounted file systems have no links.
      if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS') return refuse(path, cause);
      return await createPlainly(path, text);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async readLock(path: string): Promise<string | undefined> {
    return (await this.read(path))?.toString();
  }

  async writeLock(path: string, text: string): Promise<void> {
    const temporary = hiddenBeside(path);
    try {
      await writeFile(temporary, text, { flag: 'wx' });
      await rename(temporary, path);
    } catch (cause) {
      refuse(path, cause);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async removeLock(path: string): Promise<void> {
    await rm(path, { force: true });
  }

  async close(): Promise<void> {}
}

async function createPlainly(path: string, text: string): Promise<LockOutcome> {
  try {
    await writeFile(path, text, { flag: 'wx' });
    return 'created';
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EEXIST' ? 'exists' : refuse(path, cause);
  }
}

async function writeWhole(path: string, { body }: Upload, signal: AbortSignal | undefined): Promise<void> {
  const file = await open(path, 'wx').catch((cause: unknown) => refuse(path, cause));
  try {
    for await (const chunk of body.chunks()) {
      throwIfAborted(signal);
      await file.appendFile(chunk).catch((cause: unknown) => refuse(path, cause));
    }
    await file.sync().catch((cause: unknown) => refuse(path, cause));
  } finally {
    await file.close();
  }
}

/** Not every file system lets a directory be flushed. */
async function flushDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

function makePlace(path: string): void {
  try {
    makeDirectory(path, 0o777);
  } catch (cause) {
    refuse(path, cause);
  }
}

function refuse(path: string, cause: unknown): never {
  throw new ServingError('SRV_IO', `${path} cannot be written: ${messageOf(cause)}.`, { cause });
}
