/** The three sources of a configuration beside the defaults: file, environment and flags, read into typed values. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { messageOf, ServingError } from '../errors.js';
import { placeIn } from './place.js';
import { isKeyed } from './problems.js';
import { type Setting, settings } from './schema.js';
import { didYouMean } from './suggest.js';

/** Texts of flags by outside name; a list for a repeated flag. */
export type FlagTexts = Readonly<Record<string, string | readonly string[]>>;

/** The prefix of environment variables: `ONNX_SERVING_PORT`. */
export const envPrefix = 'ONNX_SERVING_';

/** The prefix of the environment variables of `onnx-serving monitor`: `ONNX_SERVING_MONITOR_FTP_PASSWORD`. */
export const monitorEnvPrefix: string = `${envPrefix}MONITOR_`;

/** The prefix of the environment variables of `onnx-serving publish`: `ONNX_SERVING_PUBLISH_FTP_PASSWORD`. */
export const publishEnvPrefix: string = `${envPrefix}PUBLISH_`;

/** Variables that are those of other subcommands than `serve`. */
const otherPrefixes: readonly string[] = [monitorEnvPrefix, publishEnvPrefix];

/** Names that stand beside the settings in every source: a model and its name, as one gives them on a command line. */
export const modelKeys = ['model', 'name'] as const;

/** A value that a source gave, not yet validated. */
export interface Given {
  readonly value: unknown;
  /** How a message names the place: the flag, the variable, or the key of the file. */
  readonly label: string;
}

/** "64mb" or "1gib" as a number of bytes, in powers of 1024; undefined for anything else. */
export function parseByteSize(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])i?)?b?\s*$/i.exec(text);
  if (!match) return undefined;
  const power = match[2] === undefined ? 0 : 'kmgt'.indexOf(match[2].toLowerCase()) + 1;
  const size = Number(match[1]) * 1024 ** power;
  return Number.isSafeInteger(size) ? size : undefined;
}

/** Reads a YAML or JSON file into `given`. */
export function readFileValues(file: string, given: Map<string, Given>, problems: string[]): void {
  const values = parseConfigFile(file);
  const base = dirname(file);
  const known = [...settings.map((setting) => setting.outside), ...modelKeys];
  for (const key of Object.keys(values)) {
    if (!known.includes(key)) problems.push(`${key} in ${file}: unknown key${didYouMean(key, known)}`);
  }
  for (const { outside, schema } of settings) {
    const value = values[outside];
    if (value === undefined || value === null) continue;
    given.set(outside, { value: fileValue(schema, value, base), label: `${outside} in ${file}` });
  }
  const models = values.model === undefined ? undefined : textList(values.model);
  const names = values.name === undefined ? undefined : textList(values.name);
  if (models && given.has('models')) problems.push(`model in ${file}: give either model or models`);
  else {
    const relative = models?.map((path) => placeIn(base, path));
    readModels(relative, names, (key) => `${key} in ${file}`, given, problems);
  }
}

function parseConfigFile(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `The configuration file ${file} cannot be read: ${messageOf(cause)}.`,
      {
        cause,
      },
    );
  }
  let values: unknown;
  try {
    values = parse(text);
  } catch (cause) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `The configuration file ${file} is neither YAML nor JSON: ${messageOf(cause)}`,
      { cause },
    );
  }
  if (values === null || values === undefined) return {};
  if (!isKeyed(values)) {
    throw new ServingError('SRV_BAD_CONFIG', `The configuration file ${file} holds no keys.`);
  }
  return values;
}

/** A value of a file: typed already, but paths are relative to the file, and a list may be written as text. */
function fileValue(schema: Setting['schema'], value: unknown, base: string): unknown {
  if (schema.path && typeof value === 'string' && value !== '') {
    return schema.mayBeUrl ? placeIn(base, value) : resolve(base, value);
  }
  if (schema.type !== 'array') return value;
  if (schema.group === 'Models')
    return Array.isArray(value) ? value.map((item) => fileModel(item, base)) : value;
  return typeof value === 'string' || typeof value === 'number' ? numberList(String(value)) : value;
}

function fileModel(item: unknown, base: string): unknown {
  if (typeof item === 'string' && item !== '') return { path: placeIn(base, item) };
  return isKeyed(item) && typeof item.path === 'string' && item.path !== ''
    ? { ...item, path: placeIn(base, item.path) }
    : item;
}

/** Reads the `ONNX_SERVING_*` variables into `given`, over what is there. */
export function readEnvironmentValues(
  env: Readonly<Record<string, string | undefined>>,
  given: Map<string, Given>,
  problems: string[],
): void {
  const spoken = settings.filter(({ schema }) => !schema.fileOnly);
  const known = [...spoken.map((setting) => setting.outside), ...modelKeys, 'config'].map(
    (key) => envPrefix + key.toUpperCase(),
  );
  for (const [name, text] of Object.entries(env)) {
    // Those of a monitor may stand beside, in the environment of both.
    if (!name.startsWith(envPrefix) || otherPrefixes.some((prefix) => name.startsWith(prefix))) continue;
    if (known.includes(name) || isServiceLink(name, text)) continue;
    problems.push(`${name}: unknown environment variable${didYouMean(name, known)}`);
  }
  for (const { outside, schema } of spoken) {
    const usual = envPrefix + outside.toUpperCase();
    const label =
      !env[usual] && schema.variable !== undefined && env[schema.variable] ? schema.variable : usual;
    const text = env[label];
    // An empty variable is how one unsets it; for gpu_ids it is a value, as it is for the flag.
    if (text === undefined || (text === '' && schema.type !== 'array') || isServiceLink(label, text))
      continue;
    if (outside !== 'models') given.set(outside, { value: textValue(schema, text), label });
  }
  const list = (text: string | undefined): string[] | undefined =>
    text === undefined || text === '' ? undefined : text.split(',').map((item) => item.trim());
  const label = (key: string): string => envPrefix + key.toUpperCase();
  readModels(list(env[label('model')]), list(env[label('name')]), label, given, problems);
}

/**
 * Kubernetes sets `ONNX_SERVING_PORT=tcp://...`, `ONNX_SERVING_SERVICE_HOST` and the like in every pod beside a
 * service called onnx-serving; a server must start there all the same.
 */
function isServiceLink(name: string, text: string | undefined): boolean {
  return (
    /^ONNX_SERVING_(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP))/.test(name) ||
    (name === `${envPrefix}PORT` && /^(tcp|udp|sctp):\/\//.test(text ?? ''))
  );
}

/** Reads the texts of flags into `given`, over what is there. */
export function readFlagValues(flags: FlagTexts, given: Map<string, Given>, problems: string[]): void {
  for (const { outside, schema } of settings) {
    const text = flags[outside];
    if (typeof text === 'string' && !schema.fileOnly) {
      given.set(outside, { value: textValue(schema, text), label: `--${outside}` });
    }
  }
  const list = (key: string): readonly string[] | undefined =>
    flags[key] === undefined ? undefined : [flags[key]].flat();
  readModels(list('model'), list('name'), (key) => `--${key}`, given, problems);
}

/** Pairs models and names of one source: the n-th name is that of the n-th model. */
function readModels(
  models: readonly string[] | undefined,
  names: readonly string[] | undefined,
  labelOf: (key: string) => string,
  given: Map<string, Given>,
  problems: string[],
): void {
  if (!models) {
    if (names) problems.push(`${labelOf('name')}: given without ${labelOf('model')}`);
    return;
  }
  if (names && names.length !== models.length) {
    problems.push(`${labelOf('name')}: given ${names.length} times for ${models.length} models`);
    return;
  }
  const value = models.map((path, index) => (names ? { path, name: names[index] } : { path }));
  given.set('models', { value, label: labelOf('model') });
}

/** The typed value of a text; a text that does not fit stays text and becomes a problem later. */
function textValue(schema: Setting['schema'], text: string): unknown {
  switch (schema.type) {
    case 'integer':
      if (schema.bytes) return parseByteSize(text) ?? text;
      return /^-?\d+$/.test(text) ? Number(text) : text;
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text;
    case 'array':
      return numberList(text);
    default:
      return text;
  }
}

/** "0,1" as numbers; parts that are none stay text. */
function numberList(text: string): unknown {
  if (text.trim() === '') return [];
  return text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : part.trim()));
}

function textList(value: unknown): string[] {
  return [value].flat().map(String);
}
