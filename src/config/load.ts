/**
 * From what users give (options, file, environment, flags) to a resolved, frozen configuration.
 *
 * Texts become typed values first, then every problem is collected, and only a value without problems gets its
 * defaults. Precedence: flag, environment, file, default.
 */
import { isIPv4 } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { TSchema } from 'typebox';
import { ServingError } from '../errors.js';
import { usableCpus } from './cpus.js';
import { checkMonitorOptions, type MonitorConfig, monitorFromFile } from './monitor-settings.js';
import { findProblems, formatPath, isKeyed, type Problem } from './problems.js';
import {
  type LogConfig,
  type LogOptions,
  logSchema,
  modelNameSchema,
  type RuntimeConfig,
  type RuntimeOptions,
  runtimeSchema,
  type Section,
  type ServeConfig,
  type ServerConfig,
  type ServerOptions,
  type Setting,
  serverSchema,
  settings,
} from './schema.js';
import {
  envPrefix,
  type FlagTexts,
  type Given,
  parseByteSize,
  readEnvironmentValues,
  readFileValues,
  readFlagValues,
} from './sources.js';
import { didYouMean } from './suggest.js';
import { type SplitSettings, splitProblems } from './traffic-settings.js';

/** What defaults depend on beside the options; tests hand in their own. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The home directory; empty where there is none. */
  readonly homeDir: string;
  readonly tempDir: string;
  readonly usableCpus: number;
  /** Whether log lines go to a terminal. */
  readonly isTerminal: boolean;
}

/** The surroundings of this process, read at the time of the call. */
export function readSurroundings(): Surroundings {
  return {
    env: process.env,
    homeDir: homeDirectory(),
    tempDir: tmpdir(),
    usableCpus: usableCpus(),
    isTerminal: process.stderr.isTTY === true,
  };
}

/** A user without an entry in the password file and without HOME has no home: not an error here. */
function homeDirectory(): string {
  try {
    return homedir();
  } catch {
    return '';
  }
}

/**
 * The runtime's settings from an embedder's options.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem.
 */
export function resolveRuntimeConfig(
  options: RuntimeOptions = {},
  surroundings: Surroundings = readSurroundings(),
): RuntimeConfig {
  return resolveAlone('runtime', options, surroundings) as unknown as RuntimeConfig;
}

/**
 * The HTTP server's settings from an embedder's options.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem.
 */
export function resolveServerConfig(
  options: ServerOptions = {},
  surroundings: Surroundings = readSurroundings(),
): ServerConfig {
  return resolveAlone('server', options, surroundings) as unknown as ServerConfig;
}

/**
 * The log's settings from options.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem.
 */
export function resolveLogConfig(
  options: LogOptions = {},
  surroundings: Surroundings = readSurroundings(),
): LogConfig {
  return resolveAlone('log', options, surroundings) as unknown as LogConfig;
}

/** Where `serve` takes its settings from. */
export interface ConfigInputs {
  readonly flags?: FlagTexts;
  readonly surroundings?: Surroundings;
}

/**
 * The settings of `serve` from flags, environment and the file that `--config` or `ONNX_SERVING_CONFIG` names.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem of every source, or names a file that cannot be read.
 */
export function loadServeConfig(inputs: ConfigInputs = {}): ServeConfig {
  const surroundings = inputs.surroundings ?? readSurroundings();
  const flags = inputs.flags ?? {};
  const problems: string[] = [];
  const given = new Map<string, Given>();

  const configFile = configFileOf(flags, surroundings);
  if (configFile !== undefined) readFileValues(configFile, given, problems);
  readEnvironmentValues(surroundings.env, given, problems);
  readFlagValues(flags, given, problems);
  const monitors = given.get('monitors');
  if (monitors && Array.isArray(monitors.value) && typeof configFile === 'string') {
    const value = monitors.value.map((entry: unknown) => monitorFromFile(entry, dirname(configFile)));
    given.set('monitors', { ...monitors, value });
  }

  const resolved = { runtime: {}, server: {}, log: {} } as Record<Section, Record<string, unknown>>;
  const labels = new Map<string, string>();
  for (const setting of settings) {
    const found = given.get(setting.outside);
    if (!found) continue;
    resolved[setting.section][setting.key] = found.value;
    labels.set(`${setting.section}.${setting.key}`, found.label);
  }
  // These two differ between the doors: an embedder has no idle process to itself and no host.
  resolved.runtime.idlePath ??= 'auto';
  resolved.runtime.modelControl ??= isLoopback(resolved.server.host ?? defaultOf('host'))
    ? 'explicit'
    : 'none';

  for (const section of ['runtime', 'server', 'log'] as const) {
    const found = resolveSection(section, resolved[section], surroundings);
    resolved[section] = found.config;
    for (const { path, text } of found.problems) {
      const label = labels.get(`${section}.${String(path[0])}`) ?? String(path[0]);
      problems.push(`${label}${formatRest(path)}: ${text}`);
    }
  }
  refuseProblems(problems);
  return Object.freeze(resolved) as unknown as ServeConfig;
}

/** The configuration file that `--config` or `ONNX_SERVING_CONFIG` names; undefined where none does. */
export function configFileOf(flags: FlagTexts, { env }: Pick<Surroundings, 'env'>): string | undefined {
  const file = flags.config ?? env[`${envPrefix}CONFIG`];
  return typeof file === 'string' && file !== '' ? file : undefined;
}

/** Whether a host to listen on can be reached from this machine only. */
export function isLoopback(host: unknown): boolean {
  if (typeof host !== 'string') return false;
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

const sectionSchemas: Readonly<Record<Section, TSchema>> = {
  runtime: runtimeSchema,
  server: serverSchema,
  log: logSchema,
};

function settingsOf(section: Section): readonly Setting[] {
  return settings.filter((setting) => setting.section === section);
}

function defaultOf(outside: string): unknown {
  return settings.find((setting) => setting.outside === outside)?.schema.default;
}

function resolveAlone(
  section: Section,
  options: unknown,
  surroundings: Surroundings,
): Record<string, unknown> {
  if (!isKeyed(options)) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `The ${section} options are ${String(options)}, expected an object.`,
    );
  }
  const { config, problems } = resolveSection(section, options, surroundings);
  refuseProblems(problems.map(({ path, text }) => `${formatPath(path)}: ${text}`));
  return config;
}

/** Validates the given values of a section, applies its defaults key by key and freezes the result. */
function resolveSection(
  section: Section,
  options: Readonly<Record<string, unknown>>,
  surroundings: Surroundings,
): { config: Record<string, unknown>; problems: Problem[] } {
  const known = settingsOf(section);
  const problems = Object.keys(options)
    .filter((key) => !known.some((setting) => setting.key === key))
    .map((key): Problem => ({ path: [key], text: unknownOption(section, key) }));
  const config: Record<string, unknown> = {};
  const properties = (sectionSchemas[section] as { properties: Record<string, TSchema> }).properties;
  for (const { key, schema } of known) {
    const value = typedValue(schema, withoutUndefined(options[key]));
    if (value === undefined) {
      const byDefault = schema.default ?? computedDefault(section, key, options, surroundings);
      if (byDefault !== undefined) config[key] = structuredClone(byDefault);
      continue;
    }
    if (key === 'monitors' && Array.isArray(value)) {
      const found = resolveMonitors(value);
      problems.push(...found.problems);
      config[key] = found.configs;
      continue;
    }
    const found = findProblems(properties[key] ?? {}, value);
    if (found.length === 0 && key === 'traffic')
      found.push(...trafficProblems(value as RuntimeConfig['traffic']));
    for (const { path, text } of found) problems.push({ path: [key, ...path], text });
    config[key] = structuredCloneOf(value);
  }
  if (section === 'runtime' && config.cpuGroup === false && isEmptyList(config.gpuIds)) {
    problems.push({ path: ['cpuGroup'], text: 'false leaves nothing to run on, because no card is given' });
  }
  return { config: deepFreeze(config), problems };
}

/** What a monitor was given may hold secrets, so its problems are told by `checkMonitorOptions` alone. */
function resolveMonitors(values: readonly unknown[]): { configs: MonitorConfig[]; problems: Problem[] } {
  const configs: MonitorConfig[] = [];
  const problems: Problem[] = [];
  for (const [index, value] of values.entries()) {
    const checked = checkMonitorOptions(value);
    if ('config' in checked) configs.push(checked.config);
    else problems.push(...checked.problems.map((text): Problem => ({ path: ['monitors', index], text })));
  }
  for (const [index, { localPath, localModelName }] of configs.entries()) {
    const other = configs.findIndex(
      (one) => resolve(one.localPath) === resolve(localPath) && one.localModelName === localModelName,
    );
    if (other === index) continue;
    const text = `local_model_name: monitors[${other}] brings its model to the same place`;
    problems.push({ path: ['monitors', index], text });
  }
  return { configs, problems };
}

function trafficProblems(traffic: Readonly<Record<string, SplitSettings>>): Problem[] {
  return Object.entries(traffic).flatMap(([name, split]) => [
    ...findProblems(modelNameSchema, name).map(({ text }) => ({ path: [name], text })),
    ...splitProblems(name, split),
  ]);
}

function unknownOption(section: Section, key: string): string {
  const elsewhere = settings.find((setting) => setting.key === key && setting.section !== section);
  if (elsewhere) return `unknown key; it belongs to the ${elsewhere.section} settings`;
  return `unknown key${didYouMean(
    key,
    settingsOf(section).map((setting) => setting.key),
  )}`;
}

/** Defaults that depend on the machine or on another setting. */
function computedDefault(
  section: Section,
  key: string,
  options: Readonly<Record<string, unknown>>,
  surroundings: Surroundings,
): unknown {
  switch (`${section}.${key}`) {
    case 'runtime.threads':
      return Math.max(1, surroundings.usableCpus - 1);
    case 'runtime.cacheDir':
      return defaultCacheDir(surroundings);
    case 'runtime.cpuGroup':
      return options.gpuIds === undefined || isEmptyList(options.gpuIds);
    case 'log.format':
      return surroundings.isTerminal && options.dir === undefined ? 'pretty' : 'json';
    default:
      return undefined;
  }
}

function defaultCacheDir({ env, homeDir, tempDir }: Surroundings): string {
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'onnx-serving');
  return homeDir === '' || homeDir === '/'
    ? join(tempDir, 'onnx-serving')
    : join(homeDir, '.cache', 'onnx-serving');
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** A byte size may be written as text at every door; nothing else is converted. */
function typedValue(schema: Setting['schema'], value: unknown): unknown {
  return schema.bytes && typeof value === 'string' ? (parseByteSize(value) ?? value) : value;
}

/** Drops keys that are explicitly undefined inside lists and objects: they mean "not given". */
function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined);
  if (!isKeyed(value)) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]) =>
      item === undefined ? [] : [[key, withoutUndefined(item)]],
    ),
  );
}

/** Values that cannot be cloned (functions) have a problem of their own by then. */
function structuredCloneOf(value: unknown): unknown {
  try {
    return structuredClone(value);
  } catch {
    return undefined;
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) deepFreeze(item);
    Object.freeze(value);
  }
  return value;
}

function refuseProblems(problems: readonly string[]): void {
  if (problems.length === 0) return;
  const message =
    problems.length === 1
      ? `Bad configuration: ${problems[0]}`
      : `Bad configuration, ${problems.length} problems:\n${problems.map((text) => `  ${text}`).join('\n')}`;
  throw new ServingError('SRV_BAD_CONFIG', message, { details: { problems } });
}

function formatRest(path: Problem['path']): string {
  const rest = formatPath(path.slice(1));
  return rest === '' || rest.startsWith('[') ? rest : `.${rest}`;
}
