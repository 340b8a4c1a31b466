/** Many callers at once: they share batches, one of them gives up, and the event loop stays free meanwhile. */
import { fileURLToPath } from 'node:url';
import { openRuntime, ServingError, tensor } from '../../src/index.js';

const path = fileURLToPath(new URL('../../../examples/ring/model.onnx', import.meta.url));

await using runtime = await openRuntime({
  models: [{ path, name: 'ring' }],
  threads: 1,
  maxBatchSize: 32,
  maxQueueBytes: '64mb',
});

const radii = Array.from({ length: 100 }, (_, i) => i / 100);
const answers = await Promise.all(
  radii.map(async (radius) => {
    const { outputs } = await runtime.infer('ring', { point: tensor('FP32', [1, 2], [radius, 0]) });
    return Number(outputs.probability!.data[0]) > 0.5;
  }),
);
const right = answers.filter((isInside, i) => isInside === (radii[i]! >= 0.4 && radii[i]! <= 0.8)).length;
console.log(`${right >= 95 ? 'at least 95' : right} of ${radii.length} right`);

const giveUp = AbortSignal.abort('no longer needed');
const point = tensor('FP32', [1, 2], [0.6, 0]);
await runtime.infer('ring', { point }, { signal: giveUp }).catch((error: unknown) => {
  if (!(error instanceof ServingError)) throw error;
  console.log(error.code);
});
