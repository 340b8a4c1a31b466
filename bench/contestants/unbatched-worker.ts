import { InferenceSession, Tensor } from 'onnxruntime-node';
import { Piscina } from 'piscina';
import { engineOptions } from './engine-options.js';

const session = await InferenceSession.create(Piscina.workerData as string, engineOptions);

/** Runs one request. */
export default async function run(task: {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}): Promise<Float32Array> {
  const { y } = await session.run({ x: new Tensor('float32', task.data, task.shape) });
  return y!.data as Float32Array;
}
