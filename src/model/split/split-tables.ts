/** The tables of a split: written from the rows of the model, or there before, and compared with them. */
import { mkdir, rm } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { ServingError } from '../../errors.js';
import { type FoundTable, tensorLabel } from './find-embeddings.js';
import { NpyWriter } from './npy-file.js';
import type { SplitOptions, SplitTable } from './split-options.js';
import type { OpenedTable, SplitTools } from './split-tools.js';
import { checkAllRows, compareRows } from './table-check.js';
import { TensorRows } from './tensor-rows.js';

const tablesDirectory = 'tables';
const sequenceDirectory = 'seqfiles';
const rowsChunkBytes = 4 << 20;

/** A table of the split, open, with the matrix that it stands for. */
export interface OpenTable {
  readonly found: FoundTable;
  readonly matrix: TensorRows;
  readonly table: OpenedTable;
  /** As model.json names it. */
  readonly place: { readonly table: string; readonly version: number };
  readonly report: SplitTable;
  /** Whether its rows are the model's to the bit. */
  readonly isExact: boolean;
}

function inexact(modelFile: string, name: string, row: number): ServingError {
  return new ServingError(
    'SRV_MODEL_UNSUPPORTED',
    `${modelFile}: row ${row} of '${name}' holds 64-bit numbers that 32 bits cannot hold; tables have 32 bits at most, so convert the model to FLOAT first`,
  );
}

/** Directory names of tables: those of the initialisers, less what file systems and people stumble over. */
export function* withDirectoryNames(tables: readonly FoundTable[]): Generator<readonly [FoundTable, string]> {
  const taken = new Set<string>();
  for (const found of tables) {
    const plain = found.tensor.name
      .replaceAll(/[^A-Za-z0-9_.-]+/g, '_')
      .replace(/^[._]+/, '')
      .slice(0, 100);
    let name = plain || 'table';
    for (let number = 2; taken.has(name); number++) name = `${plain || 'table'}_${number}`;
    taken.add(name);
    yield [found, name];
  }
}

/** Makes tables, one after the other. */
export class TableStep {
  readonly #options: SplitOptions;
  readonly #tools: SplitTools;
  readonly #work: string;
  readonly #isOneOfMany: boolean;

  /**
   * @param options with absolute paths
   * @param work the directory that the split is made in
   */
  constructor(options: SplitOptions, tools: SplitTools, work: string, isOneOfMany: boolean) {
    this.#options = options;
    this.#tools = tools;
    this.#work = work;
    this.#isOneOfMany = isOneOfMany;
  }

  /** Writes or reuses the table of a matrix, and compares it. `name` is that of its directory. */
  async open(found: FoundTable, name: string): Promise<OpenTable> {
    const { modelFile, reuse } = this.#options;
    const matrix = new TensorRows(modelFile, found.tensor);
    let table: OpenedTable | undefined;
    try {
      if (reuse === undefined) {
        const directory = join(tablesDirectory, name);
        await this.#writeTable(matrix, found, directory);
        table = await this.#tools.openTable(join(this.#work, directory));
        return await this.#written(found, matrix, table, directory);
      }
      const directory = this.#isOneOfMany ? join(resolve(reuse), name) : resolve(reuse);
      table = await this.#tools.openTable(directory);
      return await this.#reused(found, matrix, table, directory);
    } catch (error) {
      matrix.close();
      table?.close();
      throw error;
    }
  }

  async #writeTable(matrix: TensorRows, { tensor }: FoundTable, place: string): Promise<void> {
    const { signal, onStep, dtype, shards, sequenceFiles } = this.#options;
    const { rows, dim } = matrix;
    onStep?.(`writing ${rows} rows of ${dim} of '${tensor.name}' as a table`);
    const npyFile = join(this.#work, `${basename(place)}.npy`);
    const writer = await NpyWriter.create(npyFile, rows, dim);
    try {
      const step = Math.max(1, Math.floor(rowsChunkBytes / (dim * 4)));
      for (let start = 0; start < rows; start += step) {
        signal?.throwIfAborted();
        await writer.append(matrix.read(start, Math.min(rows, start + step)));
        if (matrix.inexactRow !== undefined)
          throw inexact(this.#options.modelFile, tensor.name, matrix.inexactRow);
      }
    } finally {
      await writer.close();
    }
    await mkdir(join(this.#work, dirname(place)), { recursive: true });
    const task = { npyFile, rows, dim, shards, signal };
    await this.#tools.writeTable({ ...task, dtype, directory: join(this.#work, place) });
    if (sequenceFiles) {
      await mkdir(join(this.#work, sequenceDirectory), { recursive: true });
      const directory = join(this.#work, sequenceDirectory, basename(place));
      await this.#tools.writeSequenceFiles({ ...task, directory });
    }
    await rm(npyFile, { force: true });
  }

  async #written(
    found: FoundTable,
    matrix: TensorRows,
    table: OpenedTable,
    place: string,
  ): Promise<OpenTable> {
    const { dtype, directory, signal } = this.#options;
    const count = await table.countRows();
    const { read, different } = await compareRows(table, matrix, dtype, signal);
    if (count !== matrix.rows || different > 0) {
      throw new ServingError(
        'SRV_INTERNAL',
        `the table of '${found.tensor.name}' has ${count} rows instead of ${matrix.rows}, and ${different} of ${read} that were read back are not the model's`,
      );
    }
    const report = reportOf(found, matrix, join(directory, place), { read, different });
    return {
      found,
      matrix,
      table,
      place: { table: place, version: table.version },
      report: { ...report, isReused: false },
      isExact: dtype === 'f32',
    };
  }

  async #reused(
    found: FoundTable,
    matrix: TensorRows,
    table: OpenedTable,
    directory: string,
  ): Promise<OpenTable> {
    const { signal } = this.#options;
    const count = await table.countRows();
    if (table.dim !== matrix.dim || count < matrix.rows) {
      throw new ServingError(
        'SRV_TABLE_MISMATCH',
        `${directory} does not fit ${tensorLabel(found.tensor)}: it has ${count} rows of ${table.dim}`,
      );
    }
    await checkAllRows(table, matrix.rows, signal);
    const rows = await compareRows(table, matrix, table.dtype, signal);
    const place = { table: relative(this.#options.directory, directory), version: table.version };
    const report = reportOf(found, matrix, directory, rows);
    const { publishedWith } = table;
    return {
      found,
      matrix,
      table,
      place,
      report: { ...report, isReused: true, ...(publishedWith === undefined ? {} : { publishedWith }) },
      isExact: false,
    };
  }
}

function reportOf(
  { tensor }: FoundTable,
  { rows, dim }: TensorRows,
  directory: string,
  { read, different }: { readonly read: number; readonly different: number },
): Omit<SplitTable, 'isReused'> {
  return { initializer: tensor.name, rows, dim, directory, rowsRead: read, rowsDifferent: different };
}
