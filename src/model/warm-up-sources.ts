/** Where the requests of a version's warm-up come from, and what is run where there are none. */
import { access } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { EmbeddingSettings } from '../config/embedding-settings.js';
import { isAddress, placeIn } from '../config/place.js';
import type { RuntimeConfig } from '../config/schema.js';
import { errorToData, messageOf, ServingError } from '../errors.js';
import type { ModelEntry } from '../repository/layout.js';
import type { Signature, Tensor } from '../tensor/tensor.js';
import { joinRequests, type ReadRequestsOptions, readRequests } from '../warmup/read-requests.js';
import type { WarmUpRequests } from '../warmup/request.js';
import { sampleFile } from '../warmup/sample-file.js';
import { tfWarmUpFile } from '../warmup/tf-serving.js';
import { generateInputs } from './generated-inputs.js';
import { tritonSamples } from './triton-samples.js';
import type { PlannedRequest } from './warm-up.js';

/** How a version is warmed up: its model's settings over those of the server. */
export interface WarmUpSettings {
  readonly count: number;
  readonly timeoutMs: number;
  readonly ignoresFailures: boolean;
  readonly batchSizes: 'auto' | 'all' | 'off' | readonly number[];
}

/** What was found for a version. */
export interface FoundRequests {
  readonly requests: readonly PlannedRequest[];
  /** Rows of the batches of recorded traffic. */
  readonly trafficSizes: readonly number[];
}

/** The settings of a version's warm-up. */
export function warmUpSettings({ settings }: ModelEntry, config: RuntimeConfig): WarmUpSettings {
  return {
    count: settings.warmUpCount ?? config.warmUpCount,
    timeoutMs: settings.warmUpTimeoutMs ?? config.warmUpTimeoutMs,
    ignoresFailures: (settings.warmUpFailure ?? config.warmUpFailure) === 'ignore',
    batchSizes: settings.warmUpBatchSizes ?? config.warmUpBatchSizes,
  };
}

/**
 * Reads the requests of a version's warm-up: those that the settings name, those of TF Serving's file and of Triton's
 * configuration, and the sample of the traffic of earlier versions.
 *
 * @throws SRV_WARM_UP_FAILED when one cannot be read, unless failures are ignored
 */
export async function findWarmUp(
  entry: ModelEntry,
  config: RuntimeConfig,
  options: { readonly signal: AbortSignal; readonly onNote: (note: string) => void },
): Promise<FoundRequests> {
  const settings = warmUpSettings(entry, config);
  if (settings.count === 0) return { requests: [], trafficSizes: [] };
  const label = `${entry.name} version ${entry.version}`;
  const reading: ReadRequestsOptions = {
    timeoutMs: config.warmUpDownloadTimeoutMs,
    signal: options.signal,
  };
  const declared: WarmUpRequests[] = [];
  const readings = (await declaredSources(entry, config)).map(
    (source) => () => readRequests(source, reading),
  );
  readings.push(async () => ({ requests: await tritonSamples(entry), batchSizes: [] }));
  for (const read of readings) {
    try {
      declared.push(await read());
    } catch (error) {
      const reason = unreadable(label, error);
      if (!settings.ignoresFailures) throw reason;
      options.onNote(reason.message);
    }
  }
  const sampled = await readSample(entry, config, reading, options.onNote);
  return {
    requests: [
      ...joinRequests(declared).requests.map((request) => ({ ...request, origin: 'declared' as const })),
      ...sampled.requests.map((request) => ({ ...request, origin: 'sampled' as const })),
    ],
    trafficSizes: joinRequests([...declared, sampled]).batchSizes,
  };
}

async function declaredSources(entry: ModelEntry, config: RuntimeConfig): Promise<readonly string[]> {
  const sources: string[] = [];
  const fill = (place: string): string =>
    place.replaceAll('{model}', entry.name).replaceAll('{version}', String(entry.version));
  const own = entry.settings.warmUpDataPath;
  if (own !== undefined) {
    for (const place of [own].flat()) {
      sources.push(placeIn(entry.directory, fill(place)));
    }
  } else if (config.warmUpDataPath !== undefined) {
    const place = fill(config.warmUpDataPath);
    // Named for every model, it need not be there for each of them.
    const isOptional = config.warmUpDataPath.includes('{model}') && !isAddress(place);
    if (!isOptional || (await exists(place))) sources.push(place);
  }
  const ofTensorFlow = join(dirname(entry.modelFile), tfWarmUpFile);
  if (await exists(ofTensorFlow)) sources.push(ofTensorFlow);
  return sources;
}

/** A sample that cannot be read is no reason to fail: nobody asked for it. */
async function readSample(
  entry: ModelEntry,
  config: RuntimeConfig,
  reading: ReadRequestsOptions,
  onNote: (note: string) => void,
): Promise<WarmUpRequests> {
  const file = sampleFile(entry.name, entry.directory, config.recordWarmupDir);
  if (!(await exists(file))) return { requests: [], batchSizes: [] };
  try {
    return await readRequests(file, reading);
  } catch (error) {
    onNote(`the sample of traffic is left out: ${messageOf(error)}`);
    return { requests: [], batchSizes: [] };
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function unreadable(label: string, error: unknown): ServingError {
  if (!(error instanceof ServingError)) throw error;
  return new ServingError(
    'SRV_WARM_UP_FAILED',
    `the requests for the warm-up of ${label} cannot be read: ${error.message}`,
    { details: { ...error.details, reason: errorToData(error).code }, cause: error },
  );
}

/** Rows of the batches that a warm-up runs beside its requests, ascending. */
export interface WarmUpSizes {
  readonly batchSizes: readonly number[];
  /** Run after the others, as many as there is time for. */
  readonly furtherSizes: readonly number[];
}

/**
 * The sizes of the batches that a warm-up runs.
 *
 * @param usualSizes that traffic had, or that the model prefers
 * @throws SRV_BAD_CONFIG for a size that no batch may have
 */
export function batchSizesOf(
  wanted: WarmUpSettings['batchSizes'],
  maxBatchSize: number,
  usualSizes: readonly number[],
  label: string,
): WarmUpSizes {
  const everySize = (): number[] => Array.from({ length: maxBatchSize }, (_, index) => index + 1);
  if (wanted === 'off') return { batchSizes: [], furtherSizes: [] };
  if (wanted === 'all') return { batchSizes: everySize(), furtherSizes: [] };
  if (wanted !== 'auto') {
    const beyond = wanted.find((size) => size > maxBatchSize);
    if (beyond === undefined) {
      return { batchSizes: [...new Set(wanted)].toSorted((a, b) => a - b), furtherSizes: [] };
    }
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `the settings of ${label}: warm_up_batch_sizes has ${beyond}, but max_batch_size is ${maxBatchSize}`,
    );
  }
  const sizes = new Set([...usualSizes.filter((size) => size <= maxBatchSize), maxBatchSize]);
  for (let size = 1; size < maxBatchSize; size *= 2) sizes.add(size);
  return {
    batchSizes: [...sizes].toSorted((a, b) => a - b),
    furtherSizes: everySize().filter((size) => !sizes.has(size)),
  };
}

const freeSizes = [1, 2, 4, 8, 32, 128];

/** Made-up requests of one row, or two where rows merge, in the order in which they are worth a try. */
export function madeUpRequests(
  signature: Signature,
  anyRank: ReadonlySet<string>,
  embeddings: readonly EmbeddingSettings[],
  canMerge: boolean,
): readonly PlannedRequest[] {
  const inputs = signature.inputs.map(({ name, datatype, shape }) => ({
    name,
    datatype,
    shape: anyRank.has(name) ? undefined : shape,
  }));
  const isFree = inputs.some(({ shape }) => shape?.slice(1).includes(-1));
  const lengths = embeddings.flatMap((stage) => stage.lengths ?? []);
  const offsets = new Set(embeddings.flatMap((stage) => stage.offsets ?? []));
  const requests: PlannedRequest[] = [];
  for (const freeSize of isFree ? freeSizes : [1]) {
    for (const ones of [new Set(lengths), new Set(inputs.map(({ name }) => name))]) {
      const tensors = generateInputs(inputs, { freeSize, ones }, canMerge ? [0, 1] : [0]);
      requests.push({
        origin: 'generated',
        place: { file: 'a made-up request' },
        content: {
          kind: 'tensors',
          inputs: Object.entries(tensors).map(([name, tensor]) => ({
            name,
            tensor: offsets.has(name) ? counting(tensor) : tensor,
          })),
        },
      });
    }
  }
  return requests;
}

/** Offsets of rows that have one id each. */
function counting(tensor: Tensor): Tensor {
  if (tensor.datatype === 'INT64') {
    return { ...tensor, data: BigInt64Array.from(tensor.data as BigInt64Array, (_, index) => BigInt(index)) };
  }
  if (tensor.datatype === 'INT32') {
    return { ...tensor, data: Int32Array.from(tensor.data as Int32Array, (_, index) => index) };
  }
  return tensor;
}
