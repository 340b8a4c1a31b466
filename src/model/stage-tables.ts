import { existsSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import type { EmbeddingSettings } from '../config/embedding-settings.js';
import { ServingError } from '../errors.js';
import type { ModelEntry } from '../repository/layout.js';
import type { LocalTable } from '../sparse/local-table.js';
import { openResolved, openVerified, type ResolvedTable, resolveTable } from '../sparse/table.js';
import type { PlannedTable } from './embedding-plan.js';

/** A table that is held open. */
export interface HeldTable {
  readonly table: LocalTable;
  readonly resolved: ResolvedTable;
  /** Whether a stage names its version. */
  readonly isPinned: boolean;
}

/** The tables that a version's stages use. While this is open, instances share its mappings. */
export interface StageTables {
  /** For each stage its table; stages that name the same one share it. */
  readonly perStage: readonly PlannedTable[];
  /** Each of them once. */
  readonly held: readonly HeldTable[];
  close(): void;
}

/**
 * Opens the tables of a model's stages.
 *
 * A stage without `version` gets the newest table version that was published with this version of the model, or with
 * no model at all: new weights never meet old rows.
 *
 * @param verify compares every block of their files with its checksum first, until the signal ends it
 * @throws SRV_TABLE_NOT_FOUND, SRV_TABLE_MISMATCH for a pinned version that belongs to another version of the model,
 *   and what opening a table throws
 */
export async function openStageTables(
  entry: ModelEntry,
  verify?: { readonly signal?: AbortSignal | undefined },
): Promise<StageTables> {
  const opened = new Map<string, { readonly planned: PlannedTable; readonly held: HeldTable }>();
  const close = (): void => {
    for (const { held } of opened.values()) held.table.close();
  };
  try {
    const perStage: PlannedTable[] = [];
    for (const stage of entry.settings.embeddings ?? []) {
      const directory = placeOf(stage, entry);
      const inMemory = stage.in_mem ?? false;
      const key = JSON.stringify([directory, stage.version, inMemory]);
      let table = opened.get(key);
      if (!table) {
        table = await open(directory, stage.version, inMemory, entry, verify);
        opened.set(key, table);
      }
      perStage.push(table.planned);
    }
    return { perStage, held: [...opened.values()].map(({ held }) => held), close };
  } catch (error) {
    close();
    throw error;
  }
}

async function open(
  directory: string,
  version: number | undefined,
  inMemory: boolean,
  entry: ModelEntry,
  verify: { readonly signal?: AbortSignal | undefined } | undefined,
): Promise<{ readonly planned: PlannedTable; readonly held: HeldTable }> {
  const resolved = await resolveTable(directory, {
    ...(version === undefined ? {} : { version }),
    model: { name: entry.name, version: entry.version },
  });
  const { manifest, files, label } = resolved;
  if (manifest.dtype === 'bytes') {
    throw new ServingError(
      'SRV_TABLE_MISMATCH',
      `table ${label} has rows of bytes; an embedding stage needs rows of numbers`,
    );
  }
  const table = verify
    ? await openVerified(resolved, inMemory, verify.signal ? { signal: verify.signal } : {})
    : await openResolved(resolved, inMemory);
  const planned: PlannedTable = {
    files,
    inMemory,
    label,
    dim: manifest.dim,
    version: manifest.version,
    defaultRow: manifest.default_row,
  };
  return { planned, held: { table, resolved, isPinned: version !== undefined } };
}

/** The directory of a table: beside the model file, or beside model.json. */
function placeOf({ table }: EmbeddingSettings, entry: ModelEntry): string {
  if (isAbsolute(table)) return table;
  const beside = join(dirname(entry.modelFile), table);
  return existsSync(beside) ? beside : join(entry.directory, table);
}
