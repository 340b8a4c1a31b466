/** A program that loads versions, names them, splits requests over them, and goes back. */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type InferOptions, openRuntime, ServingError, tensor } from '../../src/index.js';

const model = fileURLToPath(new URL('../../../examples/ring/model.onnx', import.meta.url));
const modelRepository = await mkdtemp(join(tmpdir(), 'onnx-serving-versions-'));
const publish = (version: number): Promise<void> =>
  cp(model, join(modelRepository, 'ring', String(version), 'model.onnx'));

await publish(1);
// 0: nothing is watched, so that versions come by load alone.
const runtime = await openRuntime({ modelRepository, threads: 1, fileSystemPollWaitSeconds: 0 });
const answeredBy = async (options: InferOptions = {}): Promise<string> => {
  const { version, variant } = await runtime.infer(
    'ring',
    { point: tensor('FP32', [1, 2], [0.6, 0]) },
    options,
  );
  return `version ${version}${variant === undefined ? '' : `, variant ${variant}`}`;
};
try {
  await publish(2);
  await runtime.load('ring', { config: { version_policy: 'all' } });
  runtime.setLabels('ring', { stable: 1, next: 2 });
  console.log(runtime.labels('ring'), await answeredBy({ label: 'stable' }));

  await runtime.configureTraffic({
    ring: { variants: [{ tag: 'new', label: 'next', weight: 100 }] },
  });
  console.log(await answeredBy());
  await runtime.configureTraffic({});

  await runtime.load('ring');
  console.log(await answeredBy());
  console.log(`back to version ${await runtime.rollback('ring')}`);

  await runtime.unload('ring');
  for (const attempt of [
    () => answeredBy(),
    () => runtime.rollback('nobody'),
    () => runtime.readModelsConfig(),
  ]) {
    await attempt().catch((error: unknown) => {
      if (!(error instanceof ServingError)) throw error;
      console.log(error.code);
    });
  }
} finally {
  await runtime.close();
  await rm(modelRepository, { recursive: true, force: true });
}
