/** `session.run` of 32 rows, again and again, with nothing around it. Arguments: model file, seconds. */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { engineOptions } from './contestants/engine-options.js';
import { mlpAnswer, mlpInputs, mlpTensors } from './mlp.js';
import type { InProcessFigures } from './scenarios/in-process.js';

const rows = 32;
const [file, seconds] = process.argv.slice(2);
const session = await InferenceSession.create(file!, engineOptions);
const data = mlpTensors(1, rows)[0]!.x!.data as Float32Array;
const input = new Tensor('float32', data, [rows, mlpInputs]);

async function runFor(ms: number): Promise<number> {
  const startedAt = performance.now();
  let runs = 0;
  while (performance.now() - startedAt < ms) {
    await session.run({ x: input });
    runs++;
  }
  return (runs * rows * 1000) / (performance.now() - startedAt);
}

const { y } = await session.run({ x: input });
const expected = mlpAnswer(data.subarray(0, mlpInputs));
await runFor(1000);
const figures: InProcessFigures = {
  rowsPerSecond: await runFor(Number(seconds) * 1000),
  isRight: Math.abs(Number(y!.data[0]) - expected) <= 1e-4 * Math.max(1, Math.abs(expected)),
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
