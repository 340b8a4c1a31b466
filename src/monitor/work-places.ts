/** Where a monitor has its files, and what it remembers between starts. */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { MonitorConfig } from '../config/monitor-settings.js';
import { isKeyed } from '../config/problems.js';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { placeOfAddress } from '../remote/masked-url.js';

/** The places of one monitor. */
export interface WorkPlaces {
  /** The model's directory. */
  readonly target: string;
  /** What is in work, a directory for each attempt. */
  readonly work: string;
  readonly lock: string;
  readonly state: string;
  /** The model that was replaced, for the moment in between; beside the target, because a rename crosses no file systems. */
  readonly aside: string;
}

/** The places that a configuration means, made as far as they are directories of the monitor's own. */
export function workPlaces(config: MonitorConfig): WorkPlaces {
  const localPath = resolve(config.localPath);
  const temporary = resolve(localPath, config.localTmpPath);
  const name = config.localModelName;
  return {
    target: join(localPath, name),
    work: join(temporary, name),
    lock: join(temporary, `${name}.lock`),
    state: join(temporary, `${name}.state.json`),
    aside: join(localPath, `.${name}.previous`),
  };
}

/** Makes the directories that a monitor works in. @throws SRV_IO */
export function makePlaces({ work, target }: WorkPlaces): void {
  for (const directory of [dirname(target), work]) {
    try {
      makeDirectory(directory, 0o777);
    } catch (cause) {
      throw new ServingError('SRV_IO', `The directory ${directory} cannot be made: ${messageOf(cause)}.`, {
        cause,
      });
    }
  }
}

/** Makes an empty directory for an attempt; what earlier ones left behind is removed. @throws SRV_IO */
export async function beginAttempt({ work }: WorkPlaces): Promise<string> {
  try {
    for (const left of await readdir(work)) await rm(join(work, left), { recursive: true, force: true });
    return await mkdtemp(join(work, 'attempt-'));
  } catch (cause) {
    throw new ServingError('SRV_IO', `${work} cannot be written to: ${messageOf(cause)}.`, { cause });
  }
}

/** What was installed last. */
export interface InstalledState {
  /** The stamp of the done file then. */
  readonly stamp: string;
  /** The version directory; absent where the model's directory itself was replaced. */
  readonly version?: number;
  /** Where version directories are followed: what was seen of each that is here. */
  readonly versions?: Readonly<Record<string, string>>;
  /** The version directories that were there when the done file was seen. */
  readonly announced?: readonly number[];
  /** What was seen of each file and directory beside the version directories, by name. */
  readonly beside?: Readonly<Record<string, string>>;
}

/** What was installed last from the same source; undefined where that is not known. */
export async function readState(
  places: WorkPlaces,
  config: MonitorConfig,
): Promise<InstalledState | undefined> {
  try {
    const state = JSON.parse(await readFile(places.state, 'utf8')) as Record<string, unknown>;
    if (state.source !== sourceDigest(config) || typeof state.stamp !== 'string') return undefined;
    const { stamp, version, versions, announced, beside } = state;
    return {
      stamp,
      ...(typeof version === 'number' ? { version } : {}),
      ...(isTextRecord(versions) ? { versions } : {}),
      ...(Array.isArray(announced) ? { announced: announced.filter((one) => typeof one === 'number') } : {}),
      ...(isTextRecord(beside) ? { beside } : {}),
    };
  } catch {
    // Missing or damaged: the model is fetched once more, which does no harm.
    return undefined;
  }
}

/** @throws SRV_IO */
export async function writeState(
  places: WorkPlaces,
  config: MonitorConfig,
  state: InstalledState,
): Promise<void> {
  const next = `${places.state}.${process.pid}`;
  try {
    await writeFile(next, `${JSON.stringify({ ...state, source: sourceDigest(config) })}\n`);
    await rename(next, places.state);
  } catch (cause) {
    await rm(next, { force: true }).catch(() => undefined);
    throw new ServingError('SRV_IO', `${places.state} cannot be written: ${messageOf(cause)}.`, { cause });
  }
}

function isTextRecord(value: unknown): value is Readonly<Record<string, string>> {
  return isKeyed(value) && Object.values(value).every((one) => typeof one === 'string');
}

/** Tells one source from another without writing secrets down; another password makes no other source. */
function sourceDigest(config: MonitorConfig): string {
  const { type, ftpPort, fsName } = config;
  const [generalHost, ftpHost] = [config.generalHost, config.ftpHost].map((host) =>
    placeOfAddress(host ?? ''),
  );
  const { remotePath, remoteModelName, remoteDonefileName, unpackedFilename, layout } = config;
  const parts = [type, generalHost, ftpHost, ftpPort, fsName, remotePath, remoteModelName];
  return createHash('sha256')
    .update(JSON.stringify([...parts, remoteDonefileName, unpackedFilename, layout]))
    .digest('hex');
}
