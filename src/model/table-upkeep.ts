import { dirname } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import type { Logger } from '../observe/logger.js';
import { compactTable } from '../sparse/rebuild.js';
import { newestVersion } from '../sparse/table.js';
import type { HeldTable, StageTables } from './stage-tables.js';

/** What is done, and with what. */
export interface TableUpkeepOptions {
  /** Whether files are verified. */
  readonly verifies: boolean;
  /** Deltas in a chain from which on it is folded; 0: never. */
  readonly compactFrom: number;
  readonly logger: Logger;
}

/** What was done until now. */
export interface UpkeepCounts {
  /** Tables whose files were verified, by what was found. */
  readonly sound: number;
  readonly corrupt: number;
  /** Chains that were folded, and those where it failed. */
  readonly compacted: number;
  readonly notCompacted: number;
}

/** A server needs its memory for serving; a build with less makes more and smaller partitions. */
const memoryLimit = 256 << 20;

/**
 * What a runtime does by itself for the tables of its models: verifying, and folding chains of deltas. One thing at a
 * time, at low priority; what is served stays as it is meanwhile.
 */
export class TableUpkeep {
  readonly #options: TableUpkeepOptions;
  readonly #stop = new AbortController();
  readonly #counts = { sound: 0, corrupt: 0, compacted: 0, notCompacted: 0 };
  #work: Promise<void> = Promise.resolve();

  constructor(options: TableUpkeepOptions) {
    this.#options = options;
  }

  get counts(): UpkeepCounts {
    return this.#counts;
  }

  /**
   * Puts the tables of a version that is ready behind those that wait.
   *
   * @param onCorrupt called with the first fault; not for tables that were closed meanwhile
   */
  begin(tables: StageTables, onCorrupt: (fault: ServingError) => void): void {
    this.#work = this.#work.then(() => this.#tend(tables.held, onCorrupt));
  }

  /** Ends what is under way and waits for it; idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  async #tend(tables: readonly HeldTable[], onCorrupt: (fault: ServingError) => void): Promise<void> {
    if (this.#options.verifies) {
      for (const table of tables) if (!(await this.#verify(table, onCorrupt))) return;
    }
    for (const table of tables) await this.#compact(table);
  }

  /** Whether the table is sound and still open. */
  async #verify({ table, resolved }: HeldTable, onCorrupt: (fault: ServingError) => void): Promise<boolean> {
    const { logger } = this.#options;
    const { label } = resolved;
    try {
      const bytes = await table.verify({ isBackground: true, signal: this.#stop.signal });
      this.#counts.sound += 1;
      logger.info({ table: label, bytes }, `table ${label} is sound`);
      return true;
    } catch (error) {
      const code = error instanceof ServingError ? error.code : 'SRV_INTERNAL';
      if (code === 'SRV_CANCELLED') return false;
      if (code === 'SRV_TABLE_CORRUPT') {
        this.#counts.corrupt += 1;
        onCorrupt(error as ServingError);
      } else {
        logger.error({ table: label, code }, `table ${label} could not be verified: ${messageOf(error)}`);
      }
      return false;
    }
  }

  async #compact({ resolved, isPinned }: HeldTable): Promise<void> {
    const { compactFrom, logger } = this.#options;
    const { label, directory, files, manifest, model } = resolved;
    const deltas = files.deltas.length;
    const { signal } = this.#stop;
    // A pinned version is what the next load takes too, whatever it was folded into.
    if (compactFrom === 0 || deltas < compactFrom || isPinned || signal.aborted) return;
    try {
      if ((await newestVersion(dirname(directory), model)) !== manifest.version) return;
      logger.info({ table: label, deltas }, `folding the ${deltas} deltas of table ${label}`);
      const built = await compactTable(directory, { isBackground: true, threads: 1, memoryLimit, signal });
      this.#counts.compacted += 1;
      logger.info(
        { table: label, rows: built.manifest.rows },
        `table ${label} was folded into version ${built.manifest.version}, which the next load takes`,
      );
    } catch (error) {
      if (signal.aborted) return;
      const code = error instanceof ServingError ? error.code : 'SRV_INTERNAL';
      // Servers that share a table are at it together: one does it, or has just done it.
      if (code === 'SRV_BAD_CONFIG' || (error as ServingError).details?.isBeingMade === true) {
        logger.info({ table: label }, `table ${label} is folded by another process: ${messageOf(error)}`);
        return;
      }
      this.#counts.notCompacted += 1;
      logger.warn({ table: label, code }, `table ${label} was not folded: ${messageOf(error)}`);
    }
  }
}
