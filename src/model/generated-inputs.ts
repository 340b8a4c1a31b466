/** Inputs made up to try a model with. */
import { type FixedDatatype, fixedDatatypes } from '../tensor/datatype.js';
import { elementCount, type Tensor } from '../tensor/tensor.js';
import type { OnnxValueSummary } from './onnx-file.js';

/** What is known of an input that is to be filled. */
export type InputSpec = Pick<OnnxValueSummary, 'name' | 'datatype' | 'shape'>;

/** How the free choices of generated inputs are made. */
export interface InputPlan {
  /** Size of free dimensions other than the leading one. */
  readonly freeSize: number;
  /** Integer and string inputs whose elements are all 1, where 1 and 2 in turn were refused. */
  readonly ones: ReadonlySet<string>;
}

/** Rows of odd number are this much larger, so that arithmetic over the whole batch shows in the small ones. */
const oddRowScale = 8;

/**
 * Makes a tensor for each input. `rows` holds the number of each row: the same number gives the same elements, in
 * whatever batch it stands. An input of fixed leading dimension is filled with the elements of the first row.
 *
 * Integers are 1 and 2, never 0: as a divisor, a size or a count 0 makes the engine fail or, in some kernels, crash.
 */
export function generateInputs(
  inputs: readonly InputSpec[],
  plan: InputPlan,
  rows: readonly number[],
): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {};
  inputs.forEach((input, index) => {
    const [leading = 1, ...rest] = input.shape ?? [];
    const isBatched = leading === -1;
    const rowShape = rest.map((size) => (size === -1 ? plan.freeSize : size));
    const shape =
      input.shape === undefined || input.shape.length === 0
        ? []
        : [isBatched ? rows.length : leading, ...rowShape];
    const blocks = isBatched ? rows : rows.slice(0, 1);
    const blockSize = elementCount(isBatched ? rowShape : shape);
    tensors[input.name] = fill(input, index, shape, blocks, blockSize, plan.ones.has(input.name));
  });
  return tensors;
}

/** Whether two rows of the plan differ in at least one input. */
export function rowsDiffer(inputs: readonly InputSpec[], plan: InputPlan): boolean {
  return inputs.some((input) => input.datatype !== 'BOOL' && !plan.ones.has(input.name));
}

/** Whether an input holds integers or strings, which a model may use as indices. */
export function isDiscrete(input: InputSpec): boolean {
  return input.datatype !== 'BOOL' && !isFloat(input);
}

function isFloat(input: InputSpec): boolean {
  return input.datatype === 'FP16' || input.datatype === 'FP32' || input.datatype === 'FP64';
}

function fill(
  input: InputSpec,
  inputIndex: number,
  shape: readonly number[],
  rows: readonly number[],
  rowSize: number,
  onlyOnes: boolean,
): Tensor {
  const discrete = (row: number, i: number): number => (onlyOnes ? 1 : 1 + ((row + i) % 2));
  if (input.datatype === 'BYTES') {
    const data = rows.flatMap((row) => Array.from({ length: rowSize }, (_, i) => String(discrete(row, i))));
    return { datatype: 'BYTES', shape, data };
  }
  const datatype = input.datatype as FixedDatatype;
  const data = new fixedDatatypes[datatype].array(rowSize * rows.length);
  const isBig = data instanceof BigInt64Array || data instanceof BigUint64Array;
  rows.forEach((row, block) => {
    const scale = row % 2 === 1 ? oddRowScale : 1;
    for (let i = 0; i < rowSize; i++) {
      const at = block * rowSize + i;
      if (datatype === 'BOOL') data[at] = 1;
      else if (isBig) data[at] = BigInt(discrete(row, i));
      else if (!isFloat(input)) data[at] = discrete(row, i);
      else {
        const value = (0.5 + ((i * 0.618 + row * 0.37 + inputIndex * 0.11) % 1)) * scale;
        data[at] = datatype === 'FP16' ? halfBits(value) : value;
      }
    }
  });
  return { datatype, shape, data } as Tensor;
}

/** The bits of a positive normal half-precision number, cut to 10 bits of fraction. */
function halfBits(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  return ((exponent + 15) << 10) | Math.floor((value / 2 ** exponent - 1) * 1024);
}
