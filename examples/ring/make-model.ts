/**
 * Makes the bundled sample: a small network that tells whether a point of the plane lies inside a ring.
 *
 * The truth is known (0.4 <= radius <= 0.8), the data is generated, training takes a few seconds and is seeded, so
 * that the file comes out the same on every machine. Run it with `npm run sample`; it prints the accuracy on
 * points that it was not trained on, and writes `examples/ring/model.onnx`.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';

const hidden = 24;
const steps = 6000;
const rowsPerStep = 64;

interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  readonly weights: Float64Array;
  readonly bias: Float64Array;
}

/** A small generator with a fixed start (mulberry32), so that the model is always the same. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function isInRing(x: number, y: number): boolean {
  const radius = Math.hypot(x, y);
  return radius >= 0.4 && radius <= 0.8;
}

function newLayer(inputs: number, outputs: number, random: () => number): Layer {
  const scale = Math.sqrt(6 / (inputs + outputs));
  const weights = Float64Array.from({ length: inputs * outputs }, () => (2 * random() - 1) * scale);
  return { inputs, outputs, weights, bias: new Float64Array(outputs) };
}

function forward(layer: Layer, input: Float64Array, squash: (value: number) => number): Float64Array {
  return Float64Array.from({ length: layer.outputs }, (_, o) => {
    let sum = layer.bias[o]!;
    for (let i = 0; i < layer.inputs; i++) sum += layer.weights[i * layer.outputs + o]! * input[i]!;
    return squash(sum);
  });
}

const sigmoid = (value: number): number => 1 / (1 + Math.exp(-value));

function predict(layers: readonly Layer[], point: Float64Array): readonly Float64Array[] {
  const activations = [point];
  layers.forEach((layer, index) => {
    const squash = index === layers.length - 1 ? sigmoid : Math.tanh;
    activations.push(forward(layer, activations[index]!, squash));
  });
  return activations;
}

/** One step of gradient descent on the cross-entropy of one point. */
function learn(layers: readonly Layer[], point: Float64Array, truth: number, rate: number): void {
  const activations = predict(layers, point);
  let gradient = Float64Array.of(activations.at(-1)![0]! - truth);
  for (let l = layers.length - 1; l >= 0; l--) {
    const layer = layers[l]!;
    const input = activations[l]!;
    const below = new Float64Array(layer.inputs);
    for (let i = 0; i < layer.inputs; i++) {
      for (let o = 0; o < layer.outputs; o++) {
        const at = i * layer.outputs + o;
        below[i]! += layer.weights[at]! * gradient[o]!;
        layer.weights[at]! -= rate * gradient[o]! * input[i]!;
      }
      // The derivative of tanh; the first layer's input needs none, and its gradient is not used.
      below[i]! *= 1 - input[i]! ** 2;
    }
    for (let o = 0; o < layer.outputs; o++) layer.bias[o]! -= rate * gradient[o]!;
    gradient = below;
  }
}

function train(): readonly Layer[] {
  const random = randomNumbers(20_24);
  const layers = [newLayer(2, hidden, random), newLayer(hidden, hidden, random), newLayer(hidden, 1, random)];
  for (let step = 0; step < steps; step++) {
    const rate = 0.05 * (1 - step / steps);
    for (let row = 0; row < rowsPerStep; row++) {
      const point = Float64Array.of(2 * random() - 1, 2 * random() - 1);
      learn(layers, point, isInRing(point[0]!, point[1]!) ? 1 : 0, rate);
    }
  }
  return layers;
}

function accuracy(layers: readonly Layer[]): number {
  const random = randomNumbers(7);
  const points = 20_000;
  let right = 0;
  for (let i = 0; i < points; i++) {
    const point = Float64Array.of(2 * random() - 1, 2 * random() - 1);
    const said = predict(layers, point).at(-1)![0]! > 0.5;
    if (said === isInRing(point[0]!, point[1]!)) right += 1;
  }
  return right / points;
}

function toOnnx(layers: readonly Layer[]): Uint8Array {
  return writeOnnxModel({
    name: 'ring',
    inputs: [{ name: 'point', datatype: 'FP32', shape: ['batch', 2] }],
    outputs: [{ name: 'probability', datatype: 'FP32', shape: ['batch', 1] }],
    initializers: layers.flatMap(({ inputs, outputs, weights, bias }, index) => [
      { name: `w${index}`, datatype: 'FP32', shape: [inputs, outputs], data: Float32Array.from(weights) },
      { name: `b${index}`, datatype: 'FP32', shape: [outputs], data: Float32Array.from(bias) },
    ]),
    nodes: layers.flatMap((_, index) => {
      const isLast = index === layers.length - 1;
      const input = index === 0 ? 'point' : `a${index - 1}`;
      return [
        { op: 'Gemm', inputs: [input, `w${index}`, `b${index}`], outputs: [`z${index}`] },
        {
          op: isLast ? 'Sigmoid' : 'Tanh',
          inputs: [`z${index}`],
          outputs: [isLast ? 'probability' : `a${index}`],
        },
      ];
    }),
  });
}

const layers = train();
const file = fileURLToPath(new URL('../../../examples/ring/model.onnx', import.meta.url));
writeFileSync(file, toOnnx(layers));
process.stdout.write(`${file}: ${(100 * accuracy(layers)).toFixed(1)} % of unseen points right\n`);
