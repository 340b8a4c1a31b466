import { ServingError } from '../../errors.js';
import { printTensor, printTensorAsync } from '../../native/binding.js';
import { fixedDatatypes } from '../../tensor/datatype.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { InferAnswer, NamedTensor } from '../service.js';
import type { InferRequest } from './infer-request.js';
import { writeStrings } from './string-tensor.js';

/** JSON outputs of more elements than this are printed in another thread. */
const asyncElements = 32 * 1024;

/** The body of a reply to an inference. */
export interface InferReplyBody {
  readonly body: Buffer | string;
  /** Bytes of the JSON before binary tensors; absent when there are none. */
  readonly headerLength?: number;
}

/**
 * Writes the reply in the form that the request asked for.
 *
 * @throws SRV_BAD_REQUEST when an output has no JSON form and was not asked for in binary
 */
export async function writeInferReply(answer: InferAnswer, request: InferRequest): Promise<InferReplyBody> {
  const binary: Buffer[] = [];
  const pieces: (string | Uint8Array)[] = [head(answer, request)];
  for (const [index, output] of answer.outputs.entries()) {
    const isBinary = request.outputs?.[index]?.binary ?? request.wantsBinary;
    if (index > 0) pieces.push(',');
    pieces.push(describe(output));
    if (isBinary) {
      const bytes = toBytes(output.tensor);
      binary.push(bytes);
      pieces.push(`,"parameters":{"binary_data_size":${bytes.length}}}`);
    } else {
      pieces.push(',"data":');
      pieces.push(await toJson(output));
      pieces.push('}');
    }
  }
  pieces.push(']}');
  if (binary.length === 0) return { body: joined(pieces) };
  const json = Buffer.from(joined(pieces));
  return { body: Buffer.concat([json, ...binary]), headerLength: json.length };
}

function head(answer: InferAnswer, request: InferRequest): string {
  const id = request.id === undefined ? '' : `"id":${JSON.stringify(request.id)},`;
  return `{"model_name":${JSON.stringify(answer.model)},"model_version":"${answer.version}",${id}"outputs":[`;
}

function describe({ name, tensor }: NamedTensor): string {
  return `{"name":${JSON.stringify(name)},"datatype":"${tensor.datatype}","shape":[${tensor.shape}]`;
}

async function toJson({ name, tensor }: NamedTensor): Promise<string | Uint8Array> {
  const { datatype, data } = tensor;
  if (datatype === 'BYTES') return JSON.stringify(data);
  if (datatype === 'FP16' || datatype === 'BF16') {
    throw new ServingError(
      'SRV_BAD_REQUEST',
      `output '${name}': ${datatype} has no JSON form; ask for it in binary ("parameters": {"binary_data": true})`,
    );
  }
  const { onnx } = fixedDatatypes[datatype];
  return data.length > asyncElements
    ? printTensorAsync(data, onnx, 0, data.length)
    : printTensor(data, onnx, 0, data.length);
}

function toBytes(tensor: Tensor): Buffer {
  if (tensor.datatype === 'BYTES') return writeStrings(tensor.data);
  const { data } = tensor;
  return Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}

function joined(pieces: readonly (string | Uint8Array)[]): Buffer | string {
  if (pieces.every((piece) => typeof piece === 'string')) return pieces.join('');
  return Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)));
}
