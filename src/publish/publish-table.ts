/** One publication of a table: the versions that the target lacks, each with its line in Cube's done files. */

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ServingError } from '../errors.js';
import { joinRemote } from '../remote/fetch-tree.js';
import { manifestName, resolveChain, type TableVersionPlace } from '../sparse/manifest.js';
import {
  announce,
  countTo,
  digestedFiles,
  type PreparedVersion,
  type PublishContext,
  type Published,
  type PublishNames,
} from './publish-model.js';
import { sumsName, textUpload } from './publish-target.js';
import { type SourceFile, stateOf } from './version-files.js';

/** Cube's done files: a line for each snapshot, and for each delta. */
export const baseDonefileName = 'base.txt';
export const patchDonefileName = 'patch.txt';

/** A line of a done file of Cube's. */
interface DoneLine {
  /** Of a delta greater than those before; here the number of the version. */
  readonly id: string;
  /** The id of the snapshot that it stands on; of a snapshot its own. */
  readonly key: string;
  /** The directory of the version at the target. */
  readonly input: string;
}

/** The versions of a table, snapshot first, with the files of each. */
export interface TableChain {
  readonly versions: readonly (TableVersionPlace & { readonly files: readonly SourceFile[] })[];
}

/**
 * The newest version of the table at `root` with all that it stands on.
 *
 * @param wanted a version instead of the newest
 * @throws what `resolveChain` throws: a version without a manifest is none, a damaged one is named
 */
export async function findTableChain(root: string, wanted?: number): Promise<TableChain> {
  const versions = [];
  for (const place of await resolveChain(root, wanted)) {
    const names = [...place.manifest.files.map(({ name }) => name), manifestName];
    const files: SourceFile[] = [];
    for (const name of names) {
      const file = join(place.directory, name);
      const { size, mtimeMs } = await stat(file);
      files.push({ path: name, file, bytes: size, mtimeMs });
    }
    versions.push({ ...place, files });
  }
  return { versions };
}

/** What tells one state of a table from another. */
export function stateOfTable({ versions }: TableChain): string {
  return versions.map(({ manifest, files }) => `${manifest.version}\n${stateOf(files)}`).join('');
}

/**
 * Hashes the files of every version, without a word to the target. What `send` then does: it uploads the versions that
 * the target does not have, in order, and appends the lines of `base.txt` and `patch.txt`, each after its version is
 * there. Last comes the done file.
 *
 * `send` throws SRV_PUBLISH_CONFLICT when the target has a newer snapshot, a later delta, or another version of a number.
 *
 * @throws SRV_NOT_PUBLISHABLE when a file changed meanwhile, SRV_IO
 */
export async function prepareTable({ versions }: TableChain, names: PublishNames): Promise<PreparedVersion> {
  const { remoteModelName } = names;
  const digested: DigestedVersion[] = [];
  for (const version of versions) {
    const files = await digestedFiles(version.files);
    const digestLine = `${files.digest}  ${remoteModelName}/${version.manifest.version}/${sumsName}`;
    digested.push({ ...version, digested: files, digestLine });
  }
  return {
    names,
    digestLine: digested.at(-1)!.digestLine,
    close: async () => {},
    send: (context) => sendTable(digested, context),
  };
}

interface DigestedVersion extends TableVersionPlace {
  readonly files: readonly SourceFile[];
  readonly digested: Awaited<ReturnType<typeof digestedFiles>>;
  readonly digestLine: string;
}

async function sendTable(versions: readonly DigestedVersion[], context: PublishContext): Promise<Published> {
  const { target, lock, names } = context;
  const { signal } = lock;
  const totalBytes = versions.reduce((sum, { digested }) => sum + digested.bytes, 0);
  const count = countTo(totalBytes, context);
  const root = joinRemote(names.remotePath, names.remoteModelName);
  const base = String(versions[0]!.manifest.version);
  let bytes = 0;
  let files = 0;
  for (const { manifest, digested, directory, ...version } of versions) {
    const path = `${root}/${manifest.version}`;
    const isSnapshot = manifest.kind === 'snapshot';
    const donePath = joinRemote(names.remotePath, isSnapshot ? baseDonefileName : patchDonefileName);
    const text = (await target.read(donePath, { signal }))?.toString() ?? '';
    const line: DoneLine = { id: String(manifest.version), key: base, input: path };
    const isListed = requirePlace(parseDoneLines(text, target.label + donePath), line, isSnapshot);
    const there = await target.read(`${path}/${manifestName}`, { signal });
    if (there && isListed && !there.equals(await readFile(join(directory, manifestName)))) {
      throw new ServingError(
        'SRV_PUBLISH_CONFLICT',
        `${target.label}${path} holds another version ${manifest.version} than ${directory}: published versions do not change; build it under a new number.`,
      );
    }
    if (!there || !isListed) {
      await target.writeDirectory(path, digested.files(count), { signal });
      bytes += digested.bytes;
      files += version.files.length;
    }
    if (isListed) continue;
    await lock.confirm();
    const before = text === '' || text.endsWith('\n') ? text : `${text}\n`;
    await target.write(donePath, textUpload(`${before}${JSON.stringify(line)}\n`), { signal });
  }
  const newest = versions.at(-1)!;
  const digestLines = versions.map(({ digestLine }) => digestLine);
  await announce(digestLines, newest.manifest.version, totalBytes, context);
  return { files, bytes, version: newest.manifest.version, digestLine: newest.digestLine };
}

/** Whether the line is there already. @throws SRV_PUBLISH_CONFLICT when it can no longer be appended */
function requirePlace(lines: readonly DoneLine[], line: DoneLine, isSnapshot: boolean): boolean {
  const same = isSnapshot ? lines : lines.filter(({ key }) => key === line.key);
  if (same.some(({ id }) => id === line.id)) return true;
  const last = same.at(-1);
  if (!last || Number(last.id) < Number(line.id)) return false;
  throw new ServingError(
    'SRV_PUBLISH_CONFLICT',
    `the target has ${isSnapshot ? 'the snapshot' : 'the delta'} ${last.id} already, so that version ${line.id} would never be taken: build it under a greater number.`,
  );
}

function parseDoneLines(text: string, label: string): readonly DoneLine[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.length >= 3)
    .map((line) => {
      try {
        const { id, key, input } = JSON.parse(line) as Record<string, unknown>;
        return { id: String(id), key: String(key), input: String(input) };
      } catch (cause) {
        throw new ServingError(
          'SRV_PUBLISH_CONFLICT',
          `${label}: expected lines of JSON with id, key and input, got ${JSON.stringify(line.slice(0, 80))}.`,
          { cause },
        );
      }
    });
}
