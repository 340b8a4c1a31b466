/** The files of a version as one archive. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { create } from 'tar';
import { messageOf, ServingError } from '../errors.js';
import { abortError } from '../remote/abort.js';
import type { SourceFile } from './version-files.js';

/** An archive on this machine. */
export interface PackedVersion {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Packs files into `target` under the directory `rootName`. Equal files give equal bytes: owners and times are left out.
 *
 * @param place an empty directory for what it needs on the way
 * @throws SRV_IO when the disk is full
 */
export async function packVersion(
  files: readonly SourceFile[],
  rootName: string,
  place: string,
  { gzip, signal }: { readonly gzip: boolean; readonly signal?: AbortSignal | undefined },
): Promise<PackedVersion> {
  const target = join(place, 'packed');
  const hash = createHash('sha256');
  let bytes = 0;
  const count = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      bytes += chunk.byteLength;
      done(null, chunk);
    },
  });
  try {
    // The archive has paths of its own, so a directory of links with those paths is packed.
    const links = join(place, 'links');
    for (const { path, file } of files) {
      const link = join(links, rootName, path);
      await mkdir(dirname(link), { recursive: true });
      await symlink(file, link);
    }
    const pack = create(
      { cwd: links, follow: true, portable: true, noMtime: true, strict: true, gzip },
      // A leading @ would name an archive whose entries are added.
      files.map(({ path }) => `${rootName.startsWith('@') ? './' : ''}${rootName}/${path}`),
    );
    await pipeline(pack, count, createWriteStream(target), signal ? { signal } : {});
  } catch (cause) {
    if (signal?.aborted) throw abortError(signal);
    throw new ServingError('SRV_IO', `The version cannot be packed at ${place}: ${messageOf(cause)}.`, {
      cause,
    });
  }
  return { file: target, bytes, sha256: hash.digest('hex') };
}
