/** What a directory holds that can be published: the files of the newest version of its model. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { modelFiles } from '../model/model-files.js';
import { readOnnxFile } from '../model/onnx-file.js';
import type { HttpBody } from '../remote/http-client.js';
import { findModels, type ModelEntry } from '../repository/layout.js';

/** A file to publish, as it was when it was looked at. */
export interface SourceFile {
  /** Relative to what is published, with slashes. */
  readonly path: string;
  /** Where it is. */
  readonly file: string;
  readonly bytes: number;
  readonly mtimeMs: number;
}

/** A version of a model with its files. */
export interface ModelVersionFiles {
  readonly name: string;
  /** Absent where the model has no version directories. */
  readonly version?: number;
  /** By path, in order. */
  readonly files: readonly SourceFile[];
}

/**
 * The newest version of the model at `path`: a model file, a directory with one, or a directory of version directories,
 * of which the settings beside are published too. Names that begin with a dot are left out.
 *
 * @param ignored names at the top that do not belong to the model, such as a stamp file
 * @throws SRV_MODEL_NOT_FOUND when there is no model; SRV_NOT_PUBLISHABLE when the newest version is no whole model, or
 *   has names that stores do not take; SRV_FOREIGN_FORMAT, SRV_BAD_CONFIG, SRV_IO
 */
export async function findVersionFiles(
  path: string,
  ignored: readonly string[] = [],
): Promise<ModelVersionFiles> {
  const place = resolve(path);
  const newest = (await findModels(place)).at(-1);
  if (!newest) throw new ServingError('SRV_MODEL_NOT_FOUND', `${place} holds no model.`);
  if (newest.error !== undefined) {
    throw new ServingError(
      'SRV_NOT_PUBLISHABLE',
      `${place}: version ${newest.version} is not complete: ${newest.error.message}`,
      { cause: newest.error },
    );
  }
  const needed = requireWhole(newest);
  const isFile = (await stat(place)).isFile();
  const root = isFile ? dirname(place) : place;
  const versionName = isFile ? undefined : versionDirectoryOf(newest, root);
  const files = isFile
    ? await Promise.all(needed.map((file) => lookAt(file, relative(root, file).replaceAll('\\', '/'))))
    : await filesBelow(root, '', (name, isTop) => isWanted(name, isTop, versionName, ignored));
  return {
    name: basename(place),
    ...(versionName === undefined ? {} : { version: newest.version }),
    files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
  };
}

/** The files that the model names; a file of weights that is missing, or a model that ends too early, is found here. */
function requireWhole({ modelFile }: ModelEntry): readonly string[] {
  try {
    return modelFiles(modelFile, readOnnxFile(modelFile)).map((file) => file.path);
  } catch (cause) {
    if (!(cause instanceof ServingError) || cause.code !== 'SRV_MODEL_INVALID') throw cause;
    throw new ServingError('SRV_NOT_PUBLISHABLE', `not complete: ${cause.message}`, { cause });
  }
}

function versionDirectoryOf({ modelFile, origin }: ModelEntry, root: string): string | undefined {
  const [first, ...others] = relative(root, modelFile).split(/[/\\]/);
  if (first === undefined || others.length === 0 || !/^\d+$/.test(first)) return undefined;
  return origin === 'file' ? undefined : first;
}

function isWanted(
  name: string,
  isTop: boolean,
  versionName: string | undefined,
  ignored: readonly string[],
): boolean {
  if (name.startsWith('.')) return false;
  if (!isTop) return true;
  if (ignored.includes(name)) return false;
  return versionName === undefined || !/^\d+$/.test(name) || name === versionName;
}

async function filesBelow(
  root: string,
  below: string,
  isWanted: (name: string, isTop: boolean) => boolean,
): Promise<SourceFile[]> {
  const found: SourceFile[] = [];
  const names = await readdir(join(root, below)).catch((cause: unknown) => refuse(join(root, below), cause));
  for (const name of names.toSorted()) {
    if (!isWanted(name, below === '')) continue;
    const path = below === '' ? name : `${below}/${name}`;
    requireName(name, join(root, below));
    const file = join(root, path);
    const info = await stat(file).catch((cause: unknown) => refuse(file, cause));
    if (info.isDirectory()) found.push(...(await filesBelow(root, path, isWanted)));
    else found.push(await lookAt(file, path));
  }
  return found;
}

async function lookAt(file: string, path: string): Promise<SourceFile> {
  const info = await stat(file).catch((cause: unknown) => refuse(file, cause));
  if (!info.isFile()) {
    throw new ServingError('SRV_NOT_PUBLISHABLE', `${file}: expected a file or a directory, got a device.`);
  }
  return { path, file, bytes: info.size, mtimeMs: info.mtimeMs };
}

/** What stores, listings of digests and those who fetch take as a name. @throws SRV_NOT_PUBLISHABLE */
export function requireName(name: string, where: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (name !== '' && name !== '.' && name !== '..' && !/[/\\\x00-\x1f\x7f\ufffd]/.test(name)) return;
  throw new ServingError(
    'SRV_NOT_PUBLISHABLE',
    `${where}: a name with a backslash, a control character or bytes that are no UTF-8 cannot be published: ${JSON.stringify(name)}.`,
  );
}

/** What tells one state of files from another: names, sizes and times of change. */
export function stateOf(files: readonly SourceFile[]): string {
  return files.map(({ path, bytes, mtimeMs }) => `${path} ${bytes} ${mtimeMs}\n`).join('');
}

/**
 * Looks at files again after they were read.
 *
 * @throws SRV_NOT_PUBLISHABLE when one changed meanwhile: then what was read may be of both
 */
export async function requireUnchanged(files: readonly SourceFile[]): Promise<void> {
  for (const before of files) {
    const now = await lookAt(before.file, before.path);
    if (now.bytes === before.bytes && now.mtimeMs === before.mtimeMs) continue;
    throw new ServingError('SRV_NOT_PUBLISHABLE', `${before.file} changed while it was being read.`);
  }
}

/** A file as a body to send. @param onBytes called with the number of bytes that were read */
export function fileBody(file: string, bytes: number, onBytes: (bytes: number) => void = () => {}): HttpBody {
  return {
    bytes,
    chunks: async function* () {
      if (bytes === 0) return;
      try {
        // Not more than was said, should it grow.
        for await (const chunk of createReadStream(file, { end: bytes - 1, highWaterMark: 1 << 20 })) {
          onBytes((chunk as Buffer).byteLength);
          yield chunk as Buffer;
        }
      } catch (cause) {
        if (cause instanceof ServingError) throw cause;
        refuse(file, cause);
      }
    },
  };
}

/** SHA-256 of a file, in hex. */
export async function sha256Of(file: string, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of fileBody(file, bytes).chunks()) hash.update(chunk);
  return hash.digest('hex');
}

function refuse(file: string, cause: unknown): never {
  throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}.`, { cause });
}
