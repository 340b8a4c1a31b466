import { ServingError } from '../errors.js';
import {
  closeTable,
  combiners,
  openTable,
  rowTypes,
  type TableFiles,
  type TableHandle,
  type TableShard,
  tableFacts,
  tableGather,
  tableRow,
  tableRows,
  tableShards,
  verifyTableFile,
} from '../native/tables.js';

/** How the elements of rows are stored; `bytes` rows have a length each and are not gathered as floats. */
export type RowType = (typeof rowTypes)[number];
/** What becomes of the rows of a bag: their sum, sum / (sum of weights), or sum / sqrt(sum of squared weights). */
export type Combiner = Exclude<(typeof combiners)[number], 'none'>;
/** What stands for the row of a key that the table does not have. */
export type MissingPolicy = 'zeros' | 'default' | 'error';

/** Options of `LocalTable.gather`. */
export interface GatherOptions {
  /** Where rows go, row-major: (keys, or bags with a combiner) x dim. @default a new array */
  readonly out?: Float32Array;
  /** Combines rows bag by bag, in the order of their keys. @default rows one behind the other */
  readonly combiner?: Combiner;
  /**
   * With a combiner: where each bag starts in `keys`, not descending; a bag ends where the next one starts, the last
   * one with `keys`. An empty bag gives zeros.
   */
  readonly offsets?: BigUint64Array | BigInt64Array | Int32Array | Uint32Array;
  /** With a combiner: a factor for each key. @default ones */
  readonly weights?: Float32Array;
  /** @default 'zeros' */
  readonly missing?: MissingPolicy;
  /** The row of missing keys under `missing: 'default'`; dim floats. @default the table's own */
  readonly defaultRow?: Float32Array;
  /** Receives bit i % 8 of byte i / 8 for each missing key i; at least (keys + 7) / 8 zeroed bytes. */
  readonly missingBits?: Uint8Array;
}

/** How files are opened, and what is known of the table beside them. */
export interface LocalTableOptions {
  readonly inMemory: boolean;
  /** What messages call the table. */
  readonly label: string;
  readonly version: number;
  /** The table's own row for missing keys, as long as its rows; absent where it has none. */
  readonly defaultRow?: readonly number[];
}

/** How the files of an open table are verified. */
export interface VerifyOptions {
  /** Whether the work takes only what other threads of the machine leave. @default false */
  readonly isBackground?: boolean;
  /** Called after each file. */
  readonly onFile?: (path: string, bytes: number) => void;
  readonly signal?: AbortSignal;
}

/** What a gather gave. */
export interface Gathered {
  /** `options.out`, or the new array. */
  readonly rows: Float32Array;
  /** Keys that the table does not have. */
  readonly missing: number;
}

/**
 * A version of a table on this machine, open in this process. Handles of all threads share one mapping; a handle is
 * of the thread that opened it.
 */
export class LocalTable {
  /** How rows are stored; gathers give floats whatever it is. */
  readonly dtype: RowType;
  /** Elements of a row; 0 for rows of bytes. */
  readonly dim: number;
  readonly shards: number;
  /** The table's version. */
  readonly version: number;
  /** Memory that deltas take on top of their files. */
  readonly overlayBytes: number;
  readonly #label: string;
  readonly #defaultRow: Float32Array | undefined;
  /** Of its files: snapshot first, then each delta, shards in order. */
  readonly #paths: readonly string[];
  readonly #closing = new AbortController();
  #handle: TableHandle | undefined;
  /** What was found when it was verified. */
  #fault: ServingError | undefined;

  private constructor(handle: TableHandle, files: TableFiles, options: LocalTableOptions) {
    const { label, version, defaultRow } = options;
    const facts = tableFacts(handle);
    this.#handle = handle;
    this.#paths = [files.snapshot, ...files.deltas].flat();
    this.#label = label;
    this.version = version;
    this.#defaultRow = defaultRow && Float32Array.from(defaultRow);
    this.dtype = rowTypes[facts.rowType]!;
    this.dim = facts.dim;
    this.shards = facts.shards;
    this.overlayBytes = facts.overlayBytes;
  }

  /**
   * Opens the files of a version. With `inMemory` they are read into memory of huge pages, otherwise mapped.
   *
   * @throws SRV_IO, SRV_TABLE_CORRUPT, SRV_TABLE_UNSUPPORTED, SRV_TABLE_MISMATCH, SRV_OUT_OF_MEMORY
   */
  static async open(files: TableFiles, options: LocalTableOptions): Promise<LocalTable> {
    return new LocalTable(await openTable(files, options.inMemory), files, options);
  }

  /**
   * Gathers the rows of keys as floats. Holds the thread: some 10 ns a key for rows in memory, and as long as the
   * disk takes for pages that are not.
   *
   * @param keys a BigInt64Array is read as the unsigned numbers of the same bits
   * @throws SRV_MISSING_KEY under `missing: 'error'`; SRV_BAD_BAGS for offsets that descend or overrun, or without
   *   a combiner; SRV_TABLE_MISMATCH for rows of bytes and buffers of the wrong length; SRV_TABLE_CORRUPT when a
   *   file was damaged or cut meanwhile, or `verify` found a fault
   */
  gather(keys: BigUint64Array | BigInt64Array, options: GatherOptions = {}): Gathered {
    const { combiner, offsets, weights, missing = 'zeros' } = options;
    const handle = this.#open();
    if (this.dim === 0) throw this.#mismatch('its rows are bytes, which cannot be gathered as floats');
    if (combiner === undefined && (offsets ?? weights) !== undefined) {
      throw new ServingError('SRV_BAD_BAGS', `table ${this.#label}: offsets and weights need a combiner`);
    }
    const ends = combiner === undefined ? undefined : this.#bagEnds(keys.length, offsets);
    const count = (ends?.length ?? keys.length) * this.dim;
    const rows = options.out ?? new Float32Array(count);
    if (rows.length !== count) throw this.#mismatch(`out has ${rows.length} elements, expected ${count}`);
    if (weights && weights.length !== keys.length) {
      throw this.#mismatch(`there are ${weights.length} weights for ${keys.length} keys`);
    }
    const defaultRow = missing === 'default' ? (options.defaultRow ?? this.#defaultRow) : undefined;
    if (defaultRow && defaultRow.length !== this.dim) {
      throw this.#mismatch(`the default row has ${defaultRow.length} elements, rows have ${this.dim}`);
    }
    let bits = options.missingBits;
    const bitBytes = (keys.length + 7) >> 3;
    if (bits && bits.length < bitBytes) {
      throw this.#mismatch(`missingBits has ${bits.length} bytes, expected ${bitBytes}`);
    }
    if (missing === 'error') bits ??= new Uint8Array(bitBytes);
    const missed = tableGather(
      handle,
      keys,
      rows,
      combiner === undefined ? 0 : combiners.indexOf(combiner),
      ends,
      weights,
      defaultRow,
      bits,
    );
    if (missing === 'error' && missed > 0) throw this.#missing(keys, bits!, missed);
    return { rows, missing: missed };
  }

  /** A copy of a row as it is stored; undefined for a missing key. For rows of `bytes`, and to look at others. */
  storedRow(key: bigint): Uint8Array | undefined {
    return tableRow(this.#open(), BigInt.asUintN(64, key)) ?? undefined;
  }

  /** Counts the keys that have a row. */
  countRows(): Promise<number> {
    return tableRows(this.#open());
  }

  /** What the headers of its files say: snapshot first, then each delta, shards in order. */
  files(): readonly TableShard[] {
    return tableShards(this.#open());
  }

  /**
   * Compares every block of its open files with its checksum, and every key with its place, one file at a time in a pool
   * thread. After a fault this object answers everything with it. Closing it ends the work.
   *
   * @returns bytes that were read
   * @throws SRV_TABLE_CORRUPT with file and byte offset of the first fault; SRV_CANCELLED after `signal` or `close`
   */
  async verify(options: VerifyOptions = {}): Promise<number> {
    const { isBackground = false, onFile, signal } = options;
    const ends = signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
    let total = 0;
    for (const [file, path] of this.#paths.entries()) {
      if (ends.aborted)
        throw new ServingError('SRV_CANCELLED', `the check of table ${this.#label} was ended`);
      try {
        const bytes = await verifyTableFile(this.#open(), file, isBackground, ends);
        total += bytes;
        onFile?.(path, bytes);
      } catch (error) {
        if (error instanceof ServingError && error.code === 'SRV_TABLE_CORRUPT') this.#fault = error;
        throw error;
      }
    }
    return total;
  }

  /** The table as the addon knows it. Belongs to this object. */
  get handle(): TableHandle {
    return this.#open();
  }

  /** Gives the files back; idempotent. */
  close(): void {
    this.#closing.abort();
    if (this.#handle) closeTable(this.#handle);
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): TableHandle {
    if (this.#fault) throw this.#fault;
    if (this.#handle) return this.#handle;
    throw new ServingError('SRV_TABLE_NOT_FOUND', `table ${this.#label} was closed`);
  }

  #bagEnds(keys: number, offsets: GatherOptions['offsets']): BigUint64Array {
    if (!offsets) {
      throw new ServingError('SRV_BAD_BAGS', `table ${this.#label}: a combiner needs offsets`);
    }
    const bags = offsets.length;
    if (bags > 0 ? Number(offsets[0]) !== 0 : keys > 0) {
      const got =
        bags > 0 ? `the first offset is ${offsets[0]}, expected 0` : `no bag holds the ${keys} keys`;
      throw new ServingError('SRV_BAD_BAGS', `table ${this.#label}: ${got}`);
    }
    const ends = new BigUint64Array(bags);
    for (let bag = 1; bag < bags; bag++) ends[bag - 1] = BigInt(offsets[bag]!);
    if (bags > 0) ends[bags - 1] = BigInt(keys);
    return ends;
  }

  #mismatch(problem: string): ServingError {
    return new ServingError('SRV_TABLE_MISMATCH', `table ${this.#label}: ${problem}`);
  }

  #missing(keys: BigUint64Array | BigInt64Array, bits: Uint8Array, count: number): ServingError {
    const first = keys.findIndex((_, index) => isSet(bits, index));
    return new ServingError(
      'SRV_MISSING_KEY',
      `table ${this.#label} lacks ${count} of ${keys.length} keys; the first is ${BigInt.asUintN(64, keys[first]!)} ` +
        `at position ${first}`,
      { details: { missing: count, position: first, key: String(BigInt.asUintN(64, keys[first]!)) } },
    );
  }
}

/** Whether a gather marked key `index` as missing. */
export function isSet(bits: Uint8Array, index: number): boolean {
  return ((bits[index >> 3]! >> (index & 7)) & 1) === 1;
}
