/** Models in a bucket, of an S3 server of others. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { writeOnnxModel } from '../src/model/onnx-writer.js';
import { readS3Address } from '../src/remote/s3-place.js';
import { S3Store } from '../src/remote/s3-store.js';
import { openRuntime, type Runtime } from '../src/runtime.js';
import { tensor } from '../src/tensor/tensor.js';
import { type S3Server, startS3Server } from './support/s3-server.js';
import { makeDirectory, removeDirectory, scaleModel } from './support/test-models.js';
import { until } from './support/until.js';

let server: S3Server;
let store: S3Store;
let directory: string;
const environment = { ...process.env };
before(async () => {
  server = await startS3Server();
  Object.assign(process.env, server.env);
  store = new S3Store(readS3Address('s3://models', process.env));
  directory = makeDirectory('s3-models');
});
after(async () => {
  process.env = environment;
  await store.close();
  await server.close();
  removeDirectory(directory);
});

async function put(path: string, content: Uint8Array | string): Promise<void> {
  const bytes = Buffer.from(content);
  const chunks = async function* (): AsyncGenerator<Buffer> {
    yield bytes;
  };
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  await store.put(path, { body: { bytes: bytes.length, chunks }, sha256 });
}

const model = (factor: number): Uint8Array => writeOnnxModel(scaleModel(factor));

async function factor(runtime: Runtime, name: string, label?: string): Promise<number> {
  const options = label === undefined ? {} : { label };
  const { outputs } = await runtime.infer(name, { x: tensor('FP32', [1, 4], [1, 1, 1, 1]) }, options);
  return Number(outputs.y!.data[0]);
}

test('a bucket is a model repository: versions without a done file, later models, and models that go', async (t) => {
  await put('/prod/ranker/2/model.onnx', model(2));
  await put('/prod/ranker/10/model.onnx', model(10));
  await put('/prod/ranker/model.json', JSON.stringify({ version_policy: 'all', labels: { stable: 2 } }));
  await put('/prod/notes/readme.txt', 'no model');
  const runtime = await openRuntime({
    modelRepository: 's3://models/prod',
    cacheDir: directory,
    threads: 1,
    reloadIntervalS: 1,
  });
  t.after(() => runtime.close());
  assert.equal(await factor(runtime, 'ranker'), 10, 'it was seen twice before the start ended');
  assert.equal(await factor(runtime, 'ranker', 'stable'), 2, 'its own settings choose both versions');
  const notes = runtime.listModels().find(({ name }) => name === 'notes');
  assert.match(
    notes?.reason ?? '',
    /^s3:\/\/models\/prod\/notes has not been fetched yet: no done file at .*fluid_time_file, and no version/,
  );
  await put('/prod/ranker/11/model.onnx', model(11));
  await put('/prod/ranker/11/_SUCCESS', '');
  await put('/prod/late/4/model.onnx', model(4));
  await put('/prod/late/4/_SUCCESS', '');
  await store.remove('/prod/notes/readme.txt');
  await until('the new one is served', () =>
    runtime.listModels().some(({ name, state }) => name === 'late' && state === 'ready'),
  );
  assert.equal(await factor(runtime, 'late'), 4);
  await until('the old one is gone', () => runtime.listModels().every(({ name }) => name !== 'notes'));
  await until('a new version is served', async () => (await factor(runtime, 'ranker')) === 11);
  const page = await runtime.metrics();
  assert.match(page, /onnx_serving_loads_total\{result="ready"\} 4\n/, 'each version is loaded once');
});
