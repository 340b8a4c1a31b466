/** Preparing one model: the steps, in order. Runs in the prepare process. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { takeLock } from '../file-lock.js';
import { baseSessionExtra, type Engine, type EngineSession } from './engine-session.js';
import { chooseForm } from './form-policy.js';
import { type ModelFile, modelFiles } from './model-files.js';
import { type OnnxSummary, readOnnxFile } from './onnx-file.js';
import type { ExcludedForm, PreparePhase } from './prepare-messages.js';
import { PreparedCache } from './prepared-cache.js';
import {
  formSessionExtra,
  measureForm,
  type PreparedForm,
  preparedModelFile,
  unpreparableReason,
  weightBytes,
  writeForm,
} from './prepared-forms.js';
import type { FormMeasure, PreparedModel, PrepareRequest } from './prepared-model.js';
import { servedValues } from './served-values.js';
import { type TrialResult, tryModel } from './trial.js';

/** What is kept of a prepared model: all but where it lies. */
export type CachedModel = Omit<PreparedModel, 'source' | 'file' | 'cached'>;

/** What the steps need from the process. */
export interface PrepareContext {
  /** Loads the engine on the first call: a warm start never needs it. */
  readonly engine: () => Promise<Engine>;
  readonly cache: PreparedCache<CachedModel> | undefined;
  readonly cacheDirectory: string | undefined;
  readonly hashFile: (path: string) => Promise<string>;
  /** What a verdict depends on beside the model: engine version, CPU. */
  readonly environment: readonly string[];
  /** Tells the parent what comes next; resolves when it is on its way. */
  readonly enter: (phase: PreparePhase) => Promise<void>;
  /** Forms that ended the process in an earlier attempt on this model. */
  readonly excluded: readonly ExcludedForm[];
}

const formatVersion = 1;
const lockWaitMs = 120_000;

/**
 * Prepares a model, or hands out what the cache has.
 *
 * @throws SRV_MODEL_INVALID, SRV_MODEL_UNSUPPORTED, SRV_IO
 */
export async function prepareModel(request: PrepareRequest, context: PrepareContext): Promise<PreparedModel> {
  const { cache } = context;
  const summary = readOnnxFile(request.path);
  // Before anything is opened: running some of what is refused here ends the process.
  servedValues(request.path, summary);
  const files = modelFiles(request.path, summary);
  const hashes = await Promise.all(files.map((file) => context.hashFile(file.path)));
  const digest = hashes.length === 1 ? hashes[0]! : PreparedCache.key(hashes);
  const key = PreparedCache.key([
    formatVersion,
    files.map((file, at) => [file.location, hashes[at]]),
    context.environment,
    request.executionProviders ?? ['cpu'],
    request.prepacking ?? 'auto',
    request.prepared ?? 'on',
  ]);
  const isExcluding = context.excluded.length > 0;
  const known = isExcluding ? undefined : await cache?.read(key);
  if (known) return handOut(request, known.value, known.directory, true);

  const release = weightBytes(summary) > 0 ? await lock(context, key) : undefined;
  try {
    const made = release && !isExcluding ? await cache?.read(key) : undefined;
    if (made) return handOut(request, made.value, made.directory, true);
    return await prepareCold(request, context, summary, files, digest, key);
  } finally {
    release?.();
  }
}

/** Without the lock, on a full disk or after the wait, two servers do the same work and nothing worse. */
async function lock(context: PrepareContext, key: string): Promise<(() => void) | undefined> {
  if (!context.cache || context.cache.unwritable !== undefined) return undefined;
  try {
    return await takeLock(join(context.cacheDirectory!, `${key}.lock`), lockWaitMs);
  } catch {
    return undefined;
  }
}

function handOut(
  request: PrepareRequest,
  value: CachedModel,
  directory: string | undefined,
  cached: boolean,
): PreparedModel {
  const file = directory ? join(directory, preparedModelFile) : request.path;
  return { ...value, source: request.path, file, cached };
}

async function prepareCold(
  request: PrepareRequest,
  context: PrepareContext,
  summary: OnnxSummary,
  files: readonly ModelFile[],
  digest: string,
  key: string,
): Promise<PreparedModel> {
  const engine = await context.engine();
  const isCpu = (request.executionProviders?.[0] ?? 'cpu') === 'cpu';
  await context.enter('original');
  const tried = await tryOriginal(engine, request.path, summary, isCpu);
  const { served, result } = tried;
  const value: CachedModel = {
    form: 'original',
    formReason: '',
    sessionExtra: baseSessionExtra,
    signature: served.signature,
    anyRank: served.anyRank,
    hiddenOutputs: served.hiddenOutputs,
    opsets: summary.opsets,
    batching: result.batching,
    ...(result.outputShapes ? { outputShapes: result.outputShapes } : {}),
    trial: result.trial,
    measures: [],
    weightBytes: weightBytes(summary),
    fileBytes: files.reduce((sum, file) => sum + file.bytes, 0),
    loadMs: tried.loadMs,
    digest,
  };
  const obstacle = isCpu
    ? obstacleTo(request, context, summary, result)
    : 'prepared forms are made for cpu alone';
  if (obstacle) return await store(request, context, key, { ...value, formReason: obstacle });
  return await prepareForms(request, context, engine, summary, result, value, key);
}

interface TriedOriginal {
  readonly served: ReturnType<typeof servedValues>;
  readonly result: TrialResult;
  readonly loadMs: number;
}

async function tryOriginal(
  engine: Engine,
  path: string,
  summary: OnnxSummary,
  isCpu: boolean,
): Promise<TriedOriginal> {
  const startedAt = performance.now();
  let session: EngineSession;
  try {
    session = await engine.open(path, { extra: baseSessionExtra });
  } catch (error) {
    if (isCpu) throw refusalOf(path, error);
    // A model for another provider may use kernels that the CPU does not have.
    const reason = `not tried: the CPU engine does not open it: ${messageOf(error)}`;
    const result = {
      trial: { ran: false, reason },
      batching: { rowsIndependent: false, reason },
      samples: [],
    };
    return { served: servedValues(path, summary), result, loadMs: 0 };
  }
  const loadMs = performance.now() - startedAt;
  try {
    const served = servedValues(path, summary, session.outputs);
    const result = await tryModel(session, summary, served.outputs);
    if (isCpu) return { served, result, loadMs };
    const { ran, reason = 'tried on the CPU; durations there say nothing about this provider' } =
      result.trial;
    return { served, result: { ...result, trial: { ran, reason } }, loadMs };
  } finally {
    await session.close();
  }
}

function refusalOf(path: string, error: unknown): ServingError {
  const text = messageOf(error).trim();
  const isBroken =
    /protobuf parsing failed|deserialize tensor|external data|out of bounds|not a valid (model|graph)/i;
  return new ServingError(
    isBroken.test(text) ? 'SRV_MODEL_INVALID' : 'SRV_MODEL_UNSUPPORTED',
    `${path}: the engine does not load the model: ${text}`,
    { cause: error },
  );
}

function obstacleTo(
  request: PrepareRequest,
  context: PrepareContext,
  summary: OnnxSummary,
  result: TrialResult,
): string | undefined {
  const reason = unpreparableReason(summary, result);
  if (reason) return reason;
  if (request.prepared === 'off') return 'prepared forms are switched off for this model';
  if (!context.cache) return 'there is no cache directory for a prepared form';
  return context.cache.unwritable;
}

async function prepareForms(
  request: PrepareRequest,
  context: PrepareContext,
  engine: Engine,
  summary: OnnxSummary,
  result: TrialResult,
  value: CachedModel,
  key: string,
): Promise<PreparedModel> {
  const cache = context.cache!;
  const prepacking = request.prepacking ?? 'auto';
  const measures: FormMeasure[] = [];
  let work: string | undefined;
  try {
    if (!cache.makeRoom(value.weightBytes)) {
      const formReason = `the cache limit leaves no room for ${value.weightBytes} bytes of weights`;
      return handOut(request, { ...value, formReason }, undefined, false);
    }
    work = cache.newWork();
    for (const form of prepacking === 'off'
      ? (['prepared'] as const)
      : (['prepared', 'prepacked'] as const)) {
      measures.push(await tryForm(request, context, engine, summary, result, form, join(work, form)));
    }
    const choice = chooseForm(measures, value.weightBytes, prepacking);
    const chosen: CachedModel = { ...value, form: choice.form, formReason: choice.reason, measures };
    if (choice.form === 'original') return await store(request, context, key, chosen);
    const { loadMs } = measures.find((measure) => measure.form === choice.form)!;
    const sessionExtra = formSessionExtra[choice.form];
    return await store(request, context, key, { ...chosen, sessionExtra, loadMs }, join(work, choice.form));
  } catch (error) {
    const formReason = `the prepared form could not be kept: ${messageOf(error)}`;
    return handOut(request, { ...value, measures, formReason }, undefined, false);
  } finally {
    if (work) cache.removeWork(work);
  }
}

async function tryForm(
  request: PrepareRequest,
  context: PrepareContext,
  engine: Engine,
  summary: OnnxSummary,
  result: TrialResult,
  form: PreparedForm,
  directory: string,
): Promise<FormMeasure> {
  const refused = (reason: string): FormMeasure => {
    return { form, refused: reason, loadMs: 0, oneRowUs: 0, batchUs: 0, batchRows: 0, privateBytes: 0 };
  };
  const excluded = context.excluded.find((other) => other.form === form);
  if (excluded) return refused(excluded.reason);
  if (form === 'prepacked' && !context.cache?.makeRoom(2 * weightBytes(summary))) {
    return refused('the cache limit leaves no room for twice the weights');
  }
  await context.enter(form);
  try {
    mkdirSync(directory, { mode: 0o700 });
    await writeForm(engine, request.path, summary, form, directory);
  } catch (error) {
    return refused(`it could not be written: ${messageOf(error)}`);
  }
  return await measureForm(engine, summary, form, directory, result);
}

async function store(
  request: PrepareRequest,
  context: PrepareContext,
  key: string,
  value: CachedModel,
  from?: string,
): Promise<PreparedModel> {
  const { cache } = context;
  if (!cache || cache.unwritable !== undefined) return handOut(request, value, undefined, false);
  try {
    const entry = await cache.commit(key, value, from);
    return handOut(request, entry.value, entry.directory, false);
  } catch (error) {
    if (from) throw error;
    // A verdict that cannot be kept, on a full disk, is found anew at the next start.
    return handOut(request, value, undefined, false);
  }
}
