/** Reads rows of the Criteo display advertising data: CSV with the header label,I1,...,I13,C1,...,C26. */
import { categoryColumns, denseColumns } from './columns.js';
import { hashId } from './feature-hash.js';
import { denseInput, type Example } from './model-input.js';

/** A row of the file as the model takes it. */
export interface CriteoRow extends Example {
  /** How many of its 39 fields are empty. */
  readonly missing: number;
}

const header = ['label', ...denseColumns.map(({ name }) => name), ...categoryColumns.map(({ name }) => name)];

/**
 * The rows of a file's text. Empty fields are missing values and no error.
 *
 * @throws Error with the line's number when the header is another one, a line has too few or too many fields, or a
 * count or label is not a number
 */
export function parseCriteo(text: string): readonly CriteoRow[] {
  const lines = text.split(/\r?\n/);
  if (lines[0] !== header.join(',')) {
    throw new Error(`line 1: expected the header ${header.join(',')}, got ${lines[0]!.slice(0, 200)}`);
  }
  return lines.flatMap((line, index) => (index === 0 || line === '' ? [] : [parseRow(line, index + 1)]));
}

function parseRow(line: string, number: number): CriteoRow {
  const fields = line.split(',');
  if (fields.length !== header.length) {
    throw new Error(`line ${number}: expected ${header.length} fields, got ${fields.length}`);
  }
  const [label, ...rest] = fields;
  if (label !== '0' && label !== '1')
    throw new Error(`line ${number}: expected label 0 or 1, got "${label}"`);
  const counts = rest.slice(0, denseColumns.length).map((field, column) => {
    const count = field === '' ? Number.NaN : Number(field);
    if (field === '' || Number.isFinite(count)) return count;
    throw new Error(`line ${number}: expected a number in ${denseColumns[column]!.name}, got "${field}"`);
  });
  const categories = rest.slice(denseColumns.length);
  return {
    label: label === '1' ? 1 : 0,
    dense: denseInput(counts),
    ids: Int32Array.from(categories, (category, slot) => hashId(categoryColumns[slot]!.column, category)),
    missing: rest.filter((field) => field === '').length,
  };
}
