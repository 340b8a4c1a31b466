import { ServingError } from '../../errors.js';
import { printTensor, printTensorAsync } from '../../native/binding.js';
import type { InferRequest } from '../../oip/infer-request.js';
import { writeStrings } from '../../oip/string-tensor.js';
import { fixedDatatypes } from '../../tensor/datatype.js';
import type { FixedTensor, Tensor } from '../../tensor/tensor.js';
import type { InferAnswer, NamedTensor } from '../service.js';

/** JSON outputs of more elements than this are printed in another thread. */
const asyncElements = 32 * 1024;

/** The body of a reply to an inference. */
export interface InferReplyBody {
  readonly body: Buffer | string;
  /** Bytes of the JSON before binary tensors; undefined when there are none. */
  readonly headerLength: number | undefined;
}

/**
 * Writes the reply in the form that the request asked for. A promise comes back for one so long that its numbers are
 * printed in another thread.
 *
 * @throws SRV_BAD_REQUEST when an output has no JSON form and was not asked for in binary
 */
export function writeInferReply(
  answer: InferAnswer,
  request: InferRequest,
): InferReplyBody | Promise<InferReplyBody> {
  const binary: Buffer[] = [];
  const long: Promise<string | Uint8Array>[] = [];
  let text = head(answer, request);
  const { outputs } = answer;
  for (let index = 0; index < outputs.length; index++) {
    const output = outputs[index]!;
    if (index > 0) text += ',';
    text += describe(output);
    if (request.outputs?.[index]?.binary ?? request.wantsBinary) {
      const bytes = toBytes(output.tensor);
      binary.push(bytes);
      text += `,"parameters":{"binary_data_size":${bytes.length}}}`;
    } else if (output.tensor.data.length > asyncElements && output.tensor.datatype !== 'BYTES') {
      long.push(Promise.resolve(`${text},"data":`), printTensorAsync(...printArguments(output)));
      text = '}';
    } else {
      text += `,"data":${toJson(output)}}`;
    }
  }
  text += ']}';
  if (long.length > 0) return joined(long, text, binary);
  if (binary.length === 0) return { body: text, headerLength: undefined };
  const json = Buffer.from(text);
  return { body: Buffer.concat([json, ...binary]), headerLength: json.length };
}

async function joined(
  long: readonly Promise<string | Uint8Array>[],
  end: string,
  binary: readonly Buffer[],
): Promise<InferReplyBody> {
  const pieces = (await Promise.all(long)).map((piece) =>
    typeof piece === 'string' ? Buffer.from(piece) : piece,
  );
  const json = Buffer.concat([...pieces, Buffer.from(end)]);
  return binary.length === 0
    ? { body: json, headerLength: undefined }
    : { body: Buffer.concat([json, ...binary]), headerLength: json.length };
}

function head(answer: InferAnswer, request: InferRequest): string {
  const id = request.id === undefined ? '' : `"id":${JSON.stringify(request.id)},`;
  // A tag has no character that JSON would escape.
  const variant = answer.variant === undefined ? '' : `"parameters":{"variant":"${answer.variant}"},`;
  return `{"model_name":${JSON.stringify(answer.model)},"model_version":"${answer.version}",${id}${variant}"outputs":[`;
}

function describe({ name, tensor }: NamedTensor): string {
  return `{"name":${JSON.stringify(name)},"datatype":"${tensor.datatype}","shape":[${tensor.shape}]`;
}

function toJson(output: NamedTensor): string {
  const { tensor } = output;
  return tensor.datatype === 'BYTES' ? JSON.stringify(tensor.data) : printTensor(...printArguments(output));
}

function printArguments({ name, tensor }: NamedTensor): Parameters<typeof printTensor> {
  const { datatype, data } = tensor as FixedTensor;
  if (datatype === 'FP16' || datatype === 'BF16') {
    throw new ServingError(
      'SRV_BAD_REQUEST',
      `output '${name}': ${datatype} has no JSON form; ask for it in binary ("parameters": {"binary_data": true})`,
    );
  }
  return [data, fixedDatatypes[datatype].onnx, 0, data.length];
}

function toBytes(tensor: Tensor): Buffer {
  if (tensor.datatype === 'BYTES') return writeStrings(tensor.data);
  const { data } = tensor;
  return Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}
