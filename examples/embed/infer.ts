/** One inference in this process, then an orderly end. */
import { fileURLToPath } from 'node:url';
import { openRuntime, ServingError, tensor } from '../../src/index.js';

// In your own service: import { openRuntime, ... } from 'onnx-serving', and a path of your own.
const path = fileURLToPath(new URL('../../../examples/ring/model.onnx', import.meta.url));

const runtime = await openRuntime({ models: [{ path, name: 'ring' }], threads: 1 });
try {
  const point = tensor('FP32', [2, 2], [0.6, 0, 0, 0]);
  const { version, outputs } = await runtime.infer('ring', { point }, { timeoutMs: 1000, priority: 1 });
  const { datatype, shape, data } = outputs.probability!;
  console.log(`version ${version}: ${datatype} [${shape}]`);
  for (const probability of data) console.log(Number(probability).toFixed(2));

  // Match the code of an error, never its text.
  await runtime.infer('ring', { pont: point }).catch((error: unknown) => {
    if (!(error instanceof ServingError)) throw error;
    console.log(`${error.code} (${error.kind})`);
  });
} finally {
  await runtime.close();
}
