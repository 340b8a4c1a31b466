/**
 * Where models lie on disk: every accepted form of a model file or directory, read into the same entries.
 *
 * Forms: a bare `.onnx` file, a directory that holds one, a directory of version directories, each with `model.json`,
 * Triton's `config.pbtxt` or Paddle Serving's `serving_server_conf.prototxt` beside.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { type ModelSettings, readModelSettings } from '../config/model-settings.js';
import { isAddress, placeIn } from '../config/place.js';
import { type ModelOption, snakeCase } from '../config/schema.js';
import { messageOf, ServingError } from '../errors.js';
import { explainForeignFormat } from './foreign-format.js';
import { readModelsConfig } from './models-config.js';
import { paddleConfigName, readPaddleConfig } from './paddle-config.js';
import { readTritonConfig, type TritonConfig, unsupportedReason } from './triton-config.js';
import {
  policyOfSettings,
  policyText,
  type VersionPolicy,
  versionProblem,
  wantedVersions,
} from './version-policy.js';

/** Which form a model was found in. */
export type ModelOrigin = 'file' | 'versions' | 'triton' | 'paddle';

/** One version of a model on disk. */
export interface ModelEntry {
  readonly name: string;
  /** 1 for a model without version directories. */
  readonly version: number;
  /** Absolute path of the ONNX file. */
  readonly modelFile: string;
  /** Absolute path of the model's directory, where its settings lie. */
  readonly directory: string;
  readonly settings: ModelSettings;
  readonly origin: ModelOrigin;
  /** Whether this version ought to be loaded: the highest one, unless `policy` says more. */
  readonly wanted: boolean;
  /** Which versions of the model are wanted; absent where nothing says it. */
  readonly policy?: VersionPolicy;
  /** The model's versions by label; absent where there are none. */
  readonly labels?: Readonly<Record<string, number>>;
  /** What its configuration says without effect, for the log; absent where there is nothing to say. */
  readonly notices?: readonly string[];
  /** What Triton's `config.pbtxt` says; absent where there is none. */
  readonly tritonConfig?: TritonConfig;
  readonly error?: undefined;
}

/** A model, or one version of it, that cannot be served, and why. */
export interface BrokenEntry {
  readonly name: string;
  /** Absent where the whole model is meant. */
  readonly version?: number;
  readonly directory: string;
  readonly error: ServingError;
  /** A version that the policy asks for by number and that is not there. */
  readonly isAbsent?: true;
}

/** What is said of a model elsewhere than in its directory; it wins over what its directory says. */
export interface PlaceOptions {
  readonly name?: string | undefined;
  readonly policy?: VersionPolicy | undefined;
  /** Absent or empty: the labels of its directory. */
  readonly labels?: Readonly<Record<string, number>> | undefined;
  /** Notices that its entries carry. */
  readonly notices?: readonly string[] | undefined;
}

/** What is known of models at addresses, which are fetched to this machine. */
export interface RemotePlaces {
  /**
   * The directory that the model at an address is fetched to.
   *
   * @throws SRV_BAD_CONFIG
   */
  placeOf(model: ModelOption): string;
  /** Why the model of a directory is not here yet; undefined where it is, or where nobody fetches it. */
  absenceOf(directory: string): string | undefined;
}

/** What a place of models holds. */
export type RepositoryEntry = ModelEntry | BrokenEntry;

const tritonConfigName = 'config.pbtxt';
const modelSettingsName = 'model.json';
const defaultModelFileName = 'model.onnx';

/**
 * Every version of the model at `path`, lowest first.
 *
 * @throws ServingError `SRV_IO` where the path is missing or unreadable, `SRV_MODEL_NOT_FOUND` where it holds no
 * model, `SRV_FOREIGN_FORMAT` where it holds one of another framework, `SRV_BAD_CONFIG` for bad settings,
 * `SRV_MODEL_UNSUPPORTED` for a `config.pbtxt` that asks for what is not there.
 */
export async function findModels(path: string, options: PlaceOptions = {}): Promise<RepositoryEntry[]> {
  const place = resolve(path);
  return (await isDirectory(place)) ? findInDirectory(place, options) : findBareFile(place, options);
}

/**
 * The models of a repository: each child directory and each `.onnx` file in it. A child that holds no model or a
 * broken one becomes an entry with its error.
 *
 * @throws ServingError `SRV_IO` where the directory itself cannot be read, `SRV_BAD_CONFIG` where two children have
 * the same name.
 */
export async function findRepositoryModels(directory: string): Promise<RepositoryEntry[]> {
  return joinPlaces(await findChildren(directory));
}

/**
 * The models of `models`, of `modelConfigFile` and of `modelRepository` together. A model that cannot be found becomes
 * an entry with its error, so that the others still serve.
 *
 * @throws ServingError `SRV_IO` where the repository or the file cannot be read, `SRV_BAD_CONFIG` where the file is not
 * valid or two models have the same name, naming both paths.
 */
export async function findAllModels(places: {
  readonly models: readonly ModelOption[];
  readonly modelRepository?: string | undefined;
  readonly modelConfigFile?: string | undefined;
  /** @default there are no models at addresses */
  readonly remote?: RemotePlaces | undefined;
}): Promise<RepositoryEntry[]> {
  const { modelConfigFile: file, modelRepository, remote } = places;
  const listed = file === undefined ? [] : await placesOfConfig(file, remote);
  const named = await inOrder(places.models, ({ path, ...options }) => findOrExplain(path, options, remote));
  const configured = await inOrder(listed, ({ path, options }) => findOrExplain(path, options, remote));
  const found = modelRepository === undefined ? [] : await findChildren(modelRepository, remote);
  return joinPlaces([...named, ...configured, ...found]);
}

/** A model of a `models.config`, at a place of this machine. */
export interface ConfiguredPlace {
  readonly path: string;
  readonly options: PlaceOptions;
  /** Where it is fetched from; absent for one that lies here. */
  readonly address?: string;
}

/**
 * The places of a `models.config`, those of models at addresses included.
 *
 * @throws as `readModelsConfig`, and SRV_BAD_CONFIG for an address that is none, with its line
 */
export async function placesOfConfig(
  file: string,
  remote: RemotePlaces | undefined,
): Promise<readonly ConfiguredPlace[]> {
  const { models } = await readModelsConfig(resolve(file));
  const problems: string[] = [];
  const places = models.map(({ basePath, line, ...options }): ConfiguredPlace => {
    if (!isAddress(basePath)) return { path: resolve(basePath), options };
    const at = `${resolve(file)}:${line}: base_path of config of "${options.name}"`;
    if (!remote) {
      problems.push(`${at} is an address, and nothing is fetched here`);
      return { path: basePath, options };
    }
    try {
      const path = resolve(remote.placeOf({ path: basePath, name: options.name }));
      return { path, options, address: basePath };
    } catch (error) {
      problems.push(`${at}: ${messageOf(error)}`);
      return { path: basePath, options };
    }
  });
  if (problems.length > 0) {
    throw new ServingError('SRV_BAD_CONFIG', problems.join('; '), { details: { problems } });
  }
  return places;
}

/**
 * The version policy that the settings in a model's directory name; undefined where none does, or there is no directory.
 *
 * @throws SRV_IO, SRV_BAD_CONFIG, SRV_MODEL_UNSUPPORTED for settings that are there: what they want is not known then
 */
export async function policyIn(directory: string): Promise<VersionPolicy | undefined> {
  try {
    await requirePlace(directory);
  } catch {
    return undefined;
  }
  const { settings, tritonConfig } = await readSettingsBeside(directory, await listDirectory(directory));
  return policyOfSettings(settings) ?? tritonConfig?.versionPolicy;
}

/** Where a monitor has what it is fetching, unless `local_tmp_path` says otherwise. */
export const monitorDirectory = '_serving_monitor_tmp';

async function findChildren(directory: string, remote?: RemotePlaces): Promise<RepositoryEntry[][]> {
  const place = resolve(directory);
  const children = (await listDirectory(place))
    .filter((child) => !child.name.startsWith('.') && child.name !== monitorDirectory)
    .filter((child) => child.isDirectory || isOnnxName(child.name))
    .map((child) => join(place, child.name));
  return inOrder(children, (path) => findOrExplain(path, {}, remote));
}

/**
 * Tells a path with nothing at it, which is no model, from one that cannot be read.
 *
 * @throws SRV_MODEL_NOT_FOUND
 */
export async function requirePlace(path: string): Promise<void> {
  const place = resolve(path);
  await stat(place).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTDIR') return;
    throw new ServingError('SRV_MODEL_NOT_FOUND', `There is nothing at ${place}.`, { cause });
  });
}

/** The model at a place; one that cannot be found becomes an entry with its error. */
export async function findOrExplain(
  path: string,
  options: PlaceOptions,
  remote?: RemotePlaces,
): Promise<RepositoryEntry[]> {
  try {
    return await findModels(path, options);
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    const directory = resolve(path);
    const absence = remote?.absenceOf(directory);
    return [{ name: options.name ?? nameOfPlace(directory), directory, error: asAbsent(error, absence) }];
  }
}

/** What has not been fetched is not there: the place in the cache would tell nobody anything. */
function asAbsent(error: ServingError, absence: string | undefined): ServingError {
  const isMissing = error.code === 'SRV_IO' || error.code === 'SRV_MODEL_NOT_FOUND';
  if (absence === undefined || !isMissing) return error;
  return new ServingError('SRV_MODEL_NOT_READY', `${absence.replace(/\.$/, '')}.`, { cause: error });
}

/** A name is one model's: two places that claim it are a mistake that no order can settle. */
function joinPlaces(places: readonly RepositoryEntry[][]): RepositoryEntry[] {
  const takenBy = new Map<string, string>();
  for (const [first] of places) {
    if (!first) continue;
    const place = first.error === undefined && first.origin === 'file' ? first.modelFile : first.directory;
    const other = takenBy.get(first.name);
    if (other !== undefined) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `Two models are named "${first.name}": ${other} and ${place}. Give one of them another name (--name, or "name" in its model.json).`,
        { details: { name: first.name, paths: [other, place] } },
      );
    }
    takenBy.set(first.name, place);
  }
  return places.flat();
}

async function findBareFile(file: string, options: PlaceOptions): Promise<RepositoryEntry[]> {
  if (!isOnnxName(file)) {
    await explainForeignFormat(file);
    throw new ServingError('SRV_MODEL_NOT_FOUND', `${file} is no model: expected a file that ends in .onnx.`);
  }
  const parent = dirname(file);
  // In <name>/<version>/model.onnx the directory's name is the version.
  const version = basename(file) === defaultModelFileName ? versionOfName(basename(parent)) : undefined;
  const directory = version === undefined ? parent : dirname(parent);
  const beside = await readSettingsBeside(directory, await listDirectory(directory));
  return [
    {
      ...withOwnParts(
        sharedParts(directory, beside, options, nameOfPlace(file)),
        version === undefined ? {} : await ownPartsOf(parent, await listDirectory(parent)),
      ),
      version: version ?? 1,
      modelFile: file,
      origin: beside.origin ?? (version === undefined ? 'file' : 'versions'),
      wanted: true,
    },
  ];
}

async function findInDirectory(directory: string, options: PlaceOptions): Promise<RepositoryEntry[]> {
  const children = await listDirectory(directory);
  const beside = await readSettingsBeside(directory, children);
  const fileName = beside.tritonConfig?.modelFileName ?? defaultModelFileName;
  const shared = sharedParts(directory, beside, options, basename(directory));
  const { name } = shared;

  const ownFile = await modelFileIn(directory, children, fileName);
  const versions = await findVersions(directory, children, fileName);
  const sound = versions.filter((found) => found.error === undefined);
  if (ownFile !== undefined && sound.length > 0) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${directory} holds both ${basename(ownFile)} and version directories (${sound.map((found) => found.version).join(', ')}): keep one of the two forms.`,
    );
  }
  if (ownFile !== undefined) {
    return [{ ...shared, version: 1, modelFile: ownFile, origin: beside.origin ?? 'file', wanted: true }];
  }
  if (versions.length === 0) {
    await explainForeignFormat(directory);
    throw new ServingError('SRV_MODEL_NOT_FOUND', noModelText(directory, children, fileName));
  }
  const wanted = wantedVersions(
    sound.map((found) => found.version),
    shared.policy,
  );
  return [...versions, ...missingVersions(directory, versions, shared.policy)].map(
    (found): RepositoryEntry => {
      if (found.error !== undefined) return { name, directory, ...found };
      const { version, modelFile, own } = found;
      const parts = withOwnParts(shared, own);
      return {
        ...parts,
        version,
        modelFile,
        origin: beside.origin ?? 'versions',
        wanted: wanted.has(version),
      };
    },
  );
}

/** What all versions of a model have in common. */
function sharedParts(
  directory: string,
  { settings, tritonConfig }: SettingsBeside,
  options: PlaceOptions,
  ownName: string,
): Pick<ModelEntry, 'name' | 'directory' | 'settings' | 'policy' | 'labels' | 'notices' | 'tritonConfig'> {
  const policy = options.policy ?? policyOfSettings(settings) ?? tritonConfig?.versionPolicy;
  const labels = hasKeys(options.labels) ? options.labels : settings.labels;
  const notices = [...(options.notices ?? []), ...(tritonConfig?.notices ?? [])];
  return {
    name: options.name ?? settings.name ?? tritonConfig?.name ?? ownName,
    directory,
    settings,
    ...(policy ? { policy } : {}),
    ...(hasKeys(labels) ? { labels } : {}),
    ...(notices.length > 0 ? { notices } : {}),
    ...(tritonConfig ? { tritonConfig } : {}),
  };
}

/** What a version directory says of its version alone. */
interface OwnParts {
  readonly settings?: ModelSettings;
  readonly notices?: readonly string[];
}

/** Keys that are of a model with all its versions: a version cannot say them. */
const keysOfAll = ['name', 'versionPolicy', 'labels', 'reloadableMeta', 'reloadableType'] as const;

/**
 * The settings in a version directory, where a publisher put them with the model. Keys of the model as a whole are left out:
 * the same directory may be served in place elsewhere, where they count.
 */
async function ownPartsOf(place: string, children: readonly Child[]): Promise<OwnParts> {
  if (!children.some(({ name, isDirectory }) => name === modelSettingsName && !isDirectory)) return {};
  const file = join(place, modelSettingsName);
  const said = await readModelSettings(file);
  const settings: Record<string, unknown> = { ...said };
  const ignored = keysOfAll.filter((key) => said[key] !== undefined);
  for (const key of ignored) delete settings[key];
  const { warmUpDataPath } = said;
  if (warmUpDataPath !== undefined) {
    settings.warmUpDataPath = [warmUpDataPath].flat().map((path) => placeIn(place, path));
  }
  const notices = ignored.map(
    (key) => `${file}: ${snakeCase(key)} is ignored: it belongs beside the version directories`,
  );
  return { settings: Object.freeze(settings), ...(notices.length > 0 ? { notices } : {}) };
}

function withOwnParts<Parts extends OwnParts>(shared: Parts, own: OwnParts): Parts {
  const notices = [...(shared.notices ?? []), ...(own.notices ?? [])];
  return {
    ...shared,
    ...(own.settings ? { settings: Object.freeze({ ...shared.settings, ...own.settings }) } : {}),
    ...(notices.length > 0 ? { notices } : {}),
  };
}

function hasKeys<T extends object>(record: T | undefined): record is T {
  return record !== undefined && Object.keys(record).length > 0;
}

/** Versions that are asked for by number and are not there: an operator would wait for them in vain. */
export function missingVersions(
  directory: string,
  there: readonly { readonly version?: number }[],
  policy: VersionPolicy | undefined,
): { readonly version: number; readonly error: ServingError; readonly isAbsent: true }[] {
  if (policy?.kind !== 'specific') return [];
  return [...new Set(policy.versions)]
    .filter((version) => there.every((found) => found.version !== version))
    .map((version) => ({
      version,
      isAbsent: true,
      error: new ServingError(
        'SRV_MODEL_NOT_FOUND',
        `The version policy (${policyText(policy)}) wants version ${version}, which is not in ${directory}.`,
      ),
    }));
}

type FoundVersion =
  | {
      readonly version: number;
      readonly modelFile: string;
      readonly own: OwnParts;
      readonly error?: undefined;
    }
  | { readonly version?: number; readonly error: ServingError };

async function findVersions(
  directory: string,
  children: readonly Child[],
  fileName: string,
): Promise<FoundVersion[]> {
  const places = new Map<bigint, string[]>();
  for (const { name, isDirectory } of children) {
    if (isDirectory && isVersionName(name))
      places.set(BigInt(name), [...(places.get(BigInt(name)) ?? []), name]);
  }
  const ascending = [...places].sort(([a], [b]) => (a < b ? -1 : 1));
  return inOrder(ascending, ([version, names]) => findVersion(version, directory, names, fileName));
}

/** The version in a directory; `names` are several where they mean the same number. */
async function findVersion(
  number: bigint,
  directory: string,
  names: readonly string[],
  fileName: string,
): Promise<FoundVersion> {
  const place = join(directory, names[0] ?? '');
  const problem = versionProblem(number);
  if (problem !== undefined) return { error: new ServingError('SRV_BAD_CONFIG', `${place}: ${problem}.`) };
  const version = Number(number);
  try {
    if (names.length > 1) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `${names.map((name) => join(directory, name)).join(' and ')} mean the same version ${version}: keep one of them.`,
      );
    }
    const children = await listDirectory(place);
    const modelFile = await modelFileIn(place, children, fileName);
    if (modelFile !== undefined) return { version, modelFile, own: await ownPartsOf(place, children) };
    await explainForeignFormat(place);
    throw new ServingError('SRV_MODEL_NOT_FOUND', noModelText(place, children, fileName));
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    return { version, error };
  }
}

interface SettingsBeside {
  readonly settings: ModelSettings;
  readonly origin: ModelOrigin | undefined;
  readonly tritonConfig: TritonConfig | undefined;
}

/** Settings that lie in a model's directory; our own `model.json` wins key by key over what others say. */
async function readSettingsBeside(directory: string, children: readonly Child[]): Promise<SettingsBeside> {
  const has = (name: string): boolean => children.some((child) => child.name === name && !child.isDirectory);
  const own = has(modelSettingsName) ? await readModelSettings(join(directory, modelSettingsName)) : {};
  const tritonFile = join(directory, tritonConfigName);
  const tritonConfig = has(tritonConfigName) ? await readTritonConfig(tritonFile) : undefined;
  if (tritonConfig) {
    const reason = unsupportedReason(tritonConfig);
    if (reason !== undefined) throw new ServingError('SRV_MODEL_UNSUPPORTED', reason);
  }
  const paddle = has(paddleConfigName)
    ? await readPaddleConfig(join(directory, paddleConfigName))
    : undefined;
  return {
    settings: Object.freeze({ ...paddle, ...tritonConfig?.settings, ...own }),
    origin: tritonConfig ? 'triton' : paddle ? 'paddle' : undefined,
    tritonConfig,
  };
}

/** The model's file in a directory: the one of that name, or else the only one that ends in `.onnx`. */
async function modelFileIn(
  directory: string,
  children: readonly Child[],
  fileName: string,
): Promise<string | undefined> {
  const exact = children.find((child) => child.name === fileName);
  if (exact && !exact.isDirectory) return join(directory, fileName);
  if (exact) {
    // Triton lets model.onnx be a directory that holds the file of that name beside its external weights.
    const inner = await listDirectory(join(directory, fileName));
    return inner.some((child) => child.name === fileName && !child.isDirectory)
      ? join(directory, fileName, fileName)
      : undefined;
  }
  const onnx = children.filter((child) => !child.isDirectory && isOnnxName(child.name));
  return onnx.length === 1 && onnx[0] ? join(directory, onnx[0].name) : undefined;
}

function noModelText(directory: string, children: readonly Child[], fileName: string): string {
  const onnx = children.filter((child) => !child.isDirectory && isOnnxName(child.name));
  return onnx.length > 1
    ? `${directory} holds ${onnx.length} .onnx files and none is called ${fileName}: give the file itself, or rename one.`
    : `${directory} holds no model: expected ${fileName}, or version directories such as 1/${fileName}.`;
}

/** foo.onnx is called foo, model.onnx after its directory, name/3/model.onnx after the directory above. */
function nameOfPlace(path: string): string {
  if (!isOnnxName(path)) return basename(path);
  if (basename(path) !== defaultModelFileName) return basename(path, extname(path));
  const parent = dirname(path);
  return basename(versionOfName(basename(parent)) === undefined ? parent : dirname(parent));
}

function isOnnxName(path: string): boolean {
  return extname(path).toLowerCase() === '.onnx';
}

/** Whether a directory of this name is a version. Leading zeros do not count: `001` is version 1. */
function isVersionName(name: string): boolean {
  return /^\d+$/.test(name);
}

/** The version that a directory's name means; undefined for any other name, and for numbers that are too large. */
function versionOfName(name: string): number | undefined {
  return isVersionName(name) && Number.isSafeInteger(Number(name)) ? Number(name) : undefined;
}

interface Child {
  readonly name: string;
  readonly isDirectory: boolean;
}

/** What a directory holds, by name; links count as what they lead to, and dangling ones as files. */
async function listDirectory(directory: string): Promise<Child[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const children = await Promise.all(
      entries.map(async (entry) => ({
        name: entry.name,
        isDirectory: entry.isSymbolicLink()
          ? await isDirectory(join(directory, entry.name)).catch(() => false)
          : entry.isDirectory(),
      })),
    );
    return children.sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (cause) {
    throw new ServingError('SRV_IO', `The directory ${directory} cannot be read: ${messageOf(cause)}.`, {
      cause,
      details: { path: directory },
    });
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (cause) {
    throw new ServingError('SRV_IO', `${path} cannot be read: ${messageOf(cause)}.`, {
      cause,
      details: { path },
    });
  }
}

/** Maps a few at a time and keeps the order: thousands of open directories at once would run out of handles. */
async function inOrder<Item, Result>(
  items: readonly Item[],
  map: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  const atOnce = 16;
  for (let start = 0; start < items.length; start += atOnce) {
    results.push(...(await Promise.all(items.slice(start, start + atOnce).map(map))));
  }
  return results;
}
