/** The start-up table: one line for each version, then why some failed. */
import type { TensorSpec } from '../tensor/tensor.js';

/** What the table shows of a version. */
export interface TableModel {
  readonly name: string;
  readonly version: number;
  readonly state: string;
  readonly reason?: string;
  readonly labels?: readonly string[];
  readonly devices: readonly string[];
  readonly signature?: { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] };
  readonly loadMs?: number;
  readonly form?: string;
  readonly example?: { readonly request: object; readonly meaning: string };
}

const heading = ['MODEL', 'VERSION', 'STATE', 'DEVICE', 'INPUTS', 'OUTPUTS', 'LOAD', 'FORM'];
const shownTensors = 3;

/** The versions as aligned text that ends with a newline; more than `maxRows` are counted, not shown. */
export function modelTable(models: readonly TableModel[], maxRows = 50): string {
  const shown = models
    .slice(0, maxRows)
    .map((model) => [
      model.name,
      model.labels ? `${model.version} (${model.labels.join(', ')})` : String(model.version),
      model.state,
      model.devices.join(' ') || '-',
      tensorsText(model.signature?.inputs),
      tensorsText(model.signature?.outputs),
      model.loadMs === undefined ? '-' : durationText(model.loadMs),
      model.form ?? '-',
    ]);
  const lines = [alignedText([heading, ...shown])];
  if (models.length > maxRows) {
    lines.push(`... and ${models.length - maxRows} more (GET /v2/repository/index lists all)`);
  }
  for (const model of models.filter(({ state }) => state === 'failed').slice(0, maxRows)) {
    lines.push(`${model.name} failed: ${model.reason ?? 'no reason was given'}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Rows of cells as lines of aligned columns, without blanks at the ends. */
export function alignedText(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `x FP32[?,400]`: a free dimension is a question mark. */
export function tensorText({ name, datatype, shape }: TensorSpec): string {
  return `${name} ${datatype}[${shape.map((size) => (size < 0 ? '?' : String(size))).join(',')}]`;
}

function tensorsText(tensors: readonly TensorSpec[] | undefined): string {
  if (!tensors || tensors.length === 0) return '-';
  const texts = tensors.slice(0, shownTensors).map(tensorText);
  if (tensors.length > shownTensors) texts.push(`+${tensors.length - shownTensors} more`);
  return texts.join(', ');
}

/** Milliseconds as people read them. */
export function durationText(ms: number): string {
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
