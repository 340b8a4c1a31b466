/** Showing that a split model gives what the original gives. */
import { idsNames } from '../../config/embedding-settings.js';
import { messageOf, ServingError } from '../../errors.js';
import type { TensorMap } from '../../tensor/tensor.js';
import { isDiscrete } from '../generated-inputs.js';
import type { OnnxSummary } from '../onnx-file.js';
import { firstDifference, type Tolerance } from '../tensor-compare.js';
import { runModel } from './engine-process.js';
import { type IdsUser, type InputChoice, idChoices, randomInputs } from './random-ids.js';
import { type RowLookup, stageTensor } from './stage-rows.js';

/** A stage of the split, with the names of the graph whatever the public ones are, and what it is proved by. */
export interface ProvedStage extends IdsUser {
  /** Shape of its target, -1 for free dimensions. */
  readonly targetShape: readonly number[];
  /** Where its rows come from: the written table, or the model's own. */
  readonly lookup: RowLookup;
  /** Rows as they were stored, where they are not exact: told apart, because results then differ. */
  readonly stored?: RowLookup;
}

/** What is compared. */
export interface ProofTask {
  readonly original: string;
  readonly summary: OnnxSummary;
  readonly dense: string;
  /** Inputs that the network no longer has. */
  readonly removedInputs: readonly string[];
  readonly stages: readonly ProvedStage[];
  /** Bytes that opening the original may take; absent: what is free. */
  readonly memoryBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a proof rests on. */
export interface Proof {
  /** Runs of both models that gave the same. */
  readonly runs: number;
  /** Rows of the largest run. */
  readonly largestBatch: number;
  /** Whether ids were drawn from all that the original takes, or only from the first few, which it took alone. */
  readonly ids: InputChoice['ids'];
  readonly comparison: 'exact' | 'within 1e-5, because sums are taken in another order';
  /** Outputs that differ from run to run of the original itself, which nothing can be said about. */
  readonly unstable: readonly string[];
  /** The largest distance of an output with rows as they are stored, where storing them changed them. */
  readonly drift?: number;
}

/** A proof, or why the original could not be run at all for want of memory. */
export type ProofResult = { readonly proof: Proof } | { readonly notRun: string };

const poolingTolerance: Tolerance = { relative: 1e-5, ofLargest: 1e-5 };
const batchSizes = [1, 2, 7, 64];
const freeSizes = [1, 2, 3, 4, 8, 32];
/** The engine holds a model file twice while it opens it, and its weights once more. */
const openingFactor = 3;

/**
 * Runs both models on random ids and compares.
 *
 * @throws SRV_INTERNAL when the results differ
 * @throws SRV_MODEL_UNSUPPORTED when the engine does not run the original on any inputs that were tried
 */
export async function proveSplit(task: ProofTask): Promise<ProofResult> {
  const { summary } = task;
  const needed = summary.fileBytes * openingFactor;
  const available = task.memoryBytes ?? process.availableMemory();
  const names = summary.outputs
    .filter(({ kind, datatype }) => kind === 'tensor' && datatype)
    .map(({ name }) => name);
  const candidates = candidatesFor(task);
  if (needed > available) {
    return withoutOriginal(
      task,
      candidates[0]!,
      `opening it takes some ${needed} bytes of memory, and ${available} are free`,
    );
  }
  let tried: Results;
  try {
    tried = await runModel(
      task.original,
      candidates.map((candidate) => randomInputs(summary, task.stages, candidate, [0, 1], 0)),
      names,
      task.signal,
    );
  } catch (error) {
    if (!(error instanceof ServingError) || error.code === 'SRV_CANCELLED') throw error;
    if (error.code === 'SRV_MODEL_CRASHED') return withoutOriginal(task, candidates[0]!, error.message);
    throw new ServingError(
      'SRV_MODEL_UNSUPPORTED',
      `${task.original}: the engine does not open the model, so that a split of it cannot be proved: ${messageOf(error)}`,
      { cause: error },
    );
  }
  const candidate = candidates[tried.findIndex((result) => 'outputs' in result)];
  if (!candidate) {
    const [first] = tried;
    const why = first && 'refused' in first ? first.refused : 'none was tried';
    throw new ServingError(
      'SRV_MODEL_UNSUPPORTED',
      `${task.original}: the split cannot be proved, because the engine refused all ${candidates.length} generated inputs: ${why}`,
    );
  }
  return { proof: await compare(task, candidate, names) };
}

function candidatesFor({ summary, stages }: ProofTask): InputChoice[] {
  const ids = new Set(stages.flatMap(({ settings }) => idsNames(settings)));
  const discrete = summary.inputs.filter((input) => isDiscrete(input) && !ids.has(input.name));
  const ones = [
    new Set<string>(),
    ...(discrete.length > 0 ? [new Set(discrete.map(({ name }) => name))] : []),
  ];
  const isFree = summary.inputs.some(({ shape }) => shape?.slice(1).includes(-1));
  return idChoices.flatMap((choice) =>
    (isFree ? freeSizes : [1]).flatMap((freeSize) =>
      ones.map((set) => ({ plan: { freeSize, ones: set }, ids: choice })),
    ),
  );
}

async function compare(task: ProofTask, candidate: InputChoice, names: readonly string[]): Promise<Proof> {
  const { summary, stages, signal } = task;
  const widths = summary.inputs.some(({ shape }) => shape?.slice(1).includes(-1))
    ? [candidate.plan.freeSize, candidate.plan.freeSize + 2]
    : [1];
  const isBatched = summary.inputs.some(({ shape }) => shape?.[0] === -1);
  const sizes = isBatched ? batchSizes : batchSizes.map(() => 1);
  const requests = widths.flatMap((freeSize, round) =>
    sizes.map((size, at) =>
      randomInputs(
        summary,
        stages,
        { ...candidate, plan: { ...candidate.plan, freeSize } },
        Array.from({ length: size }, (_, row) => row),
        1 + at + round * sizes.length,
      ),
    ),
  );
  // The first one twice: an output that is drawn by lot differs.
  const original = await runModel(task.original, [requests[0]!, ...requests], names, signal);
  const unstable = names.filter((name) => isUnstable(original[0], original[1], name));
  const feed = (lookup: (stage: ProvedStage) => RowLookup): TensorMap[] =>
    requests.map((inputs) => denseInputs(task, inputs, lookup));
  const split = await runModel(
    task.dense,
    feed(({ lookup }) => lookup),
    names,
    signal,
  );
  const isPooled = stages.some(({ settings }) => (settings.combiner ?? 'none') !== 'none');
  let runs = 0;
  let largestBatch = 0;
  for (const [at, result] of original.slice(1).entries()) {
    // What the original refuses, such as a width that its weights do not have, proves nothing.
    if ('refused' in result) continue;
    const got = split[at]!;
    const expected = Object.fromEntries(
      Object.entries(result.outputs).filter(([name]) => !unstable.includes(name)),
    );
    const difference =
      'refused' in got
        ? `the engine refuses it: ${got.refused}`
        : firstDifference(expected, got.outputs, isPooled ? poolingTolerance : 'exact');
    if (difference !== undefined) {
      throw new ServingError(
        'SRV_INTERNAL',
        `${task.original}: the split model does not give what the original gives, so it is not kept: ${difference}`,
      );
    }
    runs++;
    largestBatch = Math.max(largestBatch, sizes[at % sizes.length]!);
  }
  if (runs === 0 || unstable.length === names.length) {
    throw new ServingError(
      'SRV_MODEL_UNSUPPORTED',
      `${task.original}: the split cannot be proved: ${runs === 0 ? 'the engine refused all runs' : 'every output differs from run to run'}`,
    );
  }
  const drift = stages.some(({ stored }) => stored)
    ? largestDistance(
        split,
        await runModel(
          task.dense,
          feed(({ lookup, stored }) => stored ?? lookup),
          names,
          signal,
        ),
      )
    : undefined;
  return {
    runs,
    largestBatch,
    ids: candidate.ids,
    comparison: isPooled ? 'within 1e-5, because sums are taken in another order' : 'exact',
    unstable,
    ...(drift === undefined ? {} : { drift }),
  };
}

/** What the network takes where the original takes `inputs`. */
function denseInputs(
  { stages, removedInputs }: ProofTask,
  inputs: TensorMap,
  lookup: (stage: ProvedStage) => RowLookup,
): TensorMap {
  return {
    ...Object.fromEntries(Object.entries(inputs).filter(([name]) => !removedInputs.includes(name))),
    ...Object.fromEntries(
      stages.map((stage) => [
        stage.settings.target,
        stageTensor(stage.settings, inputs, lookup(stage), stage.targetShape),
      ]),
    ),
  };
}

/** Where the original cannot be run: its rows are compared elsewhere, and here the network at least has to open. */
async function withoutOriginal(
  task: ProofTask,
  candidate: InputChoice,
  reason: string,
): Promise<{ readonly notRun: string }> {
  const inputs = denseInputs(
    task,
    randomInputs(task.summary, task.stages, candidate, [0, 1], 0),
    ({ lookup }) => lookup,
  );
  try {
    await runModel(task.dense, [inputs], [], task.signal);
  } catch (error) {
    if (!(error instanceof ServingError) || error.code === 'SRV_CANCELLED') throw error;
    throw new ServingError(
      'SRV_INTERNAL',
      `${task.original}: the engine does not open the network that was cut out of it: ${error.message}`,
      { cause: error },
    );
  }
  return { notRun: reason };
}

type Results = Awaited<ReturnType<typeof runModel>>;

function isUnstable(first: Results[number] | undefined, second: Results[number] | undefined, name: string) {
  if (!first || !second || 'refused' in first || 'refused' in second) return false;
  const only = (map: TensorMap): TensorMap => ({ [name]: map[name]! });
  return firstDifference(only(first.outputs), only(second.outputs), 'exact') !== undefined;
}

function largestDistance(exact: Results, stored: Results): number {
  let largest = 0;
  for (const [at, result] of exact.entries()) {
    const other = stored[at]!;
    if ('refused' in result || 'refused' in other) continue;
    for (const [name, tensor] of Object.entries(result.outputs)) {
      if (tensor.datatype !== 'FP32' && tensor.datatype !== 'FP64') continue;
      const got = other.outputs[name]!.data;
      for (let i = 0; i < tensor.data.length; i++) {
        const distance = Math.abs((tensor.data[i] as number) - (got[i] as number));
        if (distance > largest) largest = distance;
      }
    }
  }
  return largest;
}
