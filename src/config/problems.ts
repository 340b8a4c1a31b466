import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { didYouMean } from './suggest.js';

/** One thing that is wrong with a value, and where. */
export interface Problem {
  /** Keys and list positions that lead to the place. */
  readonly path: readonly (string | number)[];
  readonly text: string;
}

/** The part of a JSON schema that is walked here. */
interface SchemaNode {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly items?: SchemaNode;
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly minLength?: number;
  readonly minItems?: number;
  readonly uniqueItems?: boolean;
  readonly expected?: string;
}

/**
 * Everything that is wrong with a value by a schema. Unknown keys name the nearest known one.
 *
 * The schema library's own list ends at eight errors and names no neighbours, so objects, lists and maps are
 * walked here and the library decides the leaves.
 */
export function findProblems(schema: TSchema, value: unknown): Problem[] {
  const problems: Problem[] = [];
  walk(schema as SchemaNode, value, [], problems);
  return problems;
}

/** A path as users write it: `models[0].name`. */
export function formatPath(path: Problem['path']): string {
  return path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`),
    '',
  );
}

/** Whether a value is an object with keys: not null, not a list. */
export function isKeyed(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function walk(node: SchemaNode, value: unknown, path: Problem['path'], problems: Problem[]): void {
  const before = problems.length;
  if (node.properties && isKeyed(value)) walkObject(node, value, path, problems);
  else if (node.patternProperties && isKeyed(value)) walkMap(node, value, path, problems);
  else if (node.items && Array.isArray(value)) {
    for (const [index, item] of value.entries()) walk(node.items, item, [...path, index], problems);
  }
  if (problems.length === before && !Value.Check(node as TSchema, value)) {
    problems.push({ path, text: `expected ${expectationOf(node)}, got ${shortForm(value)}` });
  }
}

function walkObject(
  node: SchemaNode,
  value: Record<string, unknown>,
  path: Problem['path'],
  problems: Problem[],
): void {
  const known = node.properties ?? {};
  for (const [key, item] of Object.entries(value)) {
    const child = Object.hasOwn(known, key) ? known[key] : undefined;
    if (child) walk(child, item, [...path, key], problems);
    else problems.push({ path: [...path, key], text: `unknown key${didYouMean(key, Object.keys(known))}` });
  }
  for (const key of node.required ?? []) {
    if (!Object.hasOwn(value, key)) {
      const expected = known[key] ? expectationOf(known[key]) : 'a value';
      problems.push({ path: [...path, key], text: `missing: expected ${expected}` });
    }
  }
}

function walkMap(
  node: SchemaNode,
  value: Record<string, unknown>,
  path: Problem['path'],
  problems: Problem[],
): void {
  const child = Object.values(node.patternProperties ?? {})[0];
  if (!child) return;
  for (const [key, item] of Object.entries(value)) walk(child, item, [...path, key], problems);
}

/** What a schema takes, in words: "an integer from 1 to 64". */
export function expectationOf(schema: TSchema): string {
  const node = schema as SchemaNode;
  if (node.expected !== undefined) return node.expected;
  if (node.enum) return node.enum.join(', ').replace(/, ([^,]*)$/, ' or $1');
  switch (node.type) {
    case 'integer':
      return `an integer${rangeOf(node)}`;
    case 'number':
      return `a number${rangeOf(node)}`;
    case 'boolean':
      return 'true or false';
    case 'string':
      return node.minLength ? 'a non-empty string' : 'a string';
    case 'array':
      return `a ${node.minItems ? 'non-empty ' : ''}list${node.uniqueItems ? ' without repetitions' : ''}`;
    default:
      return 'an object';
  }
}

function rangeOf(node: SchemaNode): string {
  if (node.exclusiveMinimum !== undefined) {
    return ` above ${node.exclusiveMinimum}${node.maximum === undefined ? '' : `, at most ${node.maximum}`}`;
  }
  if (node.minimum === undefined) return '';
  return node.maximum === undefined
    ? ` of at least ${node.minimum}`
    : ` from ${node.minimum} to ${node.maximum}`;
}

function shortForm(value: unknown): string {
  const text =
    typeof value === 'bigint' || typeof value === 'number'
      ? String(value)
      : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
