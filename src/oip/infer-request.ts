import { messageOf, ServingError } from '../errors.js';
import {
  type InferBodyScan,
  parseTensor,
  parseTensorAsync,
  scanInferBody,
  scanInferBodyAsync,
} from '../native/binding.js';
import type { NamedTensor } from '../server/service.js';
import { TensorArena } from '../tensor/arena.js';
import { type FixedDatatype, fixedDatatypes } from '../tensor/datatype.js';
import { elementCount, type FixedTensor, type Signature, type Tensor } from '../tensor/tensor.js';
import { type DescribedInput, type Envelope, notReadable, readEnvelope } from './envelope.js';
import { bad } from './json-values.js';
import { readStrings, stringsFromJson } from './string-tensor.js';

/** JSON longer than this many bytes is read in another thread: the event loop would stand still for it. */
const asyncBytes = 256 * 1024;

/** An inference request of the Open Inference Protocol, read. */
export interface InferRequest extends Omit<Envelope, 'inputs'> {
  readonly inputs: readonly NamedTensor[];
}

const arena = new TensorArena();

/**
 * Reads the body of an inference request: JSON, followed by binary tensors when there is a header length.
 *
 * A body of common size is read at once; a promise comes back for one so long that its JSON is read in another
 * thread.
 *
 * @param headerLength bytes of the JSON, from the header `Inference-Header-Content-Length`; absent: all of it
 * @throws SRV_BAD_JSON, SRV_BAD_REQUEST, SRV_BAD_TENSOR
 */
export function readInferRequest(
  body: Buffer,
  headerLength: number | undefined,
): InferRequest | Promise<InferRequest> {
  const json = headerLength === undefined ? body : body.subarray(0, headerLength);
  if (json.length > asyncBytes) return readLongRequest(body, json, headerLength);
  let scan: InferBodyScan;
  try {
    scan = scanInferBody(json);
  } catch (error) {
    throw notReadable(error);
  }
  const outline = readOutline(scan, body, headerLength);
  for (const text of outline.numbers) {
    try {
      parseTensor(json, text.start, text.end, text.onnx, text.tensor.shape, text.tensor.data);
    } catch (error) {
      throw withName(error, text.name);
    }
  }
  return outline.request;
}

async function readLongRequest(
  body: Buffer,
  json: Buffer,
  headerLength: number | undefined,
): Promise<InferRequest> {
  const scan = await scanInferBodyAsync(json).catch((error: unknown) => {
    throw notReadable(error);
  });
  const outline = readOutline(scan, body, headerLength);
  for (const text of outline.numbers) {
    try {
      await parseTensorAsync(json, text.start, text.end, text.onnx, text.tensor.shape, text.tensor.data);
    } catch (error) {
      throw withName(error, text.name);
    }
  }
  return outline.request;
}

/** A tensor whose numbers still stand in the JSON. */
interface NumberText {
  readonly name: string;
  readonly tensor: FixedTensor;
  readonly onnx: number;
  readonly start: number;
  readonly end: number;
}

/** A request whose JSON tensors are still zero, and where their numbers are. */
interface Outline {
  readonly request: InferRequest;
  readonly numbers: readonly NumberText[];
}

function readOutline(scan: InferBodyScan, body: Buffer, headerLength: number | undefined): Outline {
  const envelope = readEnvelope(scan.envelope);
  const sections = new Sections(scan.sections, body, headerLength);
  const inputs = envelope.inputs.map((input) => ({
    name: input.name,
    tensor:
      input.binarySize === undefined ? tensorFromJson(input, sections) : tensorFromBytes(input, sections),
  }));
  sections.requireEnd();
  const { id, outputs, wantsBinary, timeoutMs, priority, parameters } = envelope;
  return {
    request: { id, inputs, outputs, wantsBinary, timeoutMs, priority, parameters },
    numbers: sections.numbers,
  };
}

/**
 * Reads a raw binary request: the body is the bytes of the model's only input, a batch of one.
 *
 * @throws SRV_BAD_REQUEST when the model has another number of inputs or more than one free dimension,
 * SRV_BAD_TENSOR when the bytes do not fill a shape
 */
export function readRawRequest(body: Buffer, signature: Signature): InferRequest {
  const [spec, more] = signature.inputs;
  if (!spec || more) {
    throw bad(`a raw binary request needs a model with 1 input, this one has ${signature.inputs.length}`);
  }
  const { name, datatype } = spec;
  // The batch dimension is 1; one other dimension may follow from the number of bytes.
  const shape = spec.shape.map((dim, axis) => (axis === 0 && dim === -1 ? 1 : dim));
  const free = shape.indexOf(-1);
  if (free >= 0 && shape.indexOf(-1, free + 1) >= 0) {
    throw bad(
      `a raw binary request needs at most one free dimension, input '${name}' has shape [${spec.shape}]`,
    );
  }
  if (datatype === 'BYTES') {
    const count = shape.reduce((product, dim) => product * Math.abs(dim), 1);
    if (count !== 1)
      throw bad(`a raw binary request of BYTES needs shape [1], '${name}' has [${spec.shape}]`);
    const one = shape.map(() => 1);
    return raw({ name, tensor: { datatype, shape: one, data: readStrings(body, 1, name) } });
  }
  const { bytes } = fixedDatatypes[datatype];
  if (free >= 0) {
    const rest = shape.reduce((product, dim) => (dim === -1 ? product : product * dim), bytes);
    shape[free] = rest === 0 ? 0 : Math.floor(body.length / rest);
  }
  const tensor = fixedFromBytes(datatype, shape, body, name);
  return raw({ name, tensor });
}

function raw(input: NamedTensor): InferRequest {
  return {
    id: undefined,
    inputs: [input],
    outputs: undefined,
    wantsBinary: true,
    timeoutMs: undefined,
    priority: 0,
    parameters: {},
  };
}

/** Where a request's tensors are: cut out of its JSON, or in binary behind it, in the order of the inputs. */
class Sections {
  /** JSON tensors met so far. */
  readonly numbers: NumberText[] = [];
  readonly #offsets: ArrayLike<number>;
  readonly #body: Buffer;
  readonly #hasHeader: boolean;
  #at: number;

  constructor(offsets: ArrayLike<number>, body: Buffer, headerLength: number | undefined) {
    this.#offsets = offsets;
    this.#body = body;
    this.#hasHeader = headerLength !== undefined;
    this.#at = headerLength ?? body.length;
  }

  /** The JSON text that stood where the number `ordinal` stands now. */
  json(ordinal: unknown, name: string): { readonly start: number; readonly end: number } {
    const start = this.#offsets[2 * (ordinal as number)];
    const end = this.#offsets[2 * (ordinal as number) + 1];
    // Every plain "data" was cut out; a key with escapes in it was not.
    if (start === undefined || end === undefined) {
      throw bad(`input '${name}': data must be an array under the key data`);
    }
    return { start, end };
  }

  text(start: number, end: number): string {
    return this.#body.toString('utf8', start, end);
  }

  takeBinary(bytes: number, name: string): Buffer {
    if (!this.#hasHeader) {
      throw bad(
        `input '${name}' has binary_data_size, but the request has no header Inference-Header-Content-Length`,
      );
    }
    const left = this.#body.length - this.#at;
    if (bytes > left) {
      throw bad(`input '${name}' has binary_data_size ${bytes}, but only ${left} bytes are left in the body`);
    }
    this.#at += bytes;
    return this.#body.subarray(this.#at - bytes, this.#at);
  }

  requireEnd(): void {
    const left = this.#body.length - this.#at;
    if (left > 0) throw bad(`${left} bytes follow the last binary tensor`);
  }
}

function tensorFromBytes(
  { name, datatype, shape, count, binarySize }: DescribedInput,
  sections: Sections,
): Tensor {
  const section = sections.takeBinary(binarySize!, name);
  return datatype === 'BYTES'
    ? { datatype, shape, data: readStrings(section, count, name) }
    : fixedFromBytes(datatype, shape, section, name);
}

function fixedFromBytes(
  datatype: FixedDatatype,
  shape: readonly number[],
  section: Buffer,
  name: string,
): Tensor {
  const { array, bytes } = fixedDatatypes[datatype];
  const count = elementCount(shape, `input '${name}'`);
  if (section.length !== count * bytes) {
    throw new ServingError(
      'SRV_BAD_TENSOR',
      `unexpected total byte size ${section.length} for input '${name}', expected ${count * bytes} for ${datatype} [${shape}]`,
    );
  }
  if (section.byteOffset % bytes === 0) {
    return { datatype, shape, data: new array(section.buffer, section.byteOffset, count) };
  }
  const data = arena.take(datatype, count);
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength).set(section);
  return { datatype, shape, data };
}

/** A tensor of strings, or one of zeros whose numbers are noted to be read. */
function tensorFromJson(
  { name, datatype, shape, count, ordinal }: DescribedInput,
  sections: Sections,
): Tensor {
  const { start, end } = sections.json(ordinal, name);
  if (datatype === 'BYTES') {
    const strings = stringsFromJson(parseStrings(sections.text(start, end), name), shape, count, name);
    return { datatype, shape, data: strings };
  }
  if (datatype === 'FP16' || datatype === 'BF16') {
    throw new ServingError(
      'SRV_BAD_TENSOR',
      `input '${name}': ${datatype} has no JSON form; send it as a binary tensor (binary_data_size)`,
    );
  }
  // An element takes a digit and a comma at least: a huge shape over little text must not become a huge array.
  if (count > end - start) {
    throw new ServingError(
      'SRV_BAD_TENSOR',
      `input '${name}': shape [${shape}] has ${count} elements, more than its data can hold`,
    );
  }
  const tensor = { datatype, shape, data: arena.take(datatype, count) };
  sections.numbers.push({ name, tensor, onnx: fixedDatatypes[datatype].onnx, start, end });
  return tensor;
}

function withName(error: unknown, name: string): unknown {
  return error instanceof ServingError
    ? new ServingError(error.code, `input '${name}': ${error.message}`)
    : error;
}

function parseStrings(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ServingError('SRV_BAD_JSON', `data of input '${name}' cannot be read: ${messageOf(error)}`);
  }
}
