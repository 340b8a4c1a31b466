'use strict';
// A CommonJS service: openRuntime and createServer are there at once, the rest comes with load().
// In your own service: require('onnx-serving').
const { join } = require('node:path');
const { load, openRuntime } = require('../../bin/index.cjs');

async function main() {
  const { tensor } = await load();
  const runtime = await openRuntime({
    models: [{ path: join(__dirname, '../ring/model.onnx'), name: 'ring' }],
    threads: 1,
  });
  try {
    const { outputs } = await runtime.infer('ring', { point: tensor('FP32', [1, 2], [0.6, 0]) });
    console.log(outputs.probability.data[0].toFixed(2));
  } finally {
    await runtime.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
