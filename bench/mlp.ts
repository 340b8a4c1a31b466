/** The model most scenarios use: 400-512-256-1, Gemm and Relu, seeded weights, and its answer in plain JavaScript. */

import { seededRandom } from '../src/loadtest/load.js';
import { type BodyProtocol, encodeBody, type RequestBody } from '../src/loadtest/request-body.js';
import { generateTensors } from '../src/loadtest/request-tensors.js';
import type { OnnxModel, OnnxNode, OnnxTensor } from '../src/model/onnx-writer.js';
import type { TensorMap } from '../src/tensor/tensor.js';

const widths = [400, 512, 256, 1] as const;

/** Floats of one row of the input. */
export const mlpInputs = widths[0];

interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  readonly weights: Float32Array;
  readonly bias: Float32Array;
}

function layers(): Layer[] {
  const random = seededRandom(20_240_601);
  return widths.slice(1).map((outputs, i) => {
    const inputs = widths[i]!;
    const bound = Math.sqrt(6 / inputs);
    const uniform = (length: number, limit: number): Float32Array =>
      Float32Array.from({ length }, () => (2 * random() - 1) * limit);
    return { inputs, outputs, weights: uniform(inputs * outputs, bound), bias: uniform(outputs, 0.1) };
  });
}

/** The network as ONNX: input `x` [-1, 400], output `y` [-1, 1]. */
export function mlpModel(): OnnxModel {
  const nodes: OnnxNode[] = [];
  const initializers: OnnxTensor[] = [];
  let value = 'x';
  for (const [i, layer] of layers().entries()) {
    const isLast = i === widths.length - 2;
    const sum = isLast ? 'y' : `sum${i}`;
    initializers.push(
      { name: `w${i}`, datatype: 'FP32', shape: [layer.inputs, layer.outputs], data: layer.weights },
      { name: `b${i}`, datatype: 'FP32', shape: [layer.outputs], data: layer.bias },
    );
    nodes.push({ op: 'Gemm', inputs: [value, `w${i}`, `b${i}`], outputs: [sum] });
    if (!isLast) nodes.push({ op: 'Relu', inputs: [sum], outputs: [`active${i}`] });
    value = `active${i}`;
  }
  return {
    nodes,
    initializers,
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', widths[0]] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 1] }],
  };
}

/** What the network answers to one row, in double precision: the reference replies are checked against. */
export function mlpAnswer(row: ArrayLike<number>): number {
  let values: number[] = Array.from(row);
  for (const [i, layer] of layers().entries()) {
    const sums = Array.from(layer.bias);
    for (let at = 0; at < layer.inputs; at++) {
      for (let to = 0; to < layer.outputs; to++) {
        sums[to]! += values[at]! * layer.weights[at * layer.outputs + to]!;
      }
    }
    values = i === widths.length - 2 ? sums : sums.map((sum) => Math.max(0, sum));
  }
  return values[0]!;
}

/** The same distinct requests in every process of the bench. */
export function mlpTensors(count = 32, rows = 1): TensorMap[] {
  const inputs = [{ name: 'x', datatype: 'FP32', shape: [-1, mlpInputs] }] as const;
  return generateTensors({ inputs }, { count, rows, shapes: {}, ranges: {}, seed: 11 });
}

/** The same requests as bodies: 400 floats in about 4.5 kB of JSON, or 1.6 kB and a header. */
export function mlpBodies(protocol: BodyProtocol): RequestBody[] {
  return mlpTensors().map((tensors) => encodeBody(tensors, protocol));
}
