/** Rows of the log as the model takes them: ids for categories, numbers for counts. */
import { categoryColumns, denseColumns } from './columns.js';
import { hashId } from './feature-hash.js';
import { categoryText, type Impression } from './generator.js';
import type { Features } from './truth.js';

/** One row as the model takes it. */
export interface ModelInput {
  /** 26 rows of the table. */
  readonly ids: Int32Array;
  /** 13 counts. */
  readonly dense: Float32Array;
}

/** A row to learn from. */
export interface Example extends ModelInput {
  readonly label: 0 | 1;
}

/** A row of the log as the model takes it. */
export function exampleOf(row: Impression): Example {
  return { ids: categoryIds(row), dense: denseInput(row.dense), label: row.label };
}

/** Ids by column and rank + 1, filled in as they are asked for; 0 is not yet known. */
const knownIds = categoryColumns.map(({ vocabulary }) => new Int32Array(vocabulary + 1));

/** The 26 ids of a row, as the model takes them. */
export function categoryIds({ ranks }: Features): Int32Array {
  return ranks.map((rank, column) => {
    const known = knownIds[column]!;
    known[rank + 1] ||= hashId(categoryColumns[column]!.column, categoryText(column, rank));
    return known[rank + 1]!;
  });
}

/** The 13 counts of a row as the model takes them: as they are, and the column's minimum where one is missing. */
export function denseInput(dense: ArrayLike<number>): Float32Array {
  return Float32Array.from(denseColumns, ({ min }, column) => {
    const count = dense[column]!;
    return Number.isNaN(count) ? min : count;
  });
}
