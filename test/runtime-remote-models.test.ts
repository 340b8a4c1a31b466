/** Models that are given by their address. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { writeOnnxModel } from '../src/model/onnx-writer.js';
import { openRuntime, type Runtime } from '../src/runtime.js';
import { tensor } from '../src/tensor/tensor.js';
import { serveFiles } from './support/file-server.js';
import { ManualClock } from './support/manual-clock.js';
import {
  makeDirectory,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
} from './support/test-models.js';
import { until } from './support/until.js';

async function factor(runtime: Runtime, model: string, label?: string): Promise<number> {
  const options = label === undefined ? {} : { label };
  const { outputs } = await runtime.infer(model, { x: tensor('FP32', [1, 4], [1, 1, 1, 1]) }, options);
  return Number(outputs.y!.data[0]);
}

/** A web server with one file, which a test may replace. */
async function serveFile(
  t: TestContext,
  path: string,
): Promise<{ url: string; put(bytes: Uint8Array): void }> {
  let body = Buffer.alloc(0);
  const server = createServer((request, reply) => {
    if (request.url !== path) {
      reply.writeHead(404).end();
      return;
    }
    const etag = `"${createHash('sha256').update(body).digest('hex')}"`;
    reply.writeHead(200, { etag, 'content-length': body.length });
    reply.end(request.method === 'HEAD' ? undefined : body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`,
    put: (bytes) => {
      body = Buffer.from(bytes);
    },
  };
}

function scratch(t: TestContext): string {
  const directory = makeDirectory('remote-models');
  t.after(() => removeDirectory(directory));
  return directory;
}

test('a model at a web address is fetched at the start, again when its ETag changes, and kept over a restart', async (t) => {
  const directory = scratch(t);
  const web = await serveFile(t, '/models/ranker.onnx');
  web.put(writeOnnxModel(scaleModel(2)));
  const options = { models: [{ path: web.url }], cacheDir: directory, threads: 1, reloadIntervalS: 1 };
  const runtime = await openRuntime(options);
  t.after(() => runtime.close());
  assert.equal(await factor(runtime, 'ranker'), 2);
  web.put(writeOnnxModel(scaleModel(3)));
  await until('the new one answers', async () => (await factor(runtime, 'ranker')) === 3);
  await runtime.close();
  web.put(Buffer.from('this is no model'));
  const next = await openRuntime(options);
  t.after(() => next.close());
  assert.equal(
    await factor(next, 'ranker'),
    3,
    'what was fetched before serves at once, whatever lies there now',
  );
});

test('a directory at an address is fetched when the stamp in it says so, under the name that was asked for', async (t) => {
  const directory = scratch(t);
  const store = join(directory, 'store/click');
  const publish = (version: number): void => {
    mkdirSync(store, { recursive: true });
    const made = placeModel(join(directory, 'made'), 'm', scaleModel(version), { max_batch_size: version });
    cpSync(made, store, { recursive: true });
    writeFileSync(join(store, 'fluid_time_file'), String(version));
  };
  publish(5);
  const path = pathToFileURL(store).href;
  const runtime = await openRuntime({
    models: [{ path, name: 'ctr' }],
    cacheDir: join(directory, 'cache'),
    threads: 1,
    reloadIntervalS: 1,
  });
  t.after(() => runtime.close());
  assert.equal(await factor(runtime, 'ctr'), 5);
  assert.equal(runtime.service.model('ctr').maxBatchSize, 5, 'its settings came with it');
  publish(6);
  await until('the new one answers', async () => (await factor(runtime, 'ctr')) === 6);
  assert.equal(runtime.service.model('ctr').maxBatchSize, 6);
});

test('an address without a model is told, and one that is none stops the start', async (t) => {
  const directory = scratch(t);
  const web = await serveFile(t, '/there.onnx');
  const options = { cacheDir: directory, threads: 1 };
  const runtime = await openRuntime({ ...options, models: [{ path: web.url.replace('there', 'nowhere') }] });
  t.after(() => runtime.close());
  const [status] = runtime.listModels();
  assert.deepEqual([status?.name, status?.state], ['nowhere', 'failed']);
  assert.equal(
    status?.reason,
    `${web.url.replace('there', 'nowhere')} has not been fetched yet: nothing is there.`,
  );
  for (const path of ['http://127.0.0.1:1', 'gopher://host/model.onnx']) {
    await assert.rejects(openRuntime({ ...options, models: [{ path }] }), { code: 'SRV_BAD_CONFIG' });
  }
});

/** Writes `<root>/<name>/<version>/model.onnx`, which is marked as whole. */
function publish(root: string, name: string, version: number): void {
  writeFileSync(join(placeVersion(root, name, version, scaleModel(version)), '_SUCCESS'), '');
}

test('a models.config names addresses, with policies and labels, and another one begins and ends their monitors', async (t) => {
  const directory = scratch(t);
  const root = join(directory, 'remote');
  for (const version of [1, 2, 3]) publish(root, 'ranker', version);
  publish(root, 'other', 5);
  const server = await serveFiles(root);
  t.after(() => server.close());
  const file = join(directory, 'models.config');
  const write = (...configs: string[]): void =>
    writeFileSync(file, `model_config_list {\n${configs.map((one) => `config { ${one} }\n`).join('')}}`);
  const ranker = `name: "ctr" base_path: "${server.address}/ranker"
    model_version_policy { specific { versions: 1 versions: 3 } } version_labels { key: "stable" value: 1 }`;
  write(ranker);
  const runtime = await openRuntime({
    modelConfigFile: file,
    cacheDir: join(directory, 'cache'),
    threads: 1,
    reloadIntervalS: 3600,
  });
  t.after(() => runtime.close());
  assert.equal(await factor(runtime, 'ctr'), 3);
  assert.equal(await factor(runtime, 'ctr', 'stable'), 1);
  assert.ok(
    !server.requests.some((line) => line.includes('/ranker/2/model')),
    'what is not wanted is not fetched',
  );

  write(ranker, 'name: "b" base_path: "gopher://host/b"');
  await assert.rejects(runtime.readModelsConfig(), {
    code: 'SRV_BAD_CONFIG',
    message: /models\.config:4: base_path of config of "b": Expected an address that begins with http/,
  });
  assert.equal(await factor(runtime, 'ctr'), 3);

  write(ranker.replace('specific { versions: 1 versions: 3 }', 'latest { num_versions: 3 }'));
  await runtime.readModelsConfig();
  await until('another policy is followed', () =>
    runtime.listModels().some(({ version, state }) => version === 2 && state === 'ready'),
  );

  write(`name: "new" base_path: "${server.address}/other"`);
  await runtime.readModelsConfig();
  await until('the new one is served, and the old one is not', () => {
    const ready = runtime.listModels().filter(({ state }) => state === 'ready');
    return ready.map(({ name }) => name).join() === 'new';
  });
  assert.equal(await factor(runtime, 'new'), 5);
  const metrics = await runtime.metrics();
  assert.match(metrics, /monitor_looks_total\{monitor="new",result="installed"\} 1/);
  assert.doesNotMatch(metrics, /monitor="ctr"/);
});

test('the progress of the start is taken away when it ends, though a fetch goes on or it fails', async (t) => {
  const directory = scratch(t);
  const server = await serveFiles(directory);
  t.after(() => server.close());
  let asked = 0;
  server.override = (request, reply) => {
    asked += 1;
    const headers = { etag: '"a"', 'content-length': 10 };
    if (request.headers['if-none-match'] !== undefined) reply.writeHead(304, { etag: '"a"' }).end();
    else if (asked === 1) reply.writeHead(200, headers).end('ten bytes.');
    else reply.writeHead(200, headers).write('half');
    return true;
  };
  const shown: unknown[] = [];
  const clock = new ManualClock();
  const dependencies = { clock, onFetch: (progress: unknown) => void shown.push(progress) };
  const options = { cacheDir: join(directory, 'cache'), threads: 1 };
  const opening = openRuntime({ ...options, models: [{ path: `${server.address}/net.onnx` }] }, dependencies);
  await until('something has come', () => shown.length > 0);
  // Nothing comes for so long that the start goes on without it.
  await clock.advance(20_000);
  const runtime = await opening;
  t.after(() => runtime.close());
  assert.ok(shown[0]);
  assert.equal(shown.at(-1), undefined);
  assert.equal(shown.filter((progress) => progress === undefined).length, 1);

  shown.length = 0;
  const modelRepository = join(directory, 'nowhere');
  await assert.rejects(openRuntime({ ...options, modelRepository }, dependencies), { code: 'SRV_IO' });
  assert.deepEqual(shown, [undefined]);
});

test('an address of a models.config that no store has stops the start, with its line', async (t) => {
  const directory = scratch(t);
  const file = join(directory, 'models.config');
  writeFileSync(file, 'model_config_list {\n config { name: "a" base_path: "s3://bucket" } }');
  await assert.rejects(openRuntime({ modelConfigFile: file, cacheDir: directory, threads: 1 }), {
    code: 'SRV_BAD_CONFIG',
    message:
      /models\.config:2: base_path of config of "a": expected the address of a model, .*got s3:\/\/bucket/,
  });
  const modelRepository = 'gopher://host/models';
  await assert.rejects(openRuntime({ modelRepository, cacheDir: directory, threads: 1 }), {
    code: 'SRV_BAD_CONFIG',
    message: /Expected an address that begins with http/,
  });
});
