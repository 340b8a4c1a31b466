/** What the options of `monitor` and `publish` have in common: each is a setting of a schema. */
import { Option } from 'commander';

/** A setting, as far as the command line is about it. */
export interface OptionSetting<Key extends string> {
  readonly key: Key;
  /** Its name outside: `remote_path`. */
  readonly outside: string;
  readonly isRequired: boolean;
  readonly schema: {
    readonly description: string;
    readonly group: string;
    readonly defaultText?: string;
    readonly type?: string;
    readonly enum?: readonly string[];
    readonly default?: unknown;
    /** A size, which may have a unit. */
    readonly bytes?: true;
    readonly path?: true;
  };
}

/** @param switchText how help shows the value of a boolean; empty where it takes none */
export function settingOption(
  { outside, isRequired, schema }: OptionSetting<string>,
  switchText: string,
): Option {
  const isSwitch = schema.type === 'boolean' && switchText === '';
  const shownDefault = schema.defaultText ?? String(schema.default ?? '');
  const end = isRequired ? ' (required)' : shownDefault === '' ? '' : ` (default: ${shownDefault})`;
  const value = schema.type === 'boolean' ? switchText : valueText(schema);
  return new Option(
    `--${outside}${value === '' ? '' : ` ${value}`}`,
    schema.description + (isSwitch ? '' : end),
  ).helpGroup(`${schema.group}:`);
}

/** `--log_format`. */
export function logFormatOption(): Option {
  return new Option(
    '--log_format <format>',
    'how log lines are written (default: pretty on a terminal, else json)',
  )
    .choices(['pretty', 'json'])
    .helpGroup('Behaviour:');
}

/**
 * The options that flags give, and the environment where there is no flag, by key.
 *
 * @param prefix of the variables
 */
export function givenOptions<Key extends string>(
  settings: readonly OptionSetting<Key>[],
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
  prefix: string,
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const { key, outside, schema } of settings) {
    const variable = env[prefix + outside.toUpperCase()];
    const given = flags[outside] ?? (variable === '' ? undefined : variable);
    if (given !== undefined) options[key] = typedValue(schema, given);
  }
  return options;
}

/** A text that does not fit stays text and becomes a problem. */
function typedValue({ type, bytes }: OptionSetting<string>['schema'], given: unknown): unknown {
  if (typeof given !== 'string') return given;
  switch (type) {
    case 'integer':
    case 'number':
      return !bytes && /^\d+(\.\d+)?$/.test(given) ? Number(given) : given;
    case 'boolean':
      return given === 'true' ? true : given === 'false' ? false : given;
    default:
      return given;
  }
}

function valueText({ type, bytes, path, enum: names }: OptionSetting<string>['schema']): string {
  if (names) return `<${names.join('|')}>`;
  if (bytes) return '<size>';
  if (type === 'number') return '<seconds>';
  return type === 'integer' ? '<n>' : path ? '<directory>' : '<text>';
}
