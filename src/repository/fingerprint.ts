/** What tells one content of a model from another without reading it: names, sizes and times of its files. */
import { createHash } from 'node:crypto';
import { type BigIntStats, existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import type { Fingerprint } from '../lifecycle/policy.js';
import type { ModelEntry } from './layout.js';
import { type StampReader, type StampRule, stampFileOf } from './stamp-file.js';

// The file that makes a version of a table; see sparse/manifest.ts.
const tableManifest = 'manifest.json';
const settingsFiles = ['model.json', 'config.pbtxt', 'serving_server_conf.prototxt'];

/**
 * Two equal fingerprints of a version mean that loading it again would change nothing.
 *
 * A model with a stamp file has that of the stamp, whatever happens to its files and settings; with version directories,
 * that of the files in its directory and of its settings; both, apart from it, that of the newest versions of their tables.
 */
export async function fingerprintOf(
  entry: ModelEntry,
  stamps: StampReader,
  rule: StampRule,
): Promise<Fingerprint> {
  const parts: string[] = [];
  const stampFile = stampFileOf(entry, rule);
  if (stampFile !== undefined) {
    parts.push(`stamp ${(await stampOf(stampFile, stamps, rule)) ?? 'absent'}`);
  } else if (dirname(entry.modelFile) !== entry.directory) {
    parts.push(...(await filesIn(dirname(entry.modelFile))));
  }
  const content = digestOf(parts);
  const newest: string[] = [];
  for (const table of tablesOf(entry)) newest.push(`${table} ${await newestVersionIn(table)}`);
  const tables = newest.length === 0 ? {} : { tables: digestOf(newest) };
  // A model.json that is copied before its model says nothing until the stamp does.
  return stampFile === undefined
    ? { content, settings: JSON.stringify(entry.settings), ...tables }
    : { content, settings: '', isOfStamp: true, ...tables };
}

function digestOf(lines: readonly string[]): string {
  return createHash('sha256').update(lines.join('\n')).digest('base64url');
}

async function stampOf(file: string, stamps: StampReader, rule: StampRule): Promise<string | undefined> {
  try {
    return await stamps.read(file, rule.type);
  } catch {
    // What cannot be read now says nothing new.
    return 'unreadable';
  }
}

/** Directories of the tables whose newest version a model takes. */
export function tablesOf(entry: ModelEntry): readonly string[] {
  const stages = entry.settings.embeddings ?? [];
  const unpinned = stages.filter(({ version }) => version === undefined).map(({ table }) => table);
  return [...new Set(unpinned)].map((table) => {
    if (isAbsolute(table)) return table;
    const beside = join(dirname(entry.modelFile), table);
    return existsSync(beside) ? beside : join(entry.directory, table);
  });
}

/** Files of settings that a model in this directory may have. */
export function settingsFilesIn(directory: string): readonly string[] {
  return settingsFiles.map((name) => join(directory, name));
}

/** Every file below a directory, to the depth of three, as `name inode size mtime`. */
async function filesIn(directory: string, depth = 3): Promise<string[]> {
  const children = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const lines: string[] = [];
  for (const child of children.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, child.name);
    const facts = await factsOf(path);
    if (!facts) continue;
    if (!facts.isDirectory()) lines.push(`${path} ${facts.ino} ${facts.size} ${facts.mtimeNs}`);
    else if (depth > 1) lines.push(...(await filesIn(path, depth - 1)));
  }
  return lines;
}

/** When a file below a directory was last changed, in ms since 1970; 0 without any. */
export async function newestChangeIn(directory: string, depth = 3): Promise<number> {
  const children = await readdir(directory, { withFileTypes: true }).catch(() => []);
  let newest = 0;
  for (const child of children) {
    const path = join(directory, child.name);
    const facts = await factsOf(path);
    if (!facts) continue;
    // The time of the inode, which a copy cannot set back, unlike that of the content.
    const changed = facts.isDirectory()
      ? depth > 1
        ? await newestChangeIn(path, depth - 1)
        : 0
      : Number(facts.ctimeNs / 1_000_000n);
    newest = Math.max(newest, changed);
  }
  return newest;
}

/** The number and the manifest's time of the newest version of a table that is whole. */
async function newestVersionIn(table: string): Promise<string> {
  const numbers = (await readdir(table).catch(() => [])).filter((name) => /^[1-9]\d*$/.test(name));
  for (const name of numbers.toSorted((a, b) => Number(b) - Number(a))) {
    const facts = await factsOf(join(table, name, tableManifest));
    if (facts) return `${name} ${facts.ino} ${facts.size} ${facts.mtimeNs}`;
  }
  return 'none';
}

function factsOf(path: string): Promise<BigIntStats | undefined> {
  return stat(path, { bigint: true }).catch(() => undefined);
}
