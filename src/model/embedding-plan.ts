/**
 * The gather stages of a model, planned when it is loaded: which public inputs feed them, how the tensors of a
 * request become the keys that a batch carries, and what the instances do with those.
 */
import type { TargetRoom } from '../batching/batch.js';
import { type EmbeddingSettings, idsNames, slotsOf } from '../config/embedding-settings.js';
import { ServingError } from '../errors.js';
import type { GatherStage, StageTable } from '../instance/messages.js';
import type { Signature, Tensor, TensorSpec } from '../tensor/tensor.js';
import { idsEncoder } from './id-keys.js';
import { lengthsOf, type RaggedInput } from './ragged-ids.js';

/** A table that a stage uses, open in this process for as long as the version is loaded. */
export interface PlannedTable extends StageTable {
  /** Elements of a row. */
  readonly dim: number;
  /** The table's own row for missing keys. */
  readonly defaultRow: readonly number[] | undefined;
}

/** The inputs of a request in the signature's order become the inputs of a job. */
export interface EmbeddingPlan {
  /** Inputs as callers see them: those that the network takes itself first, then those of stages alone. */
  readonly inputs: readonly TensorSpec[];
  /** How many of `inputs` the network takes. */
  readonly fed: number;
  readonly tables: readonly PlannedTable[];
  readonly stages: readonly GatherStage[];
  readonly targets: readonly TargetRoom[];
  /** Job inputs whose first dimension is not that of rows, each with the job input that has their lengths. */
  readonly ragged: ReadonlyMap<number, number>;
  /** Public inputs whose first dimension is not that of rows. */
  readonly raggedInputs: ReadonlySet<number>;
  /** Public inputs that stages read, those that the network takes too among them. */
  readonly stageInputs: ReadonlySet<number>;
  /** False where the network takes offsets itself, which count from the first id of their own request. */
  readonly canMerge: boolean;
  /**
   * Makes the inputs of a job: what the network takes, then the keys, lengths and weights of every stage.
   *
   * @throws SRV_BAD_SIGNATURE for weights of another shape than their ids; SRV_BAD_BAGS for lengths or offsets that
   *   are negative, descend, or do not add up to the ids
   */
  encode(inputs: readonly Tensor[]): readonly Tensor[];
}

/**
 * Plans the stages of a model.
 *
 * @param signature of the network, with public names
 * @param graphInputs the network's inputs under their own names, in the same order
 * @param tables for each stage its table
 * @throws SRV_BAD_CONFIG when a stage does not fit the network or its table
 */
export function planEmbeddings(
  settings: readonly EmbeddingSettings[],
  signature: Signature,
  graphInputs: readonly TensorSpec[],
  tables: readonly PlannedTable[],
  label: string,
): EmbeddingPlan {
  const targets = new Map(settings.map((stage, index) => [stage.target, index]));
  for (const [target, index] of targets) {
    if (!graphInputs.some((spec) => spec.name === target)) {
      throw misfit(label, index, `the network has no input "${target}"; it has [${names(graphInputs)}]`);
    }
  }
  const inputs = signature.inputs.filter((_, index) => !targets.has(graphInputs[index]!.name));
  const fed = inputs.length;
  const stageInputs = new Set<number>();
  const indexOf = (spec: TensorSpec, stage: number): number => {
    const known = inputs.findIndex(({ name }) => name === spec.name);
    const index = known < 0 ? inputs.push(spec) - 1 : known;
    stageInputs.add(index);
    if (known < 0) return index;
    const { datatype, shape } = inputs[known]!;
    if (datatype !== spec.datatype || !fits(shape, spec.shape)) {
      throw misfit(
        label,
        stage,
        `"${spec.name}" is ${spec.datatype} [${spec.shape}] there, but the network takes it as ${datatype} [${shape}]`,
      );
    }
    return known;
  };

  const uniqueTables: PlannedTable[] = [];
  const stages: GatherStage[] = [];
  const rooms: TargetRoom[] = [];
  const ragged = new Map<number, number>();
  const raggedInputs = new Set<number>();
  let canMerge = true;
  /** Notes an input that has an element for each id, and the job input that the network gets of it, if any. */
  const setRagged = (input: number, lengths: number): void => {
    raggedInputs.add(input);
    if (input < fed) ragged.set(input, lengths);
  };
  const encoders: ((inputs: readonly Tensor[]) => readonly Tensor[])[] = [];
  let jobInputs = fed;
  for (const [index, stage] of settings.entries()) {
    const table = tables[index]!;
    let tableIndex = uniqueTables.indexOf(table);
    if (tableIndex < 0) tableIndex = uniqueTables.push(table) - 1;
    const datatype = stage.datatype ?? 'INT64';
    const isRagged = (stage.lengths ?? stage.offsets) !== undefined;
    const shape = stage.slots === undefined ? [-1] : [-1, stage.slots];
    const ids = idsNames(stage).map((name) => indexOf({ name, datatype, shape }, index));
    const encodeIds = idsEncoder(stage, ids);

    const keys = jobInputs++;
    let raggedInput: RaggedInput | undefined;
    let lengths: number | undefined;
    if (isRagged) {
      const name = (stage.lengths ?? stage.offsets)!;
      const known = inputs.find((input) => input.name === name)?.datatype;
      const input = indexOf({ name, datatype: known === 'INT32' ? 'INT32' : 'INT64', shape: [-1] }, index);
      raggedInput = { name, input, ids: ids[0]!, kind: stage.lengths === undefined ? 'offsets' : 'lengths' };
      lengths = jobInputs++;
      ragged.set(keys, lengths);
      setRagged(ids[0]!, lengths);
      if (raggedInput.kind === 'offsets' && input < fed) canMerge = false;
    }
    let weights: number | undefined;
    let weightsInput = 0;
    if (stage.weights !== undefined) {
      const weightShape = ids.length > 1 ? [-1, ids.length] : shape;
      weightsInput = indexOf({ name: stage.weights, datatype: 'FP32', shape: weightShape }, index);
      weights = jobInputs++;
      if (lengths !== undefined) {
        ragged.set(weights, lengths);
        setRagged(weightsInput, lengths);
      }
    }
    encoders.push((sent) => {
      const made: Tensor[] = [encodeIds(sent)];
      if (raggedInput) made.push(lengthsOf(raggedInput, sent));
      if (weights !== undefined) {
        const tensor = sent[weightsInput]!;
        if (tensor.data.length !== made[0]!.data.length) throw weightMismatch(stage, tensor, made[0]!);
        made.push(tensor);
      }
      return made;
    });

    const combiner = stage.combiner ?? 'none';
    const target = graphInputs.find((spec) => spec.name === stage.target)!;
    stages.push({
      table: tableIndex,
      keys,
      ...(lengths === undefined ? {} : { lengths }),
      ...(weights === undefined ? {} : { weights }),
      combiner,
      failsOnMissing: stage.missing === 'error',
      ...defaultRowOf(stage, table, label, index),
      target: stage.target,
      targetShape: targetShape(stage, target, table.dim, label, index),
    });
    rooms.push({
      countedBy: lengths ?? keys,
      isCombined: combiner !== 'none',
      rowBytes: table.dim * 4,
    });
  }
  return {
    inputs,
    fed,
    tables: uniqueTables,
    stages,
    targets: rooms,
    ragged,
    raggedInputs,
    stageInputs,
    canMerge,
    encode: (sent) => {
      const made: Tensor[] = sent.slice(0, fed);
      for (const encode of encoders) made.push(...encode(sent));
      return made;
    },
  };
}

/** The dimensions of a target behind the first; the one that follows from the number of ids is -1. */
function targetShape(
  stage: EmbeddingSettings,
  target: TensorSpec,
  dim: number,
  label: string,
  index: number,
): readonly number[] {
  if (target.datatype !== 'FP32') {
    throw misfit(label, index, `"${stage.target}" takes ${target.datatype}; rows are FP32`);
  }
  const slots = stage.combiner === undefined || stage.combiner === 'none' ? slotsOf(stage) : 1;
  const perRow = slots === -1 ? -1 : slots * dim;
  const inner = target.shape.slice(1);
  const free = inner.filter((size) => size === -1).length;
  const known = inner.reduce((product, size) => (size === -1 ? product : product * size), 1);
  // The one free dimension is what the others leave; of two nobody could tell which is the slots', but for a network
  // that gets [rows, slots, dim], or [rows, dim] where that is its rank.
  const wanted = free === 2 && inner.length === 2 ? [-1, dim] : inner;
  if (target.shape[0] === -1) {
    if (free === 0 && known === perRow) return inner;
    if (wanted !== inner) return perRow === -1 ? wanted : [perRow / dim, dim];
    if (free === 1 && perRow !== -1 && perRow % known === 0) {
      return inner.map((size) => (size === -1 ? perRow / known : size));
    }
    if (free === 1 && perRow === -1 && (known === 1 || (known === dim && productBehindFree(inner) === dim)))
      return inner;
  }
  const gives = perRow === -1 ? `any number of rows of ${dim}` : `${perRow} numbers`;
  throw misfit(
    label,
    index,
    `it gives ${gives} for each row of a request, but "${stage.target}" takes [${target.shape}]`,
  );
}

/** Rows stand one behind the other where the dimensions behind the free one hold a row. */
function productBehindFree(dims: readonly number[]): number {
  return dims.slice(dims.indexOf(-1) + 1).reduce((product, size) => product * size, 1);
}

function defaultRowOf(
  stage: EmbeddingSettings,
  table: PlannedTable,
  label: string,
  index: number,
): { readonly defaultRow?: readonly number[] } {
  if (stage.missing !== 'default') return {};
  const defaultRow = stage.default_row ?? table.defaultRow;
  if (!defaultRow) {
    throw misfit(
      label,
      index,
      `"missing" is "default", but neither default_row nor table ${table.label} has a row`,
    );
  }
  if (defaultRow.length === table.dim) return { defaultRow };
  throw misfit(
    label,
    index,
    `default_row has ${defaultRow.length} numbers, rows of ${table.label} have ${table.dim}`,
  );
}

function fits(network: readonly number[], stage: readonly number[]): boolean {
  return (
    network.length === stage.length &&
    network.every((dim, axis) => dim === stage[axis] || dim === -1 || stage[axis] === -1)
  );
}

function weightMismatch(stage: EmbeddingSettings, weights: Tensor, keys: Tensor): ServingError {
  return new ServingError(
    'SRV_BAD_SIGNATURE',
    `input '${stage.weights}' has ${weights.data.length} weights of shape [${weights.shape}] for ${keys.data.length} ` +
      `ids of '${idsNames(stage).join("', '")}'`,
  );
}

function misfit(label: string, index: number, problem: string): ServingError {
  return new ServingError('SRV_BAD_CONFIG', `the settings of ${label}: embeddings[${index}]: ${problem}`);
}

function names(specs: readonly TensorSpec[]): string {
  return specs.map((spec) => spec.name).join(', ');
}
