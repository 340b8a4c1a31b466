/**
 * The options of a monitor: those of `onnx-serving monitor`, of one entry of `monitors` in a server's file, and of
 * `new Monitor(...)`.
 *
 * Long because it is one table, as `schema.ts` is: names and defaults of the first ones are those that users of Paddle
 * Serving's monitor know.
 */
import { resolve } from 'node:path';
import Type, { type Static, type TSchema } from 'typebox';
import { ServingError } from '../errors.js';
import { expectationOf, findProblems, formatPath, isKeyed } from './problems.js';
import { snakeCase } from './schema.js';
import { parseByteSize } from './sources.js';
import { didYouMean } from './suggest.js';

/** What a setting carries beside its JSON schema. */
interface MonitorNotes {
  readonly description: string;
  /** Its heading in help. */
  readonly group: 'What' | 'Where to' | 'Web server' | 'FTP' | 'HDFS' | 'Behaviour';
  readonly defaultText?: string;
  /** The name outside where it is not the snake_case form of the key. */
  readonly outside?: string;
  /** Never shown, logged or repeated in an error. */
  readonly secret?: true;
  /** An address that may hold a password, which is masked where it is shown. */
  readonly address?: true;
  readonly bytes?: true;
  /** A path of this machine: in a file it is relative to that file. */
  readonly path?: true;
}

const text = (notes: MonitorNotes): Type.TString => Type.String({ minLength: 1, ...notes });
const optional = (notes: MonitorNotes): Type.TOptional<Type.TString> => Type.Optional(text(notes));
/** One segment of a path: the model's directory is made and replaced under this name. */
const segment = (notes: MonitorNotes, byDefault?: string): Type.TString =>
  Type.String({
    minLength: 1,
    maxLength: 255,
    pattern: '^(?!\\.{1,2}$)[^/\\\\\\x00-\\x1f]+$',
    expected: 'a name without slashes',
    ...(byDefault === undefined ? {} : { default: byDefault }),
    ...notes,
  });

/** Schema of a monitor's options, with the keys as they are inside. */
export const monitorSchema = Type.Object(
  {
    type: Type.Enum(['general', 'ftp', 'hdfs', 'afs', 'local'], {
      default: 'general',
      group: 'What',
      description:
        'Where the model comes from: general (http, https, ftp, s3 and oss addresses), ftp, hdfs, afs, or local (a directory of this machine).',
    }),
    remotePath: text({ group: 'What', description: 'The remote directory that holds model and done file.' }),
    remoteModelName: text({
      group: 'What',
      description: 'The model in it: a directory, a file, or an archive (tar, tar.gz, zip).',
    }),
    remoteDonefileName: text({
      group: 'What',
      description: 'The file in it that the publisher writes last; when it changes, the model is fetched.',
    }),
    unpackedFilename: optional({
      group: 'What',
      defaultText: 'its only directory, else all of it',
      description: 'What of an archive is the model: a file or directory in it.',
    }),

    localPath: text({
      path: true,
      group: 'Where to',
      description: "The directory that holds the model's directory. It is made where it is missing.",
    }),
    localModelName: segment({
      group: 'Where to',
      description: "The model's directory in it, which is replaced as a whole.",
    }),
    localTimestampFile: segment(
      {
        group: 'Where to',
        description: "The file in the model's directory that is touched once the model is there.",
      },
      'fluid_time_file',
    ),
    localTmpPath: Type.String({
      minLength: 1,
      default: '_serving_monitor_tmp',
      group: 'Where to',
      description:
        'Where files are before they are put in place, relative to local_path. On another file system they are copied once more.',
    }),
    layout: Type.Enum(['in_place', 'versions'], {
      default: 'in_place',
      group: 'Where to',
      description:
        "in_place replaces the model's directory. versions makes a version directory in it: of a remote directory of numbers the greatest one, else one more than there is.",
    }),
    keepVersions: Type.Integer({
      minimum: 1,
      default: 3,
      group: 'Where to',
      description: 'With layout versions: version directories that stay, the new one included.',
    }),

    generalHost: optional({
      address: true,
      group: 'Web server',
      description: 'Host of the type general, such as https://user:password@host:port, or ftp://host.',
    }),

    ftpHost: optional({ address: true, group: 'FTP', description: 'Host of the type ftp.' }),
    ftpPort: Type.Integer({
      minimum: 1,
      maximum: 65_535,
      default: 21,
      group: 'FTP',
      description: 'Its port.',
    }),
    ftpUsername: Type.String({
      default: '',
      defaultText: 'anonymous',
      group: 'FTP',
      description: 'Who signs in.',
    }),
    ftpPassword: Type.String({
      default: '',
      secret: true,
      group: 'FTP',
      description: 'With which password.',
    }),

    hadoopBin: optional({
      group: 'HDFS',
      defaultText: 'none: WebHDFS',
      description: 'The hadoop program that reads hdfs and afs.',
    }),
    fsName: Type.String({
      default: '',
      defaultText: "that of hadoop's configuration",
      address: true,
      group: 'HDFS',
      description:
        'The file system, such as hdfs://host:port. Without hadoop_bin: webhdfs://host:port, or swebhdfs:// over TLS.',
    }),
    fsUgi: Type.String({
      default: '',
      defaultText: 'none',
      secret: true,
      group: 'HDFS',
      description: 'User and password there, as user,password.',
    }),

    intervalS: Type.Number({
      exclusiveMinimum: 0,
      maximum: 2_000_000,
      default: 10,
      outside: 'interval',
      group: 'Behaviour',
      description: 'Seconds between two looks at the done file.',
    }),
    timeoutS: Type.Number({
      exclusiveMinimum: 0,
      maximum: 2_000_000,
      default: 60,
      outside: 'timeout',
      group: 'Behaviour',
      description: 'Seconds without a byte or an answer after which an attempt is given up.',
    }),
    maxPauseS: Type.Number({
      exclusiveMinimum: 0,
      maximum: 2_000_000,
      default: 300,
      outside: 'max_pause',
      group: 'Behaviour',
      description:
        'Longest pause between attempts, in seconds: while they fail it doubles, from the interval on.',
    }),
    maxFiles: Type.Integer({
      minimum: 1,
      default: 100_000,
      group: 'Behaviour',
      description: 'Files that a model, or an archive, may have; one with more is refused.',
    }),
    maxBytes: Type.Integer({
      minimum: 1,
      default: 1024 ** 4,
      defaultText: '1tb',
      bytes: true,
      group: 'Behaviour',
      description: 'Bytes that a model may have, as it is sent and unpacked; one with more is refused.',
    }),
    debug: Type.Boolean({
      default: false,
      group: 'Behaviour',
      description: 'Log every look at the done file.',
    }),
  },
  { additionalProperties: false },
);

/** The options of a monitor, resolved: every default applied, validated, frozen. */
export type MonitorConfig = { readonly [Key in keyof MonitorFields]: MonitorFields[Key] };
type MonitorFields = Static<typeof monitorSchema>;

/** The options of a monitor as one gives them; `undefined` means the default. */
export type MonitorOptions = {
  readonly [Key in keyof MonitorConfig]?:
    | MonitorConfig[Key]
    | (Key extends 'maxBytes' ? string : never)
    | undefined;
};

/** One option: its key inside, its name outside, its schema as plain data. */
export interface MonitorSetting {
  readonly key: keyof MonitorConfig;
  readonly outside: string;
  readonly isRequired: boolean;
  readonly schema: MonitorNotes & {
    readonly type?: string;
    readonly enum?: readonly string[];
    readonly default?: unknown;
  };
}

const requiredKeys = ['remotePath', 'remoteModelName', 'remoteDonefileName', 'localPath', 'localModelName'];

/** Every option in the order of the schema. */
export const monitorSettings: readonly MonitorSetting[] = Object.entries(
  monitorSchema.properties as unknown as Record<string, MonitorSetting['schema']>,
).map(([key, schema]) => ({
  key: key as keyof MonitorConfig,
  outside: schema.outside ?? snakeCase(key),
  isRequired: requiredKeys.includes(key),
  schema,
}));

/**
 * A monitor's options with defaults, or everything that is wrong with them, each problem with the name outside.
 *
 * @param value the options with the keys as they are inside
 */
export function checkMonitorOptions(
  value: unknown,
): { readonly config: MonitorConfig } | { readonly problems: readonly string[] } {
  if (!isKeyed(value)) return { problems: ['expected an object with the options of a monitor'] };
  const inside = monitorSettings.map(({ key }) => key as string);
  const outside = monitorSettings.map((setting) => setting.outside);
  const problems = Object.keys(value)
    .filter((key) => !inside.includes(key))
    .map(
      (key) => `${key}: unknown key${didYouMean(key, key.includes('_') ? outside : [...inside, ...outside])}`,
    );
  const config: Record<string, unknown> = {};
  for (const { key, outside: name, isRequired, schema } of monitorSettings) {
    const given = value[key];
    if (given === undefined) {
      if (isRequired) problems.push(`${name}: missing: expected ${expectationOf(schema as TSchema)}`);
      if (schema.default !== undefined) config[key] = schema.default;
      continue;
    }
    const typed = schema.bytes && typeof given === 'string' ? (parseByteSize(given) ?? given) : given;
    for (const { path, text: problem } of findProblems(schema as TSchema, typed)) {
      // A problem quotes the value.
      const said = schema.secret || schema.address ? `expected ${expectationOf(schema as TSchema)}` : problem;
      problems.push(`${formatPath([name, ...path])}: ${said}`);
    }
    config[key] = typed;
  }
  if (problems.length === 0) problems.push(...sourceProblems(config as unknown as MonitorConfig));
  return problems.length > 0 ? { problems } : { config: Object.freeze(config) as unknown as MonitorConfig };
}

/**
 * The same for an embedder and the command line.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem.
 */
export function resolveMonitorConfig(options: unknown): MonitorConfig {
  const checked = checkMonitorOptions(options);
  if ('config' in checked) return checked.config;
  const { problems } = checked;
  throw new ServingError('SRV_BAD_CONFIG', `Bad monitor options: ${problems.join('; ')}`, {
    details: { problems },
  });
}

/**
 * An entry of `monitors` in a file: names outside become keys inside, paths of this machine become absolute. What does
 * not fit is left as it is, and becomes a problem later.
 *
 * @param base the directory of the file
 */
export function monitorFromFile(entry: unknown, base: string): unknown {
  if (!isKeyed(entry)) return entry;
  const byOutside = new Map(monitorSettings.map((setting) => [setting.outside, setting]));
  return Object.fromEntries(
    Object.entries(entry).map(([name, value]) => {
      const setting = byOutside.get(name);
      if (!setting) return [name, value];
      const isPath = setting.schema.path && typeof value === 'string' && value !== '';
      return [setting.key, isPath ? resolve(base, value) : (value ?? undefined)];
    }),
  );
}

/** What the type asks for beside. */
function sourceProblems({
  type,
  generalHost,
  ftpHost,
  hadoopBin,
  fsName,
  ...names
}: MonitorConfig): string[] {
  const problems: string[] = [];
  if (type === 'general' && generalHost === undefined) {
    problems.push('general_host: missing: expected an address such as http://host:port for the type general');
  }
  if (type === 'ftp' && ftpHost === undefined) {
    problems.push('ftp_host: missing: expected a host for the type ftp');
  }
  if (type === 'afs' && hadoopBin === undefined) {
    problems.push('hadoop_bin: missing: expected the hadoop program, which alone reads afs');
  }
  if (type === 'hdfs' && hadoopBin === undefined && !/^(s?webhdfs|https?):\/\//.test(fsName)) {
    problems.push(
      'fs_name: expected webhdfs://host:port or swebhdfs://host:port without hadoop_bin, which reads hdfs:// addresses',
    );
  }
  for (const [name, value] of [
    ['remote_model_name', names.remoteModelName],
    ['remote_donefile_name', names.remoteDonefileName],
    ['unpacked_filename', names.unpackedFilename ?? ''],
  ] as const) {
    if (value.split('/').includes('..')) problems.push(`${name}: expected a name below it, got one with ..`);
  }
  if (type === 'local' && !names.remotePath.startsWith('/')) {
    problems.push('remote_path: expected an absolute path for the type local');
  }
  return problems;
}
