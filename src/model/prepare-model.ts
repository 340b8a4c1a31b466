/** Preparing one model: the steps, in order. Runs in the prepare process. */
import { join } from 'node:path';
import { messageOf } from '../errors.js';
import { takeLock } from '../file-lock.js';
import { baseSessionExtra, type Engine } from './engine-session.js';
import { chooseForm } from './form-policy.js';
import { type MeasuredStructures, structureOf } from './measured-structures.js';
import { type ModelFile, modelFiles } from './model-files.js';
import { type OnnxSummary, readOnnxFile } from './onnx-file.js';
import { type TriedOriginal, tryOriginal } from './original-trial.js';
import type { ExcludedForm, PreparePhase } from './prepare-messages.js';
import { PreparedCache } from './prepared-cache.js';
import {
  formSessionExtra,
  measureForm,
  openChecked,
  openWriting,
  type PreparedForm,
  preparedModelFile,
  unpreparableReason,
  weightBytes,
} from './prepared-forms.js';
import type { FormMeasure, PreparedModel, PrepareRequest } from './prepared-model.js';
import { servedValues } from './served-values.js';
import type { TrialResult } from './trial.js';

/** What is kept of a prepared model: all but where it lies. */
export type CachedModel = Omit<PreparedModel, 'source' | 'file' | 'cached'>;

/** What the steps need from the process. */
export interface PrepareContext {
  /** Loads the engine on the first call: a warm start never needs it. */
  readonly engine: () => Promise<Engine>;
  readonly cache: PreparedCache<CachedModel> | undefined;
  readonly cacheDirectory: string | undefined;
  /** What was measured of earlier models: measuring takes longer than making. */
  readonly measured: MeasuredStructures;
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
  const structure = structureOf(summary, request);
  const model = await prepareOnce({ request, context, summary, files, digest, key, structure });
  context.measured.note(structure, model);
  return model;
}

/** One model that is being prepared. */
interface Task {
  readonly request: PrepareRequest;
  readonly context: PrepareContext;
  readonly summary: OnnxSummary;
  readonly files: readonly ModelFile[];
  readonly digest: string;
  /** Of its verdict in the cache. */
  readonly key: string;
  readonly structure: string;
}

async function prepareOnce(task: Task): Promise<PreparedModel> {
  const { request, context, summary, key } = task;
  const { cache } = context;
  const isExcluding = context.excluded.length > 0;
  const known = isExcluding ? undefined : await cache?.read(key);
  if (known) return handOut(request, known.value, known.directory, true);

  const release = weightBytes(summary) > 0 ? await lock(context, key) : undefined;
  try {
    const made = release && !isExcluding ? await cache?.read(key) : undefined;
    if (made) return handOut(request, made.value, made.directory, true);
    const again = await makeAgain(task);
    if (typeof again === 'object') return again;
    const model = await prepareCold(task);
    if (again === undefined) return model;
    return {
      ...model,
      formReason: `${model.formReason}; the form of an earlier model was refused: ${again}`,
    };
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

/** Prepares a model of which nothing is known. */
async function prepareCold(task: Task): Promise<PreparedModel> {
  const { request, context, summary } = task;
  const engine = await context.engine();
  const isCpu = isForCpu(request);
  await context.enter('original');
  const tried = await tryOriginal(request.path, summary, isCpu, () =>
    engine.open(request.path, { extra: baseSessionExtra }),
  );
  const value = verdictOf(task, tried);
  const obstacle = isCpu
    ? (unpreparableReason(summary, tried.result) ?? obstacleTo(task))
    : 'prepared forms are made for cpu alone';
  if (obstacle) return await store(task, { ...value, formReason: obstacle });
  return await prepareForms(task, engine, tried.result, value);
}

function isForCpu({ executionProviders }: PrepareRequest): boolean {
  return (executionProviders?.[0] ?? 'cpu') === 'cpu';
}

/** What is known of a model before a form is made of it. */
function verdictOf({ summary, files, digest }: Task, { served, result, loadMs }: TriedOriginal): CachedModel {
  return {
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
    loadMs,
    digest,
  };
}

/** Why no form may be made, whatever the model is. */
function obstacleTo({ request, context: { cache } }: Task): string | undefined {
  if (request.prepared === 'off') return 'prepared forms are switched off for this model';
  if (!cache) return 'there is no cache directory for a prepared form';
  return cache.unwritable;
}

/**
 * Makes the form that was best for an earlier model of the same structure, and tries the original while it is written: two
 * sessions instead of seven. Undefined when there was none; a text when it is not to be had: the long way finds out more.
 */
async function makeAgain(task: Task): Promise<PreparedModel | string | undefined> {
  const { request, context, summary, structure } = task;
  const { cache, measured, excluded } = context;
  if (!isForCpu(request) || excluded.length > 0 || obstacleTo(task) !== undefined) return undefined;
  // What is older is lifted first, so that the session that writes it is not of the model's own file.
  if (summary.irVersion < 4) return undefined;
  const form = measured.take(structure);
  if (form === undefined) return undefined;
  let work: string | undefined;
  try {
    work = cache!.newWork();
    const made = await makeForm(task, form, join(work, form));
    if (typeof made === 'string') measured.forget(structure);
    return made;
  } catch (error) {
    measured.forget(structure);
    return messageOf(error);
  } finally {
    if (work !== undefined) cache!.removeWork(work);
  }
}

/** Makes a form of a model without measuring it; a text says why it is not to be had. */
async function makeForm(task: Task, form: PreparedForm, directory: string): Promise<PreparedModel | string> {
  const { request, context, summary } = task;
  const lack = context.cache!.lackOfRoom(diskBytes(form, summary));
  if (lack !== undefined) return lack;
  const engine = await context.engine();
  await context.enter(form);
  const tried = await tryOriginal(request.path, summary, true, () =>
    openWriting(engine, request.path, summary, form, directory),
  );
  const reason = unpreparableReason(summary, tried.result);
  if (reason !== undefined) return reason;
  const checked = await openChecked(engine, summary, form, directory, tried.result);
  if ('refused' in checked) return checked.refused;
  const { session, loadMs } = checked;
  await session.close();
  const formReason = 'it was measured as the best for an earlier model of the same structure';
  const sessionExtra = formSessionExtra[form];
  return await store(task, { ...verdictOf(task, tried), form, formReason, sessionExtra, loadMs }, directory);
}

/** Prepacked weights lie in the file beside the others. */
function diskBytes(form: PreparedForm, summary: OnnxSummary): number {
  return (form === 'prepacked' ? 2 : 1) * weightBytes(summary);
}

/** Makes the forms that are allowed, measures them and keeps the best. */
async function prepareForms(
  task: Task,
  engine: Engine,
  result: TrialResult,
  value: CachedModel,
): Promise<PreparedModel> {
  const { request, summary } = task;
  const cache = task.context.cache!;
  const prepacking = request.prepacking ?? 'auto';
  const measures: FormMeasure[] = [];
  let work: string | undefined;
  try {
    const lack = cache.lackOfRoom(diskBytes('prepared', summary));
    if (lack !== undefined) return handOut(request, { ...value, formReason: lack }, undefined, false);
    work = cache.newWork();
    let hadRoom = true;
    for (const form of prepacking === 'off'
      ? (['prepared'] as const)
      : (['prepared', 'prepacked'] as const)) {
      const directory = join(work, form);
      const { measure, isWritten } = await tryForm(task, engine, result, form, directory);
      const { refused } = measure;
      if (refused === undefined) {
        measures.push(measure);
        continue;
      }
      // One that is whole, and refused for what it gives, has found its room and takes it no longer.
      if (isWritten) cache.removeWork(directory);
      // What the engine says of a full disk need not name it; half a form shows that there is too little.
      const lackNow = cache.lackOfRoom(diskBytes(form, summary));
      hadRoom &&= lackNow === undefined;
      const isToldApart = lackNow !== undefined && lackNow !== refused;
      measures.push(isToldApart ? { ...measure, refused: `${refused}; ${lackNow}` } : measure);
      // Half a form would take the room that the other one needs.
      cache.removeWork(directory);
    }
    const choice = chooseForm(measures, value.weightBytes, prepacking);
    const chosen: CachedModel = { ...value, form: choice.form, formReason: choice.reason, measures };
    if (choice.form === 'original') {
      // Room may come again, and a verdict that is kept would hide that.
      return hadRoom ? await store(task, chosen) : handOut(request, chosen, undefined, false);
    }
    const { loadMs } = measures.find((measure) => measure.form === choice.form)!;
    const sessionExtra = formSessionExtra[choice.form];
    return await store(task, { ...chosen, sessionExtra, loadMs }, join(work, choice.form));
  } catch (error) {
    const formReason = `the prepared form could not be kept: ${messageOf(error)}`;
    return handOut(request, { ...value, measures, formReason }, undefined, false);
  } finally {
    if (work) cache.removeWork(work);
  }
}

interface TriedForm {
  readonly measure: FormMeasure;
  /** Whether all of it was written, whatever it gives. */
  readonly isWritten: boolean;
}

async function tryForm(
  task: Task,
  engine: Engine,
  result: TrialResult,
  form: PreparedForm,
  directory: string,
): Promise<TriedForm> {
  const { request, context, summary } = task;
  const refused = (reason: string): TriedForm => {
    const none = { loadMs: 0, oneRowUs: 0, batchUs: 0, batchRows: 0, privateBytes: 0 };
    return { measure: { form, refused: reason, ...none }, isWritten: false };
  };
  const excluded = context.excluded.find((other) => other.form === form);
  if (excluded) return refused(excluded.reason);
  const lack = context.cache?.lackOfRoom(diskBytes(form, summary));
  if (lack !== undefined) return refused(lack);
  await context.enter(form);
  try {
    const session = await openWriting(engine, request.path, summary, form, directory);
    await session.close();
  } catch (error) {
    return refused(`it could not be written: ${messageOf(error)}`);
  }
  return { measure: await measureForm(engine, summary, form, directory, result), isWritten: true };
}

async function store(task: Task, value: CachedModel, from?: string): Promise<PreparedModel> {
  const { request, context, key } = task;
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
