/** The trained network as an ONNX model that takes rows of the table, not ids. */
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import { denseColumns, slots } from './columns.js';
import type { Layer } from './layer.js';
import { dim, hiddenWidths, type Network } from './network.js';

/**
 * The bytes of the dense model: inputs `embeddings` FP32 [batch, 26, 16] and `dense` FP32 [batch, 13], the counts
 * as they are, output `ctr` FP32 [batch, 1], the probability of a click.
 */
export function denseModel(network: Network): Uint8Array {
  const first = takingLogarithms(network.first);
  const head = takingDoubledPairs(network.head);
  const layers = Object.entries({ first, second: network.second, head });
  return writeOnnxModel({
    name: 'ctr',
    inputs: [
      { name: 'embeddings', datatype: 'FP32', shape: ['batch', slots, dim] },
      { name: 'dense', datatype: 'FP32', shape: ['batch', denseColumns.length] },
    ],
    outputs: [{ name: 'ctr', datatype: 'FP32', shape: ['batch', 1] }],
    initializers: [
      {
        name: 'count_offset',
        datatype: 'FP32',
        shape: [denseColumns.length],
        data: Float32Array.from(denseColumns, ({ min }) => min - 1),
      },
      { name: 'one', datatype: 'FP32', shape: [], data: Float32Array.of(1) },
      { name: 'slot_axis', datatype: 'INT64', shape: [1], data: BigInt64Array.of(1n) },
      ...layers.flatMap(([name, { inputs, outputs, weights, bias }]) => [
        {
          name: `${name}_weights`,
          datatype: 'FP32' as const,
          shape: [outputs, inputs],
          data: new Float32Array(weights),
        },
        { name: `${name}_bias`, datatype: 'FP32' as const, shape: [outputs], data: new Float32Array(bias) },
      ]),
    ],
    nodes: [
      // log(max(count - min + 1, 1)): counts below the minimum are like the minimum.
      { op: 'Sub', inputs: ['dense', 'count_offset'], outputs: ['counts'] },
      { op: 'Max', inputs: ['counts', 'one'], outputs: ['counts_from_one'] },
      { op: 'Log', inputs: ['counts_from_one'], outputs: ['log_counts'] },
      { op: 'Flatten', inputs: ['embeddings'], outputs: ['flat'], attributes: { axis: { int: 1 } } },
      {
        op: 'Concat',
        inputs: ['flat', 'log_counts'],
        outputs: ['features'],
        attributes: { axis: { int: 1 } },
      },
      ...fullyConnected('first', 'features', 'hidden_1'),
      ...fullyConnected('second', 'hidden_1', 'hidden_2'),
      // Twice the sum of the products of all pairs of slots: (sum of the slots)^2 - sum of their squares.
      {
        op: 'ReduceSum',
        inputs: ['embeddings', 'slot_axis'],
        outputs: ['sums'],
        attributes: { keepdims: { int: 0 } },
      },
      {
        op: 'ReduceSumSquare',
        inputs: ['embeddings'],
        outputs: ['squares'],
        attributes: { axes: { ints: [1] }, keepdims: { int: 0 } },
      },
      { op: 'Mul', inputs: ['sums', 'sums'], outputs: ['squared_sums'] },
      { op: 'Sub', inputs: ['squared_sums', 'squares'], outputs: ['pairs'] },
      {
        op: 'Concat',
        inputs: ['hidden_2', 'sums', 'pairs'],
        outputs: ['pooled'],
        attributes: { axis: { int: 1 } },
      },
      {
        op: 'Gemm',
        inputs: ['pooled', 'head_weights', 'head_bias'],
        outputs: ['log_odds'],
        attributes: { transB: { int: 1 } },
      },
      { op: 'Sigmoid', inputs: ['log_odds'], outputs: ['ctr'] },
    ],
  });
}

const fullyConnected = (layer: string, input: string, output: string) => [
  {
    op: 'Gemm',
    inputs: [input, `${layer}_weights`, `${layer}_bias`],
    outputs: [`${output}_sum`],
    attributes: { transB: { int: 1 } },
  },
  { op: 'Relu', inputs: [`${output}_sum`], outputs: [output] },
];

/** The first layer for logarithms of counts as they are: centring and scaling go into its weights. */
function takingLogarithms({ inputs, outputs, weights, bias }: Layer): Layer {
  const folded = { inputs, outputs, weights: weights.slice(), bias: bias.slice() };
  for (let o = 0; o < outputs; o++) {
    denseColumns.forEach(({ logMean, logDeviation }, column) => {
      const at = o * inputs + slots * dim + column;
      folded.weights[at]! /= logDeviation;
      folded.bias[o]! -= folded.weights[at]! * logMean;
    });
  }
  return folded;
}

/** The head for pairs that count twice. */
function takingDoubledPairs({ inputs, outputs, weights, bias }: Layer): Layer {
  const firstPair = hiddenWidths[1] + dim;
  return {
    inputs,
    outputs,
    bias,
    weights: weights.map((weight, at) => (at < firstPair ? weight : weight / 2)),
  };
}
