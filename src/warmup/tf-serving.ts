/** TF Serving's own warm-up: a TFRecord of `PredictionLog` messages. */
import { messageOf, ServingError } from '../errors.js';
import {
  ByteSource,
  expectType,
  fieldBytes,
  fieldNumber,
  fieldString,
  readFields,
  type WireField,
} from '../protobuf-wire.js';
import type { NamedTensor } from '../server/service.js';
import type { Datatype } from '../tensor/datatype.js';
import { type Tensor, tensor } from '../tensor/tensor.js';
import { badFile, type RequestPlace, type WarmUpRequest, type WarmUpRequests } from './request.js';
import { listOf, readTensorProto, type TensorLayout, textOf } from './tensor-proto.js';
import { readTfRecords } from './tf-record.js';

/** Where TF Serving looks for it in a version's directory. */
export const tfWarmUpFile = 'assets.extra/tf_serving_warmup_requests';

/** TF Serving refuses files with more. */
const maxRecords = 1000;

const layout: TensorLayout = {
  dtype: 1,
  shape: 2,
  content: 4,
  lists: {
    FP32: [5, 'floats'],
    FP64: [6, 'doubles'],
    INT32: [7, 'varints'],
    INT16: [7, 'varints'],
    INT8: [7, 'varints'],
    UINT8: [7, 'varints'],
    UINT16: [7, 'varints'],
    BYTES: [8, 'bytes'],
    INT64: [10, 'varints'],
    BOOL: [11, 'varints'],
    FP16: [13, 'varints'],
    BF16: [13, 'varints'],
    UINT32: [16, 'varints'],
    UINT64: [17, 'varints'],
  },
  readShape: (source, shape) =>
    fieldsOf(source, shape, 2).map((dim) => {
      const size = fieldsOf(source, dim, 1).at(-1);
      return size ? fieldNumber(source, expectType(size, 0)) : 0;
    }),
};

/** What a log may be of; the number is its field in `PredictionLog`. */
const logs: Readonly<Record<number, 'predict' | 'examples' | 'streamed' | 'session'>> = {
  2: 'examples',
  3: 'examples',
  4: 'examples',
  5: 'session',
  6: 'predict',
  7: 'streamed',
};

/**
 * Reads the requests of `tf_serving_warmup_requests`.
 *
 * Requests to Predict are taken as they are. Those to Classify, Regress and MultiInference hold Examples: each of
 * their features becomes an input, a row for each Example.
 *
 * @throws SRV_BAD_WARM_UP_FILE
 */
export function readTfWarmUp(file: string, bytes: Buffer): WarmUpRequests {
  const requests: WarmUpRequest[] = [];
  let number = 0;
  for (const record of readTfRecords(file, bytes)) {
    number += 1;
    const place: RequestPlace = { file, unit: 'record', number };
    if (number > maxRecords) throw badFile(place, `a warm-up has at most ${maxRecords} records`);
    try {
      for (const { inputs, outputs } of requestsOfLog(ByteSource.ofBytes(record))) {
        requests.push({ place, content: { kind: 'tensors', inputs }, outputs });
      }
    } catch (error) {
      if (!(error instanceof ServingError)) throw error;
      throw badFile(place, `it is no PredictionLog that can be read: ${messageOf(error)}`);
    }
  }
  return { requests, batchSizes: [] };
}

interface TfRequest {
  readonly inputs: readonly NamedTensor[];
  readonly outputs?: readonly string[];
}

function requestsOfLog(source: ByteSource): readonly TfRequest[] {
  for (const field of readFields(source)) {
    const kind = logs[field.number];
    if (kind === undefined) continue;
    const requests = fieldsOf(source, expectType(field, 2), 1);
    switch (kind) {
      case 'predict':
      case 'streamed':
        return requests.map((request) => predictRequest(source, request));
      case 'examples':
        return requests.map((request) => examplesRequest(source, request));
      case 'session':
        throw bad('it is a SessionRun, which names nodes of a TensorFlow graph and not inputs of a model');
      default:
        kind satisfies never;
    }
  }
  throw bad('it has no request');
}

/** PredictRequest: model_spec 1, inputs 2, output_filter 3. */
function predictRequest(source: ByteSource, request: WireField): TfRequest {
  const inputs = fieldsOf(source, request, 2).map((entry) => readEntry(source, entry, layout));
  const outputs = fieldsOf(source, request, 3).map((field) => fieldString(source, expectType(field, 2)));
  return outputs.length === 0 ? { inputs } : { inputs, outputs };
}

/** An entry of a map of tensors: its key 1, its tensor 2. */
export function readEntry(source: ByteSource, entry: WireField, tensors: TensorLayout): NamedTensor {
  const [key] = fieldsOf(source, entry, 1);
  const [value] = fieldsOf(source, entry, 2);
  const name = key ? fieldString(source, expectType(key, 2)) : '';
  if (!value) throw bad(`input '${name}' has no tensor`);
  try {
    return { name, tensor: readTensorProto(source, expectType(value, 2), tensors) };
  } catch (error) {
    throw bad(`input '${name}': ${messageOf(error)}`);
  }
}

/** ClassificationRequest, RegressionRequest and MultiInferenceRequest have their Input in field 2. */
function examplesRequest(source: ByteSource, request: WireField): TfRequest {
  const examples: Map<string, Values>[] = [];
  for (const input of fieldsOf(source, request, 2)) {
    for (const list of readFields(source, input.start, input.end)) {
      // With a context (2), its features count for every example of the list.
      const [context] = list.number === 2 ? fieldsOf(source, list, 2) : [];
      const shared = context ? featuresOf(source, context) : new Map<string, Values>();
      for (const example of fieldsOf(source, list, 1)) {
        examples.push(new Map([...shared, ...featuresOf(source, example)]));
      }
    }
  }
  if (examples.length === 0) throw bad('it has no Example');
  const names = [...examples[0]!.keys()];
  return { inputs: names.map((name) => ({ name, tensor: joinFeature(name, examples) })) };
}

interface Values {
  readonly datatype: Datatype;
  readonly elements: readonly (string | number | bigint)[];
}

/** Example { features 1 { feature 1: map } }; Feature { bytes_list 1 | float_list 2 | int64_list 3 { value 1 } }. */
function featuresOf(source: ByteSource, example: WireField): Map<string, Values> {
  const found = new Map<string, Values>();
  for (const features of fieldsOf(source, example, 1)) {
    for (const entry of fieldsOf(source, features, 1)) {
      const [key] = fieldsOf(source, entry, 1);
      const [feature] = fieldsOf(source, entry, 2);
      if (key && feature) found.set(fieldString(source, key), valuesOf(source, feature));
    }
  }
  return found;
}

const listDatatypes: Readonly<Record<number, 'BYTES' | 'FP32' | 'INT64'>> = {
  1: 'BYTES',
  2: 'FP32',
  3: 'INT64',
};

function valuesOf(source: ByteSource, feature: WireField): Values {
  for (const list of readFields(source, feature.start, feature.end)) {
    const datatype = listDatatypes[list.number];
    if (!datatype) continue;
    const kind = datatype === 'FP32' ? 'floats' : 'varints';
    const elements = fieldsOf(source, list, 1).flatMap((field): readonly (string | number | bigint)[] =>
      datatype === 'BYTES' ? [textOf(fieldBytes(source, expectType(field, 2)))] : listOf(source, field, kind),
    );
    return { datatype, elements };
  }
  throw bad('a feature has no values');
}

function joinFeature(name: string, examples: readonly ReadonlyMap<string, Values>[]): Tensor {
  const first = examples[0]!.get(name)!;
  const elements = examples.flatMap((example) => {
    const values = example.get(name);
    if (!values || values.datatype !== first.datatype || values.elements.length !== first.elements.length) {
      throw bad(`feature '${name}' has not the same number and type of values in every Example`);
    }
    return values.elements;
  });
  return tensor(first.datatype, [examples.length, first.elements.length], elements as number[]);
}

/** The fields of a message that have this number. */
export function fieldsOf(source: ByteSource, message: WireField, number: number): WireField[] {
  return [...readFields(source, message.start, message.end)].filter((field) => field.number === number);
}

function bad(what: string): ServingError {
  return new ServingError('SRV_BAD_TENSOR', what);
}
