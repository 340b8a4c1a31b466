/**
 * Where models lie on disk: every accepted form of a model file or directory, read into the same entries.
 *
 * Forms: a bare `.onnx` file, a directory that holds one, a directory of version directories, each with `model.json`,
 * Triton's `config.pbtxt` or Paddle Serving's `serving_server_conf.prototxt` beside.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { type ModelSettings, readModelSettings } from '../config/model-settings.js';
import type { ModelOption } from '../config/schema.js';
import { messageOf, ServingError } from '../errors.js';
import { explainForeignFormat } from './foreign-format.js';
import { paddleConfigName, readPaddleConfig } from './paddle-config.js';
import { readTritonConfig, type TritonConfig, unsupportedReason } from './triton-config.js';
import { wantedVersions } from './version-policy.js';

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
  /** Whether this version ought to be loaded: the highest one, unless Triton's `version_policy` says more. */
  readonly wanted: boolean;
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
export async function findModels(
  path: string,
  options: { readonly name?: string | undefined } = {},
): Promise<RepositoryEntry[]> {
  const place = resolve(path);
  return (await isDirectory(place))
    ? findInDirectory(place, options.name)
    : findBareFile(place, options.name);
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
 * The models of `models` and of `modelRepository` together. A model that cannot be found becomes an entry with its
 * error, so that the others still serve.
 *
 * @throws ServingError `SRV_IO` where the repository cannot be read, `SRV_BAD_CONFIG` where two models have the
 * same name, naming both paths.
 */
export async function findAllModels(places: {
  readonly models: readonly ModelOption[];
  readonly modelRepository?: string | undefined;
}): Promise<RepositoryEntry[]> {
  const named = await inOrder(places.models, findOrExplain);
  const found = places.modelRepository === undefined ? [] : await findChildren(places.modelRepository);
  return joinPlaces([...named, ...found]);
}

async function findChildren(directory: string): Promise<RepositoryEntry[][]> {
  const place = resolve(directory);
  const children = (await listDirectory(place))
    .filter((child) => !child.name.startsWith('.') && (child.isDirectory || isOnnxName(child.name)))
    .map((child) => join(place, child.name));
  return inOrder(children, (path) => findOrExplain({ path }));
}

async function findOrExplain({ path, name }: ModelOption): Promise<RepositoryEntry[]> {
  try {
    return await findModels(path, { name });
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    const directory = resolve(path);
    return [{ name: name ?? nameOfPlace(directory), directory, error }];
  }
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

async function findBareFile(file: string, givenName: string | undefined): Promise<RepositoryEntry[]> {
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
      name: givenName ?? beside.settings.name ?? beside.tritonConfig?.name ?? nameOfPlace(file),
      version: version ?? 1,
      modelFile: file,
      directory,
      settings: beside.settings,
      origin: beside.origin ?? (version === undefined ? 'file' : 'versions'),
      wanted: true,
      ...(beside.tritonConfig ? { tritonConfig: beside.tritonConfig } : {}),
    },
  ];
}

async function findInDirectory(directory: string, givenName: string | undefined): Promise<RepositoryEntry[]> {
  const children = await listDirectory(directory);
  const beside = await readSettingsBeside(directory, children);
  const fileName = beside.tritonConfig?.modelFileName ?? defaultModelFileName;
  const name = givenName ?? beside.settings.name ?? beside.tritonConfig?.name ?? basename(directory);
  const shared = { name, directory, settings: beside.settings, origin: beside.origin };
  const triton = beside.tritonConfig ? { tritonConfig: beside.tritonConfig } : {};

  const ownFile = await modelFileIn(directory, children, fileName);
  const versions = await findVersions(directory, children, fileName);
  const sound = versions.filter((found) => found.modelFile !== undefined);
  if (ownFile !== undefined && sound.length > 0) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${directory} holds both ${basename(ownFile)} and version directories (${sound.map((found) => found.version).join(', ')}): keep one of the two forms.`,
    );
  }
  if (ownFile !== undefined) {
    return [
      { ...shared, version: 1, modelFile: ownFile, origin: beside.origin ?? 'file', wanted: true, ...triton },
    ];
  }
  if (versions.length === 0) {
    await explainForeignFormat(directory);
    throw new ServingError('SRV_MODEL_NOT_FOUND', noModelText(directory, children, fileName));
  }
  const wanted = wantedVersions(
    sound.map((found) => found.version),
    beside.tritonConfig?.versionPolicy,
  );
  return versions.map(
    ({ version, modelFile, error }): RepositoryEntry =>
      modelFile === undefined
        ? { name, version, directory, error }
        : {
            ...shared,
            version,
            modelFile,
            origin: beside.origin ?? 'versions',
            wanted: wanted.has(version),
            ...triton,
          },
  );
}

type FoundVersion =
  | { readonly version: number; readonly modelFile: string; readonly error?: undefined }
  | { readonly version: number; readonly modelFile?: undefined; readonly error: ServingError };

async function findVersions(
  directory: string,
  children: readonly Child[],
  fileName: string,
): Promise<FoundVersion[]> {
  const numbered = children.flatMap((child) => {
    const version = child.isDirectory ? versionOfName(child.name) : undefined;
    return version === undefined ? [] : [{ version, place: join(directory, child.name) }];
  });
  numbered.sort((a, b) => a.version - b.version);
  return inOrder(numbered, ({ version, place }) => findVersion(version, place, fileName));
}

async function findVersion(version: number, place: string, fileName: string): Promise<FoundVersion> {
  try {
    const children = await listDirectory(place);
    const modelFile = await modelFileIn(place, children, fileName);
    if (modelFile !== undefined) return { version, modelFile };
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
    if (reason !== undefined) throw new ServingError('SRV_MODEL_UNSUPPORTED', `${tritonFile}: ${reason}.`);
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

/** The version that a directory's name means; undefined for any other name, leading zeros included. */
function versionOfName(name: string): number | undefined {
  const version = /^(0|[1-9]\d*)$/.test(name) ? Number(name) : Number.NaN;
  return Number.isSafeInteger(version) ? version : undefined;
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
