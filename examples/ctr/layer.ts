/** A fully connected layer and what training does to it. One row at a time; the batch is in the gradients. */
import type { RandomStream } from './random.js';

/** `outputs` rows of `inputs` weights. Widths are multiples of 4, but for an output of 1 (see `forward`). */
export interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  readonly weights: Float64Array;
  readonly bias: Float64Array;
}

/** A layer with small random weights. */
export function newLayer(inputs: number, outputs: number, random: RandomStream): Layer {
  const scale = Math.sqrt(2 / (inputs + outputs));
  const weights = Float64Array.from({ length: inputs * outputs }, () => random.normal() * scale);
  return { inputs, outputs, weights, bias: new Float64Array(outputs) };
}

/**
 * Sets `output` to relu(weights * input + bias).
 *
 * Four outputs at once, so that an element of the input is read once for four products; `outputs` must be a
 * multiple of 4.
 */
export function forwardRelu(layer: Layer, input: Float64Array, output: Float64Array): void {
  const { inputs, outputs, weights, bias } = layer;
  for (let o = 0; o < outputs; o += 4) {
    const row0 = o * inputs;
    const row1 = row0 + inputs;
    const row2 = row1 + inputs;
    const row3 = row2 + inputs;
    let sum0 = bias[o]!;
    let sum1 = bias[o + 1]!;
    let sum2 = bias[o + 2]!;
    let sum3 = bias[o + 3]!;
    for (let i = 0; i < inputs; i++) {
      const value = input[i]!;
      sum0 += weights[row0 + i]! * value;
      sum1 += weights[row1 + i]! * value;
      sum2 += weights[row2 + i]! * value;
      sum3 += weights[row3 + i]! * value;
    }
    output[o] = Math.max(sum0, 0);
    output[o + 1] = Math.max(sum1, 0);
    output[o + 2] = Math.max(sum2, 0);
    output[o + 3] = Math.max(sum3, 0);
  }
}

/** Gradients of a layer, summed over the rows of a batch, and Adam's moments. */
export class LayerTraining {
  readonly layer: Layer;
  readonly #weights: AdamState;
  readonly #bias: AdamState;
  /** Outputs of the row at hand that have a gradient. */
  readonly #active: Int32Array;

  constructor(layer: Layer) {
    this.layer = layer;
    this.#weights = newAdamState(layer.weights.length);
    this.#bias = newAdamState(layer.outputs);
    this.#active = new Int32Array(layer.outputs);
  }

  /**
   * Adds a row's gradients, and sets `inputGradient`.
   *
   * Outputs that relu cut off have none and cost nothing; the others go four at once.
   */
  backward(input: Float64Array, outputGradient: Float64Array, inputGradient: Float64Array): void {
    const { inputs, weights } = this.layer;
    const gradient = this.#weights.gradient;
    const active = this.#active;
    const count = this.#findActive(outputGradient);
    inputGradient.fill(0);
    let at = 0;
    for (; at + 4 <= count; at += 4) {
      const error0 = outputGradient[active[at]!]!;
      const error1 = outputGradient[active[at + 1]!]!;
      const error2 = outputGradient[active[at + 2]!]!;
      const error3 = outputGradient[active[at + 3]!]!;
      const row0 = active[at]! * inputs;
      const row1 = active[at + 1]! * inputs;
      const row2 = active[at + 2]! * inputs;
      const row3 = active[at + 3]! * inputs;
      for (let i = 0; i < inputs; i++) {
        const value = input[i]!;
        gradient[row0 + i]! += error0 * value;
        gradient[row1 + i]! += error1 * value;
        gradient[row2 + i]! += error2 * value;
        gradient[row3 + i]! += error3 * value;
        inputGradient[i]! +=
          error0 * weights[row0 + i]! +
          error1 * weights[row1 + i]! +
          error2 * weights[row2 + i]! +
          error3 * weights[row3 + i]!;
      }
    }
    for (; at < count; at++) {
      const error = outputGradient[active[at]!]!;
      const row = active[at]! * inputs;
      for (let i = 0; i < inputs; i++) {
        gradient[row + i]! += error * input[i]!;
        inputGradient[i]! += error * weights[row + i]!;
      }
    }
  }

  /**
   * Moves the layer against the gradients (Adam), and forgets them.
   *
   * @param step number of the step, from 1
   * @param rows how many rows' gradients were added
   */
  step(step: number, rate: number, rows: number): void {
    const corrected = (rate * Math.sqrt(1 - 0.999 ** step)) / (1 - 0.9 ** step);
    adam(this.layer.weights, this.#weights, corrected, 1 / rows);
    adam(this.layer.bias, this.#bias, corrected, 1 / rows);
  }

  #findActive(outputGradient: Float64Array): number {
    let count = 0;
    for (let o = 0; o < this.layer.outputs; o++) {
      if (outputGradient[o] === 0) continue;
      this.#bias.gradient[o]! += outputGradient[o]!;
      this.#active[count++] = o;
    }
    return count;
  }
}

interface AdamState {
  readonly gradient: Float64Array;
  readonly mean: Float64Array;
  readonly square: Float64Array;
}

const newAdamState = (size: number): AdamState => ({
  gradient: new Float64Array(size),
  mean: new Float64Array(size),
  square: new Float64Array(size),
});

function adam(
  values: Float64Array,
  { gradient, mean, square }: AdamState,
  rate: number,
  scale: number,
): void {
  for (let i = 0; i < values.length; i++) {
    const slope = gradient[i]! * scale;
    gradient[i] = 0;
    mean[i]! += 0.1 * (slope - mean[i]!);
    square[i]! += 0.001 * (slope * slope - square[i]!);
    values[i]! -= (rate * mean[i]!) / (Math.sqrt(square[i]!) + 1e-8);
  }
}
