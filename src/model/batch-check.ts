/** Finding out whether rows of different requests may share a run. */
import type { TensorMap } from '../tensor/tensor.js';
import { generateInputs, type InputPlan, rowsDiffer } from './generated-inputs.js';
import type { OnnxSummary, OnnxValueSummary } from './onnx-file.js';
import type { BatchingVerdict } from './prepared-model.js';
import { firstDifference, rowOf, type Tolerance } from './tensor-compare.js';

/** How far a row of a batch may be from the same row alone: kernels differ by batch size in the last bits. */
export const rowTolerance: Tolerance = { relative: 1e-3, ofLargest: 1e-5 };

/** Why the declared shapes already rule merging out, or undefined when they do not. */
export function fixedBatchReason(
  inputs: readonly OnnxValueSummary[],
  outputs: readonly OnnxValueSummary[],
): string | undefined {
  if (inputs.length === 0) return 'the model has no inputs';
  const names = new Set<string>();
  for (const input of inputs) {
    if (!input.shape) return `the rank of input '${input.name}' is not declared`;
    if (input.shape.length === 0) return `input '${input.name}' is a scalar`;
    if (input.shape[0] !== -1)
      return `input '${input.name}' has the fixed leading dimension ${input.shape[0]}`;
    if (input.dimNames[0]) names.add(input.dimNames[0]);
  }
  if (names.size > 1) return `the leading dimensions have different names: ${[...names].join(', ')}`;
  for (const { name, shape, dimNames } of [...inputs, ...outputs]) {
    if (dimNames.some((dim, at) => at > 0 && names.has(dim))) {
      return `'${name}' has the batch dimension in another place too`;
    }
    if (!shape || inputs.some((input) => input.name === name)) continue;
    if (shape.length === 0) return `output '${name}' is a scalar`;
    if (shape[0] !== -1) return `output '${name}' has the fixed leading dimension ${shape[0]}`;
  }
  return undefined;
}

/**
 * Runs two different rows apart and together and compares.
 *
 * @param run runs the model on inputs for the given rows
 * @param first the outputs of row 0 alone
 */
export async function checkRows(
  inputs: readonly OnnxValueSummary[],
  plan: InputPlan,
  run: (inputs: TensorMap) => Promise<TensorMap>,
  first: TensorMap,
): Promise<{ readonly verdict: BatchingVerdict; readonly pair?: TensorMap }> {
  const refuse = (reason: string) => ({ verdict: { rowsIndependent: false, reason } });
  if (!rowsDiffer(inputs, plan)) return refuse('no two different rows could be made to try it with');
  for (const [name, output] of Object.entries(first)) {
    if (output.shape[0] !== 1) return refuse(`output '${name}' of one row has shape [${output.shape}]`);
  }
  let second: TensorMap;
  let pair: TensorMap;
  try {
    second = await run(generateInputs(inputs, plan, [1]));
    pair = await run(generateInputs(inputs, plan, [0, 1]));
  } catch (error) {
    return refuse(`the engine refused two rows: ${error instanceof Error ? error.message : error}`);
  }
  for (const [name, output] of Object.entries(pair)) {
    if (output.shape[0] !== 2) return refuse(`output '${name}' of two rows has shape [${output.shape}]`);
  }
  for (const [row, alone] of [first, second].entries()) {
    const together = Object.fromEntries(
      Object.entries(pair).map(([name, output]) => [name, rowOf(output, row)]),
    );
    const difference = firstDifference(alone, together, rowTolerance);
    if (difference) return refuse(`row ${row} of a batch of two is not what it is alone: ${difference}`);
  }
  return { verdict: { rowsIndependent: true, reason: 'two rows together gave what each gave alone' }, pair };
}

/** Operators whose output shape follows from values, not from shapes. */
const shapesByValue: ReadonlySet<string> = new Set([
  ...['Compress', 'ConstantOfShape', 'Expand', 'If', 'Loop', 'NonMaxSuppression', 'NonZero', 'OneHot', 'Pad'],
  ...['RandomUniform', 'Range', 'Reshape', 'Resize', 'Scan', 'SequenceAt', 'Slice', 'Split', 'StringSplit'],
  ...['Tile', 'TfIdfVectorizer', 'TopK', 'Unique', 'Unsqueeze', 'Upsample'],
]);

/**
 * The exact shape of each output, or undefined when it may differ from request to request. Exact is what was seen
 * where the shape is declared or no operator makes a shape of values; the engine fails a run whose preallocated
 * output is of another shape, so a guess will not do.
 *
 * @param fromDim 0 for the whole shape, 1 for the shape of a row
 */
export function exactShapes(
  summary: OnnxSummary,
  outputs: readonly OnnxValueSummary[],
  seen: readonly TensorMap[],
  fromDim: 0 | 1,
): Readonly<Record<string, readonly number[]>> | undefined {
  const isFixed = (value: OnnxValueSummary): boolean =>
    value.shape?.slice(fromDim).every((size) => size >= 0) ?? false;
  if (!summary.inputs.every(isFixed)) return undefined;
  const isByValue = Object.keys(summary.operators).some((op) => shapesByValue.has(op) || op.includes(':'));
  const shapes: Record<string, readonly number[]> = {};
  for (const output of outputs) {
    const all = seen.map((result) => result[output.name]?.shape.slice(fromDim));
    const [shape] = all;
    if (!shape || all.some((other) => String(other) !== String(shape))) return undefined;
    if (isFixed(output) && String(output.shape?.slice(fromDim)) !== String(shape)) return undefined;
    if (!isFixed(output) && isByValue) return undefined;
    shapes[output.name] = shape;
  }
  return shapes;
}
