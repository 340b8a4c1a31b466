/**
 * `traffic`: public names whose requests are split over variants.
 *
 * Long because it is one table, as `schema.ts` is. Keys are written as they are outside: the same document stands in
 * a file, in the options of an embedder and in the bodies of the routes.
 */
import Type, { type Static, type TSchema } from 'typebox';
import type { Problem } from './problems.js';
import { didYouMean } from './suggest.js';

const closed = { additionalProperties: false } as const;

const tag = Type.String({
  minLength: 1,
  maxLength: 64,
  pattern: '^[A-Za-z0-9._-]{1,64}$',
  expected: 'a name of at most 64 letters, digits, dots, dashes and underscores',
  description: 'Its name in replies, metrics and the status.',
});

/** What stands behind a variant or a shadow. */
const targetProperties = {
  model: Type.Optional(
    Type.String({
      minLength: 1,
      defaultText: 'the public name',
      description: 'The model behind it: its versions, also where its own name is split.',
    }),
  ),
  version: Type.Optional(
    Type.Integer({
      minimum: 0,
      defaultText: 'the newest that is ready',
      description: 'The version of the model.',
    }),
  ),
  label: Type.Optional(
    Type.String({
      minLength: 1,
      defaultText: 'none',
      description: 'The label that names the version, in the place of its number.',
    }),
  ),
} as const;

const variantSchema = Type.Object(
  {
    tag,
    ...targetProperties,
    weight: Type.Number({
      minimum: 0,
      description: 'Its share, measured against the sum of all weights. 0: no request.',
    }),
  },
  closed,
);

const stickySchema = Type.Object(
  {
    by: Type.Enum(['header', 'parameter', 'id'], {
      description:
        'Where the key of a request is: a header of HTTP, a member of `parameters`, or the `id` of the request.',
    }),
    name: Type.Optional(
      Type.String({
        minLength: 1,
        defaultText: 'refused for header and parameter',
        description: 'The name of the header or parameter.',
      }),
    ),
  },
  closed,
);

const shadowSchema = Type.Object(
  {
    tag,
    ...targetProperties,
    sample: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        default: 1,
        description: 'The share of the answered requests that are copied.',
      }),
    ),
    max_in_flight: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1024,
        default: 8,
        description: 'Copies that may wait or run at once; more are dropped.',
      }),
    ),
  },
  closed,
);

const guardSchema = Type.Object(
  {
    control: Type.String({
      minLength: 1,
      description: 'The tag of the variant that others are held against.',
    }),
    max_error_rate_margin: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        defaultText: 'errors are not looked at',
        description: 'A variant may fail in this share of its requests more than the control does.',
      }),
    ),
    max_p99_ratio: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        defaultText: 'latency is not looked at',
        description: 'The 99th percentile of its latency may be this many times that of the control.',
      }),
    ),
    min_requests: Type.Optional(
      Type.Integer({
        minimum: 1,
        default: 100,
        description: 'Requests within the window that both must have had before a variant is judged.',
      }),
    ),
    window_s: Type.Optional(
      Type.Number({
        minimum: 0.1,
        maximum: 86_400,
        default: 60,
        description: 'How far back requests count, in seconds.',
      }),
    ),
  },
  closed,
);

const stepSchema = Type.Object(
  {
    weight: Type.Number({
      exclusiveMinimum: 0,
      maximum: 100,
      description: 'Percent of the requests that the variant beside the control gets.',
    }),
    hold_s: Type.Number({
      minimum: 0,
      maximum: 31_536_000,
      description: 'How long the step lasts at least, in seconds.',
    }),
  },
  closed,
);

/** Schema of a list of steps. */
export const stepsSchema: TSchema = Type.Array(stepSchema, { expected: 'a list of steps' });

/** Schema of what is split under one public name. */
export const splitSchema = Type.Object(
  {
    variants: Type.Array(variantSchema, {
      minItems: 1,
      description: 'What answers: each request goes to one of them.',
    }),
    sticky: Type.Optional({
      ...stickySchema,
      defaultText: 'chance, for every request anew',
      description: 'Requests of one key get one variant, as long as the weights stay.',
    }),
    shadow: Type.Optional(
      Type.Array(shadowSchema, {
        defaultText: 'none',
        description: 'Models that get copies of answered requests; their answers are compared and dropped.',
      }),
    ),
    guard: Type.Optional({
      ...guardSchema,
      defaultText: 'none',
      description: 'When a variant is taken out again, all by itself.',
    }),
    steps: Type.Optional(
      Type.Array(stepSchema, {
        minItems: 1,
        defaultText: 'the weights stay',
        description:
          'The share of the variant beside the control, step by step. They take the place of the weights.',
      }),
    ),
  },
  closed,
);

type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T;

/** What is split under one public name, as it was given. */
export type SplitSettings = DeepReadonly<Static<typeof splitSchema>>;

/** A variant as it was given. */
export type VariantSettings = SplitSettings['variants'][number];

/** A shadow as it was given. */
export type ShadowSettings = DeepReadonly<Static<typeof shadowSchema>>;

/** When a variant is taken out, as it was given. */
export type GuardSettings = DeepReadonly<Static<typeof guardSchema>>;

/** A step: percent for the variant beside the control, and how long at least. */
export type TrafficStep = DeepReadonly<Static<typeof stepSchema>>;

/** The tables of `docs/configuration.md` about `traffic`: a heading, then the keys below it. */
export const trafficSettingTables: readonly {
  readonly path: string;
  readonly required: readonly string[];
  readonly keys: readonly { readonly outside: string; readonly schema: TSchema }[];
}[] = (
  [
    ['NAME', splitSchema],
    ['NAME.variants[]', variantSchema],
    ['NAME.sticky', stickySchema],
    ['NAME.shadow[]', shadowSchema],
    ['NAME.guard', guardSchema],
    ['NAME.steps[]', stepSchema],
  ] as const
).map(([path, schema]) => ({
  path,
  required: schema.required as readonly string[],
  keys: Object.entries(schema.properties).map(([outside, one]) => ({ outside, schema: one as TSchema })),
}));

/**
 * What is wrong between the keys of what is split under one name. It must fit the schema already.
 *
 * @param name the public name
 */
export function splitProblems(name: string, split: SplitSettings): Problem[] {
  const problems: Problem[] = [];
  const report = (path: Problem['path'], text: string): void => {
    problems.push({ path: [name, ...path], text });
  };
  const { variants, shadow = [], sticky, guard, steps } = split;
  const tags = new Map<string, string>();
  for (const [list, items] of [
    ['variants', variants],
    ['shadow', shadow],
  ] as const) {
    for (const [index, item] of items.entries()) {
      const other = tags.get(item.tag);
      if (other !== undefined) report([list, index, 'tag'], `"${item.tag}" is the tag of ${other} already`);
      else tags.set(item.tag, `${list}[${index}]`);
      if (item.version !== undefined && item.label !== undefined) {
        report([list, index, 'label'], 'version is there too; expected one of the two');
      }
    }
  }
  if (!steps && variants.every(({ weight }) => weight === 0)) {
    report(['variants'], 'all weights are 0; expected at least one above 0');
  }
  if (sticky) {
    if (sticky.by === 'id' && sticky.name !== undefined) report(['sticky', 'name'], 'an id has no name');
    if (sticky.by !== 'id' && sticky.name === undefined) {
      report(['sticky', 'name'], `missing: expected the name of the ${sticky.by}`);
    }
  }
  if (guard) {
    const variantTags = variants.map((variant) => variant.tag);
    if (!variantTags.includes(guard.control)) {
      report(
        ['guard', 'control'],
        `"${guard.control}" is no variant${didYouMean(guard.control, variantTags)}`,
      );
    }
    if (guard.max_error_rate_margin === undefined && guard.max_p99_ratio === undefined) {
      report(['guard'], 'expected max_error_rate_margin or max_p99_ratio, or both');
    }
  }
  if (steps && (!guard || variants.length !== 2)) {
    report(['steps'], 'expected a guard, and exactly one variant beside its control');
  }
  return problems;
}
