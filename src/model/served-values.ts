/** Which inputs and outputs of a model are served, and whether that is enough to serve it. */
import { ServingError } from '../errors.js';
import { fixedDatatypes } from '../tensor/datatype.js';
import type { Signature, TensorSpec } from '../tensor/tensor.js';
import type { EngineValue } from './engine-session.js';
import type { OnnxSummary, OnnxValueSummary } from './onnx-file.js';

/** The part of a model that the protocol can carry. */
export interface ServedValues {
  readonly signature: Signature;
  readonly anyRank: readonly string[];
  readonly hiddenOutputs: readonly string[];
  /** The served outputs as the file declares them. */
  readonly outputs: readonly OnnxValueSummary[];
}

/**
 * Takes the dense tensors of protocol datatypes; other outputs are hidden.
 *
 * @param inferred the engine's outputs, for ranks that the file does not tell
 * @throws SRV_MODEL_UNSUPPORTED when an input cannot be given, or no output can be returned
 */
export function servedValues(
  path: string,
  summary: OnnxSummary,
  inferred: readonly EngineValue[] = [],
): ServedValues {
  for (const input of summary.inputs) {
    const obstacle = obstacleOf(input);
    if (obstacle) {
      throw new ServingError(
        'SRV_MODEL_UNSUPPORTED',
        `${path}: input '${input.name}' is ${obstacle}; only dense tensors of protocol datatypes can be served`,
      );
    }
  }
  const outputs = summary.outputs.filter((output) => !obstacleOf(output));
  if (outputs.length === 0) {
    const all = summary.outputs.map((output) => `'${output.name}' is ${obstacleOf(output)}`).join(', ');
    throw new ServingError(
      'SRV_MODEL_UNSUPPORTED',
      `${path}: no output is a dense tensor of a protocol datatype: ${all || 'the graph has no outputs'}`,
    );
  }
  const anyRank: string[] = [];
  const spec = (value: OnnxValueSummary): TensorSpec => {
    const told = inferred.find((other) => other.name === value.name)?.shape ?? [];
    if (!value.shape && told.length === 0) anyRank.push(value.name);
    return { name: value.name, datatype: value.datatype!, shape: value.shape ?? told };
  };
  const signature = { inputs: summary.inputs.map(spec), outputs: outputs.map(spec) };
  const hiddenOutputs = summary.outputs.filter((output) => obstacleOf(output)).map((output) => output.name);
  return { signature, anyRank, hiddenOutputs, outputs };
}

/** What keeps a value from being served, in words; undefined when nothing does. */
function obstacleOf(value: OnnxValueSummary): string | undefined {
  if (value.kind === 'unknown') return 'of an unknown type';
  if (value.kind === 'opaque' || value.kind === 'optional') return `an ${value.kind} value`;
  if (value.kind !== 'tensor') return `a ${value.kind.replace('_', ' ')}`;
  if (!value.datatype)
    return `a tensor of ${elementTypeNames[value.elementType] ?? `type ${value.elementType}`}`;
  if (value.datatype !== 'BYTES' && !fixedDatatypes[value.datatype].engine) {
    return `a tensor of ${value.datatype}, which the engine's Node package does not have`;
  }
  return undefined;
}

const elementTypeNames: Readonly<Record<number, string>> = {
  0: 'no element type',
  14: 'COMPLEX64',
  15: 'COMPLEX128',
  17: 'FLOAT8E4M3FN',
  18: 'FLOAT8E4M3FNUZ',
  19: 'FLOAT8E5M2',
  20: 'FLOAT8E5M2FNUZ',
  21: 'UINT4',
  22: 'INT4',
  23: 'FLOAT4E2M1',
  24: 'FLOAT8E8M0',
};
