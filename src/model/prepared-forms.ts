/**
 * Making and measuring the prepared forms of a model.
 *
 * Measured before (984 models): with weights below 1 MiB outside the file, 221 models do not load, and prepacked
 * weights end the process in run (the writer aligns only larger ones). So the threshold is 1 MiB and never lower,
 * and a form is believed only after it was loaded again and gave the original's results.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import type { TensorMap } from '../tensor/tensor.js';
import { baseSessionExtra, type Engine, type EngineSession } from './engine-session.js';
import { generateInputs } from './generated-inputs.js';
import { liftIrVersion } from './ir-lift.js';
import type { OnnxSummary } from './onnx-file.js';
import type { FormMeasure } from './prepared-model.js';
import { anonymousBytes } from './process-memory.js';
import { firstDifference, type Tolerance } from './tensor-compare.js';
import { type TrialResult, timeRuns } from './trial.js';

/** Constants of this many bytes and more are weights that clones can share. */
export const weightThresholdBytes = 1_048_576;

/** A prepared form. */
export type PreparedForm = FormMeasure['form'];

/** Session config entries that a form must be loaded with. */
export const formSessionExtra: Readonly<Record<PreparedForm, Readonly<Record<string, string>>>> = {
  prepared: { ...baseSessionExtra, 'session.disable_prepacking': '1' },
  prepacked: baseSessionExtra,
};

/** Names of the files of a prepared form, within its directory. */
export const preparedModelFile = 'model.onnx';
export const preparedWeightsFile = 'model.weights';

/** Kernels without prepacking sum in another order: floats may be this far from the original's. */
const unpackedTolerance: Tolerance = { relative: 1e-4, ofLargest: 1e-5 };
const batchRows = 32;
const measuredRuns = 7;
const measuredMs = 400;

/** Why no prepared form can be made of a model, or undefined when one can. */
export function unpreparableReason(summary: OnnxSummary, result: TrialResult): string | undefined {
  if (weightBytes(summary) === 0) return 'no weights of 1 MiB or more: clones would share nothing';
  if (summary.largestSubgraphConstantBytes >= 1024) {
    // The engine writes such weights twice, into the model and into the data file, and then refuses the model.
    return 'a branch or loop body holds weights, which the engine cannot write apart';
  }
  if (!result.trial.ran) return `it could not be compared with the original: ${result.trial.reason}`;
  return undefined;
}

/** Bytes of the constants that clones can share. */
export function weightBytes(summary: OnnxSummary): number {
  return summary.constants.reduce(
    (sum, constant) => (constant.bytes >= weightThresholdBytes ? sum + constant.bytes : sum),
    0,
  );
}

/**
 * Opens the model's own file while the engine writes a form of it into a new directory. What is opened answers as the
 * original does. Rejects with the engine's error.
 */
export async function openWriting(
  engine: Engine,
  path: string,
  summary: OnnxSummary,
  form: PreparedForm,
  directory: string,
): Promise<EngineSession> {
  makeDirectory(directory);
  const isOld = summary.irVersion < 4;
  const extra: Record<string, string> = {
    ...baseSessionExtra,
    'session.optimized_model_external_initializers_file_name': preparedWeightsFile,
    'session.optimized_model_external_initializers_min_size_in_bytes': String(weightThresholdBytes),
  };
  if (form === 'prepacked') extra['session.save_external_prepacked_constant_initializers'] = '1';
  if (isOld) extra['session.model_external_initializers_file_folder_path'] = dirname(path);
  const model = isOld ? liftIrVersion(readFileSync(path)) : path;
  return await engine.open(model, { extra, optimizedFile: join(directory, preparedModelFile) });
}

/** A form that was loaded and gave what the original gives, and how long loading took; or why it cannot be served. */
export type CheckedForm =
  | { readonly session: EngineSession; readonly loadMs: number }
  | { readonly refused: string };

/** Loads a written form and compares it with the original's results. Rejects where it does not load or run. */
export async function openChecked(
  engine: Engine,
  summary: OnnxSummary,
  form: PreparedForm,
  directory: string,
  result: TrialResult,
): Promise<CheckedForm> {
  if (!isFile(join(directory, preparedWeightsFile))) {
    return { refused: 'the optimised model has no weights of 1 MiB or more' };
  }
  const startedAt = performance.now();
  const session = await engine.open(join(directory, preparedModelFile), { extra: formSessionExtra[form] });
  const loadMs = performance.now() - startedAt;
  let difference: string | undefined;
  try {
    difference = await differenceFrom(session, summary, form, result);
  } catch (error) {
    await session.close();
    throw error;
  }
  if (difference === undefined) return { session, loadMs };
  await session.close();
  return { refused: `not what the original gives: ${difference}` };
}

/**
 * Loads a written form twice, compares it with the original's results and measures it. A form that does not load or
 * differs comes back with `refused`; one that crashes ends this process.
 */
export async function measureForm(
  engine: Engine,
  summary: OnnxSummary,
  form: PreparedForm,
  directory: string,
  result: TrialResult,
): Promise<FormMeasure> {
  const nothing = { form, loadMs: 0, oneRowUs: 0, batchUs: 0, batchRows: 0, privateBytes: 0 };
  const sessions: EngineSession[] = [];
  try {
    const checked = await openChecked(engine, summary, form, directory, result);
    if ('refused' in checked) return { ...nothing, refused: checked.refused };
    sessions.push(checked.session);
    const before = anonymousBytes();
    const startedAt = performance.now();
    const clone = await engine.open(join(directory, preparedModelFile), { extra: formSessionExtra[form] });
    const loadMs = performance.now() - startedAt;
    sessions.push(clone);
    const names = Object.keys(result.samples[0]!.outputs);
    const run = (inputs: TensorMap) => clone.run(inputs, names);
    const one = generateInputs(summary.inputs, result.plan!, [0]);
    await run(one);
    const privateBytes = Math.max(0, anonymousBytes() - before);
    const rows = result.batching.rowsIndependent ? batchRows : 1;
    const batch = generateInputs(
      summary.inputs,
      result.plan!,
      Array.from({ length: rows }, (_, row) => row),
    );
    await run(batch);
    const oneRowUs = Math.min(...(await timeRuns(() => run(one), measuredRuns, measuredMs)));
    const batchUs = Math.min(...(await timeRuns(() => run(batch), measuredRuns, measuredMs)));
    return { form, loadMs, oneRowUs, batchUs, batchRows: rows, privateBytes };
  } catch (error) {
    return {
      ...nothing,
      refused: `${preparedModelFile} of this form does not load or run: ${messageOf(error)}`,
    };
  } finally {
    for (const session of sessions) await session.close();
  }
}

async function differenceFrom(
  session: EngineSession,
  summary: OnnxSummary,
  form: PreparedForm,
  result: TrialResult,
): Promise<string | undefined> {
  const names = session.inputs.map((input) => input.name).sort();
  const expected = summary.inputs.map((input) => input.name).sort();
  if (String(names) !== String(expected)) return `its inputs are ${names.join(', ')}`;
  for (const sample of result.samples) {
    const inputs = generateInputs(summary.inputs, result.plan!, sample.rows);
    const outputs = await session.run(inputs, Object.keys(sample.outputs));
    const difference = firstDifference(
      sample.outputs,
      outputs,
      form === 'prepared' ? unpackedTolerance : 'exact',
    );
    if (difference) return difference;
  }
  return undefined;
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
