/** TF Serving's `models.config`: which models a server serves, from where, in which versions and under which labels. */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { placeIn } from '../config/place.js';
import { findProblems } from '../config/problems.js';
import { modelNameSchema } from '../config/schema.js';
import { labelProblem } from '../config/version-labels.js';
import { messageOf, ServingError } from '../errors.js';
import { checkFields, type Fields, lastValue } from './text-fields.js';
import { lastText, messagesOf, parseTextProto, type TextMessage } from './text-proto.js';
import { readVersion, readVersionPolicy } from './text-version-policy.js';
import { policyText, type VersionPolicy } from './version-policy.js';

/** A model of a `models.config`. */
export interface ConfiguredModel {
  readonly name: string;
  /** An absolute path, or an address. */
  readonly basePath: string;
  /** Which versions are wanted; absent: what the model's own directory says, else the highest. */
  readonly policy: VersionPolicy | undefined;
  /** Versions by label. */
  readonly labels: Readonly<Record<string, number>>;
  /** The line that it begins on. */
  readonly line: number;
  /** What is known of it and has no effect, with file and line. */
  readonly notices: readonly string[];
}

/** What a `models.config` says. */
export interface ModelsConfig {
  readonly models: readonly ConfiguredModel[];
  /** The notices of all its models. */
  readonly notices: readonly string[];
}

const modelFields = {
  name: { type: 'string', used: 'the name to serve the model under; needed, and only once' },
  base_path: {
    type: 'string',
    used: 'its directory, in any [form](#forms); relative to the directory of the file; or its [address](lifecycle.md#where-new-versions-come-from); needed',
  },
  model_type: { type: 'enum', ignored: 'every model is served by the ONNX engine' },
  model_platform: {
    type: 'string',
    used: '`onnxruntime`, `onnxruntime_onnx` or `onnx`; `tensorflow` is accepted with a notice, others are refused',
  },
  model_version_policy: {
    type: {
      latest: { type: { num_versions: { type: 'integer' } } },
      all: { type: {} },
      specific: { type: { versions: { type: 'integer', isRepeated: true } } },
    },
    used: 'one of `latest`, `all` and `specific`: see [version policies](#version-policies)',
  },
  version_labels: {
    type: { key: { type: 'string' }, value: { type: 'integer' } },
    isRepeated: true,
    used: 'see [labels](#labels)',
  },
  logging_config: { type: {}, ignored: 'requests are not written to a log' },
  logging_configs: { type: {}, isRepeated: true, ignored: 'requests are not written to a log' },
} as const satisfies Fields;

/** The fields of `models.config`. */
export const modelsConfigFields = {
  model_config_list: { type: { config: { type: modelFields, isRepeated: true } } },
  custom_model_config: { type: {}, refused: 'it names a loader inside TF Serving' },
} as const satisfies Fields;

const onnxPlatforms = ['', 'onnx', 'onnxruntime', 'onnxruntime_onnx'];

/**
 * Reads a `models.config`.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem with its line, `SRV_IO` when it cannot be read.
 */
export async function readModelsConfig(file: string): Promise<ModelsConfig> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}.`, {
      cause,
      details: { path: file },
    });
  }
  return parseModelsConfig(text, file);
}

/** The content of a `models.config`; `file` is what errors call it, and what relative paths are relative to. */
export function parseModelsConfig(text: string, file: string): ModelsConfig {
  const message = parseTextProto(text, file);
  const problems: string[] = [];
  const found = checkFields(message, modelsConfigFields, file);
  if (!message.has('model_config_list') && found.refusals.length === 0) {
    // A file that is being written is empty for a moment: taking that for "no models" would unload everything.
    const names = [...message.keys()].map((name) => `"${name}"`).join(', ') || 'nothing';
    problems.push(`${file}: expected model_config_list, found ${names}`);
  }
  problems.push(...found.refusals, ...found.problems);
  refuse(problems);

  const models = messagesOf(message, 'model_config_list')
    .flatMap((list) => list.get('config') ?? [])
    .flatMap((value) =>
      value.kind === 'message' ? [readModel(value.value, value.line, file, problems)] : [],
    );
  problems.push(...namesTwice(models, file));
  refuse(problems);
  return { models, notices: models.flatMap(({ notices }) => notices) };
}

function readModel(message: TextMessage, line: number, file: string, problems: string[]): ConfiguredModel {
  const at = `${file}:${line}`;
  const name = lastText(message, 'name') ?? '';
  const what = name === '' ? 'a config' : `config of "${name}"`;
  if (name === '') problems.push(`${at}: a config has no name`);
  else if (findProblems(modelNameSchema, name).length > 0) {
    problems.push(`${at}: name: expected a name without slashes, got ${JSON.stringify(name)}`);
  }
  const basePath = lastText(message, 'base_path') ?? '';
  if (basePath === '') problems.push(`${at}: ${what} has no base_path`);

  const notices = [...checkFields(message, modelFields, file).notices];
  const platform = lastValue(message, 'model_platform');
  if (platform?.kind === 'string' && platform.value === 'tensorflow') {
    notices.push(
      `${file}:${platform.line}: model_platform "tensorflow" of "${name}" is accepted: the model is served if it is ONNX`,
    );
  } else if (platform?.kind === 'string' && !onnxPlatforms.includes(platform.value)) {
    problems.push(
      `${file}:${platform.line}: model_platform: expected "onnxruntime" or "tensorflow", got "${platform.value}"`,
    );
  }
  const policy = readPolicy(message, file, problems);
  return {
    name,
    basePath: placeIn(dirname(file), basePath),
    policy,
    labels: readLabels(message, policy, what, file, problems),
    line,
    notices,
  };
}

function readPolicy(message: TextMessage, file: string, problems: string[]): VersionPolicy | undefined {
  const value = lastValue(message, 'model_version_policy');
  return value?.kind === 'message' ? readVersionPolicy(value.value, value.line, file, problems) : undefined;
}

function readLabels(
  message: TextMessage,
  policy: VersionPolicy | undefined,
  what: string,
  file: string,
  problems: string[],
): Record<string, number> {
  const labels = new Map<string, number>();
  for (const value of message.get('version_labels') ?? []) {
    if (value.kind !== 'message') continue;
    const at = `${file}:${value.line}`;
    const label = lastText(value.value, 'key') ?? '';
    const named = lastValue(value.value, 'value');
    const problem = labelProblem(label);
    if (problem !== undefined) problems.push(`${at}: version_labels of ${what}: ${problem}`);
    else if (!named) problems.push(`${at}: version_labels of ${what}: the label "${label}" names no version`);
    else if (labels.has(label))
      problems.push(`${at}: version_labels of ${what}: the label "${label}" is given twice`);
    if (!named || problem !== undefined) continue;
    const version = readVersion(named, file, problems);
    labels.set(label, version);
    if (policy?.kind === 'specific' && !policy.versions.includes(version)) {
      problems.push(
        `${at}: the label "${label}" of ${what} names version ${version}, which its version policy (${policyText(policy)}) does not choose`,
      );
    }
  }
  return Object.fromEntries(labels);
}

function namesTwice(models: readonly ConfiguredModel[], file: string): string[] {
  const lines = new Map<string, number>();
  return models.flatMap(({ name, line }) => {
    const other = lines.get(name);
    lines.set(name, other ?? line);
    return name === '' || other === undefined
      ? []
      : [`${file}:${line}: two configs are named "${name}"; the other one is in line ${other}`];
  });
}

function refuse(problems: readonly string[]): void {
  if (problems.length === 0) return;
  throw new ServingError('SRV_BAD_CONFIG', problems.join('; '), { details: { problems } });
}
