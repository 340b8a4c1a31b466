/** Writing requests as files that a warm-up reads, and that one can post. */
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf, ServingError } from '../errors.js';
import { makeDirectory } from '../make-directory.js';
import { printTensor } from '../native/binding.js';
import { writeStrings } from '../oip/string-tensor.js';
import type { NamedTensor } from '../server/service.js';
import { fixedDatatypes } from '../tensor/datatype.js';
import type { Tensor } from '../tensor/tensor.js';
import { batchSizesParameter } from './body-file.js';
import { formatOf } from './read-requests.js';

/** A request to write. */
export interface RequestToWrite {
  readonly inputs: readonly NamedTensor[];
  /** Names of the outputs to ask for; absent: all. */
  readonly outputs?: readonly string[] | undefined;
  /** Whether outputs are asked for in binary. @default false */
  readonly wantsBinary?: boolean;
}

/** A request as a body: JSON, and binary tensors behind it. */
export interface EncodedRequest {
  readonly json: string;
  readonly sections: readonly Buffer[];
  readonly bytes: number;
}

/** Encodes a request with its tensors in binary. The bytes are copies. */
export function encodeBinary({ inputs, outputs, wantsBinary }: RequestToWrite): EncodedRequest {
  const sections = inputs.map(({ tensor }) => bytesOf(tensor));
  const described = inputs.map(({ name, tensor: { datatype, shape } }, index) => ({
    name,
    datatype,
    shape,
    parameters: { binary_data_size: sections[index]!.length },
  }));
  const parameters = wantsBinary ? { parameters: { binary_data_output: true } } : {};
  const json = JSON.stringify({ inputs: described, ...outputsOf(outputs), ...parameters });
  const bytes = sections.reduce((sum, section) => sum + section.length, Buffer.byteLength(json));
  return { json, sections, bytes };
}

/**
 * Encodes a request as JSON on one line.
 *
 * @throws SRV_BAD_TENSOR for FP16 and BF16, which have no JSON form
 */
export function encodeJson({ inputs, outputs }: RequestToWrite): string {
  const described = inputs.map(({ name, tensor }) => {
    const { datatype, shape, data } = tensor;
    if (datatype === 'FP16' || datatype === 'BF16') {
      throw new ServingError(
        'SRV_BAD_TENSOR',
        `input '${name}': ${datatype} has no JSON form; write it into a .bin file`,
      );
    }
    const elements =
      datatype === 'BYTES'
        ? JSON.stringify(data)
        : printTensor(tensor.data as NodeJS.TypedArray, fixedDatatypes[datatype].onnx, 0, data.length);
    return `${JSON.stringify({ name, datatype, shape }).slice(0, -1)},"data":${elements}}`;
  });
  const rest = JSON.stringify(outputsOf(outputs)).slice(1, -1);
  return `{"inputs":[${described.join(',')}]${rest === '' ? '' : `,${rest}`}}`;
}

/** Binary bodies one behind the other; the first says which rows the batches of traffic had, if that is known. */
export function joinBodies(requests: readonly EncodedRequest[], batchSizes: readonly number[] = []): Buffer {
  const parameters = { [batchSizesParameter]: batchSizes.toSorted((a, b) => a - b).join(',') };
  return Buffer.concat(
    requests.flatMap(({ json, sections }, index) => {
      const isSized = index === 0 && batchSizes.length > 0;
      const text = isSized ? `{"parameters":${JSON.stringify(parameters)},${json.slice(1)}` : json;
      return [Buffer.from(text), ...sections];
    }),
  );
}

/**
 * Writes a file of requests: binary bodies where its name ends in `.bin`, JSON lines where it ends in `.jsonl` or
 * `.ndjson`, one JSON body where it ends in `.json`. The file appears with all that is in it, or not at all.
 *
 * @throws SRV_BAD_CONFIG for another ending, or several requests for a `.json` file; SRV_BAD_TENSOR for FP16 and BF16
 *   in JSON; SRV_IO when it cannot be written
 */
export async function writeRequests(file: string, requests: readonly RequestToWrite[]): Promise<void> {
  const format = formatOf(file);
  if (format === 'binary') return writeWhole(file, joinBodies(requests.map(encodeBinary)));
  if (format === 'lines') {
    return writeWhole(file, Buffer.from(requests.map((request) => `${encodeJson(request)}\n`).join('')));
  }
  if (format !== 'json') {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${file}: requests are written into files that end in .bin, .jsonl, .ndjson or .json`,
    );
  }
  const [only, more] = requests;
  if (!only || more) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${file}: a .json file holds one request, there are ${requests.length}; write them into a .jsonl or .bin file`,
    );
  }
  return writeWhole(file, Buffer.from(`${encodeJson(only)}\n`));
}

/**
 * Writes a file that appears whole or not at all, readable by its owner alone: it may hold what users sent.
 *
 * @throws SRV_IO
 */
export async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    makeDirectory(dirname(file));
    await using handle = await open(temporary, 'w', 0o600);
    await handle.writeFile(bytes);
    await handle.sync();
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new ServingError('SRV_IO', `${file} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

function outputsOf(outputs: readonly string[] | undefined): object {
  return outputs === undefined ? {} : { outputs: outputs.map((name) => ({ name })) };
}

function bytesOf(tensor: Tensor): Buffer {
  if (tensor.datatype === 'BYTES') return writeStrings(tensor.data);
  const { buffer, byteOffset, byteLength } = tensor.data;
  return Buffer.from(new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength));
}
