import type { ErrorData } from '../errors.js';
import { combiners, tableGather } from '../native/tables.js';
import { isSet, LocalTable } from '../sparse/local-table.js';
import type { FailedRow, GatherStage, LoadMessage, RunInput, RunMessage, RunResult } from './messages.js';

/** An input of the network that a stage filled. */
export interface FilledTarget {
  readonly name: string;
  /** Of its FP32 elements within the slab. */
  readonly offset: number;
  readonly shape: readonly number[];
}

/** What the stages of a batch did. */
export interface StagesRun {
  readonly targets: readonly FilledTarget[];
  readonly counts: Pick<RunResult, 'gathered' | 'failedRows'>;
}

interface OpenStage extends GatherStage {
  readonly source: LocalTable;
  readonly label: string;
  readonly defaultFloats: Float32Array | undefined;
}

type Placed = Extract<RunInput, { readonly offset: number }>;

const nothing: StagesRun = { targets: [], counts: {} };

/** The gather stages of one predictor: keys in a batch's slot become rows in the same slot. */
export class StageRunner {
  readonly #tables: readonly LocalTable[];
  readonly #stages: readonly OpenStage[];
  /** Where bags end; grown as batches need it. */
  #ends = new BigUint64Array(64);

  private constructor(tables: readonly LocalTable[], { tables: described, stages }: StageMessage) {
    this.#tables = tables;
    this.#stages = stages.map((stage) => ({
      ...stage,
      source: tables[stage.table]!,
      label: described[stage.table]!.label,
      defaultFloats: stage.defaultRow && Float32Array.from(stage.defaultRow),
    }));
  }

  /** Opens the tables; those that another thread has open already are shared. */
  static async open(message: StageMessage): Promise<StageRunner> {
    const opened: LocalTable[] = [];
    try {
      for (const table of message.tables) opened.push(await LocalTable.open(table.files, table));
    } catch (error) {
      for (const table of opened) table.close();
      throw error;
    }
    return new StageRunner(opened, message);
  }

  /**
   * Runs every stage of a batch.
   *
   * @throws SRV_TABLE_CORRUPT when a file was damaged or cut; SRV_BAD_BAGS
   */
  run(message: RunMessage, slab: ArrayBufferLike): StagesRun {
    if (this.#stages.length === 0) return nothing;
    const failedRows: FailedRow[] = [];
    const gathered = { keys: 0, missing: 0 };
    const targets = this.#stages.map((stage, index) => {
      const keysAt = placed(message.inputs, stage.keys);
      const keys = new BigUint64Array(slab, keysAt.offset, product(keysAt.shape));
      const lengthsAt = stage.lengths === undefined ? undefined : placed(message.inputs, stage.lengths);
      const rows = (lengthsAt ?? keysAt).shape[0]!;
      const lengths = lengthsAt && new Int32Array(slab, lengthsAt.offset, rows);
      const ends = stage.combiner === 'none' ? undefined : this.#bagEnds(rows, keys.length, lengths);
      const weightsAt = stage.weights === undefined ? undefined : placed(message.inputs, stage.weights);
      const offset = message.targets[index]!;
      const out = new Float32Array(slab, offset, (ends ? rows : keys.length) * stage.source.dim);
      const bits = stage.failsOnMissing ? new Uint8Array((keys.length + 7) >> 3) : undefined;
      const missing = tableGather(
        stage.source.handle,
        keys,
        out,
        combiners.indexOf(stage.combiner),
        ends,
        weightsAt && new Float32Array(slab, weightsAt.offset, keys.length),
        stage.defaultFloats,
        bits,
      );
      gathered.keys += keys.length;
      gathered.missing += missing;
      if (bits && missing > 0) failedRows.push(...rowsThatFail(stage.label, keys, bits, rows, lengths));
      return { name: stage.target, offset, shape: shapeOf(stage.targetShape, rows, out.length) };
    });
    return { targets, counts: failedRows.length > 0 ? { gathered, failedRows } : { gathered } };
  }

  /** Gives the holds of the tables back. */
  close(): void {
    for (const table of this.#tables) table.close();
  }

  #bagEnds(rows: number, keys: number, lengths: Int32Array | undefined): BigUint64Array {
    if (this.#ends.length < rows) this.#ends = new BigUint64Array(2 * rows);
    const ends = this.#ends.subarray(0, rows);
    let end = 0;
    for (let row = 0; row < rows; row++) {
      end += lengths ? lengths[row]! : keys / rows;
      ends[row] = BigInt(end);
    }
    return ends;
  }
}

type StageMessage = Pick<LoadMessage, 'tables' | 'stages'>;

/** An input of a stage; the main thread made it of fixed-size elements. */
function placed(inputs: readonly RunInput[], index: number): Placed {
  return inputs[index] as Placed;
}

function product(shape: readonly number[]): number {
  let count = 1;
  for (const dim of shape) count *= dim;
  return count;
}

/** The rows that hold missing keys, each with its first one. */
function* rowsThatFail(
  label: string,
  keys: BigUint64Array,
  bits: Uint8Array,
  rows: number,
  lengths: Int32Array | undefined,
): Generator<FailedRow> {
  let at = 0;
  for (let row = 0; row < rows; row++) {
    const end = at + (lengths ? lengths[row]! : keys.length / rows);
    let position = at;
    while (position < end && !isSet(bits, position)) position += 1;
    if (position < end) yield { row, error: missingKey(label, keys[position]!, position - at) };
    at = end;
  }
}

function missingKey(label: string, key: bigint, position: number): ErrorData {
  return {
    code: 'SRV_MISSING_KEY',
    message: `table ${label} has no row for key ${key}, id ${position} of its row of the request`,
    details: { key: String(key), position },
  };
}

/** The shape of a target: its dimensions, where one may be -1 for what is left of the elements. */
function shapeOf(dims: readonly number[], rows: number, elements: number): number[] {
  const known = product(dims.filter((dim) => dim !== -1)) * rows;
  return [rows, ...dims.map((dim) => (dim === -1 ? (known === 0 ? 0 : elements / known) : dim))];
}
