/** One publication of a model: packed or as it is, digests beside it, the done file last. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { joinRemote } from '../remote/fetch-tree.js';
import { packVersion } from './pack-version.js';
import { type DirectoryFile, type PublishTarget, sumsName, textUpload } from './publish-target.js';
import type { TargetLock } from './target-lock.js';
import { fileBody, type ModelVersionFiles, requireUnchanged, sha256Of } from './version-files.js';

/** What is published under which names. */
export interface PublishNames {
  /** The directory at the target. */
  readonly remotePath: string;
  readonly remoteModelName: string;
  readonly remoteDonefileName: string;
  /** The directory in the archive. */
  readonly unpackedFilename: string;
}

/** How far a publication is. */
export interface PublishProgress {
  readonly bytes: number;
  readonly totalBytes: number;
}

/** What is needed to publish. */
export interface PublishContext {
  readonly target: PublishTarget;
  readonly lock: TargetLock;
  readonly names: PublishNames;
  readonly onProgress?: ((progress: PublishProgress) => void) | undefined;
  /** For the done file. @default the time of day */
  readonly now?: () => Date;
}

/** What was published. */
export interface Published {
  readonly files: number;
  /** As they were sent. */
  readonly bytes: number;
  readonly version?: number;
  /** The line of the done file: digest and name. */
  readonly digestLine: string;
}

/** A version that is ready to be sent. */
export interface PreparedVersion {
  readonly names: PublishNames;
  readonly digestLine: string;
  send(context: PublishContext): Promise<Published>;
  /** Removes what was packed. */
  close(): Promise<void>;
}

/**
 * Packs and hashes a version, without a word to the target.
 *
 * @throws SRV_NOT_PUBLISHABLE when a file changed meanwhile, SRV_IO
 */
export async function prepareModel(
  source: ModelVersionFiles,
  pack: 'none' | 'tar' | 'tar.gz',
  names: PublishNames,
  signal?: AbortSignal,
): Promise<PreparedVersion> {
  return pack === 'none' ? prepareDirectory(source, names) : prepareArchive(source, pack, names, signal);
}

async function prepareArchive(
  source: ModelVersionFiles,
  pack: 'tar' | 'tar.gz',
  names: PublishNames,
  signal: AbortSignal | undefined,
): Promise<PreparedVersion> {
  const { unpackedFilename, remoteModelName } = names;
  const place = await mkdtemp(join(tmpdir(), 'onnx-serving-publish-'));
  const close = (): Promise<void> => rm(place, { recursive: true, force: true });
  try {
    const packed = await packVersion(source.files, unpackedFilename, place, {
      gzip: pack === 'tar.gz',
      signal,
    });
    await requireUnchanged(source.files);
    const digestLine = `${packed.sha256}  ${remoteModelName}`;
    return {
      names,
      digestLine,
      close,
      send: async (context) => {
        const { target, lock } = context;
        const { signal } = lock;
        const path = joinRemote(names.remotePath, remoteModelName);
        const body = fileBody(packed.file, packed.bytes, countTo(packed.bytes, context));
        await target.write(path, { body, sha256: packed.sha256 }, { signal });
        await lock.confirm();
        await target.write(`${path}.sha256`, textUpload(`${digestLine}\n`), { signal });
        await announce([digestLine], source.version, packed.bytes, context);
        return published(source.files.length, packed.bytes, source.version, digestLine);
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function prepareDirectory(source: ModelVersionFiles, names: PublishNames): Promise<PreparedVersion> {
  const { remoteModelName } = names;
  const { files, digest, bytes } = await digestedFiles(source.files);
  const digestLine = `${digest}  ${remoteModelName}/${sumsName}`;
  return {
    names,
    digestLine,
    close: async () => {},
    send: async (context) => {
      const { target, lock } = context;
      const path = joinRemote(names.remotePath, remoteModelName);
      const count = countTo(bytes, context);
      await target.writeDirectory(path, files(count), { signal: lock.signal });
      await announce([digestLine], source.version, bytes, context);
      return published(source.files.length, bytes, source.version, digestLine);
    },
  };
}

/** Files as uploads, with the list of their digests as the last one. */
export async function digestedFiles(sources: ModelVersionFiles['files']): Promise<{
  readonly files: (onBytes: (bytes: number) => void) => readonly DirectoryFile[];
  /** Of the list. */
  readonly digest: string;
  readonly bytes: number;
}> {
  const listed = sources.filter(({ path }) => path !== sumsName);
  const sums: { readonly sha256: string }[] = [];
  for (const { file, bytes } of listed) sums.push({ sha256: await sha256Of(file, bytes) });
  await requireUnchanged(listed);
  const list = textUpload(listed.map(({ path }, index) => `${sums[index]!.sha256}  ${path}\n`).join(''));
  return {
    digest: list.sha256,
    bytes: listed.reduce((sum, { bytes }) => sum + bytes, 0),
    files: (onBytes) => [
      ...listed.map(({ path, file, bytes }, index) => ({
        path,
        sha256: sums[index]!.sha256,
        body: fileBody(file, bytes, onBytes),
      })),
      { path: sumsName, ...list },
    ],
  };
}

/**
 * Writes the done file: lines as `sha256sum` prints them, by which those who fetch know what belongs together. The lock
 * is confirmed right before.
 */
export async function announce(
  digestLines: readonly string[],
  version: number | undefined,
  bytes: number,
  { target, lock, names, now = () => new Date() }: PublishContext,
): Promise<void> {
  const said = `# ${version === undefined ? '' : `version ${version}, `}${bytes} bytes, published ${now().toISOString()}`;
  await lock.confirm();
  const path = joinRemote(names.remotePath, names.remoteDonefileName);
  await target.write(path, textUpload(`${[...digestLines, said].join('\n')}\n`), { signal: lock.signal });
}

function published(files: number, bytes: number, version: number | undefined, digestLine: string): Published {
  return { files, bytes, digestLine, ...(version === undefined ? {} : { version }) };
}

/** What counts the bytes that were sent. */
export function countTo(totalBytes: number, { onProgress }: PublishContext): (bytes: number) => void {
  let sent = 0;
  return (bytes) => {
    sent += bytes;
    onProgress?.({ bytes: Math.min(sent, totalBytes), totalBytes });
  };
}
