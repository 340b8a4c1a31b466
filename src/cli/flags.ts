/** The one table of flags: outside spelling, the setting behind it, how help shows it. */
import { Option } from 'commander';
import { defaultTextOf } from '../config/document.js';
import { type Setting, type SettingGroup, settings } from '../config/schema.js';
import { envPrefix, type FlagTexts } from '../config/sources.js';

/** A flag of `serve`. */
export interface Flag {
  /** The spelling without dashes: `gpu_ids`. */
  readonly outside: string;
  /** What help shows as its value: `<n>`. */
  readonly value: string;
  readonly group: SettingGroup;
  readonly description: string;
  readonly isRepeatable: boolean;
}

const ownFlags: readonly Flag[] = [
  {
    outside: 'model',
    value: '<path>',
    group: 'Models',
    isRepeatable: true,
    description:
      'A model to serve: model.onnx, a directory that holds one, or <name>/<version>/model.onnx; Triton and Paddle Serving directories too; or the address of one (http, https, ftp, webhdfs, s3, oss). Repeat it for more models (default: what lies in ./models).',
  },
  {
    outside: 'name',
    value: '<name>',
    group: 'Models',
    isRepeatable: true,
    description: 'The name to serve it under; once for each --model or not at all (default: its directory).',
  },
  {
    outside: 'config',
    value: '<file>',
    group: 'Models',
    isRepeatable: false,
    description: 'A YAML or JSON file of settings, with the names of these flags as keys.',
  },
];

/** Every flag of `serve`, in the order of help. */
export const serveFlags: readonly Flag[] = [
  ...ownFlags,
  ...settings
    .filter((setting) => setting.outside !== 'models' && !setting.schema.fileOnly)
    .map((setting) => ({
      outside: setting.outside,
      value: valueText(setting),
      group: setting.schema.group,
      isRepeatable: false,
      description: descriptionOf(setting),
    })),
];

/** The flags as commander takes them. */
export function serveOptions(): Option[] {
  return serveFlags.map((flag) => {
    const option = new Option(`--${flag.outside} ${flag.value}`, flag.description).helpGroup(
      `${flag.group}:`,
    );
    return flag.isRepeatable
      ? option.argParser((text: string, earlier: readonly string[] | undefined) => [...(earlier ?? []), text])
      : option;
  });
}

/** The texts of commander's options by outside name. Commander keeps underscores, so the names are the flags'. */
export function flagTextsOf(options: Readonly<Record<string, unknown>>): FlagTexts {
  return Object.fromEntries(
    serveFlags
      // Commander's own true stands for an optional value that was left out: --cpu_group.
      .map(({ outside }) => [outside, options[outside] === true ? 'true' : options[outside]] as const)
      .filter((entry): entry is readonly [string, string | readonly string[]] => entry[1] !== undefined),
  );
}

/** Rewrites `--gpu-ids` to `--gpu_ids`, up to a lone `--`. Values are left as they are. */
export function withUnderscores(args: readonly string[]): string[] {
  const end = args.indexOf('--');
  return args.map((text, index) => {
    if (!text.startsWith('--') || (end >= 0 && index >= end)) return text;
    const [name = '', ...value] = text.slice(2).split('=');
    return [`--${name.replaceAll('-', '_')}`, ...value].join('=');
  });
}

/** The environment variable of a flag. */
export function envNameOf(outside: string): string {
  return envPrefix + outside.toUpperCase();
}

function valueText({ outside, schema }: Setting): string {
  if (schema.enum)
    return schema.enum.length > 4 ? `<${outside.replace(/^.*_/, '')}>` : `<${schema.enum.join('|')}>`;
  if (schema.bytes) return '<size>';
  switch (schema.type) {
    case 'integer':
      return '<n>';
    case 'boolean':
      return '[true|false]';
    case 'array':
      return '<ids>';
    default:
      if (schema.mayBeUrl) return '<path|url>';
      if (schema.path) return outside.endsWith('_file') ? '<file>' : '<directory>';
      return `<${outside.replace(/^.*_/, '')}>`;
  }
}

function descriptionOf({ schema }: Setting): string {
  const choices = schema.enum && schema.enum.length > 4 ? ` One of ${schema.enum.join(', ')}.` : '';
  const byDefault = defaultTextOf(schema);
  return `${schema.description}${choices}${byDefault === undefined ? '' : ` (default: ${byDefault})`}`;
}
