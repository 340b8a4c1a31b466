/**
 * The one description of every setting, long because it is one table: its type, range, default and doc text.
 * `load.ts` reads files, environment and flags by it, `cli/flags.ts` makes the flags of it, and
 * `docs/configuration.md` is printed from it.
 */
import Type, { type Static } from 'typebox';
import type { MonitorConfig, MonitorOptions } from './monitor-settings.js';
import { type ProviderName, providerNames } from './providers.js';
import { reloadableTypes } from './reloadable-types.js';
import { splitSchema } from './traffic-settings.js';

/** The headings that help and documentation sort settings under. */
export const settingGroups = [
  'Models',
  'Traffic',
  'Devices and threads',
  'Batching and limits',
  'Warm-up',
  'Network',
  'Logging',
] as const;

/** A heading of help and documentation. */
export type SettingGroup = (typeof settingGroups)[number];

/** What a setting carries beside its JSON schema. */
interface SettingNotes {
  readonly description: string;
  readonly group: SettingGroup;
  /** The default, in words, where it is computed from the machine or differs between the doors. */
  readonly defaultText?: string;
  /** The name in files, flags and environment where it is not the snake_case form of the key. */
  readonly outside?: string;
  /** Marks a number of bytes, which may be written like "64mb". */
  readonly bytes?: true;
  /** Marks a path: in a file it is relative to that file. */
  readonly path?: true;
  /** A variable beside the usual one, under the name that other servers gave it. The usual one wins. */
  readonly variable?: string;
  /** Marks a path in whose place a URL may stand. */
  readonly mayBeUrl?: true;
  /** Marks what has no form as text: it stands in files and options, there is no flag and no variable. */
  readonly fileOnly?: true;
}

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

const closed = { additionalProperties: false } as const;

const int = (
  range: { minimum: number; maximum?: number; default?: number },
  notes: SettingNotes,
): Type.TInteger => Type.Integer({ ...range, ...notes });
const bytes = (minimum: number, byDefault: number | undefined, notes: SettingNotes): Type.TInteger =>
  Type.Integer({
    minimum,
    ...(byDefault === undefined ? {} : { default: byDefault }),
    bytes: true,
    ...notes,
  });
const path = (notes: SettingNotes): Type.TString => Type.String({ minLength: 1, path: true, ...notes });
const flag = (byDefault: boolean | undefined, notes: SettingNotes): Type.TBoolean =>
  Type.Boolean({ ...(byDefault === undefined ? {} : { default: byDefault }), ...notes });

/** Schema of a model's name: it is one segment of a URL's path, and may be a file's name. */
export const modelNameSchema: Type.TString = Type.String({
  minLength: 1,
  maxLength: 255,
  pattern: '^(?!\\.{1,2}$)[^/\\\\\\x00-\\x1f]+$',
  expected: 'a name without slashes',
});

/** Schema of the runtime's settings. */
export const runtimeSchema = Type.Object(
  {
    models: Type.Array(
      Type.Object(
        {
          path: Type.String({
            minLength: 1,
            path: true,
            description: 'A model file or directory, or the address of one.',
          }),
          name: Type.Optional({
            ...modelNameSchema,
            description: 'The name to serve it under; absent: that of its place.',
          }),
        },
        closed,
      ),
      {
        default: [],
        group: 'Models',
        description:
          'The models to serve, each on its own: a .onnx file, a directory that holds one, a directory of version directories, or a Triton or Paddle Serving model directory. An address (http, https, ftp, webhdfs, s3, oss) of a file, an archive, a directory of version directories or one with a fluid_time_file is fetched, and fetched anew when it changes.',
      },
    ),
    modelRepository: Type.Optional(
      path({
        mayBeUrl: true,
        group: 'Models',
        description:
          'A directory whose child directories are models, or the address of one (http, https, ftp, webhdfs, s3, oss), which is listed every reload_interval_s. A broken child does not stop the others.',
      }),
    ),
    modelConfigFile: Type.Optional(
      path({
        variable: 'MODEL_CONFIG_FILE',
        group: 'Models',
        description:
          'A models.config of TF Serving that lists models with their places, version policies and labels. They are served beside those of models and model_repository.',
      }),
    ),
    modelConfigFilePollWaitSeconds: int(
      { minimum: 0, maximum: 2_147_483, default: 0 },
      {
        group: 'Models',
        description: 'How often model_config_file is read again, in seconds. 0: only at the start.',
      },
    ),
    fileSystemPollWaitSeconds: int(
      { minimum: 0, maximum: 2_147_483, default: 1 },
      {
        group: 'Models',
        description:
          'How often the places of models are looked at for new versions, in seconds. 0: only at the start.',
      },
    ),
    reloadableMeta: Type.Optional(
      path({
        defaultText: 'fluid_time_file in the directory of the model',
        group: 'Models',
        description:
          'The stamp file of models that are overwritten in place: when it changes, they are taken over and loaded anew. One file may drive several models. Models with version directories need none.',
      }),
    ),
    reloadableType: Type.Enum([...reloadableTypes], {
      default: 'timestamp_ne',
      group: 'Models',
      description:
        'What about the stamp file says that there is a new model: another time of change (timestamp_ne), a later one (timestamp_gt), another content (md5sum), another first word (revision), or nothing (none).',
    }),
    reloadIntervalS: int(
      { minimum: 1, maximum: 2_147_483, default: 10 },
      {
        group: 'Models',
        description:
          'How often stamp files are looked at where the file system sends no events, in seconds. Where file_system_poll_wait_seconds is less, that counts.',
      },
    ),
    reload: Type.Enum(['availability_first', 'resource_first'], {
      default: 'availability_first',
      group: 'Models',
      description:
        'Whether the old version of a model serves until the new one is ready, or is unloaded before it is loaded, for models that fit only once. reload in model.json wins.',
    }),
    loadModels: Type.Enum(['at_start', 'on_first_use'], {
      default: 'at_start',
      group: 'Models',
      description:
        'Whether models are loaded as soon as they are found, or each with the first request for it, which waits for that.',
    }),
    modelMemoryLimitBytes: Type.Optional(
      bytes(1, undefined, {
        outside: 'model_memory_limit',
        defaultText: 'no limit',
        group: 'Models',
        description:
          'Bytes of files that loaded models may have together. Above it those that were used longest ago are unloaded, unless they are busy or pinned, and loaded again with the next request for them.',
      }),
    ),
    stateFile: Type.Optional(
      path({
        defaultText:
          'in serve one for each set of places, in the directory state of cache_dir; none when embedded',
        group: 'Models',
        description:
          'Where it is kept what was asked for at run time, so that it outlives a restart: unloads, rollbacks, settings of loads, labels, weights, models that were loaded by request.',
      }),
    ),
    keepPrevious: int(
      { minimum: 0, maximum: 100, default: 0 },
      {
        group: 'Models',
        description:
          'Versions of each model that stay loaded behind the one that is served, so that a rollback is instant. keep_previous in model.json wins.',
      },
    ),
    allowVersionLabelsForUnavailableModels: flag(false, {
      group: 'Models',
      description:
        'Whether the labels of model_config_file and model.json may point to versions that are not ready. Otherwise such a label waits until its version is.',
    }),
    monitors: Type.Array(Type.Record(Type.String(), Type.Unknown()), {
      default: [],
      expected: 'a list of monitors',
      fileOnly: true,
      group: 'Models',
      description:
        'Monitors that run in this process: each fetches a model from a remote store whenever its publisher has put a new one there, with the options of onnx-serving monitor as keys (docs/monitor.md). Only in a file, or embedded. The first fetch of a model that is not there yet is waited for at the start.',
    }),
    modelControl: Type.Enum(['none', 'explicit'], {
      default: 'none',
      defaultText: 'explicit when serving on a loopback host, else none',
      group: 'Models',
      description: 'Whether requests may load and unload models: explicit allows it, none refuses it.',
    }),
    cacheDir: path({
      group: 'Models',
      defaultText: '$XDG_CACHE_HOME/onnx-serving, else ~/.cache/onnx-serving, else the temporary directory',
      description: 'Where prepared models are kept between starts. Servers of one machine may share it.',
    }),
    cacheBytes: bytes(0, 20 * GiB, {
      group: 'Models',
      description: 'Size limit of the prepared models on disk; the least recently used go first.',
    }),
    prepareTimeoutMs: int(
      { minimum: 1, default: 600_000 },
      { group: 'Models', description: 'Time limit of preparing one model, in milliseconds.' },
    ),
    verifyTables: Type.Enum(['off', 'open', 'background'], {
      default: 'off',
      group: 'Models',
      description:
        'Whether every block of the tables of embeddings is compared with its checksum: open does it before a model is ready; background does it afterwards, one file at a time at low priority, and ends the serving of a model whose table is damaged.',
    }),
    compactTables: int(
      { minimum: 0, default: 0 },
      {
        group: 'Models',
        description:
          'Deltas of a table from which on they are folded into a new snapshot, in the background, once a model that takes the newest version is ready. The next load of the model takes it. 0: never.',
      },
    ),

    traffic: Type.Record(Type.String(), splitSchema, {
      default: {},
      defaultText: 'none',
      fileOnly: true,
      group: 'Traffic',
      description:
        'Public names whose requests are split over variants: versions, labels or other models. Each name has the keys below.',
    }),

    threads: int(
      { minimum: 1, maximum: 1024 },
      {
        outside: 'thread',
        defaultText: 'usable CPUs (cgroup quota counted) - 1, at least 1',
        group: 'Devices and threads',
        description: 'Worker threads of the CPU group: how many runs are in execution at once.',
      },
    ),
    intraOpThreads: int(
      { minimum: 1, maximum: 1024, default: 1 },
      {
        group: 'Devices and threads',
        description:
          'Threads that the engine may use inside one run. More than 1 pays only for large models.',
      },
    ),
    gpuIds: Type.Array(Type.Integer({ minimum: 0 }), {
      default: [],
      uniqueItems: true,
      defaultText: 'none: CPU',
      group: 'Devices and threads',
      description:
        'Cards to run on, such as 0,1: one instance group each. Ids count within CUDA_VISIBLE_DEVICES where it is set. Empty means CPU.',
    }),
    provider: Type.Enum([...providerNames], {
      default: 'cuda',
      group: 'Devices and threads',
      description: 'The execution provider of the cards in gpu_ids. With cpu, CPU sessions stand for cards.',
    }),
    predictorsPerCard: int(
      { minimum: 1, maximum: 64, default: 1 },
      { group: 'Devices and threads', description: 'Instances on each card of gpu_ids.' },
    ),
    gpuMemoryLimitBytes: Type.Optional(
      bytes(MiB, undefined, {
        defaultText: 'no limit',
        group: 'Devices and threads',
        description: 'Device memory that the engine may take for one predictor.',
      }),
    ),
    cpuGroup: flag(undefined, {
      defaultText: 'true without gpu_ids, else false',
      group: 'Devices and threads',
      description: 'Whether a CPU group runs, also beside the cards of gpu_ids.',
    }),
    idlePath: Type.Enum(['auto', 'off'], {
      default: 'off',
      defaultText: 'auto in serve, off when embedded',
      group: 'Devices and threads',
      description:
        'With auto, a lone request to a model that runs in under 200 us is run on the main thread, without the worker hop.',
    }),

    maxBatchSize: int(
      { minimum: 1, maximum: 65_536, default: 64 },
      { group: 'Batching and limits', description: 'Rows that one batch may hold. 1 turns merging off.' },
    ),
    maxQueueDelayUs: int(
      { minimum: 0, maximum: 10_000_000, default: 0 },
      {
        group: 'Batching and limits',
        description: 'How long an idle worker waits for more rows, in microseconds.',
      },
    ),
    allowSplitRequest: flag(true, {
      group: 'Batching and limits',
      description:
        'Whether a request with more rows than max_batch_size is split over batches and rejoined, or refused.',
    }),
    maxQueueSize: int(
      { minimum: 1, default: 1024 },
      { group: 'Batching and limits', description: 'Requests that may wait per model; more are refused.' },
    ),
    maxQueueBytes: bytes(KiB, 256 * MiB, {
      group: 'Batching and limits',
      description: 'Tensor bytes that may wait or run for all models together; more are refused.',
    }),
    maxSlabBytes: bytes(MiB, GiB, {
      group: 'Batching and limits',
      description: 'Memory that batches may take in all slabs together.',
    }),
    requestTimeoutMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 30_000 },
      {
        group: 'Batching and limits',
        description:
          'How long a request may wait for its run, in milliseconds, when it names no timeout. 0: no limit.',
      },
    ),
    drainDelayMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 0 },
      {
        group: 'Batching and limits',
        description:
          'How long the server goes on serving after it was asked to stop, reporting not ready, in milliseconds: the time that a load balancer takes to notice.',
      },
    ),
    drainTimeoutMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 30_000 },
      {
        group: 'Batching and limits',
        description: 'How long accepted requests may take to finish at the end, in milliseconds.',
      },
    ),

    warmUpDataPath: Type.Optional(
      path({
        mayBeUrl: true,
        defaultText: "the model's own declarations, samples of traffic beside it, else made-up requests",
        group: 'Warm-up',
        description:
          'Recorded requests that every instance runs before a version is ready: a file, a directory of files, or an http, https, s3 or oss URL. {model} and {version} stand for those of the version; where {model} is in it, a model without such a file is warmed up without.',
      }),
    ),
    warmUpCount: int(
      { minimum: 0, maximum: 10_000, default: 5 },
      {
        group: 'Warm-up',
        description: 'How often each request of a warm-up is run on each instance. 0: no warm-up at all.',
      },
    ),
    warmUpTimeoutMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 10_000 },
      {
        group: 'Warm-up',
        description:
          'Longest run of one request of a warm-up, in milliseconds; batches of other sizes may take as long together. 0: no limit.',
      },
    ),
    warmUpFailure: Type.Enum(['fail', 'ignore'], {
      default: 'fail',
      group: 'Warm-up',
      description:
        'What becomes of a version when a request of its warm-up fails: it fails too, or the failure is logged.',
    }),
    warmUpBatchSizes: Type.Enum(['auto', 'all', 'off'], {
      default: 'auto',
      group: 'Warm-up',
      description:
        'Rows of further batches that a warm-up runs once, of rows of its requests: auto takes 1, 2, 4 and so on to max_batch_size and the sizes of recorded traffic, then all others for which a quarter of a second is enough; all takes every size.',
    }),
    warmUpDownloadTimeoutMs: int(
      { minimum: 1, maximum: 2_147_483_647, default: 30_000 },
      { group: 'Warm-up', description: 'Longest download of one file of requests, in milliseconds.' },
    ),
    recordWarmup: int(
      { minimum: 0, maximum: 100_000, default: 0 },
      {
        group: 'Warm-up',
        description:
          "Requests of each model that are kept as a sample of its traffic, for the next version's warm-up. 0: none.",
      },
    ),
    recordWarmupBytes: bytes(KiB, 16 * MiB, {
      group: 'Warm-up',
      description: 'Memory of the sample of one model. A request larger than its share of it is not sampled.',
    }),
    recordWarmupIntervalMs: int(
      { minimum: 1, maximum: 2_147_483_647, default: 60_000 },
      {
        group: 'Warm-up',
        description: 'How often samples are written to disk, in milliseconds; the drain writes them too.',
      },
    ),
    recordWarmupDir: Type.Optional(
      path({
        defaultText: 'a directory .warmup beside each model',
        group: 'Warm-up',
        description: 'Where samples are written to, and read from.',
      }),
    ),
  },
  closed,
);

/** Schema of the HTTP server's settings. */
export const serverSchema = Type.Object(
  {
    host: Type.String({
      minLength: 1,
      default: '127.0.0.1',
      group: 'Network',
      description:
        'Address to listen on. There is no TLS and no authentication: put anything else behind a proxy.',
    }),
    port: int(
      { minimum: 0, maximum: 65_535, default: 9292 },
      { group: 'Network', description: 'HTTP port; 0 takes a free one.' },
    ),
    serverName: Type.String({
      minLength: 1,
      default: 'onnx-serving',
      group: 'Network',
      description: 'The name that the server metadata reports.',
    }),
    maxBodySize: bytes(KiB, 64 * MiB, {
      group: 'Network',
      description: 'Largest body of one request, as sent and decompressed.',
    }),
    maxInflightBytes: bytes(KiB, 512 * MiB, {
      group: 'Network',
      description: 'Body bytes of all requests together that may be in memory; more are refused.',
    }),
    headerTimeoutMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 10_000 },
      {
        group: 'Network',
        description: 'How long a client may take to send the headers, in milliseconds. 0: no limit.',
      },
    ),
    bodyTimeoutMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 30_000 },
      {
        group: 'Network',
        description: 'How long a client may take to send the body, in milliseconds. 0: no limit.',
      },
    ),
    keepAliveTimeoutMs: int(
      { minimum: 0, maximum: 2_147_483_647, default: 72_000 },
      {
        group: 'Network',
        description:
          'How long an idle connection stays open, in milliseconds. Longer than that of the proxy in front.',
      },
    ),
    maxConnections: int(
      { minimum: 0, default: 0 },
      { group: 'Network', description: 'Open connections; more are closed at once. 0: no limit.' },
    ),
  },
  closed,
);

/** Schema of the log's settings. */
export const logSchema = Type.Object(
  {
    level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
      default: 'info',
      outside: 'log_level',
      group: 'Logging',
      description: 'Least severe level that is written.',
    }),
    format: Type.Enum(['pretty', 'json'], {
      outside: 'log_format',
      defaultText: 'pretty on a terminal, else and in files json',
      group: 'Logging',
      description: 'How a line is written.',
    }),
    dir: Type.Optional(
      path({
        outside: 'log_dir',
        defaultText: 'none: standard error',
        group: 'Logging',
        description: 'Directory of log files, which are rotated by size.',
      }),
    ),
    maxFileBytes: bytes(KiB, 50 * MiB, {
      outside: 'log_max_file_bytes',
      group: 'Logging',
      description: 'Size at which a log file is rotated.',
    }),
    maxFiles: int(
      { minimum: 1, maximum: 10_000, default: 5 },
      {
        outside: 'log_max_files',
        group: 'Logging',
        description: 'Log files that are kept, the current one included.',
      },
    ),
  },
  closed,
);

type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

/** The runtime's settings, resolved: every default applied, validated, frozen. */
export type RuntimeConfig = DeepReadonly<Omit<Static<typeof runtimeSchema>, 'provider' | 'monitors'>> & {
  readonly provider: ProviderName;
  readonly monitors: readonly MonitorConfig[];
};

/** The HTTP server's settings, resolved. */
export type ServerConfig = DeepReadonly<Static<typeof serverSchema>>;

/** The log's settings, resolved. */
export type LogConfig = DeepReadonly<Static<typeof logSchema>>;

/** All settings of `serve`, resolved. */
export interface ServeConfig {
  readonly runtime: RuntimeConfig;
  readonly server: ServerConfig;
  readonly log: LogConfig;
}

/** A number of bytes, or text such as "64mb" or "1gib": both count in powers of 1024. */
export type ByteSize = number | string;

type Options<Config> = {
  readonly [Key in keyof Config]?:
    | (Key extends `${string}Bytes` | 'maxBodySize' ? ByteSize : Config[Key])
    | undefined;
};

/** A model to serve: where it is and, if not that of its place, its name. */
export interface ModelOption {
  readonly path: string;
  readonly name?: string | undefined;
}

/** The runtime's settings as an embedder gives them: all optional, `undefined` means the default. */
export type RuntimeOptions = Omit<Options<RuntimeConfig>, 'models' | 'monitors'> & {
  readonly models?: readonly ModelOption[] | undefined;
  readonly monitors?: readonly MonitorOptions[] | undefined;
};

/** The HTTP server's settings as an embedder gives them. */
export type ServerOptions = Options<ServerConfig>;

/** The log's settings as an embedder gives them. */
export type LogOptions = Options<LogConfig>;

const schemas = { runtime: runtimeSchema, server: serverSchema, log: logSchema } as const;

/** The three parts of a configuration. */
export type Section = keyof typeof schemas;

/** The JSON schema of one setting with its notes, as plain data. */
export interface SettingSchema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly description: string;
  readonly group: SettingGroup;
  readonly defaultText?: string;
  readonly outside?: string;
  readonly bytes?: true;
  readonly path?: true;
  readonly variable?: string;
  readonly mayBeUrl?: true;
  readonly fileOnly?: true;
}

/** One setting: where it is inside, what it is called outside. */
export interface Setting {
  readonly section: Section;
  /** The key inside, in camelCase. */
  readonly key: string;
  /** The key of files; as a flag with dashes before it, as environment variable in capitals. */
  readonly outside: string;
  readonly schema: SettingSchema;
}

/** The outside spelling of a camelCase key. */
export function snakeCase(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Every setting in the order of the schemas. */
export const settings: readonly Setting[] = (Object.keys(schemas) as Section[]).flatMap((section) =>
  Object.entries(schemas[section].properties as unknown as Record<string, SettingSchema>).map(
    ([key, schema]) => ({ section, key, outside: schema.outside ?? snakeCase(key), schema }),
  ),
);
