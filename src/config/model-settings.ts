/** `model.json`, the settings of one model that lie beside its file. All are optional; absent means the runtime's own. */
import { readFile } from 'node:fs/promises';
import Type, { type Static, type TSchema } from 'typebox';
import { messageOf, ServingError } from '../errors.js';
import { embeddingProblems, embeddingSettingsSchema } from './embedding-settings.js';
import { findProblems, formatPath, isKeyed } from './problems.js';
import { reloadableTypes } from './reloadable-types.js';
import { modelNameSchema, snakeCase } from './schema.js';
import { didYouMean } from './suggest.js';
import { labelProblem, versionSchema } from './version-labels.js';

const aliases = (description: string): Type.TOptional<Type.TRecord<'^.*$', Type.TString>> =>
  Type.Optional(Type.Record(Type.String(), Type.String({ minLength: 1 }), { description }));

const timeoutActionSchema = Type.Enum(['reject', 'delay'], {
  description:
    'What becomes of a request that named no timeout and has waited for longer than request_timeout_ms: reject answers it with 504, delay lets all go first that have not.',
});

/** What becomes of a request that has waited for too long. */
export type TimeoutAction = Static<typeof timeoutActionSchema>;

/** Schema of `model.json`, with the keys as they are inside. */
export const modelSettingsSchema = Type.Object(
  {
    name: Type.Optional({
      ...modelNameSchema,
      defaultText: 'the name of its directory',
      description: 'The name to serve the model under. --name wins.',
    }),
    versionPolicy: Type.Optional(
      Type.Union(
        [
          Type.Literal('all'),
          Type.Object({ latest: Type.Integer({ minimum: 1 }) }, { additionalProperties: false }),
          Type.Object(
            { specific: Type.Array(versionSchema, { minItems: 1 }) },
            { additionalProperties: false },
          ),
        ],
        {
          expected: `"all", {"latest": a number of at least 1} or {"specific": [versions]}`,
          defaultText: '{"latest": 1}',
          description:
            'Which of the version directories are served. model_config_file wins over it, and it wins over config.pbtxt.',
        },
      ),
    ),
    labels: Type.Optional(
      Type.Record(Type.String(), versionSchema, {
        defaultText: 'none',
        description:
          'Labels, each with the version that it points to once that version is ready: {"stable": 3}. A request may name a label where it may name a version. version_labels of model_config_file win over all of them.',
      }),
    ),
    maxBatchSize: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65_536,
        description: 'Rows that one batch may hold. 1 turns merging off.',
      }),
    ),
    maxQueueDelayUs: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 10_000_000,
        description: 'How long an idle worker waits for more rows, in microseconds.',
      }),
    ),
    preferredBatchSize: Type.Optional(
      Type.Array(Type.Integer({ minimum: 1, maximum: 65_536 }), {
        uniqueItems: true,
        defaultText: 'max_batch_size',
        description:
          'Where max_queue_delay_us is above 0: the wait for more rows ends as soon as the smallest of these numbers waits.',
      }),
    ),
    defaultPriority: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000,
        defaultText: '5',
        description: 'The priority of requests that name none. 1 is the most urgent.',
      }),
    ),
    priorityLevels: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000,
        defaultText: 'any number',
        description:
          'The highest number that a request may name as its priority; above it, it has the default.',
      }),
    ),
    queuePolicies: Type.Optional(
      Type.Record(
        Type.String(),
        Type.Object(
          {
            max_queue_size: Type.Optional(
              Type.Integer({ minimum: 1, description: 'Requests of this priority that may wait.' }),
            ),
            request_timeout_ms: Type.Optional(
              Type.Number({
                minimum: 0,
                maximum: 2_147_483_647,
                description:
                  'How long a request of this priority may wait when it names no timeout; 0: no limit.',
              }),
            ),
            timeout_action: Type.Optional(timeoutActionSchema),
          },
          { additionalProperties: false },
        ),
        {
          defaultText: 'none',
          description:
            'By priority, what holds for its requests alone: {"1": {"max_queue_size": 10, "request_timeout_ms": 50}}. The queue as a whole keeps max_queue_size.',
        },
      ),
    ),
    maxQueueSize: Type.Optional(Type.Integer({ minimum: 1, description: 'Requests that may wait.' })),
    batching: Type.Optional(
      Type.Enum(['auto', 'on', 'off'], {
        defaultText: 'auto',
        description:
          'Whether rows of several requests are merged: auto merges where a trial found that batches of 2 give the answers of two single runs.',
      }),
    ),
    allowSplitRequest: Type.Optional(
      Type.Boolean({
        description:
          'Whether a request with more rows than max_batch_size is split over batches and rejoined, or refused.',
      }),
    ),
    requestTimeoutMs: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 2_147_483_647,
        description: 'How long a request may wait for its run, in milliseconds, when it names no timeout.',
      }),
    ),
    timeoutAction: Type.Optional({ ...timeoutActionSchema, defaultText: 'reject' }),
    gpuIds: Type.Optional(
      Type.Array(Type.Integer({ minimum: 0 }), {
        uniqueItems: true,
        defaultText: 'all cards of --gpu_ids',
        description: 'The cards to run on, out of those of --gpu_ids. Empty: none.',
      }),
    ),
    cpu: Type.Optional(
      Type.Boolean({
        defaultText: 'true',
        description: 'Whether the CPU group, where there is one, runs this model too.',
      }),
    ),
    intraOpThreads: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1024,
        description: 'Threads that the engine may use inside one run.',
      }),
    ),
    graphOptimization: Type.Optional(
      Type.Enum(['all', 'extended', 'basic', 'disabled'], {
        defaultText: 'all',
        description: 'How far the engine rewrites the graph.',
      }),
    ),
    prepare: Type.Optional(
      Type.Enum(['auto', 'off'], {
        defaultText: 'auto',
        description:
          'Whether the model is served from a prepared form that instances share, or from its own file.',
      }),
    ),
    prepacking: Type.Optional(
      Type.Enum(['auto', 'on', 'off'], {
        defaultText: 'auto',
        description:
          'Whether weights are rearranged for speed, at the cost of memory and load time. auto measures.',
      }),
    ),
    padding: Type.Optional(
      Type.Record(
        Type.String(),
        Type.Object(
          {
            axes: Type.Array(Type.Integer({ minimum: 1 }), {
              minItems: 1,
              uniqueItems: true,
              description: 'Axes that may be padded; axis 0 is the batch.',
            }),
            value: Type.Optional(
              Type.Union([Type.Number(), Type.String()], {
                expected: 'a number or a string',
                description: 'What to pad with; absent: 0, or the empty string.',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        {
          defaultText: 'no padding',
          description:
            'Inputs by public name whose free axes are padded to the longest row so that rows of unlike shapes merge; outputs are cropped back.',
        },
      ),
    ),
    inputs: aliases('Public names of inputs, each with its name in the graph. Others keep their own name.'),
    outputs: aliases('Public names of outputs, each with its name in the graph. Others keep their own name.'),
    embeddings: Type.Optional(
      Type.Array(embeddingSettingsSchema, {
        defaultText: 'none',
        description: 'Stages that turn ids into rows of a table before the network runs.',
      }),
    ),
    example: Type.Optional(
      Type.Object(
        {
          request: Type.Record(Type.String(), Type.Unknown(), {
            description: 'The body of an inference request.',
          }),
          meaning: Type.String({ minLength: 1, description: 'What its answer says, in a sentence.' }),
        },
        {
          additionalProperties: false,
          defaultText: 'none',
          description: 'A request that serve prints at its start, ready to be pasted.',
        },
      ),
    ),
    maxQueueBytes: Type.Optional(
      Type.Integer({
        minimum: 1024,
        defaultText: 'max_queue_bytes of the server',
        description:
          'Tensor bytes of this model that may wait or run, so that it leaves room for the others.',
      }),
    ),
    maxWorkers: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1024,
        defaultText: 'all',
        description: 'Workers that may run this model at once, so that the others always find one.',
      }),
    ),
    pinned: Type.Optional(
      Type.Boolean({
        defaultText: 'false',
        description: 'Whether it stays loaded whatever model_memory_limit says.',
      }),
    ),
    reload: Type.Optional(
      Type.Enum(['availability_first', 'resource_first'], {
        defaultText: 'that of the server',
        description:
          'Whether the old version serves until the new one is ready, or is unloaded before it is loaded, for a model that fits only once.',
      }),
    ),
    keepPrevious: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 100,
        defaultText: 'that of the server',
        description:
          'Versions that stay loaded behind the one that is served, so that a rollback is instant.',
      }),
    ),
    reloadableMeta: Type.Optional(
      Type.String({
        minLength: 1,
        defaultText: 'that of the server',
        description:
          'The stamp file that says when this model is to be loaded anew. A path is relative to the directory of the model.',
      }),
    ),
    reloadableType: Type.Optional(
      Type.Enum([...reloadableTypes], {
        defaultText: 'that of the server',
        description: 'What about the stamp file says that there is a new model.',
      }),
    ),
    warmUpDataPath: Type.Optional(
      Type.Union(
        [Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })],
        {
          expected: 'a path or URL, or a non-empty list of them',
          description:
            'Recorded requests of the warm-up: files, directories of files, or http, https, s3 and oss URLs. Paths are relative to this file; {version} stands for the version.',
        },
      ),
    ),
    warmUpCount: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 10_000,
        description: 'How often each request of the warm-up is run on each instance. 0: no warm-up at all.',
      }),
    ),
    warmUpTimeoutMs: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 2_147_483_647,
        description: 'Longest run of one request of the warm-up, in milliseconds. 0: no limit.',
      }),
    ),
    warmUpFailure: Type.Optional(
      Type.Enum(['fail', 'ignore'], {
        description:
          'What becomes of a version when a request of its warm-up fails: it fails too, or the failure is logged.',
      }),
    ),
    warmUpBatchSizes: Type.Optional(
      Type.Union(
        [Type.Enum(['auto', 'all', 'off']), Type.Array(Type.Integer({ minimum: 1, maximum: 65_536 }))],
        {
          expected: 'auto, all, off or a list of numbers of rows',
          description: 'Rows of further batches that the warm-up runs once, of rows of its requests.',
        },
      ),
    ),
    weight: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1000,
        defaultText: '1',
        description: 'Share of the workers against other models when all have work waiting.',
      }),
    ),
  },
  { additionalProperties: false },
);

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T;

/** The settings of one model; an absent key means the runtime's default. */
export type ModelSettings = DeepReadonly<Static<typeof modelSettingsSchema>>;

/** What holds for the requests of one priority. */
export type QueuePolicy = NonNullable<ModelSettings['queuePolicies']>[string];

/** The names of the keys of a `model.json`, each with its schema. */
export const modelSettingKeys: readonly {
  readonly key: keyof ModelSettings;
  readonly outside: string;
  readonly schema: TSchema;
}[] = Object.entries(modelSettingsSchema.properties).map(([key, schema]) => ({
  key: key as keyof ModelSettings,
  outside: snakeCase(key),
  schema,
}));

/**
 * Reads a `model.json`.
 *
 * @throws ServingError `SRV_BAD_CONFIG` that lists every problem with the file's name, `SRV_IO` when it cannot be read.
 */
export async function readModelSettings(file: string): Promise<ModelSettings> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}.`, { cause });
  }
  return parseModelSettings(text, file);
}

/** The settings in the text of a `model.json`; `file` is what errors call it. */
export function parseModelSettings(text: string, file: string): ModelSettings {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ServingError('SRV_BAD_CONFIG', `${file} is not JSON: ${messageOf(cause)}.`, { cause });
  }
  if (!isKeyed(value)) {
    throw new ServingError('SRV_BAD_CONFIG', `${file} does not hold a JSON object.`);
  }
  const outsideNames = modelSettingKeys.map(({ outside }) => outside);
  const problems = Object.keys(value)
    .filter((key) => !outsideNames.includes(key))
    .map((key) => `${key}: unknown key${didYouMean(key, outsideNames)}`);
  const settings: Record<string, unknown> = {};
  for (const { key, outside, schema } of modelSettingKeys) {
    const item = Object.hasOwn(value, outside) ? value[outside] : undefined;
    if (item === undefined) continue;
    for (const { path, text } of findProblems(schema, item)) {
      problems.push(`${formatPath([outside, ...path])}: ${text}`);
    }
    settings[key] = item;
  }
  if (problems.length === 0) {
    const { embeddings = [], inputs } = settings as ModelSettings;
    problems.push(
      ...labelProblems(settings as ModelSettings),
      ...Object.keys((settings as ModelSettings).queuePolicies ?? {})
        .filter((priority) => !/^[1-9]\d{0,5}$/.test(priority))
        .map((priority) => `queue_policies: expected a priority from 1, got "${priority}"`),
      ...sharedTargets(settings as ModelSettings),
      ...embeddingProblems(embeddings, inputs),
    );
  }
  if (problems.length > 0) {
    throw new ServingError('SRV_BAD_CONFIG', `${file}: ${problems.join('; ')}`, { details: { problems } });
  }
  return Object.freeze(settings);
}

function labelProblems({ labels = {}, versionPolicy }: ModelSettings): string[] {
  const chosen =
    typeof versionPolicy === 'object' && 'specific' in versionPolicy ? versionPolicy.specific : undefined;
  return Object.entries(labels).flatMap(([label, version]) => {
    const problem = labelProblem(label);
    if (problem !== undefined) return [`labels: ${problem}`];
    return chosen === undefined || chosen.includes(version)
      ? []
      : [`labels: "${label}" names version ${version}, which version_policy does not choose`];
  });
}

function sharedTargets(settings: ModelSettings): string[] {
  const problems: string[] = [];
  for (const side of ['inputs', 'outputs'] as const) {
    const takenBy = new Map<string, string>();
    for (const [publicName, graphName] of Object.entries(settings[side] ?? {})) {
      const other = takenBy.get(graphName);
      if (other !== undefined)
        problems.push(`${side}: "${other}" and "${publicName}" both mean "${graphName}"`);
      takenBy.set(graphName, publicName);
    }
  }
  return problems;
}
