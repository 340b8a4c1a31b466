/** A model that was fetched becomes the one that is served from: by rename, so that no reader sees half of it. */
import { constants } from 'node:fs';
import {
  chown,
  cp,
  lstat,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { sampleDirectoryName } from '../config/place.js';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { exchangePaths } from '../native/binding.js';

/** What goes where. */
export interface InstallPlaces {
  /** The directory that takes the place of `target`; it is gone afterwards. */
  readonly staged: string;
  readonly target: string;
  /** Where the replaced directory is for a moment, in the directory of `target`. */
  readonly aside: string;
  /**
   * Called with the new directory before it takes the place of one that is there, once nothing but that is left to be
   * done. @default nothing
   */
  readonly beforeExchange?: (incoming: string) => Promise<void>;
}

/**
 * Puts a directory in the place of another one, or where none is. What was there is removed afterwards.
 *
 * @throws SRV_IO; then the old directory is in its place again
 */
export async function replaceDirectory({
  staged,
  target,
  aside,
  beforeExchange,
}: InstallPlaces): Promise<void> {
  try {
    makeDirectory(dirname(target), 0o777);
    const near = await onSameFileSystem(staged, target);
    await rm(aside, { recursive: true, force: true });
    if (!(await isThere(target))) {
      await rename(near, target);
      return;
    }
    await beforeExchange?.(near);
    if (exchangePaths(near, target)) {
      await rm(near, { recursive: true, force: true });
      return;
    }
    // Where the file system has no exchange, the name is missing for a moment.
    await rename(target, aside);
    try {
      await rename(near, target);
    } catch (error) {
      await rename(aside, target);
      throw error;
    }
    await rm(aside, { recursive: true, force: true });
  } catch (cause) {
    throw new ServingError('SRV_IO', `The model cannot be put in place at ${target}: ${messageOf(cause)}.`, {
      cause,
    });
  }
}

/** Puts the old directory back where a process ended between the two renames. */
export async function recoverDirectory({
  target,
  aside,
}: Pick<InstallPlaces, 'target' | 'aside'>): Promise<boolean> {
  if (!(await isThere(aside))) return false;
  if (await isThere(target)) {
    await rm(aside, { recursive: true, force: true });
    return false;
  }
  await rename(aside, target);
  return true;
}

/** A rename does not cross file systems: then the files are copied beside the target first. */
async function onSameFileSystem(staged: string, target: string): Promise<string> {
  const [from, to] = await Promise.all([stat(staged), stat(dirname(target))]);
  if (from.dev === to.dev) return staged;
  const copy = join(dirname(target), `.${basename(target)}.incoming`);
  await rm(copy, { recursive: true, force: true });
  try {
    await cp(staged, copy, { recursive: true, errorOnExist: true, force: false });
  } catch (error) {
    await rm(copy, { recursive: true, force: true });
    throw error;
  }
  await rm(staged, { recursive: true, force: true });
  return copy;
}

/**
 * Keeps the stamp file of the old model in the new one until it is touched: whoever watches it must not see it come,
 * go or change before the model is whole.
 *
 * @throws SRV_IO
 */
export async function keepStampFile(oldFile: string, newFile: string): Promise<void> {
  const old = await stat(oldFile).catch(() => undefined);
  await rm(newFile, { recursive: true, force: true });
  if (!old?.isFile()) return;
  try {
    await cp(oldFile, newFile);
    await utimes(newFile, old.atime, old.mtime);
  } catch (cause) {
    throw new ServingError('SRV_IO', `${newFile} cannot be written: ${messageOf(cause)}.`, { cause });
  }
}

/**
 * Copies the sample of traffic beside the old model into the new one, unless that brings its own: its plain files, for
 * their owner, each flushed to the disk. A link is neither followed nor copied.
 *
 * @throws SRV_IO; then nothing of it is in the new model
 */
export async function keepSample(oldModel: string, newModel: string): Promise<void> {
  const from = join(oldModel, sampleDirectoryName);
  const to = join(newModel, sampleDirectoryName);
  const [old, own] = await Promise.all([from, to].map((path) => lstat(path).catch(() => undefined)));
  if (!old?.isDirectory() || own) return;
  try {
    await mkdir(to, { mode: old.mode & 0o777 });
    // A monitor of root may serve a server that is not: its sample would be one that it cannot read or replace.
    if ((await stat(to)).uid !== old.uid) await chown(to, old.uid, old.gid);
    for (const entry of await readdir(from, { withFileTypes: true })) {
      // What a recorder is writing has another name until it is whole.
      if (!entry.isFile() || entry.name.endsWith('.tmp')) continue;
      await copyFlushed(join(from, entry.name), join(to, entry.name));
    }
  } catch (cause) {
    await rm(to, { recursive: true, force: true });
    throw new ServingError('SRV_IO', `${from} cannot be copied: ${messageOf(cause)}.`, { cause });
  }
}

async function copyFlushed(from: string, to: string): Promise<void> {
  // It may have become a link since it was listed.
  await using source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW);
  const { mode, uid, gid } = await source.stat();
  await using target = await open(to, 'wx', mode & 0o777);
  if ((await target.stat()).uid !== uid) await target.chown(uid, gid);
  for await (const chunk of source.createReadStream({ autoClose: false })) {
    await target.appendFile(chunk as Uint8Array);
  }
  await target.sync();
}

/**
 * Touches a stamp file: its time of change becomes another one, and a later one even where the clock went backwards. It
 * holds that time, for readers that look at its content.
 *
 * @throws SRV_IO
 */
export async function touchStampFile(file: string, nowMs: number): Promise<void> {
  // Renamed, so that nobody reads half of it; not from the model's directory, where nobody knows it.
  const next = join(dirname(dirname(file)), `.${basename(file)}.${process.pid}`);
  try {
    const before = await stat(file).catch(() => undefined);
    const atMs = before ? Math.max(nowMs, before.mtimeMs + 10) : nowMs;
    await writeFile(next, `${new Date(atMs).toISOString()}\n`);
    await utimes(next, atMs / 1000, atMs / 1000);
    await rename(next, file);
  } catch (cause) {
    await rm(next, { force: true }).catch(() => undefined);
    throw new ServingError('SRV_IO', `The stamp file ${file} cannot be touched: ${messageOf(cause)}.`, {
      cause,
    });
  }
}

/** The numbers of the version directories in a directory, ascending; a missing directory has none. */
export async function versionsIn(directory: string): Promise<readonly number[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => versionNumber(name) ?? [])
    .toSorted((a, b) => a - b);
}

/** The version that a directory's name means; undefined where it means none, or is above 2^53 - 1. */
export function versionNumber(name: string): number | undefined {
  return /^\d+$/.test(name) && Number.isSafeInteger(Number(name)) ? Number(name) : undefined;
}

/** Removes a version directory: renamed first, so that a reader sees all of it or nothing. */
export async function removeVersion(directory: string, version: number, work: string): Promise<void> {
  const gone = join(work, `gone-${version}`);
  for (const { name } of await readdir(directory, { withFileTypes: true })) {
    if (versionNumber(name) !== version) continue;
    await rename(join(directory, name), gone);
    await rm(gone, { recursive: true, force: true });
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
