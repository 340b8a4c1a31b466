import { ServingError } from '../errors.js';
import type { TritonConfig, TritonTensor } from '../repository/triton-config.js';
import { tritonDatatypes } from '../repository/triton-fields.js';
import type { Signature, TensorSpec } from '../tensor/tensor.js';

/** A model as a `config.pbtxt` may describe it. */
export interface DescribedModel {
  /** Name and version, for messages. */
  readonly label: string;
  /** Inputs and outputs by their names in the graph. */
  readonly graph: Signature;
  /** Inputs and outputs as requests see them. */
  readonly signature: Signature;
  /** Names whose rank the model does not tell. */
  readonly anyRank: ReadonlySet<string>;
  /** Whether stages take the place of inputs of the graph, so that the file need not name all of them. */
  readonly hasStages: boolean;
}

/**
 * Compares the inputs and outputs of a `config.pbtxt` with the model. A file that lists none of them says nothing.
 *
 * @throws SRV_BAD_CONFIG that shows what differs, and both descriptions
 */
export function checkTritonTensors(config: TritonConfig | undefined, model: DescribedModel): void {
  if (!config) return;
  for (const side of ['inputs', 'outputs'] as const) {
    const described = config[side];
    if (described.length === 0) continue;
    const own = model.graph[side];
    const problems = described.flatMap((tensor) => {
      const spec =
        own.find(({ name }) => name === tensor.name) ??
        model.signature[side].find(({ name }) => name === tensor.name);
      if (!spec) return [`the model has no "${tensor.name}"`];
      return tensorProblems(tensor, spec, config.maxBatchSize > 0, model.anyRank.has(spec.name));
    });
    if (side === 'inputs' && !model.hasStages) {
      const missing = own.filter(({ name }) => described.every((tensor) => tensor.name !== name));
      problems.push(...missing.map(({ name }) => `the file does not name "${name}"`));
    }
    if (problems.length === 0) continue;
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${config.source}: the ${side} do not fit model ${model.label}: ${problems.join('; ')}. ` +
        `The file has ${listOf(described.map(tritonText))}${config.maxBatchSize > 0 ? ` with max_batch_size ${config.maxBatchSize}` : ''}; ` +
        `the model has ${listOf(own.map(specText))}.`,
    );
  }
}

function tensorProblems(
  tensor: TritonTensor,
  spec: TensorSpec,
  hasBatch: boolean,
  isAnyRank: boolean,
): string[] {
  const problems: string[] = [];
  if (tritonDatatypes[tensor.dataType] !== spec.datatype) {
    problems.push(`"${tensor.name}" is ${tensor.dataType} in the file and ${spec.datatype} in the model`);
  }
  if (isAnyRank) return problems;
  const shape = hasBatch ? [-1, ...tensor.dims] : tensor.dims;
  const fits =
    shape.length === spec.shape.length &&
    shape.every((dim, axis) => spec.shape[axis] === -1 || spec.shape[axis] === dim);
  if (!fits) problems.push(`"${tensor.name}" is [${shape}] in the file and [${spec.shape}] in the model`);
  return problems;
}

function tritonText({ name, dataType, dims }: TritonTensor): string {
  return `${name} ${dataType} [${dims}]`;
}

function specText({ name, datatype, shape }: TensorSpec): string {
  return `${name} ${datatype} [${shape}]`;
}

function listOf(texts: readonly string[]): string {
  return texts.length === 0 ? 'none' : texts.join(', ');
}
