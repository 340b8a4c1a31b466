/**
 * What the fields of a text protobuf message may hold. A reader describes its messages once; a misspelt field, a value of
 * another type and a field that has no effect here are then told by name and line, whatever the message.
 */
import { didYouMean } from '../config/suggest.js';
import type { TextMessage, TextValue } from './text-proto.js';

/** The fields of a message by name. */
export type Fields = { readonly [name: string]: Field };

/** What one field may hold. */
export interface Field {
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'enum' | Fields;
  /** Whether it is a list, which may be written as one or field by field. A map is a list of `key` and `value`. */
  readonly isRepeated?: boolean;
  /** The names of an enum. */
  readonly names?: readonly string[];
  /** What the field does, for the documentation. */
  readonly used?: string;
  /** Why the field is known and has no effect: it becomes a notice, and what it holds is not looked at. */
  readonly ignored?: string;
  /** Why what the field asks for cannot be had and must not be left out. */
  readonly refused?: string;
  /** Whether a value asks for nothing, so that it is neither ignored nor refused. */
  readonly isMoot?: (value: TextValue) => boolean;
}

/** What came of looking at a message. */
export interface FieldFindings {
  /** What is wrong, each with file and line. */
  readonly problems: string[];
  /** Fields without effect, each with file, line and reason. */
  readonly notices: string[];
  /** Fields that ask for what is not there, each with file, line and reason. */
  readonly refusals: string[];
}

/** Compares a message with the description of its fields. `source` is what texts call the file. */
export function checkFields(message: TextMessage, fields: Fields, source: string): FieldFindings {
  const findings: FieldFindings = { problems: [], notices: [], refusals: [] };
  walk(message, fields, source, '', findings);
  return findings;
}

function walk(message: TextMessage, fields: Fields, source: string, path: string, to: FieldFindings): void {
  for (const [name, values] of message) {
    const [first] = values;
    // An empty list says nothing, under whatever name.
    if (!first) continue;
    const place = `${source}:${first.line}: ${path}${name}`;
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (!field) {
      to.problems.push(`${place}: unknown field${didYouMean(name, Object.keys(fields))}`);
      continue;
    }
    const isMoot = field.isMoot !== undefined && values.every(field.isMoot);
    if (field.refused !== undefined && !isMoot) {
      to.refusals.push(`${place} is not supported: ${field.refused}`);
      continue;
    }
    if (field.ignored !== undefined && !isMoot) {
      to.notices.push(`${place} is ignored: ${field.ignored}`);
      continue;
    }
    const last = values.at(-1) ?? first;
    if (!field.isRepeated && values.length > 1) {
      to.problems.push(`${source}:${last.line}: ${path}${name}: given twice, first in line ${first.line}`);
    }
    for (const value of values) {
      const here = `${source}:${value.line}: ${path}${name}`;
      if (typeof field.type === 'object') {
        if (value.kind === 'message') walk(value.value, field.type, source, `${path}${name}.`, to);
        else to.problems.push(`${here}: expected a message in braces, got ${textOf(value)}`);
      } else if (!fits(field, value)) {
        to.problems.push(`${here}: expected ${expected(field)}, got ${textOf(value)}`);
      }
    }
  }
}

function fits(field: Field, value: TextValue): boolean {
  switch (field.type) {
    case 'string':
      return value.kind === 'string';
    case 'integer':
      return value.kind === 'number' && (typeof value.value === 'bigint' || Number.isInteger(value.value));
    case 'number':
      return value.kind === 'number';
    case 'boolean':
      return booleanOf(value) !== undefined;
    case 'enum':
      return value.kind === 'word' && (field.names?.includes(value.value) ?? true);
    default:
      return false;
  }
}

/** A boolean in any spelling of the text form; undefined for anything else. */
export function booleanOf(value: TextValue | undefined): boolean | undefined {
  if (value?.kind === 'word') {
    if (['true', 'True', 't'].includes(value.value)) return true;
    return ['false', 'False', 'f'].includes(value.value) ? false : undefined;
  }
  if (value?.kind !== 'number') return undefined;
  return value.value === 1 ? true : value.value === 0 ? false : undefined;
}

function expected(field: Field): string {
  switch (field.type) {
    case 'string':
      return 'a text in quotes';
    case 'integer':
      return 'an integer';
    case 'number':
      return 'a number';
    case 'boolean':
      return 'true or false';
    default:
      return field.names?.join(', ').replace(/, ([^,]*)$/, ' or $1') ?? 'a name';
  }
}

function textOf(value: TextValue): string {
  if (value.kind === 'message') return 'a message';
  const text = value.kind === 'string' ? JSON.stringify(value.value) : String(value.value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The last value of a field; undefined where it is absent. */
export function lastValue(message: TextMessage, field: string): TextValue | undefined {
  return message.get(field)?.at(-1);
}
