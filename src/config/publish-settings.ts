/**
 * The options of `onnx-serving publish`. Those that say where the target is have the names of the monitor's, so that
 * both ends are told the same.
 */
import Type, { type Static, type TSchema } from 'typebox';
import { ServingError } from '../errors.js';
import { expectationOf, findProblems, formatPath, isKeyed } from './problems.js';
import { snakeCase } from './schema.js';
import { didYouMean } from './suggest.js';

/** What a setting carries beside its JSON schema. */
interface PublishNotes {
  readonly description: string;
  /** Its heading in help. */
  readonly group: 'What' | 'Where to' | 'Behaviour';
  readonly defaultText?: string;
  /** The name outside where it is not the snake_case form of the key. */
  readonly outside?: string;
  /** Never shown or repeated in an error. */
  readonly secret?: true;
  /** An address that may hold a password. */
  readonly address?: true;
}

const optional = (notes: PublishNotes): Type.TOptional<Type.TString> =>
  Type.Optional(Type.String({ minLength: 1, ...notes }));
const secret = (notes: PublishNotes): Type.TString => Type.String({ default: '', ...notes });
const segment = (notes: PublishNotes): Type.TOptional<Type.TString> =>
  Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 255,
      pattern: '^(?!\\.{1,2}$)[^/\\\\\\x00-\\x1f\\x7f]+$',
      expected: 'a name without slashes',
      ...notes,
    }),
  );
const seconds = (byDefault: number, notes: PublishNotes): Type.TNumber =>
  Type.Number({ exclusiveMinimum: 0, maximum: 2_000_000, default: byDefault, ...notes });

/** Schema of the options, with the keys as they are inside. */
export const publishSchema = Type.Object(
  {
    pack: Type.Enum(['none', 'tar', 'tar.gz'], {
      default: 'tar.gz',
      group: 'What',
      description:
        'How a model is published: as an archive, or (none) as the directory that it is. Tables are never packed.',
    }),
    remoteModelName: segment({
      group: 'What',
      defaultText: 'the name of DIR, with .tar or .tar.gz',
      description: 'Its name at the target.',
    }),
    unpackedFilename: segment({
      group: 'What',
      defaultText: 'the name of DIR',
      description: 'The directory in the archive that holds its files.',
    }),
    remoteDonefileName: segment({
      group: 'What',
      defaultText: 'the name of DIR, with .done',
      description: 'The file at the target that is written last.',
    }),

    to: Type.Enum(['file', 'http', 'ftp', 'hdfs', 's3'], {
      group: 'Where to',
      description:
        'What the target is: a directory (file), a web server that takes PUT (http), FTP, HDFS, or a bucket (s3).',
    }),
    remotePath: Type.String({
      minLength: 1,
      group: 'Where to',
      description:
        'The directory at the target that gets model and done file. It is made where it is missing.',
    }),
    generalHost: optional({
      address: true,
      group: 'Where to',
      description:
        'http: the server, such as https://user:password@host:port. s3: the bucket, as s3://bucket or oss://bucket.',
    }),
    ftpHost: optional({ address: true, group: 'Where to', description: 'ftp: the host.' }),
    ftpPort: Type.Integer({
      minimum: 1,
      maximum: 65_535,
      default: 21,
      group: 'Where to',
      description: 'ftp: its port.',
    }),
    ftpUsername: secret({ group: 'Where to', defaultText: 'anonymous', description: 'ftp: who signs in.' }),
    ftpPassword: secret({ group: 'Where to', secret: true, description: 'ftp: with which password.' }),
    hadoopBin: optional({
      group: 'Where to',
      defaultText: 'none: WebHDFS',
      description: 'hdfs: the hadoop program that writes.',
    }),
    fsName: secret({
      address: true,
      group: 'Where to',
      description:
        'hdfs: the file system, as hdfs://host:port with hadoop_bin, else webhdfs://host:port or swebhdfs://.',
    }),
    fsUgi: secret({
      secret: true,
      group: 'Where to',
      description: 'hdfs: user and password there, as user,password.',
    }),

    watch: Type.Boolean({
      default: false,
      group: 'Behaviour',
      description: 'Go on, and publish whenever the directory has a new complete version.',
    }),
    readyFile: segment({
      group: 'Behaviour',
      defaultText: 'none: sizes and times that stay for settle seconds',
      description: 'With watch: the file in DIR whose change says that a version is complete.',
    }),
    intervalS: seconds(2, {
      outside: 'interval',
      group: 'Behaviour',
      description: 'With watch: seconds between two looks.',
    }),
    settleS: seconds(2, {
      outside: 'settle',
      group: 'Behaviour',
      description: 'With watch: seconds for which files must not have changed.',
    }),
    maxPauseS: seconds(300, {
      outside: 'max_pause',
      group: 'Behaviour',
      description: 'With watch: longest pause between attempts that fail, which doubles.',
    }),
    leaseS: seconds(60, {
      outside: 'lease',
      group: 'Behaviour',
      description: 'Seconds after which the lock of a publisher that ended is broken.',
    }),
    lockWaitS: seconds(300, {
      outside: 'lock_wait',
      group: 'Behaviour',
      description: 'Longest wait for another publisher, in seconds.',
    }),
    timeoutS: seconds(60, {
      outside: 'timeout',
      group: 'Behaviour',
      description: 'Seconds without a byte or an answer after which an attempt is given up.',
    }),
  },
  { additionalProperties: false },
);

/** The options of a publisher, resolved: defaults applied, validated, frozen. */
export type PublishConfig = { readonly [Key in keyof PublishFields]: PublishFields[Key] };
type PublishFields = Static<typeof publishSchema>;

/** The options of a publisher as one gives them; `undefined` means the default. */
export type PublishOptions = { readonly [Key in keyof PublishConfig]?: PublishConfig[Key] | undefined };

/** One option: its key inside, its name outside, its schema as plain data. */
export interface PublishSetting {
  readonly key: keyof PublishConfig;
  readonly outside: string;
  readonly isRequired: boolean;
  readonly schema: PublishNotes & {
    readonly type?: string;
    readonly enum?: readonly string[];
    readonly default?: unknown;
  };
}

/** Every option in the order of the schema. */
export const publishSettings: readonly PublishSetting[] = Object.entries(
  publishSchema.properties as unknown as Record<string, PublishSetting['schema']>,
).map(([key, schema]) => ({
  key: key as keyof PublishConfig,
  outside: schema.outside ?? snakeCase(key),
  isRequired: key === 'to' || key === 'remotePath',
  schema,
}));

/** @throws ServingError `SRV_BAD_CONFIG` that lists every problem, with the names outside. */
export function resolvePublishConfig(options: unknown): PublishConfig {
  const value = isKeyed(options) ? options : {};
  const known = publishSettings.map(({ key }) => key as string);
  const problems = Object.keys(value)
    .filter((key) => !known.includes(key))
    .map((key) => `${key}: unknown key${didYouMean(key, known)}`);
  const config: Record<string, unknown> = {};
  for (const { key, outside, isRequired, schema } of publishSettings) {
    const given = value[key];
    if (given === undefined) {
      if (isRequired) problems.push(`${outside}: missing: expected ${expectationOf(schema as TSchema)}`);
      if (schema.default !== undefined) config[key] = schema.default;
      continue;
    }
    for (const { path, text } of findProblems(schema as TSchema, given)) {
      // A problem quotes the value.
      const said = schema.secret || schema.address ? `expected ${expectationOf(schema as TSchema)}` : text;
      problems.push(`${formatPath([outside, ...path])}: ${said}`);
    }
    config[key] = given;
  }
  if (problems.length === 0) problems.push(...targetProblems(config as unknown as PublishConfig));
  if (problems.length === 0) return Object.freeze(config) as unknown as PublishConfig;
  throw new ServingError('SRV_BAD_CONFIG', `Bad publish options: ${problems.join('; ')}`, {
    details: { problems },
  });
}

/** What the kind of target asks for beside. */
function targetProblems({
  to,
  generalHost,
  ftpHost,
  hadoopBin,
  fsName,
  remotePath,
}: PublishConfig): string[] {
  const problems: string[] = [];
  if (to === 'http' && !/^https?:\/\//.test(generalHost ?? '')) {
    problems.push('general_host: expected an address such as https://host:port for the target http');
  }
  if (to === 's3' && !/^(s3|oss):\/\//.test(generalHost ?? '')) {
    problems.push('general_host: expected s3://bucket or oss://bucket for the target s3');
  }
  if (to === 'ftp' && ftpHost === undefined)
    problems.push('ftp_host: missing: expected a host for the target ftp');
  if (to === 'hdfs' && hadoopBin === undefined && !/^(s?webhdfs|https?):\/\//.test(fsName)) {
    problems.push('fs_name: expected webhdfs://host:port or swebhdfs://host:port without hadoop_bin');
  }
  if (to === 'file' && !remotePath.startsWith('/')) {
    problems.push('remote_path: expected an absolute path for the target file');
  }
  if (remotePath.split('/').includes('..')) problems.push('remote_path: expected a path without ..');
  return problems;
}
