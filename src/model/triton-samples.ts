/** The requests that `model_warmup` of a Triton `config.pbtxt` declares. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { readStrings } from '../oip/string-tensor.js';
import type { ModelEntry } from '../repository/layout.js';
import { type Datatype, fixedDatatypes } from '../tensor/datatype.js';
import { elementCount, type Tensor } from '../tensor/tensor.js';
import { badFile, type RequestPlace, type WarmUpRequest } from '../warmup/request.js';

type TritonWarmUp = NonNullable<ModelEntry['tritonConfig']>['warmUps'][number];
type TritonInput = TritonWarmUp['inputs'][string];

/**
 * Makes the declared requests; files of elements lie in the directory `warmup` of the model.
 *
 * @throws SRV_IO when a file cannot be read, SRV_BAD_WARM_UP_FILE when it does not fill its input
 */
export async function tritonSamples({ tritonConfig, directory }: ModelEntry): Promise<WarmUpRequest[]> {
  const requests: WarmUpRequest[] = [];
  for (const { name, batchSize, count, inputs } of tritonConfig?.warmUps ?? []) {
    const rows = tritonConfig!.maxBatchSize > 0 ? Math.max(1, batchSize) : undefined;
    const tensors = [];
    for (const [input, declared] of Object.entries(inputs)) {
      const tensor = await elementsOf(declared, input, name, directory);
      tensors.push({ name: input, tensor: rows === undefined ? tensor : repeated(tensor, rows) });
    }
    requests.push({
      place: { file: `${join(directory, 'config.pbtxt')} model_warmup "${name}"` },
      content: { kind: 'tensors', inputs: tensors },
      count,
    });
  }
  return requests;
}

/** One row of an input. */
async function elementsOf(
  { dataType, dims, data }: TritonInput,
  input: string,
  sample: string,
  directory: string,
): Promise<Tensor> {
  const datatype = dataType as Datatype;
  const count = elementCount(dims, `input '${input}' of model_warmup "${sample}"`);
  const bytes = data.kind === 'file' ? await readElements(join(directory, 'warmup', data.file)) : undefined;
  const place: RequestPlace = {
    file: data.kind === 'file' ? join(directory, 'warmup', data.file) : directory,
  };
  if (datatype === 'BYTES') {
    try {
      // As Triton has it, strings are empty, be they zero or random.
      const strings = bytes ? readStrings(bytes, count, input) : new Array<string>(count).fill('');
      return { datatype, shape: dims, data: strings };
    } catch (error) {
      throw error instanceof ServingError ? badFile(place, error.message) : error;
    }
  }
  const { array, bytes: width } = fixedDatatypes[datatype];
  const elements = new array(count);
  if (bytes) {
    if (bytes.length !== count * width) {
      throw badFile(
        place,
        `input '${input}' of model_warmup "${sample}" is ${datatype} [${dims}], ${count * width} bytes; the file has ${bytes.length}`,
      );
    }
    new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength).set(bytes);
  } else if (data.kind === 'random') fillRandom(elements, datatype);
  return { datatype, shape: dims, data: elements };
}

/** Floats of 0 to 1; of whole numbers 0 and 1, which most tables have a place for. */
function fillRandom(elements: NodeJS.TypedArray, datatype: Datatype): void {
  for (let at = 0; at < elements.length; at++) {
    const value = Math.random();
    if (elements instanceof BigInt64Array || elements instanceof BigUint64Array) {
      elements[at] = value < 0.5 ? 0n : 1n;
    } else if (datatype === 'FP32' || datatype === 'FP64') elements[at] = value;
    else if (datatype === 'FP16') elements[at] = value < 0.5 ? 0 : 0x3c00;
    else if (datatype === 'BF16') elements[at] = value < 0.5 ? 0 : 0x3f80;
    else elements[at] = value < 0.5 ? 0 : 1;
  }
}

async function readElements(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ServingError('SRV_IO', `${file} cannot be read: ${messageOf(cause)}`, { cause });
  }
}

function repeated(tensor: Tensor, rows: number): Tensor {
  const shape = [rows, ...tensor.shape];
  if (tensor.datatype === 'BYTES') {
    return { ...tensor, shape, data: Array.from({ length: rows }, () => tensor.data).flat() };
  }
  const { array } = fixedDatatypes[tensor.datatype];
  const data = new array(rows * tensor.data.length) as Float32Array;
  for (let row = 0; row < rows; row++) data.set(tensor.data as Float32Array, row * tensor.data.length);
  return { ...tensor, shape, data };
}
