/**
 * Stamp files, the way publishers of Paddle Serving work: a model's directory is overwritten in place, and then a file
 * is touched to say so.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { ReloadableType } from '../config/reloadable-types.js';
import type { ModelEntry } from './layout.js';

/** A stamp file and how it is read. */
export interface StampRule {
  /** Absolute path; absent: `fluid_time_file` in the directory of the model. */
  readonly meta: string | undefined;
  readonly type: ReloadableType;
}

/** The name of the stamp file where no other one is set. */
export const defaultStampName = 'fluid_time_file';

/** The rule of one model: what its settings say, and where they say nothing that of the server. */
export function stampRuleOf({ directory, settings }: ModelEntry, server: StampRule): StampRule {
  const { reloadableMeta: meta, reloadableType: type } = settings;
  return {
    meta: meta === undefined ? server.meta : resolve(directory, meta),
    type: type ?? server.type,
  };
}

/**
 * The stamp file of a model, or undefined for one with version directories: those are never overwritten.
 */
export function stampFileOf(entry: ModelEntry, rule: StampRule): string | undefined {
  if (rule.type === 'none') return undefined;
  if (rule.meta !== undefined) return rule.meta;
  if (dirname(entry.modelFile) !== entry.directory) return undefined;
  return join(entry.directory, defaultStampName);
}

/** Reads stamps. One for all models, because several may be driven by one file. */
export class StampReader {
  /** By path, the latest time that was seen: for those where only a later one counts. */
  readonly #latest = new Map<string, bigint>();

  /**
   * What the stamp says, unlike for unlike states: undefined where there is no such file.
   *
   * - `timestamp_ne`: its time of change, with all the digits that the file system keeps
   * - `timestamp_gt`: the latest time of change that was seen, so that a clock going backwards changes nothing
   * - `md5sum`: the MD5 of its content
   * - `revision`: its first word
   */
  async read(file: string, type: ReloadableType): Promise<string | undefined> {
    const path = resolve(file);
    try {
      switch (type) {
        case 'timestamp_ne':
          return String((await stat(path, { bigint: true })).mtimeNs);
        case 'timestamp_gt': {
          const { mtimeNs } = await stat(path, { bigint: true });
          const before = this.#latest.get(path);
          const latest = before === undefined || mtimeNs > before ? mtimeNs : before;
          this.#latest.set(path, latest);
          return String(latest);
        }
        case 'md5sum':
          return createHash('md5')
            .update(await readFile(path))
            .digest('hex');
        case 'revision':
          return /\S+/.exec(await readFile(path, 'utf8'))?.[0] ?? '';
        case 'none':
          return undefined;
        default:
          return type satisfies never;
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      throw error;
    }
  }
}
