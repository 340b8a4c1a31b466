/** Trying a model on generated inputs: does it run, do rows interact, how long does a run take. */
import { messageOf } from '../errors.js';
import type { TensorMap } from '../tensor/tensor.js';
import { checkRows, exactShapes, fixedBatchReason } from './batch-check.js';
import type { EngineSession } from './engine-session.js';
import { generateInputs, type InputPlan, isDiscrete } from './generated-inputs.js';
import type { OnnxSummary, OnnxValueSummary } from './onnx-file.js';
import type { BatchingVerdict, ModelTrial } from './prepared-model.js';

/** What a trial found. */
export interface TrialResult {
  readonly trial: ModelTrial;
  readonly batching: BatchingVerdict;
  readonly outputShapes?: Readonly<Record<string, readonly number[]>>;
  /** The inputs that ran; absent when none did. */
  readonly plan?: InputPlan;
  /** Results by their rows, to compare other forms of the model with. */
  readonly samples: readonly TrialSample[];
}

/** Outputs of a run on generated rows. */
export interface TrialSample {
  readonly rows: readonly number[];
  readonly outputs: TensorMap;
}

/** Runs that are timed at most, and the time they may take together. */
const timedRuns = 20;
const timedMs = 50;
const maxAttempts = 24;
const freeSizes = [1, 2, 4, 8, 32, 128];

/** Runs the model on generated inputs. A run that the engine refuses is told in the result; a crash is a crash. */
export async function tryModel(
  session: EngineSession,
  summary: OnnxSummary,
  outputs: readonly OnnxValueSummary[],
): Promise<TrialResult> {
  const names = outputs.map((output) => output.name);
  const run = (inputs: TensorMap): Promise<TensorMap> => session.run(inputs, names);
  const fixedReason = fixedBatchReason(summary.inputs, outputs);
  const found = await findPlan(summary.inputs, run, fixedReason === undefined);
  if ('reason' in found) {
    const reason = `the engine refused generated inputs: ${found.reason}`;
    return { trial: { ran: false, reason }, batching: { rowsIndependent: false, reason }, samples: [] };
  }
  const { plan, first } = found;
  const samples: TrialSample[] = [{ rows: [0], outputs: first }];
  let batching: BatchingVerdict = { rowsIndependent: false, reason: fixedReason ?? '' };
  if (fixedReason === undefined) {
    const { verdict, pair } = await checkRows(summary.inputs, plan, run, first);
    batching = verdict;
    if (pair) {
      samples.push({ rows: [0, 1], outputs: pair });
      batching = (await checkLonger(summary.inputs, plan, run)) ?? verdict;
      const rowShapes = exactShapes(summary, outputs, [first, pair], 1);
      if (rowShapes && batching.rowsIndependent) batching = { ...batching, rowShapes };
    }
  }
  const outputShapes = exactShapes(summary, outputs, [first], 0);
  const inputs = generateInputs(summary.inputs, plan, [0]);
  const durations = await timeRuns(() => run(inputs), timedRuns, timedMs);
  return {
    trial: { ran: true, p50Us: quantile(durations, 0.5), p99Us: quantile(durations, 0.99) },
    batching,
    ...(outputShapes ? { outputShapes } : {}),
    plan,
    samples,
  };
}

/**
 * Compares rows once more where other dimensions are free: at size 1 much of a sequence model does nothing. Tells
 * only of rows that interact; a refused size tells nothing.
 */
async function checkLonger(
  inputs: readonly OnnxValueSummary[],
  plan: InputPlan,
  run: (inputs: TensorMap) => Promise<TensorMap>,
): Promise<BatchingVerdict | undefined> {
  if (!hasFreeDims(inputs)) return undefined;
  const longer = { ...plan, freeSize: plan.freeSize + 2 };
  let first: TensorMap;
  try {
    first = await run(generateInputs(inputs, longer, [0]));
    await run(generateInputs(inputs, longer, [0, 1]));
  } catch {
    return undefined;
  }
  const { verdict } = await checkRows(inputs, longer, run, first);
  return verdict.rowsIndependent ? undefined : verdict;
}

function hasFreeDims(inputs: readonly OnnxValueSummary[]): boolean {
  return inputs.some((input) => input.shape?.slice(1).includes(-1));
}

/** Durations in us of up to `count` calls, ended early once they took `budgetMs` together; at least one. */
export async function timeRuns(
  run: () => Promise<unknown>,
  count: number,
  budgetMs: number,
): Promise<number[]> {
  const durations: number[] = [];
  const startedAt = performance.now();
  do {
    const runAt = performance.now();
    await run();
    durations.push(Math.round((performance.now() - runAt) * 1000));
  } while (durations.length < count && performance.now() - startedAt < budgetMs);
  return durations;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

type FoundPlan = { plan: InputPlan; first: TensorMap } | { reason: string };

async function findPlan(
  inputs: readonly OnnxValueSummary[],
  run: (inputs: TensorMap) => Promise<TensorMap>,
  needsSecondRow: boolean,
): Promise<FoundPlan> {
  let reason = 'none was tried';
  let halfway: FoundPlan | undefined;
  for (const plan of plansFor(inputs)) {
    try {
      const first = await run(generateInputs(inputs, plan, [0]));
      halfway ??= { plan, first };
      if (needsSecondRow) await run(generateInputs(inputs, plan, [1]));
      return { plan, first };
    } catch (error) {
      reason = messageOf(error);
    }
  }
  return halfway ?? { reason };
}

/** Plans in the order they are tried: indices may be out of range at 2, free sizes may have to agree with others. */
function* plansFor(inputs: readonly OnnxValueSummary[]): Generator<InputPlan> {
  const discrete = inputs.filter(isDiscrete).map((input) => input.name);
  const choices: ReadonlySet<string>[] = [new Set()];
  if (discrete.length > 1) choices.push(...discrete.map((name) => new Set([name])));
  if (discrete.length > 0) choices.push(new Set(discrete));
  let attempts = 0;
  for (const freeSize of hasFreeDims(inputs) ? freeSizes : [1]) {
    for (const ones of choices) {
      if (attempts++ >= maxAttempts) return;
      yield { freeSize, ones };
    }
  }
}
