/**
 * The protobuf requests of a managed platform (PAI-EAS), which its warm-up files hold: `PredictRequest` of its TensorFlow
 * processor, and `DataProto` of its ONNX processor. Field numbers are those of its public client libraries.
 */
import { messageOf, ServingError } from '../errors.js';
import {
  ByteSource,
  expectType,
  fieldBytes,
  fieldIntegers,
  fieldNumber,
  fieldString,
  readFields,
  type WireField,
} from '../protobuf-wire.js';
import type { NamedTensor } from '../server/service.js';
import { datatypeOfOnnx, fixedDatatypes } from '../tensor/datatype.js';
import { elementCount } from '../tensor/tensor.js';
import { badFile, type WarmUpRequest, type WarmUpRequests } from './request.js';
import type { TensorLayout } from './tensor-proto.js';
import { fieldsOf, readEntry } from './tf-serving.js';

/** ArrayProto. */
const layout: TensorLayout = {
  dtype: 1,
  shape: 2,
  lists: {
    FP32: [3, 'floats'],
    FP64: [4, 'doubles'],
    INT32: [5, 'varints'],
    INT16: [5, 'varints'],
    INT8: [5, 'varints'],
    UINT8: [5, 'varints'],
    UINT16: [5, 'varints'],
    BYTES: [6, 'bytes'],
    INT64: [7, 'varints'],
    BOOL: [8, 'varints'],
  },
  readShape: (source, shape) => fieldsOf(source, shape, 1).flatMap((field) => fieldIntegers(source, field)),
};

/**
 * Reads a file that is one serialized request.
 *
 * @throws SRV_BAD_WARM_UP_FILE
 */
export function readPredictRequest(file: string, bytes: Buffer): WarmUpRequests {
  try {
    const source = ByteSource.ofBytes(bytes);
    const fields = [...readFields(source)];
    // Without any field 2, which its inputs are, it is no PredictRequest.
    const read = fields.some(({ number }) => number === 2) ? tensorFlowRequest : onnxRequest;
    const { inputs, outputs } = read(source, fields);
    if (inputs.length === 0) throw bad('it has no inputs');
    const request: WarmUpRequest = {
      place: { file },
      content: { kind: 'tensors', inputs },
      ...(outputs.length === 0 ? {} : { outputs }),
    };
    return { requests: [request], batchSizes: [] };
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    throw badFile(
      { file },
      `it begins with no "{" and is no protobuf PredictRequest that can be read: ${messageOf(error)}`,
    );
  }
}

interface ReadRequest {
  readonly inputs: readonly NamedTensor[];
  readonly outputs: readonly string[];
}

/** PredictRequest: signature_name 1, inputs 2 (a map of ArrayProto), output_filter 3. */
function tensorFlowRequest(source: ByteSource, fields: readonly WireField[]): ReadRequest {
  const unknown = fields.find(({ number }) => number > 3);
  if (unknown) throw bad(`it has a field ${unknown.number}`);
  const numbered = (number: number): WireField[] =>
    fields.filter((field) => field.number === number).map((field) => expectType(field, 2));
  return {
    inputs: numbered(2).map((entry) => readEntry(source, entry, layout)),
    outputs: numbered(3).map((field) => fieldString(source, field)),
  };
}

/** DataProto: tensors 1; TensorProto: name 1, dims 2, data_type 3 (ONNX's numbers), raw_data 5. */
function onnxRequest(source: ByteSource, fields: readonly WireField[]): ReadRequest {
  const inputs = fields.map((field) => {
    if (field.number !== 1) throw bad(`it has a field ${field.number}`);
    return onnxTensor(source, expectType(field, 2));
  });
  return { inputs, outputs: [] };
}

function onnxTensor(source: ByteSource, message: WireField): NamedTensor {
  let name = '';
  let elementType = 0;
  let raw: Uint8Array = new Uint8Array(0);
  const shape: number[] = [];
  for (const field of readFields(source, message.start, message.end)) {
    if (field.number === 1) name = fieldString(source, expectType(field, 2));
    else if (field.number === 2) shape.push(...fieldIntegers(source, field));
    else if (field.number === 3) elementType = fieldNumber(source, expectType(field, 0));
    else if (field.number === 5) raw = fieldBytes(source, expectType(field, 2));
    else throw bad(`tensor '${name}' has a field ${field.number}`);
  }
  const datatype = datatypeOfOnnx(elementType);
  if (!datatype || datatype === 'BYTES') {
    throw bad(`tensor '${name}': data type ${elementType} is none that raw data is of`);
  }
  const { array, bytes } = fixedDatatypes[datatype];
  const count = elementCount(shape, `tensor '${name}'`);
  if (raw.length !== count * bytes) {
    throw bad(
      `tensor '${name}': ${datatype} [${shape}] has ${count * bytes} bytes, its raw data has ${raw.length}`,
    );
  }
  const data = new array(count);
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength).set(raw);
  return { name, tensor: { datatype, shape, data } };
}

function bad(what: string): ServingError {
  return new ServingError('SRV_BAD_TENSOR', what);
}
