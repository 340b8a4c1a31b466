/** `model_warmup` of a `config.pbtxt`: requests that a version runs before it is ready. */
import { booleanOf, lastValue } from './text-fields.js';
import { lastNumber, lastText, messagesOf, numbersOf, type TextMessage } from './text-proto.js';
import { tritonDatatypes } from './triton-fields.js';

/** What an input of a warm-up request holds. */
export type TritonWarmUpData =
  | { readonly kind: 'zero' }
  | { readonly kind: 'random' }
  /** The name of a file below the directory `warmup` of the model. */
  | { readonly kind: 'file'; readonly file: string };

/** An input of a warm-up request. */
export interface TritonWarmUpInput {
  /** The protocol's name of the datatype, such as `FP32`. */
  readonly dataType: string;
  /** Without the batch dimension. */
  readonly dims: readonly number[];
  readonly data: TritonWarmUpData;
}

/** A warm-up request and how often it is run. */
export interface TritonWarmUp {
  readonly name: string;
  /** Rows; 0 where the model has no batch dimension. */
  readonly batchSize: number;
  readonly count: number;
  readonly inputs: Readonly<Record<string, TritonWarmUpInput>>;
}

/** The warm-up requests of a configuration whose fields are sound; what is wrong with them goes to `problems`. */
export function readWarmUps(message: TextMessage, source: string, problems: string[]): TritonWarmUp[] {
  return (message.get('model_warmup') ?? []).flatMap((value) => {
    if (value.kind !== 'message') return [];
    const name = lastText(value.value, 'name') ?? '';
    const at = `${source}:${value.line}: model_warmup "${name}"`;
    const batchSize = lastNumber(value.value, 'batch_size') ?? 0;
    if (batchSize < 0) problems.push(`${at}: batch_size: expected at least 0, got ${batchSize}`);
    const count = lastNumber(value.value, 'count') ?? 0;
    if (count < 0) problems.push(`${at}: count: expected at least 0, got ${count}`);
    const inputs = messagesOf(value.value, 'inputs').map((entry): [string, TritonWarmUpInput] => {
      const input = lastText(entry, 'key') ?? '';
      if (input === '') problems.push(`${at}: an input has no key`);
      return [
        input,
        readInput(messagesOf(entry, 'value').at(-1) ?? new Map(), `${at}, "${input}"`, problems),
      ];
    });
    if (inputs.length === 0) problems.push(`${at}: it has no inputs`);
    // Triton takes a count of 0 for 1.
    return [{ name, batchSize, count: count || 1, inputs: Object.fromEntries(inputs) }];
  });
}

function readInput(message: TextMessage, at: string, problems: string[]): TritonWarmUpInput {
  const dims = numbersOf(message, 'dims');
  if (dims.some((dim) => dim < 1))
    problems.push(`${at}: dims: expected numbers of at least 1, got [${dims}]`);
  const dataType = tritonDatatypes[lastText(message, 'data_type') ?? ''];
  if (dataType === undefined) problems.push(`${at}: it has no data_type`);
  return { dataType: dataType ?? '', dims, data: readData(message, at, problems) };
}

function readData(message: TextMessage, at: string, problems: string[]): TritonWarmUpData {
  const kinds = ['zero_data', 'random_data', 'input_data_file'].filter((kind) => {
    const value = lastValue(message, kind);
    return value !== undefined && booleanOf(value) !== false;
  });
  if (kinds.length !== 1) {
    problems.push(
      `${at}: expected one of zero_data, random_data and input_data_file, got ${kinds.join(' and ') || 'none'}`,
    );
  }
  if (kinds[0] === 'zero_data') return { kind: 'zero' };
  if (kinds[0] !== 'input_data_file') return { kind: 'random' };
  const file = lastText(message, 'input_data_file') ?? '';
  if (file === '' || file.startsWith('/') || file.split('/').includes('..')) {
    problems.push(`${at}: input_data_file: expected a file below the directory warmup, got "${file}"`);
  }
  return { kind: 'file', file };
}
