import { ServingError } from '../errors.js';
import { type Tensor, type TensorMap, tensorBytes } from '../tensor/tensor.js';

/** How tensors travel: numbers as JSON text, or their bytes behind a JSON header. */
export type BodyProtocol = 'json' | 'binary';

/** A request ready to be sent again and again. */
export interface RequestBody {
  readonly bytes: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Writes an Open Inference Protocol request.
 *
 * @throws SRV_BAD_CONFIG when FP16 or BF16 ought to go as JSON, which has no form for them
 */
export function encodeBody(tensors: TensorMap, protocol: BodyProtocol): RequestBody {
  return protocol === 'json' ? encodeJson(tensors) : encodeBinary(tensors);
}

/** A request that is JSON text already. */
export function jsonBody(text: string): RequestBody {
  const bytes = Buffer.from(text);
  return {
    bytes,
    headers: { 'content-type': 'application/json', 'content-length': String(bytes.length) },
  };
}

function encodeJson(tensors: TensorMap): RequestBody {
  const inputs = Object.entries(tensors).map(([name, { datatype, shape, data }]) => {
    if (datatype === 'FP16' || datatype === 'BF16') {
      throw new ServingError('SRV_BAD_CONFIG', `input ${name} is ${datatype}: use --protocol binary`);
    }
    return JSON.stringify({ name, datatype, shape }).replace(/}$/, `,"data":[${jsonElements(data)}]}`);
  });
  return jsonBody(`{"inputs":[${inputs.join(',')}]}`);
}

function jsonElements(data: Tensor['data']): string {
  if (Array.isArray(data)) return data.map((element) => JSON.stringify(element)).join(',');
  // Single precision printed as double has twice the digits that a client would send.
  if (data instanceof Float32Array) return Array.from(data, shortestSingle).join(',');
  return (data as Uint8Array).join(',');
}

function shortestSingle(value: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(value);
}

function encodeBinary(tensors: TensorMap): RequestBody {
  const sections = Object.values(tensors).map(tensorSection);
  const header = Buffer.from(
    JSON.stringify({
      inputs: Object.entries(tensors).map(([name, tensor]) => ({
        name,
        datatype: tensor.datatype,
        shape: tensor.shape,
        parameters: { binary_data_size: tensorBytes(tensor) },
      })),
      parameters: { binary_data_output: true },
    }),
  );
  const bytes = Buffer.concat([header, ...sections]);
  return {
    bytes,
    headers: {
      'content-type': 'application/octet-stream',
      'content-length': String(bytes.length),
      'inference-header-content-length': String(header.length),
    },
  };
}

function tensorSection(tensor: Tensor): Buffer {
  if (tensor.datatype !== 'BYTES') {
    return Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  }
  return Buffer.concat(
    tensor.data.flatMap((element) => {
      const text = Buffer.from(element);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(text.length);
      return [length, text];
    }),
  );
}
