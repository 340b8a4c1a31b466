/**
 * `embeddings` of `model.json`: the stages that turn ids into rows of a table, and feed them to the network.
 *
 * Long because it is one table, as `schema.ts` is. Keys are written as they are outside: only the top level of a
 * `model.json` is translated.
 */
import Type, { type Static, type TSchema } from 'typebox';
import { formatPath } from './problems.js';

const name = (description: string): Type.TString => Type.String({ minLength: 1, description });
const closed = { additionalProperties: false } as const;

/** The hash functions that make a key of text. */
export const hashFunctions = ['none', 'xxh64', 'murmur3', 'fnv1a', 'python2'] as const;

const maxSeeds: Readonly<Record<(typeof hashFunctions)[number], bigint>> = {
  none: 0n,
  xxh64: 2n ** 64n - 1n,
  murmur3: 2n ** 32n - 1n,
  fnv1a: 0n,
  python2: 0n,
};

const hashSchema = Type.Object(
  {
    function: Type.Optional(
      Type.Enum([...hashFunctions], {
        default: 'none',
        description:
          'The function over the bytes of the text: xxh64; murmur3 (x64, 128 bits, the low half); fnv1a (64 bits); python2 (the string hash of CPython 2 on 64 bits, a signed number). none for ids that are numbers.',
      }),
    ),
    seed: Type.Optional(
      Type.Union([Type.Integer({ minimum: 0 }), Type.String({ pattern: '^[0-9]{1,20}$' })], {
        expected: 'an integer of at least 0, or its digits as a string',
        default: 0,
        description: 'The seed: 64 bits for xxh64, 32 bits for murmur3; the others have none.',
      }),
    ),
    modulus: Type.Optional(
      Type.Integer({
        minimum: 1,
        defaultText: 'none',
        description:
          'The key is the remainder by this number, 0 to modulus - 1. Numbers that are signed (INT32, INT64, python2) give the remainder that Python and ONNX Mod give.',
      }),
    ),
    column: Type.Optional(
      Type.Integer({
        minimum: 0,
        defaultText: 'nothing is put before',
        description:
          'The decimal number of column + slot is put before the text, slots counted from 0, as the CTR demo of Paddle has it.',
      }),
    ),
  },
  closed,
);

/** Schema of one stage. */
export const embeddingSettingsSchema = Type.Object(
  {
    table: name(
      'The directory of the table: relative to the directory of the model file, where it is not there to that of model.json; or absolute.',
    ),
    version: Type.Optional(
      Type.Integer({
        minimum: 1,
        defaultText: 'the newest that belongs to this version of the model',
        description: 'The version of the table to use.',
      }),
    ),
    in_mem: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'Whether the table is read into memory of huge pages, or its files are mapped.',
      }),
    ),
    ids: Type.Union(
      [
        Type.String({ minLength: 1 }),
        Type.Array(Type.String({ minLength: 1 }), { minItems: 1, maxItems: 4096, uniqueItems: true }),
      ],
      {
        expected: 'a name, or a list of 1 to 4096 names without repetitions',
        description:
          'The public input that carries ids; a list of several has one slot each, in that order. The network may have an input of that name too: it gets the ids as they came.',
      },
    ),
    datatype: Type.Optional(
      Type.Enum(['INT64', 'UINT64', 'INT32', 'BYTES'], {
        default: 'INT64',
        description:
          "The datatype of the ids. The key of a number is the number itself; that of a negative one without rows is its two's complement.",
      }),
    ),
    slots: Type.Optional(
      Type.Integer({
        minimum: -1,
        expected: 'an integer of at least 1, or -1',
        defaultText: 'one id a row: [B]',
        description:
          'Ids of one row: the ids input is [B, slots]; -1: [B, any]. With several names only 1: each is [B, 1] instead of [B].',
      }),
    ),
    columns: Type.Optional(
      Type.Array(Type.Integer({ minimum: 0 }), {
        minItems: 1,
        maxItems: 4096,
        defaultText: 'all',
        description:
          'The columns of ids [B, slots] that this stage takes, in this order: its slots. Other stages may take the others.',
      }),
    ),
    lengths: Type.Optional(
      Type.String({
        minLength: 1,
        defaultText: 'not ragged',
        description:
          'Ragged rows: ids is [N], and this INT64 input [B] (INT32 where the network takes it so) says how many of them each row has.',
      }),
    ),
    offsets: Type.Optional(
      Type.String({
        minLength: 1,
        defaultText: 'not ragged',
        description:
          'Ragged rows: ids is [N], and this INT64 input [B] (INT32 where the network takes it so) says where the ids of each row start. Requests do not merge where the network takes it too.',
      }),
    ),
    weights: Type.Optional(
      Type.String({
        minLength: 1,
        defaultText: 'no weights',
        description:
          'An FP32 input of the shape of ids ([B, names] where there are several), by which rows are multiplied before they are combined.',
      }),
    ),
    hash: Type.Optional({
      ...hashSchema,
      defaultText: 'the id is the key',
      description: 'How an id becomes a key. Needed for BYTES; for numbers only with `modulus`.',
    }),
    rows: Type.Optional(
      Type.Integer({
        minimum: 1,
        defaultText: 'any id is a key',
        description:
          'Ids are positions in that many rows, as ONNX Gather has them: -1 is the last one. Ids outside of -rows to rows - 1 are missing. For INT64 and INT32; counted after `modulus`.',
      }),
    ),
    combiner: Type.Optional(
      Type.Enum(['none', 'sum', 'mean', 'sqrtn'], {
        default: 'none',
        description:
          'What becomes of the rows of one row of ids: all of them, one behind the other, or their sum, sum / (sum of weights) or sum / sqrt(sum of squared weights).',
      }),
    ),
    missing: Type.Optional(
      Type.Enum(['zeros', 'default', 'error'], {
        default: 'zeros',
        description:
          'What stands for the row of an id that the table does not have: zeros, the default row, or the request fails.',
      }),
    ),
    default_row: Type.Optional(
      Type.Array(Type.Number(), {
        minItems: 1,
        defaultText: "the table's own",
        description: 'The row of missing ids with `"missing": "default"`.',
      }),
    ),
    target: name(
      'The input of the network, by its name in the graph, that takes the rows: [B, ...], with slots x dim numbers a row, or dim of them with a combiner.',
    ),
  },
  closed,
);

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T;

/** One stage as `model.json` gives it; an absent key means its default. */
export type EmbeddingSettings = DeepReadonly<Static<typeof embeddingSettingsSchema>>;

/** The names of the ids inputs of a stage. */
export function idsNames({ ids }: EmbeddingSettings): readonly string[] {
  return typeof ids === 'string' ? [ids] : ids;
}

/** The number of ids that a row has for this stage; -1 where it differs: any width, or ragged. */
export function slotsOf(stage: EmbeddingSettings): number {
  if (stage.lengths !== undefined || stage.offsets !== undefined) return -1;
  const names = idsNames(stage);
  if (names.length > 1) return names.length;
  return stage.columns?.length ?? stage.slots ?? 1;
}

/** The keys of a stage and of its `hash`, each with its schema, for the page that lists them. */
export const embeddingSettingKeys: readonly { readonly outside: string; readonly schema: TSchema }[] = [
  ...Object.entries(embeddingSettingsSchema.properties).map(([outside, schema]) => ({ outside, schema })),
  ...Object.entries(hashSchema.properties).map(([key, schema]) => ({ outside: `hash.${key}`, schema })),
];

/**
 * What is wrong between the keys of the stages, each problem with the path of its field. The stages must fit the
 * schema already.
 *
 * @param aliases the `inputs` of the same `model.json`: public names by graph name
 */
export function embeddingProblems(
  stages: readonly EmbeddingSettings[],
  aliases: Readonly<Record<string, string>> = {},
): string[] {
  const problems: string[] = [];
  const publicInputs = new Map<string, { readonly form: string; readonly field: string }>();
  const targets = new Map<string, string>();
  for (const [index, stage] of stages.entries()) {
    const path = (...keys: (string | number)[]): string => formatPath(['embeddings', index, ...keys]);
    for (const [key, text] of stageProblems(stage)) problems.push(`${path(...key)}: ${text}`);
    for (const [field, input, form] of inputsOf(stage)) {
      const other = publicInputs.get(input);
      if (other && other.form !== form) {
        problems.push(`${path(field)}: "${input}" is ${form} here, but ${other.form} in ${other.field}`);
      }
      if (!other) publicInputs.set(input, { form, field: path(field) });
    }
    const other = targets.get(stage.target);
    if (other !== undefined) problems.push(`${path('target')}: "${stage.target}" is fed by ${other} already`);
    else targets.set(stage.target, path());
    const alias = Object.entries(aliases).find(([, graphName]) => graphName === stage.target)?.[0];
    if (alias !== undefined) {
      problems.push(
        `${path('target')}: "${stage.target}" is fed by this stage, so inputs cannot call it "${alias}"`,
      );
    }
  }
  return problems;
}

type StageProblem = readonly [path: readonly (string | number)[], text: string];

function stageProblems(stage: EmbeddingSettings): StageProblem[] {
  const { lengths, offsets, weights, rows, default_row: defaultRow } = stage;
  const datatype = stage.datatype ?? 'INT64';
  const combiner = stage.combiner ?? 'none';
  const missing = stage.missing ?? 'zeros';
  const problems: StageProblem[] = [...slotProblems(stage), ...hashProblems(stage)];
  if (lengths !== undefined && offsets !== undefined) {
    problems.push([['offsets'], 'lengths is there too; expected one of the two']);
  }
  const ragged = lengths !== undefined ? 'lengths' : offsets !== undefined ? 'offsets' : undefined;
  if (ragged && combiner === 'none') {
    problems.push([
      ['combiner'],
      `expected sum, mean or sqrtn, because ids are ragged (${ragged}): rows without a combiner would have no batch axis`,
    ]);
  }
  if (weights !== undefined && combiner === 'none') {
    problems.push([['weights'], 'expected a combiner (sum, mean or sqrtn) beside it']);
  }
  if (rows !== undefined && datatype !== 'INT64' && datatype !== 'INT32') {
    problems.push([['rows'], `expected ids of INT64 or INT32 beside it, got ${datatype}`]);
  }
  if (defaultRow !== undefined && missing !== 'default') {
    problems.push([['default_row'], `expected "missing": "default" beside it, got "${missing}"`]);
  }
  return problems;
}

function slotProblems({ ids, slots, columns, lengths, offsets }: EmbeddingSettings): StageProblem[] {
  const problems: StageProblem[] = [];
  const names = typeof ids === 'string' ? 1 : ids.length;
  const ragged = lengths !== undefined ? 'lengths' : offsets !== undefined ? 'offsets' : undefined;
  if (slots === 0)
    problems.push([['slots'], 'expected an integer of at least 1, or -1 for any width, got 0']);
  if (ragged && names > 1) {
    problems.push([['ids'], `expected one name, because ids are ragged (${ragged}), got ${names}`]);
  }
  if (ragged && slots !== undefined) {
    problems.push([['slots'], `cannot be given with ${ragged}: ragged ids are [N]`]);
  } else if (names > 1 && slots !== undefined && slots !== 1) {
    problems.push([
      ['slots'],
      `ids are ${names} inputs of one slot each: expected no slots (each is [B]) or 1 (each is [B, 1]), got ${slots}`,
    ]);
  }
  if (!columns) return problems;
  if (names > 1 || slots === undefined || slots < 1) {
    problems.push([['columns'], 'expected one ids input and its number of slots beside it']);
    return problems;
  }
  for (const [index, column] of columns.entries()) {
    if (column >= slots) {
      problems.push([['columns', index], `expected a column from 0 to ${slots - 1}, got ${column}`]);
    }
  }
  return problems;
}

function hashProblems({ datatype = 'INT64', hash }: EmbeddingSettings): StageProblem[] {
  const hashFunction = hash?.function ?? 'none';
  if (datatype !== 'BYTES') {
    if (!hash) return [];
    const surplus = (['seed', 'column'] as const).filter((key) => hash[key] !== undefined);
    const problems = surplus.map(
      (key): StageProblem => [['hash', key], `is for BYTES, got ids of ${datatype}, which take only modulus`],
    );
    if (hashFunction !== 'none') {
      problems.push([['hash', 'function'], `is for BYTES, got ids of ${datatype}, which take only modulus`]);
    }
    if (hash.modulus === undefined) problems.push([['hash', 'modulus'], 'missing: expected an integer']);
    return problems.map(([path, text]) => [
      path,
      text.replace(/; only modulus is$/, ', which take only modulus'),
    ]);
  }
  if (hashFunction === 'none') {
    const functions = hashFunctions.filter((one) => one !== 'none').join(', ');
    return [[['hash', 'function'], `ids of BYTES need one of ${functions}`]];
  }
  const seed = BigInt(hash?.seed ?? 0);
  const maxSeed = maxSeeds[hashFunction];
  if (seed <= maxSeed) return [];
  const expected = maxSeed === 0n ? `${hashFunction} has no seed` : `expected at most ${maxSeed}`;
  return [[['hash', 'seed'], `${expected}, got ${seed}`]];
}

/** The public inputs of a stage, each with what it is, in words that are equal where two stages can share it. */
function* inputsOf(
  stage: EmbeddingSettings,
): Generator<readonly [field: string, name: string, form: string]> {
  const { slots, lengths, offsets, weights, datatype = 'INT64' } = stage;
  const names = idsNames(stage);
  const ragged = lengths ?? offsets;
  const width = slots === undefined ? '' : `, ${slots === -1 ? 'any' : slots}`;
  const shape = ragged === undefined ? `[B${width}]` : '[N]';
  for (const one of names) yield ['ids', one, `ids of ${datatype} ${shape}`];
  if (lengths !== undefined) yield ['lengths', lengths, 'lengths [B]'];
  if (offsets !== undefined) yield ['offsets', offsets, 'offsets [B]'];
  const weightShape = names.length > 1 ? `[B, ${names.length}]` : shape;
  if (weights !== undefined) yield ['weights', weights, `weights of FP32 ${weightShape}`];
}
