/** One attempt: what the remote store has becomes a directory here that is whole and what its digests say. */
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { MonitorConfig } from '../config/monitor-settings.js';
import { ServingError } from '../errors.js';
import { joinRemote } from '../remote/fetch-tree.js';
import {
  type digestEndings,
  maxDigestBytes,
  type NamedDigest,
  parseDigestFile,
  parseDigestLines,
  verifyDirectory,
  verifyFile,
} from '../remote/file-digests.js';
import type { FetchProgress, RemoteStamp, RemoteStore } from '../remote/remote-store.js';
import { archiveFormat, unpackArchive } from '../remote/unpack.js';
import { versionNumber } from './install-model.js';

/** What an attempt is made with. */
export interface FetchContext {
  readonly config: MonitorConfig;
  readonly store: RemoteStore;
  /** An empty directory of this attempt alone. */
  readonly place: string;
  readonly signal: AbortSignal;
  /** Called whenever something was heard, or worked on. */
  readonly heard: () => void;
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined;
}

/** A model that was fetched and verified. */
export interface FetchedModel {
  /** The directory that holds its files. */
  readonly directory: string;
  /** The number of the remote version directory it is from; absent where there are none. */
  readonly version?: number;
  /** What was seen of it in the store, before and after. */
  readonly stamp: string;
  readonly bytes: number;
  readonly files: number;
  /** Digests that were compared beside those that the store itself sent. */
  readonly digests: number;
}

/** Where the done file of a configuration is. */
export function doneFilePath({ remotePath, remoteDonefileName }: MonitorConfig): string {
  return joinRemote(remotePath, remoteDonefileName);
}

/** What of the store is fetched. */
export interface RemoteModel {
  readonly path: string;
  /** The number of the version directory that it is. */
  readonly version?: number;
  /** What was seen of it: where it has become something else, it is not fetched. */
  readonly stamp?: string;
}

/**
 * Fetches a model.
 *
 * @param doneStamp the stamp of the done file that announces it; undefined where there is none
 * @param chosen what to fetch. @default what the configuration names, of version directories the greatest
 * @throws SRV_REMOTE_CHANGED when model or done file were replaced meanwhile, SRV_REMOTE_NOT_FOUND when the model is
 * not there, SRV_REMOTE_DAMAGED, SRV_BAD_ARCHIVE, and what the store throws
 */
export async function fetchModel(
  doneStamp: RemoteStamp | undefined,
  context: FetchContext,
  chosen?: RemoteModel,
): Promise<FetchedModel> {
  const { config, store, place, signal, heard } = context;
  const donePath = doneFilePath(config);
  const remote = chosen ?? (await chooseRemote(context));
  // A model that is its own done file is no text.
  const hasText = doneStamp !== undefined && donePath !== remote.path;
  const doneText = hasText ? ((await fetchText(donePath, context)) ?? '') : '';
  const label = store.label + remote.path;

  const before = await store.stampOf(remote.path, { signal, onAnswer: heard });
  heard();
  if (!before) {
    throw new ServingError(
      'SRV_REMOTE_NOT_FOUND',
      doneStamp
        ? `${store.label}${donePath} is there, but the model ${label} is not.`
        : `${label} is not there any more.`,
    );
  }
  if (remote.stamp !== undefined && remote.stamp !== before.text) throw changed(label, 'replaced');
  const fetched = join(place, 'fetched');
  const limits = { maxFiles: config.maxFiles, maxBytes: config.maxBytes };
  const onProgress = (progress: FetchProgress): void => {
    heard();
    context.onProgress?.(progress);
  };
  const { kind, bytes } = await store.fetch(remote.path, fetched, { signal, limits, onProgress });
  const listed = doneDigests(doneText, store.label + donePath, remote, config);
  const beside = kind === 'file' ? await digestsBeside(remote.path, context) : [];
  for (const [path, stamp] of [
    [donePath, doneStamp],
    [remote.path, before],
  ] as const) {
    if (!stamp) continue;
    const after = await store.stampOf(path, { signal, onAnswer: heard });
    heard();
    if (after?.text !== stamp.text) throw changed(store.label + path, after ? 'replaced' : 'removed');
  }

  const options = { signal, limits, onBytes: heard, onProgress: heard };
  const own = listed.filter(({ name }) => name === '');
  if (kind === 'file') await verifyFile(fetched, [...own, ...beside], label, options);
  const directory = await modelDirectory(fetched, kind, basename(remote.path), label, context);
  let digests = kind === 'file' ? own.length + beside.length : 0;
  for (const digest of listed.filter(({ name }) => name !== '')) {
    await verifyFile(join(directory, digest.name), [digest], `${label}/${digest.name}`, options);
    digests += 1;
  }
  digests += await verifyDirectory(directory, label, options);
  const files = await countFiles(directory);
  if (files === 0) {
    throw new ServingError('SRV_REMOTE_DAMAGED', `${label}: expected the files of a model, got none.`);
  }
  return {
    directory,
    ...(remote.version === undefined ? {} : { version: remote.version }),
    stamp: before.text,
    bytes,
    files,
    digests,
  };
}

function changed(what: string, how: 'replaced' | 'removed'): ServingError {
  return new ServingError('SRV_REMOTE_CHANGED', `${what} was ${how} while the model was being fetched.`);
}

/** With version directories here and there, the greatest alone is fetched, however many were published. */
async function chooseRemote({ config, store, signal, heard }: FetchContext): Promise<RemoteModel> {
  const path = joinRemote(config.remotePath, config.remoteModelName);
  if (config.layout === 'in_place') return { path };
  const entries = (await store.list(path, { signal, onAnswer: heard })) ?? [];
  heard();
  const versions = entries
    .filter(({ isDirectory }) => isDirectory)
    .flatMap(({ name }) => {
      const version = versionNumber(name);
      return version === undefined ? [] : [{ path: joinRemote(path, name), version }];
    });
  return versions.toSorted((a, b) => b.version - a.version)[0] ?? { path };
}

/** A small file of the store as text; undefined where it is missing. */
async function fetchText(path: string, context: FetchContext): Promise<string | undefined> {
  const { store, place, signal, heard } = context;
  const target = join(place, 'text');
  try {
    await store.fetch(path, target, {
      signal,
      limits: { maxFiles: 1, maxBytes: maxDigestBytes },
      onProgress: heard,
    });
    return await readFile(target, 'utf8');
  } catch (error) {
    if (error instanceof ServingError && error.code === 'SRV_REMOTE_NOT_FOUND') return undefined;
    throw error;
  } finally {
    heard();
    await rm(target, { recursive: true, force: true });
  }
}

/** Of those that may lie beside a file afar, two are asked for: each is a request, or a program that is started. */
const besideEndings: readonly (typeof digestEndings)[number][] = ['.sha256', '.md5'];

/** The digests that lie beside a file: `model.tar.gz.sha256`. The first one that is there will do. */
async function digestsBeside(path: string, context: FetchContext): Promise<readonly NamedDigest[]> {
  for (const ending of besideEndings) {
    const text = await fetchText(path + ending, context);
    if (text !== undefined) return [parseDigestFile(text, basename(path), ending)];
  }
  return [];
}

/** The lines of the done file that are about the model; `name` is empty for the model itself, else a path in it. */
function doneDigests(
  text: string,
  source: string,
  remote: RemoteModel,
  config: MonitorConfig,
): readonly NamedDigest[] {
  const own = remote.path.slice(joinRemote(config.remotePath, '').length);
  return parseDigestLines(text, source).flatMap((digest) => {
    if (digest.name === own) return [{ ...digest, name: '' }];
    if (!digest.name.startsWith(`${own}/`)) return [];
    const name = digest.name.slice(own.length + 1);
    return name.split('/').includes('..') ? [] : [{ ...digest, name }];
  });
}

/** The directory whose content is the model, made of what was fetched. */
async function modelDirectory(
  fetched: string,
  kind: 'file' | 'directory',
  name: string,
  label: string,
  { config, place, signal, heard }: FetchContext,
): Promise<string> {
  const { unpackedFilename } = config;
  const format = kind === 'file' ? await archiveFormat(fetched) : undefined;
  if (!format) {
    if (unpackedFilename !== undefined) {
      throw new ServingError(
        'SRV_BAD_ARCHIVE',
        `${label}: expected an archive, because unpacked_filename is given, got ${kind === 'file' ? 'another file' : 'a directory'}.`,
      );
    }
    return kind === 'directory' ? fetched : alone(fetched, name, place);
  }
  const unpacked = join(place, 'unpacked');
  const limits = { maxFiles: config.maxFiles, maxBytes: config.maxBytes };
  await unpackArchive(fetched, unpacked, label, { signal, limits, onProgress: heard });
  await rm(fetched);
  if (unpackedFilename === undefined) return onlyDirectory(unpacked);
  const chosen = join(unpacked, unpackedFilename);
  const found = await stat(chosen).catch(() => undefined);
  if (!found) {
    throw new ServingError(
      'SRV_BAD_ARCHIVE',
      `${label}: expected ${unpackedFilename} (unpacked_filename) in it, got ${(await readdir(unpacked)).toSorted().slice(0, 10).join(', ') || 'nothing'}.`,
    );
  }
  return found.isDirectory() ? chosen : alone(chosen, basename(chosen), place);
}

/** A directory that holds one file. */
async function alone(file: string, name: string, place: string): Promise<string> {
  const directory = join(place, 'alone');
  await mkdir(directory);
  await rename(file, join(directory, name));
  return directory;
}

/** An archive mostly holds one directory, and that is the model; a version directory is a part of it. */
async function onlyDirectory(directory: string): Promise<string> {
  const [only, ...others] = await readdir(directory, { withFileTypes: true });
  if (!only?.isDirectory() || others.length > 0 || versionNumber(only.name) !== undefined) return directory;
  return join(directory, only.name);
}

async function countFiles(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).length;
}
