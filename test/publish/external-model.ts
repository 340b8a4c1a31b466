import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';

/** Writes `big.onnx` and its weights `big.weights`. Returns the model's file. */
export function placeExternalModel(directory: string): string {
  const file = join(directory, 'big.onnx');
  const model = writeOnnxModel({
    nodes: [{ op: 'Mul', inputs: ['x', 'w'], outputs: ['y'] }],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
    initializers: [
      {
        name: 'w',
        datatype: 'FP32',
        shape: [4],
        external: { location: 'big.weights', offset: 0, length: 16 },
      },
    ],
  });
  writeFileSync(file, model);
  writeFileSync(join(directory, 'big.weights'), Float32Array.of(1, 2, 3, 4));
  return file;
}
