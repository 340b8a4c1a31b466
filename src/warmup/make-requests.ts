/** Requests made of arrays. */
import { ServingError } from '../errors.js';
import type { NamedTensor } from '../server/service.js';
import type { Tensor } from '../tensor/tensor.js';
import type { RequestToWrite } from './write-requests.js';

/**
 * Cuts arrays into requests of so many rows; the last one has what is left.
 *
 * @param rows of each request; undefined: one request of all
 * @throws SRV_BAD_CONFIG when the arrays have not the same number of rows
 */
export function requestsOfArrays(
  inputs: readonly NamedTensor[],
  options: { readonly rows?: number | undefined; readonly outputs?: readonly string[] | undefined } = {},
): RequestToWrite[] {
  const { rows, outputs } = options;
  if (inputs.length === 0) return [];
  if (rows === undefined) return [{ inputs, outputs }];
  const [first] = inputs;
  const total = first!.tensor.shape[0] ?? 0;
  const other = inputs.find(({ tensor }) => tensor.shape[0] !== total);
  if (other || total === 0) {
    const found = inputs.map(({ name, tensor }) => `${name} [${tensor.shape}]`).join(', ');
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `arrays that are cut into requests need the same number of rows; got ${found}`,
    );
  }
  const requests: RequestToWrite[] = [];
  for (let from = 0; from < total; from += rows) {
    const to = Math.min(total, from + rows);
    requests.push({
      inputs: inputs.map(({ name, tensor }) => ({ name, tensor: cut(tensor, from, to) })),
      outputs,
    });
  }
  return requests;
}

function cut(tensor: Tensor, from: number, to: number): Tensor {
  const perRow = tensor.data.length / tensor.shape[0]!;
  const shape = [to - from, ...tensor.shape.slice(1)];
  return tensor.datatype === 'BYTES'
    ? { ...tensor, shape, data: tensor.data.slice(from * perRow, to * perRow) }
    : { ...tensor, shape, data: tensor.data.slice(from * perRow, to * perRow) };
}
