/** A price model: the logarithm of the price is linear in what is known of a house, its squares and the log of its area. */
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import type { House, Sale } from './houses.js';

const inputs = 5;
/** The five, their squares, the log of the area, and 1. */
const terms = 2 * inputs + 2;

/** Weights, one for each term; the last one is the constant. */
export type Weights = Float64Array;

function termsOf(house: House): Float64Array {
  return Float64Array.of(...house, ...house.map((value) => value ** 2), Math.log(house[0]), 1);
}

/** Least squares on the logarithm of prices, by the normal equations. */
export function fitPrices(sales: readonly Sale[]): Weights {
  const matrix = Array.from({ length: terms }, () => new Float64Array(terms + 1));
  for (const { house, price } of sales) {
    const row = termsOf(house);
    for (let i = 0; i < terms; i++) {
      for (let j = 0; j < terms; j++) matrix[i]![j]! += row[i]! * row[j]!;
      matrix[i]![terms]! += row[i]! * Math.log(price);
    }
  }
  // A little on the diagonal, so that few houses give a model too.
  for (let i = 0; i < terms; i++) matrix[i]![i]! += 1e-6 * (matrix[i]![i]! + 1);
  return solve(matrix);
}

/** Gaussian elimination with pivots; the last column is the right-hand side. */
function solve(matrix: Float64Array[]): Float64Array {
  const size = matrix.length;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column + 1; row < size; row++) {
      if (Math.abs(matrix[row]![column]!) > Math.abs(matrix[pivot]![column]!)) pivot = row;
    }
    [matrix[column], matrix[pivot]] = [matrix[pivot]!, matrix[column]!];
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = matrix[row]![column]! / matrix[column]![column]!;
      for (let k = column; k <= size; k++) matrix[row]![k]! -= factor * matrix[column]![k]!;
    }
  }
  return Float64Array.from({ length: size }, (_, row) => matrix[row]![size]! / matrix[row]![row]!);
}

/** What the weights say that a house sells for. */
export function priceOf(weights: Weights, house: House): number {
  return Math.exp(termsOf(house).reduce((sum, term, index) => sum + term * weights[index]!, 0));
}

/** The model as a `.onnx` file: `houses` FP32 [batch, 5] in, `price` FP32 [batch, 1] out. */
export function priceModel(weights: Weights): Uint8Array {
  const floats = (name: string, shape: readonly number[], values: Iterable<number>) => ({
    name,
    datatype: 'FP32' as const,
    shape,
    data: Float32Array.from(values),
  });
  return writeOnnxModel({
    name: 'house-price',
    inputs: [{ name: 'houses', datatype: 'FP32', shape: ['batch', inputs] }],
    outputs: [{ name: 'price', datatype: 'FP32', shape: ['batch', 1] }],
    initializers: [
      floats('weights', [terms - 1, 1], weights.subarray(0, terms - 1)),
      floats('constant', [1], weights.subarray(terms - 1)),
      floats('only_area', [inputs, 1], [1, 0, 0, 0, 0]),
    ],
    nodes: [
      { op: 'Mul', inputs: ['houses', 'houses'], outputs: ['squares'] },
      { op: 'MatMul', inputs: ['houses', 'only_area'], outputs: ['area'] },
      { op: 'Log', inputs: ['area'], outputs: ['log_area'] },
      {
        op: 'Concat',
        inputs: ['houses', 'squares', 'log_area'],
        outputs: ['terms'],
        attributes: { axis: { int: 1 } },
      },
      { op: 'Gemm', inputs: ['terms', 'weights', 'constant'], outputs: ['log_price'] },
      { op: 'Exp', inputs: ['log_price'], outputs: ['price'] },
    ],
  });
}
