/** A table whose deltas wait beside it: each one is put in place by a rename. */
import { cp, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NpyWriter } from '../../src/model/split/npy-file.js';
import { buildTable } from '../../src/sparse/builder.js';

/** What the table holds. */
export interface DeltaChainSpec {
  /** Rows of the snapshot: keys 1 to `rows`, all values 0. */
  readonly rows: number;
  readonly dim: number;
  /** Deltas; the n-th one sets every value of the keys 1 to `rowsADelta` to n. */
  readonly deltas: number;
  readonly rowsADelta: number;
}

/** A served table and the deltas to come. */
export class DeltaChain {
  /** The table to serve. */
  readonly table: string;
  readonly #staged: string;
  #published = 0;

  private constructor(table: string, staged: string) {
    this.table = table;
    this.#staged = staged;
  }

  /** Builds the snapshot and all deltas in a directory. */
  static async build(directory: string, spec: DeltaChainSpec): Promise<DeltaChain> {
    const { rows, dim, deltas, rowsADelta } = spec;
    const [table, staged] = [join(directory, 'table'), join(directory, 'staged')];
    const input = join(directory, 'rows.npy');
    await writeRows(input, rows, dim, 0);
    const options = { output: staged, format: 'npy', firstKey: 1n } as const;
    await buildTable({ ...options, inputs: [input] });
    for (let delta = 1; delta <= deltas; delta++) {
      const file = join(directory, `delta-${delta}.npy`);
      await writeRows(file, rowsADelta, dim, delta);
      await buildTable({ ...options, inputs: [file], mode: 'delta' });
    }
    await mkdir(table);
    await cp(join(staged, '1'), join(table, '1'), { recursive: true });
    return new DeltaChain(table, staged);
  }

  /** Puts the next delta in place. `renamedAt` is in ms since 1970. */
  async publish(): Promise<{ readonly value: number; readonly renamedAt: number }> {
    const value = ++this.#published;
    const version = String(value + 1);
    const renamedAt = Date.now();
    await rename(join(this.#staged, version), join(this.table, version));
    return { value, renamedAt };
  }
}

async function writeRows(path: string, rows: number, dim: number, value: number): Promise<void> {
  const file = await NpyWriter.create(path, rows, dim);
  try {
    await file.append(new Float32Array(rows * dim).fill(value));
  } finally {
    await file.close();
  }
}

/** Writes a model that answers with the rows of the ids that it is asked for: ids [-1, ids] to y [-1, ids * dim]. */
export async function writeRowModel(
  directory: string,
  model: Uint8Array,
  { table, ids }: { readonly table: string; readonly ids: number },
): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'model.onnx'), model);
  const embeddings = [{ table, ids: 'ids', slots: ids, target: 'rows' }];
  await writeFile(join(directory, 'model.json'), JSON.stringify({ embeddings }));
}
