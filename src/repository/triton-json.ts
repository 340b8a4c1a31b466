/** A `config.pbtxt` as plain JSON, in the form that Triton's clients read and write. */
import { isKeyed } from '../config/problems.js';
import { snakeCase } from '../config/schema.js';
import type { Field, Fields } from './text-fields.js';
import { lastText, type TextMessage, type TextValue } from './text-proto.js';

/** Plain JSON. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Fields that are lists in the message even when they are written once. */
const repeatedFields = new Set([
  'input',
  'output',
  'batch_input',
  'batch_output',
  'dims',
  'shape',
  'instance_group',
  'gpus',
  'profile',
  'secondary_devices',
  'resources',
  'versions',
  'preferred_batch_size',
  'control_input',
  'control',
  'int32_false_true',
  'fp32_false_true',
  'bool_false_true',
  'state',
  'initial_state',
  'step',
  'model_warmup',
  'target_name',
  'source_input',
  'op_library_filename',
  'gpu_execution_accelerator',
  'cpu_execution_accelerator',
  'graph_spec',
  'agents',
  'metric_control',
]);

/** Fields that are maps: a `{ key: ... value: ... }` for each entry. */
const mapFields = new Set([
  'parameters',
  'cc_model_filenames',
  'metric_tags',
  'input_map',
  'output_map',
  'inputs',
  'priority_queue_policy',
]);

/** A message as JSON with the field names of the file. */
export function jsonOfMessage(message: TextMessage): { [key: string]: Json } {
  const entries = [...message].map(([field, values]): [string, Json] => {
    if (mapFields.has(field) && values.every(isMapEntry)) return [field, jsonOfMap(values)];
    const items = values.map(jsonOfValue);
    return [field, repeatedFields.has(field) || items.length !== 1 ? items : (items[0] ?? null)];
  });
  return Object.fromEntries(entries);
}

function isMapEntry(value: TextValue): boolean {
  return value.kind === 'message' && value.value.has('key');
}

function jsonOfMap(values: readonly TextValue[]): Json {
  return Object.fromEntries(
    values.flatMap((entry): [string, Json][] => {
      if (entry.kind !== 'message') return [];
      const item = entry.value.get('value')?.at(-1);
      return [[lastText(entry.value, 'key') ?? '', item ? jsonOfValue(item) : null]];
    }),
  );
}

function jsonOfValue(value: TextValue): Json {
  switch (value.kind) {
    case 'message':
      return jsonOfMessage(value.value);
    case 'string':
      return value.value;
    case 'number':
      return typeof value.value === 'bigint' || !Number.isFinite(value.value)
        ? String(value.value)
        : value.value;
    case 'word':
      return value.value === 'true' ? true : value.value === 'false' ? false : value.value;
    default:
      return value satisfies never;
  }
}

/** JSON has no lines; this one stands for all of it. */
const line = 1;

/**
 * The message that JSON stands for, by the rules of protobuf: names in `snake_case` or `camelCase`, maps as objects,
 * 64-bit numbers as numbers or texts, null for nothing. What fits no field stays what it is, for `checkFields` to find.
 */
export function messageOfJson(json: Readonly<Record<string, unknown>>, fields: Fields): TextMessage {
  const message = new Map<string, TextValue[]>();
  for (const [key, value] of Object.entries(json)) {
    if (value === null || value === undefined) continue;
    const name = Object.hasOwn(fields, key) ? key : snakeCase(key);
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    const items = mapFields.has(name) && isKeyed(value) ? entriesOf(value) : [value].flat();
    message.set(
      name,
      items.map((item) => valueOfJson(item, field)),
    );
  }
  return message;
}

function entriesOf(map: Readonly<Record<string, unknown>>): readonly unknown[] {
  return Object.entries(map).map(([key, value]) => ({ key, value }));
}

function valueOfJson(value: unknown, field: Field | undefined): TextValue {
  if (isKeyed(value)) {
    const fields = typeof field?.type === 'object' ? field.type : {};
    return { kind: 'message', value: messageOfJson(value, fields), line };
  }
  if (typeof value === 'number') return { kind: 'number', value, line };
  if (typeof value !== 'string') return { kind: 'word', value: String(value), line };
  if (field?.type === 'enum') return { kind: 'word', value, line };
  const isNumber = field?.type === 'integer' && /^-?\d+$/.test(value);
  if (!isNumber) return { kind: 'string', value, line };
  const number = Number(value);
  return { kind: 'number', value: Number.isSafeInteger(number) ? number : BigInt(value), line };
}
