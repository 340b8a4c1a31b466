/** Triton's `config.pbtxt`: the part of it that says how a model is served here, and all of it as plain JSON. */
import { readFile } from 'node:fs/promises';
import type { ModelSettings } from '../config/model-settings.js';
import { messageOf, ServingError } from '../errors.js';
import {
  lastNumber,
  lastText,
  messagesOf,
  numbersOf,
  parseTextProto,
  type TextMessage,
  type TextValue,
} from './text-proto.js';
import type { VersionPolicy } from './version-policy.js';

/** Plain JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** An input or output as a `config.pbtxt` describes it, without the batch axis where there is one. */
export interface TritonTensor {
  readonly name: string;
  /** Triton's name of the datatype, such as `TYPE_FP32`. */
  readonly dataType: string;
  readonly dims: readonly number[];
}

/** What a `config.pbtxt` says. */
export interface TritonConfig {
  /** Absent where the directory names the model. */
  readonly name: string | undefined;
  readonly platform: string;
  readonly backend: string;
  /** 0: the model has no batch axis. */
  readonly maxBatchSize: number;
  readonly inputs: readonly TritonTensor[];
  readonly outputs: readonly TritonTensor[];
  /** The model's file in a version directory. */
  readonly modelFileName: string;
  readonly versionPolicy: VersionPolicy;
  readonly hasSequenceBatching: boolean;
  /** The settings that it amounts to here. */
  readonly settings: ModelSettings;
  /** The whole message as JSON with the field names of the file. */
  readonly json: { readonly [key: string]: Json };
}

/**
 * Reads a `config.pbtxt`.
 *
 * @throws ServingError `SRV_BAD_CONFIG` with line and column, `SRV_IO` when it cannot be read.
 */
export async function readTritonConfig(file: string): Promise<TritonConfig> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}.`, { cause });
  }
  return parseTritonConfig(text, file);
}

/** The content of a `config.pbtxt`; `source` is what errors call it. */
export function parseTritonConfig(text: string, source: string): TritonConfig {
  const message = parseTextProto(text, source);
  const maxBatchSize = lastNumber(message, 'max_batch_size') ?? 0;
  if (!Number.isInteger(maxBatchSize) || maxBatchSize < 0) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${source}: max_batch_size: expected an integer of at least 0, got ${maxBatchSize}.`,
    );
  }
  const name = lastText(message, 'name');
  return {
    name: name === '' ? undefined : name,
    platform: lastText(message, 'platform') ?? '',
    backend: lastText(message, 'backend') ?? '',
    maxBatchSize,
    inputs: messagesOf(message, 'input').map(tensorOf),
    outputs: messagesOf(message, 'output').map(tensorOf),
    modelFileName: lastText(message, 'default_model_filename') || 'model.onnx',
    versionPolicy: versionPolicyOf(message),
    hasSequenceBatching: message.has('sequence_batching'),
    settings: settingsOf(message, maxBatchSize),
    json: jsonOfMessage(message),
  };
}

/** Why a model with this configuration cannot be served; undefined where it can. */
export function unsupportedReason(config: TritonConfig): string | undefined {
  if (config.hasSequenceBatching) return 'sequence batching is not supported yet';
  const runsOnnx =
    config.platform === 'onnxruntime_onnx' ||
    config.backend === 'onnxruntime' ||
    (config.platform === '' && config.backend === '');
  if (runsOnnx) return undefined;
  return config.platform === '' || config.backend !== ''
    ? `its backend is "${config.backend}", expected "onnxruntime"`
    : `its platform is "${config.platform}", expected "onnxruntime_onnx"`;
}

function tensorOf(message: TextMessage): TritonTensor {
  return {
    name: lastText(message, 'name') ?? '',
    dataType: lastText(message, 'data_type') ?? 'TYPE_INVALID',
    dims: numbersOf(message, 'dims'),
  };
}

function versionPolicyOf(message: TextMessage): VersionPolicy {
  const policy = messagesOf(message, 'version_policy').at(-1);
  if (policy?.has('all')) return { kind: 'all' };
  const specific = policy && messagesOf(policy, 'specific').at(-1);
  if (specific) return { kind: 'specific', versions: numbersOf(specific, 'versions') };
  const latest = policy && messagesOf(policy, 'latest').at(-1);
  return { kind: 'latest', count: (latest && lastNumber(latest, 'num_versions')) || 1 };
}

function settingsOf(message: TextMessage, maxBatchSize: number): ModelSettings {
  const settings: { -readonly [Key in keyof ModelSettings]: ModelSettings[Key] } = {};
  // Merging is left to the trial of the prepare process: the file says only that there is a batch axis.
  if (maxBatchSize > 0) settings.maxBatchSize = maxBatchSize;
  else settings.batching = 'off';

  const batching = messagesOf(message, 'dynamic_batching').at(-1);
  const delayUs = batching && lastNumber(batching, 'max_queue_delay_microseconds');
  if (delayUs !== undefined) settings.maxQueueDelayUs = delayUs;
  const policy = batching && messagesOf(batching, 'default_queue_policy').at(-1);
  const maxQueueSize = policy && lastNumber(policy, 'max_queue_size');
  if (maxQueueSize) settings.maxQueueSize = maxQueueSize;

  const groups = messagesOf(message, 'instance_group');
  const isOnCpu = groups.some((group) => lastText(group, 'kind') === 'KIND_CPU');
  const onCards = groups.filter((group) => lastText(group, 'kind') === 'KIND_GPU' || group.has('gpus'));
  if (isOnCpu) settings.cpu = true;
  if (isOnCpu && onCards.length === 0) settings.gpuIds = [];
  if (!isOnCpu && onCards.length > 0) settings.cpu = false;
  const gpuIds = [...new Set(onCards.flatMap((group) => numbersOf(group, 'gpus')))];
  if (gpuIds.length > 0) settings.gpuIds = gpuIds;
  return Object.freeze(settings);
}

/** Fields that are lists in the message even when they are written once. */
const repeatedFields = new Set([
  'input',
  'output',
  'batch_input',
  'batch_output',
  'dims',
  'shape',
  'instance_group',
  'gpus',
  'profile',
  'secondary_devices',
  'resources',
  'versions',
  'preferred_batch_size',
  'control_input',
  'control',
  'int32_false_true',
  'fp32_false_true',
  'bool_false_true',
  'state',
  'initial_state',
  'step',
  'model_warmup',
  'target_name',
  'source_input',
  'op_library_filename',
  'gpu_execution_accelerator',
  'cpu_execution_accelerator',
  'graph_spec',
  'agents',
  'metric_control',
]);

/** Fields that are maps: a `{ key: ... value: ... }` for each entry. */
const mapFields = new Set([
  'parameters',
  'cc_model_filenames',
  'metric_tags',
  'input_map',
  'output_map',
  'inputs',
  'priority_queue_policy',
]);

function jsonOfMessage(message: TextMessage): { [key: string]: Json } {
  const entries = [...message].map(([field, values]): [string, Json] => {
    if (mapFields.has(field) && values.every(isMapEntry)) return [field, jsonOfMap(values)];
    const items = values.map(jsonOfValue);
    return [field, repeatedFields.has(field) || items.length !== 1 ? items : (items[0] ?? null)];
  });
  return Object.fromEntries(entries);
}

function isMapEntry(value: TextValue): boolean {
  return value.kind === 'message' && value.value.has('key');
}

function jsonOfMap(values: readonly TextValue[]): Json {
  return Object.fromEntries(
    values.flatMap((entry): [string, Json][] => {
      if (entry.kind !== 'message') return [];
      const item = entry.value.get('value')?.at(-1);
      return [[lastText(entry.value, 'key') ?? '', item ? jsonOfValue(item) : null]];
    }),
  );
}

function jsonOfValue(value: TextValue): Json {
  switch (value.kind) {
    case 'message':
      return jsonOfMessage(value.value);
    case 'string':
      return value.value;
    case 'number':
      return typeof value.value === 'bigint' || !Number.isFinite(value.value)
        ? String(value.value)
        : value.value;
    case 'word':
      return value.value === 'true' ? true : value.value === 'false' ? false : value.value;
    default:
      return value satisfies never;
  }
}
