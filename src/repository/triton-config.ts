/** Triton's `config.pbtxt`: the part of it that says how a model is served here, and all of it as plain JSON. */
import { readFile } from 'node:fs/promises';
import type { ModelSettings, QueuePolicy } from '../config/model-settings.js';
import { messageOf, ServingError } from '../errors.js';
import { checkFields, lastValue } from './text-fields.js';
import {
  lastNumber,
  lastText,
  messagesOf,
  numbersOf,
  parseTextProto,
  type TextMessage,
} from './text-proto.js';
import { readVersionPolicy } from './text-version-policy.js';
import { tritonFields } from './triton-fields.js';
import { type Json, jsonOfMessage, messageOfJson } from './triton-json.js';
import { readWarmUps, type TritonWarmUp } from './triton-warm-up.js';
import type { VersionPolicy } from './version-policy.js';

/** An input or output as a `config.pbtxt` describes it, without the batch axis where there is one. */
export interface TritonTensor {
  readonly name: string;
  /** Triton's name of the datatype, such as `TYPE_FP32`. */
  readonly dataType: string;
  readonly dims: readonly number[];
}

/** What a `config.pbtxt` says. */
export interface TritonConfig {
  /** The file, for messages. */
  readonly source: string;
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
  /** Absent where nothing is said. */
  readonly versionPolicy: VersionPolicy | undefined;
  /** Requests to run before a version is ready. */
  readonly warmUps: readonly TritonWarmUp[];
  /** Values of `parameters` by key. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Instances that its instance groups ask for together; absent where they do not say. */
  readonly instanceCount: number | undefined;
  /** Fields that are known and have no effect, each with file, line and reason. */
  readonly notices: readonly string[];
  /** Fields for which the model cannot be served, each with file, line and reason. */
  readonly refusals: readonly string[];
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
  return configOfMessage(parseTextProto(text, source), source);
}

/**
 * The same as JSON, as Triton's clients send it with a load.
 *
 * @throws ServingError `SRV_BAD_CONFIG`
 */
export function tritonConfigOfJson(json: Readonly<Record<string, unknown>>, source: string): TritonConfig {
  return configOfMessage(messageOfJson(json, tritonFields), source);
}

function configOfMessage(message: TextMessage, source: string): TritonConfig {
  const { problems, notices, refusals } = checkFields(message, tritonFields, source);
  const schedulers = ['dynamic_batching', 'sequence_batching', 'ensemble_scheduling'].filter((field) =>
    message.has(field),
  );
  if (schedulers.length > 1)
    problems.push(`${source}: a model has one scheduler, got ${schedulers.join(' and ')}`);
  const policy = lastValue(message, 'version_policy');
  const maxBatchSize = countOf(message, 'max_batch_size', 0, source, problems) ?? 0;
  const name = lastText(message, 'name');
  const config: TritonConfig = {
    source,
    name: name === '' ? undefined : name,
    platform: lastText(message, 'platform') ?? '',
    backend: lastText(message, 'backend') ?? '',
    maxBatchSize,
    inputs: messagesOf(message, 'input').map(tensorOf),
    outputs: messagesOf(message, 'output').map(tensorOf),
    modelFileName: lastText(message, 'default_model_filename') || 'model.onnx',
    versionPolicy:
      policy?.kind === 'message' ? readVersionPolicy(policy.value, policy.line, source, problems) : undefined,
    warmUps: readWarmUps(message, source, problems),
    parameters: parametersOf(message),
    instanceCount: instanceCountOf(message),
    notices,
    refusals,
    settings: settingsOf(message, maxBatchSize, source, problems),
    json: jsonOfMessage(message),
  };
  if (problems.length === 0) return config;
  throw new ServingError('SRV_BAD_CONFIG', problems.join('; '), { details: { problems } });
}

/** Why a model with this configuration cannot be served; undefined where it can. */
export function unsupportedReason(config: TritonConfig): string | undefined {
  const { source, platform, backend, refusals } = config;
  if (refusals.length > 0) return refusals.join('; ');
  const runsOnnx =
    platform === 'onnxruntime_onnx' || backend === 'onnxruntime' || (platform === '' && backend === '');
  if (runsOnnx) return undefined;
  return platform === '' || backend !== ''
    ? `${source}: its backend is "${backend}", expected "onnxruntime"`
    : `${source}: its platform is "${platform}", expected "onnxruntime_onnx"`;
}

function tensorOf(message: TextMessage): TritonTensor {
  return {
    name: lastText(message, 'name') ?? '',
    dataType: lastText(message, 'data_type') ?? 'TYPE_INVALID',
    dims: numbersOf(message, 'dims'),
  };
}

function parametersOf(message: TextMessage): Record<string, string> {
  return Object.fromEntries(
    messagesOf(message, 'parameters').map((entry) => [
      lastText(entry, 'key') ?? '',
      lastText(messagesOf(entry, 'value').at(-1) ?? new Map(), 'string_value') ?? '',
    ]),
  );
}

function instanceCountOf(message: TextMessage): number | undefined {
  const counts = messagesOf(message, 'instance_group').map((group) => lastNumber(group, 'count'));
  if (counts.every((count) => count === undefined)) return undefined;
  return counts.reduce<number>((sum, count) => sum + (count ?? 1), 0);
}

/** A number of at least `minimum`; undefined where the field is absent or wrong. */
function countOf(
  message: TextMessage,
  field: string,
  minimum: number,
  source: string,
  problems: string[],
): number | undefined {
  const value = lastValue(message, field);
  const count = lastNumber(message, field);
  if (value === undefined || count === undefined) return undefined;
  if (Number.isSafeInteger(count) && count >= minimum) return count;
  problems.push(
    `${source}:${value.line}: ${field}: expected an integer of at least ${minimum}, got ${value.kind === 'message' ? '' : value.value}`,
  );
  return undefined;
}

function settingsOf(
  message: TextMessage,
  maxBatchSize: number,
  source: string,
  problems: string[],
): ModelSettings {
  const settings: { -readonly [Key in keyof ModelSettings]: ModelSettings[Key] } = {};
  // Merging is left to the trial of the prepare process: the file says only that there is a batch axis.
  if (maxBatchSize > 0) settings.maxBatchSize = maxBatchSize;
  else settings.batching = 'off';
  const batching = messagesOf(message, 'dynamic_batching').at(-1);
  if (batching) Object.assign(settings, batchingSettings(batching, maxBatchSize, source, problems));
  Object.assign(settings, deviceSettings(message));
  const threads = parametersOf(message).intra_op_thread_count;
  if (threads !== undefined && /^[1-9]\d{0,3}$/.test(threads)) settings.intraOpThreads = Number(threads);
  return Object.freeze(settings);
}

function batchingSettings(
  batching: TextMessage,
  maxBatchSize: number,
  source: string,
  problems: string[],
): ModelSettings {
  const settings: { -readonly [Key in keyof ModelSettings]: ModelSettings[Key] } = {};
  const count = (field: string, minimum = 0, message = batching): number | undefined =>
    countOf(message, field, minimum, source, problems);
  const delayUs = count('max_queue_delay_microseconds');
  if (delayUs !== undefined) settings.maxQueueDelayUs = delayUs;

  const preferred = numbersOf(batching, 'preferred_batch_size');
  const wrong = preferred.find((size) => !Number.isSafeInteger(size) || size < 1 || size > maxBatchSize);
  if (wrong !== undefined) {
    problems.push(
      `${source}:${lastValue(batching, 'preferred_batch_size')?.line}: preferred_batch_size: expected numbers from 1 to max_batch_size ${maxBatchSize}, got ${wrong}`,
    );
  } else if (preferred.length > 0) settings.preferredBatchSize = [...new Set(preferred)];

  const levels = count('priority_levels');
  const byDefault = count('default_priority_level');
  if (levels) {
    settings.priorityLevels = levels;
    if (byDefault === undefined || byDefault < 1 || byDefault > levels) {
      problems.push(
        `${source}:${lastValue(batching, 'priority_levels')?.line}: default_priority_level: expected a number from 1 to priority_levels ${levels}, got ${byDefault ?? 'nothing'}`,
      );
    } else settings.defaultPriority = byDefault;
  }

  const policy = messagesOf(batching, 'default_queue_policy').at(-1);
  const { max_queue_size, request_timeout_ms, timeout_action } = policy
    ? queuePolicyOf(policy, source, problems)
    : {};
  if (max_queue_size !== undefined) settings.maxQueueSize = max_queue_size;
  if (request_timeout_ms !== undefined) settings.requestTimeoutMs = request_timeout_ms;
  if (timeout_action !== undefined) settings.timeoutAction = timeout_action;
  const policies = (batching.get('priority_queue_policy') ?? []).flatMap((entry) => {
    if (entry.kind !== 'message') return [];
    const priority = lastNumber(entry.value, 'key') ?? 0;
    if (!Number.isInteger(priority) || priority < 1 || priority > (levels ?? 0)) {
      problems.push(
        `${source}:${entry.line}: priority_queue_policy: expected a key from 1 to priority_levels ${levels ?? 0}, got ${priority}`,
      );
    }
    const value = messagesOf(entry.value, 'value').at(-1) ?? new Map();
    return [[String(priority), queuePolicyOf(value, source, problems)] as const];
  });
  if (policies.length > 0) settings.queuePolicies = Object.fromEntries(policies);
  return settings;
}

/** What a queue policy limits; 0 is no limit of its own. */
function queuePolicyOf(policy: TextMessage, source: string, problems: string[]): QueuePolicy {
  const maxQueueSize = countOf(policy, 'max_queue_size', 0, source, problems);
  const timeoutUs = countOf(policy, 'default_timeout_microseconds', 0, source, problems);
  return {
    ...(maxQueueSize ? { max_queue_size: maxQueueSize } : {}),
    ...(timeoutUs ? { request_timeout_ms: timeoutUs / 1000 } : {}),
    ...(lastText(policy, 'timeout_action') === 'DELAY' ? { timeout_action: 'delay' } : {}),
  };
}

function deviceSettings(message: TextMessage): ModelSettings {
  const settings: { -readonly [Key in keyof ModelSettings]: ModelSettings[Key] } = {};
  const groups = messagesOf(message, 'instance_group');
  const isOnCpu = groups.some((group) => lastText(group, 'kind') === 'KIND_CPU');
  const onCards = groups.filter((group) => lastText(group, 'kind') === 'KIND_GPU' || group.has('gpus'));
  if (isOnCpu) settings.cpu = true;
  if (isOnCpu && onCards.length === 0) settings.gpuIds = [];
  if (!isOnCpu && onCards.length > 0) settings.cpu = false;
  const gpuIds = [...new Set(onCards.flatMap((group) => numbersOf(group, 'gpus')))];
  if (gpuIds.length > 0) settings.gpuIds = gpuIds;
  return settings;
}
