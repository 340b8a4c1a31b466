/** How far the answer of a shadow is from the one that the caller got. */
import { halfValue } from '../model/tensor-compare.js';
import type { NamedTensor } from '../server/service.js';
import type { Tensor } from '../tensor/tensor.js';

/** Elements of an output that are looked at: a comparison must not hold the event loop. */
const maxElements = 32 * 1024;

/** What two answers differ in. */
export interface AnswerDifference {
  /** The largest difference of two numbers at the same place; infinite where one of them alone is no number. */
  readonly maxAbs: number;
  /** Rows whose largest element is at another place; of texts, elements that differ. */
  readonly flips: number;
  /** Rows that could flip. */
  readonly rows: number;
}

/** The difference, or why the two cannot be compared. */
export function compareAnswers(
  served: readonly NamedTensor[],
  shadow: readonly NamedTensor[],
): AnswerDifference | string {
  let maxAbs = 0;
  let flips = 0;
  let rows = 0;
  for (const { name, tensor } of served) {
    const other = shadow.find((output) => output.name === name)?.tensor;
    if (!other) return `it has no output '${name}'`;
    if (
      String(other.shape) !== String(tensor.shape) ||
      (other.datatype === 'BYTES') !== (tensor.datatype === 'BYTES')
    ) {
      return `its output '${name}' is ${other.datatype} [${other.shape}], the served one ${tensor.datatype} [${tensor.shape}]`;
    }
    const found = tensor.datatype === 'BYTES' ? compareTexts(tensor, other) : compareNumbers(tensor, other);
    maxAbs = Math.max(maxAbs, found.maxAbs);
    flips += found.flips;
    rows += found.rows;
  }
  return { maxAbs, flips, rows };
}

function compareTexts({ data }: Tensor, other: Tensor): AnswerDifference {
  const rows = Math.min(data.length, maxElements);
  let flips = 0;
  for (let i = 0; i < rows; i++) if (data[i] !== other.data[i]) flips += 1;
  return { maxAbs: 0, flips, rows };
}

function compareNumbers(tensor: Tensor, other: Tensor): AnswerDifference {
  const [read, readOther] = [readerOf(tensor), readerOf(other)];
  const count = Math.min(tensor.data.length, maxElements);
  let maxAbs = 0;
  for (let i = 0; i < count; i++) {
    const [a, b] = [read(i), readOther(i)];
    if (Object.is(a, b) || a === b) continue;
    const difference = Math.abs(a - b);
    maxAbs = Math.max(maxAbs, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
  }
  const width = tensor.shape.at(-1) ?? 1;
  // A row of one number has nothing to choose from.
  if (width < 2) return { maxAbs, flips: 0, rows: 0 };
  const rows = Math.floor(count / width);
  let flips = 0;
  for (let row = 0; row < rows; row++) {
    if (argmax(read, row * width, width) !== argmax(readOther, row * width, width)) flips += 1;
  }
  return { maxAbs, flips, rows };
}

function argmax(read: (index: number) => number, from: number, width: number): number {
  let best = 0;
  for (let i = 1; i < width; i++) if (read(from + i) > read(from + best)) best = i;
  return best;
}

function readerOf({ datatype, data }: Tensor): (index: number) => number {
  if (datatype === 'FP16') return (index) => halfValue(data[index] as number);
  if (datatype === 'BF16') {
    const view = new DataView(new ArrayBuffer(4));
    return (index) => {
      view.setUint32(0, (data[index] as number) * 65_536);
      return view.getFloat32(0);
    };
  }
  return (index) => Number(data[index]);
}
