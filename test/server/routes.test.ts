import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { call, errorOf, json, jsonInput } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { identityModel, pairModel, placeModel, placeVersion, scaleModel } from '../support/test-models.js';

let served: Served;
let url: string;

before(async () => {
  served = await serveModels(
    { scale: scaleModel(), pair: pairModel(), text: identityModel('BYTES') },
    { runtime: { modelControl: 'explicit' }, server: { serverName: 'triton' } },
  );
  url = served.url;
});
after(() => served.close());

const rowOf = (...values: number[]): object => ({ inputs: [jsonInput('x', 'FP32', [1, 4], values)] });

test('live, ready and model ready say so, with and without a version', async () => {
  assert.deepEqual(json(await call(`${url}/v2/health/live`)), { live: true });
  assert.deepEqual(json(await call(`${url}/v2/health/ready`)), { ready: true });
  assert.deepEqual(json(await call(`${url}/v2/models/scale/ready`)), { name: 'scale', ready: true });
  assert.deepEqual(json(await call(`${url}/v2/models/scale/versions/1/ready`)), {
    name: 'scale',
    ready: true,
  });
});

test('the readiness of an unknown model or version is a 404 with the phrase that clients look for', async () => {
  for (const path of ['nothing/ready', 'scale/versions/7/ready', 'scale/versions/x/ready']) {
    const answer = await call(`${url}/v2/models/${path}`);
    assert.equal(answer.status, 404, path);
    assert.match(errorOf(answer), /^Request for unknown model: '/, path);
  }
});

test('server metadata has the configured name, a version and the extensions', async () => {
  const metadata = json<{ name: string; version: string; extensions: string[] }>(await call(`${url}/v2`));
  assert.equal(metadata.name, 'triton');
  assert.match(metadata.version, /^\d+\.\d+\.\d+/);
  for (const extension of [
    'binary_tensor_data',
    'model_repository',
    'statistics',
    'model_configuration',
    'parameters',
  ]) {
    assert.ok(metadata.extensions.includes(extension), extension);
  }
});

test('the list of models has every ready one once', async () => {
  const { models } = json<{ models: string[] }>(await call(`${url}/v2/models`));
  assert.deepEqual(models.toSorted(), ['pair', 'scale', 'text']);
});

test('model metadata gives names, datatypes and shapes, -1 for free dimensions', async () => {
  const expected = {
    name: 'pair',
    versions: ['1'],
    platform: 'onnx_onnxv1',
    inputs: ['a', 'b'].map((name) => ({ name, datatype: 'FP32', shape: [-1, 4] })),
    outputs: ['sum', 'difference'].map((name) => ({ name, datatype: 'FP32', shape: [-1, 4] })),
  };
  assert.deepEqual(json(await call(`${url}/v2/models/pair`)), expected);
  assert.deepEqual(json(await call(`${url}/v2/models/pair/versions/1`)), expected);
});

test('model configuration has dimensions without the batch, and types with their prefix', async () => {
  for (const path of ['text/config', 'text/versions/1/config']) {
    const config = json<Record<string, unknown>>(await call(`${url}/v2/models/${path}`));
    assert.equal(config.name, 'text');
    assert.equal(config.platform, 'onnx_onnxv1');
    assert.equal(config.max_batch_size, 64);
    assert.deepEqual(config.input, [{ name: 'x', data_type: 'TYPE_STRING', dims: [3] }]);
    assert.deepEqual(config.output, [{ name: 'y', data_type: 'TYPE_STRING', dims: [3] }]);
    assert.deepEqual(config.instance_group, [{ name: 'text_cpu', kind: 'KIND_CPU', count: 2, gpus: [] }]);
  }
});

interface Duration {
  readonly count: number;
  readonly ns: number;
}
interface Statistics {
  readonly model_stats: readonly {
    readonly name: string;
    readonly version: string;
    readonly last_inference: number;
    readonly inference_count: number;
    readonly execution_count: number;
    readonly inference_stats: Readonly<Record<string, Duration>>;
    readonly batch_stats: readonly ({ readonly batch_size: number } & Readonly<Record<string, Duration>>)[];
    readonly memory_usage: readonly { readonly type: string; readonly byte_size: number }[];
  }[];
}

test('statistics have one entry a model, and their counts grow with each request', async () => {
  const read = async (): Promise<Statistics['model_stats'][number]> => {
    const { model_stats } = json<Statistics>(await call(`${url}/v2/models/scale/stats`));
    assert.equal(model_stats.length, 1);
    return model_stats[0]!;
  };
  const earlier = await read();
  const startedAt = Date.now();
  assert.equal((await call(`${url}/v2/models/scale/infer`, { body: rowOf(1, 2, 3, 4) })).status, 200);
  const twoRows = { inputs: [jsonInput('x', 'FP32', [2, 4], [1, 2, 3, 4, 5, 6, 7, 8])] };
  assert.equal((await call(`${url}/v2/models/scale/infer`, { body: twoRows })).status, 200);
  const wrong = { inputs: [jsonInput('x', 'FP32', [1, 5], [1, 2, 3, 4, 5])] };
  assert.equal((await call(`${url}/v2/models/scale/infer`, { body: wrong })).status, 400);
  const later = await read();
  assert.equal(later.name, 'scale');
  assert.equal(later.version, '1');
  assert.equal(later.inference_count - earlier.inference_count, 3);
  assert.equal(later.execution_count - earlier.execution_count, 2);
  assert.ok(later.last_inference >= startedAt);
  const grown = (stage: string): Duration => ({
    count: later.inference_stats[stage]!.count - earlier.inference_stats[stage]!.count,
    ns: later.inference_stats[stage]!.ns - earlier.inference_stats[stage]!.ns,
  });
  for (const stage of ['success', 'queue', 'compute_input', 'compute_infer', 'compute_output']) {
    assert.equal(grown(stage).count, 2, stage);
    assert.ok(grown(stage).ns > 0, stage);
  }
  assert.equal(grown('fail').count, 1);
  const rows = later.batch_stats.map(({ batch_size }) => batch_size);
  assert.ok(rows.includes(1) && rows.includes(2), String(rows));
  for (const size of later.batch_stats) assert.ok(size.compute_infer!.count > 0);
  assert.ok(later.memory_usage[0]!.byte_size > 0);
});

test('statistics of a version, and of all models at once, have the same form', async () => {
  const one = json<Statistics>(await call(`${url}/v2/models/scale/versions/1/stats`));
  assert.equal(one.model_stats[0]!.name, 'scale');
  const all = json<Statistics>(await call(`${url}/v2/models/stats`));
  assert.deepEqual(all.model_stats.map(({ name }) => name).toSorted(), ['pair', 'scale', 'text']);
});

test('the repository index lists every version with its state, with and without a body', async () => {
  for (const body of ['', '{}', '{"ready":true}', '{"ready":false}']) {
    const answer = await call(`${url}/v2/repository/index`, { method: 'POST', body });
    assert.equal(answer.status, 200);
    const index = json<{ name: string; version: string; state: string; reason: string }[]>(answer);
    const ring = index.find(({ name }) => name === 'scale');
    assert.deepEqual(ring, { name: 'scale', version: '1', state: 'READY', reason: '' });
  }
});

test('a model is loaded, unloaded and loaded again by request', async () => {
  placeModel(served.repository, 'late', scaleModel(5));
  assert.equal((await call(`${url}/v2/models/late/infer`, { body: rowOf(1, 1, 1, 1) })).status, 404);
  const load = (): Promise<number> =>
    call(`${url}/v2/repository/models/late/load`, { method: 'POST', body: '{}' }).then(
      ({ status }) => status,
    );
  assert.equal(await load(), 200);
  const answer = await call(`${url}/v2/models/late/infer`, { body: rowOf(1, 2, 3, 4) });
  assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [5, 10, 15, 20]);

  const unloaded = await call(`${url}/v2/repository/models/late/unload`, {
    method: 'POST',
    body: { parameters: { unload_dependents: true } },
  });
  assert.equal(unloaded.status, 200);
  assert.equal(unloaded.body.length, 0);
  const refused = await call(`${url}/v2/models/late/infer`, { body: rowOf(1, 2, 3, 4) });
  assert.equal(refused.status, 503);
  assert.equal(json(await call(`${url}/v2/models/late/ready`)).ready, false);
  const index = json<{ name: string; state: string; reason: string }[]>(
    await call(`${url}/v2/repository/index`, { method: 'POST' }),
  );
  assert.deepEqual(
    index.filter(({ name }) => name === 'late').map(({ state, reason }) => [state, reason]),
    [['UNAVAILABLE', 'unloaded']],
  );
  assert.equal(await load(), 200);
  assert.equal((await call(`${url}/v2/models/late/infer`, { body: rowOf(1, 2, 3, 4) })).status, 200);
});

test('a load takes the newest version, which replaces the one that served', async () => {
  placeVersion(served.repository, 'growing', 1, scaleModel(1));
  const load = (): Promise<{ status: number }> =>
    call(`${url}/v2/repository/models/growing/load`, { method: 'POST' });
  assert.equal((await load()).status, 200);
  placeVersion(served.repository, 'growing', 2, scaleModel(20));
  assert.equal((await load()).status, 200);
  const answer = await call(`${url}/v2/models/growing/infer`, { body: rowOf(1, 2, 3, 4) });
  const { model_version, outputs } = json<{ model_version: string; outputs: { data: number[] }[] }>(answer);
  assert.equal(model_version, '2');
  assert.deepEqual(outputs[0]!.data, [20, 40, 60, 80]);
  assert.equal(
    (await call(`${url}/v2/models/growing/versions/1/infer`, { body: rowOf(1, 2, 3, 4) })).status,
    503,
  );
});

test('a load that fails leaves the version that serves in place, and says why', async () => {
  const directory = placeModel(served.repository, 'steady', scaleModel(3));
  const load = (): ReturnType<typeof call> =>
    call(`${url}/v2/repository/models/steady/load`, { method: 'POST' });
  assert.equal((await load()).status, 200);
  writeFileSync(`${directory}/model.onnx`, 'this is no model');
  const failed = await load();
  assert.equal(failed.status, 500);
  assert.match(errorOf(failed), /steady/);
  const answer = await call(`${url}/v2/models/steady/infer`, { body: rowOf(1, 1, 1, 1) });
  assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [3, 3, 3, 3]);
});

test('load and unload of a model that is nowhere say so', async () => {
  const load = await call(`${url}/v2/repository/models/nowhere/load`, { method: 'POST' });
  assert.equal(load.status, 404);
  assert.match(errorOf(load), /failed to load 'nowhere'/);
  const unload = await call(`${url}/v2/repository/models/nowhere/unload`, { method: 'POST' });
  assert.equal(unload.status, 404);
  assert.match(errorOf(unload), /failed to unload 'nowhere'/);
});

test('a load may bring settings, which hold until the next load; other parameters are refused by name', async () => {
  const load = (parameters: object): ReturnType<typeof call> =>
    call(`${url}/v2/repository/models/scale/load`, { body: { parameters } });
  const config = async (): Promise<number> =>
    json<{ max_batch_size: number }>(await call(`${url}/v2/models/scale/config`)).max_batch_size;
  assert.equal((await load({ config: '{"max_batch_size": 3}' })).status, 200);
  assert.equal(await config(), 3);
  const files = await load({ 'file:1/model.onnx': 'AAAA' });
  assert.equal(files.status, 400);
  assert.match(errorOf(files), /file:1\/model\.onnx/);
  const misspelt = await load({ config: '{"max_batch_sise": 3}' });
  assert.match(errorOf(misspelt), /max_batch_sise: unknown key.*max_batch_size/);
  assert.equal((await load({ config: 3 })).status, 400);
  const triton = { backend: 'onnxruntime', max_batch_size: 5, parameters: { a: { string_value: 'b' } } };
  assert.equal((await load({ config: JSON.stringify(triton) })).status, 200);
  assert.equal(await config(), 5);
  assert.equal((await load({ config: '{"max_batch_size": 3}' })).status, 200);
  assert.equal(await config(), 3);
  assert.equal((await load({})).status, 200);
  assert.notEqual(await config(), 3);
});

test('query strings and a trailing slash change nothing', async () => {
  assert.equal((await call(`${url}/v2/health/live?test_1=1&test_2=2`)).status, 200);
  assert.equal((await call(`${url}/v2/models/scale/?a=b`)).status, 200);
  assert.equal((await call(`${url}/v2/models/scale/infer/?a=b`, { body: rowOf(1, 2, 3, 4) })).status, 200);
});

test('a path that exists for another method is a 405, an unknown one a 404, both with an error text', async () => {
  for (const [method, path] of [
    ['GET', '/v2/models/scale/infer'],
    ['POST', '/v2/health/live'],
    ['DELETE', '/v2/models/scale'],
    ['PUT', '/v2/repository/index'],
    ['PATCH', '/metrics'],
  ]) {
    const answer = await call(`${url}${path}`, { method: method! });
    assert.equal(answer.status, 405, path);
    assert.match(errorOf(answer), /is not allowed here/, path);
  }
  for (const path of [
    '/',
    '/v2/nothing',
    '/v2/models/scale/versions/1/nothing',
    '/v3',
    '/%',
    '/v2/models/%zz',
  ]) {
    const answer = await call(`${url}${path}`);
    assert.ok(answer.status === 404 || answer.status === 400, `${path}: ${answer.status}`);
    assert.ok(errorOf(answer).length > 0, path);
  }
});

test('HEAD answers as GET does, without a body', async () => {
  for (const path of ['/v2/health/live', '/v2/models/scale/ready', '/v2', '/metrics']) {
    const answer = await call(`${url}${path}`, { method: 'HEAD' });
    assert.equal(answer.status, 200, path);
    assert.equal(answer.body.length, 0, path);
  }
  assert.equal((await call(`${url}/v2/models/nothing`, { method: 'HEAD' })).status, 404);
});

test('x-request-id and traceparent come back, also with an error', async () => {
  const headers = {
    'x-request-id': 'call-17',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  };
  for (const path of ['/v2/health/live', '/v2/models/nothing', '/nothing']) {
    const answer = await call(`${url}${path}`, { headers });
    assert.equal(answer.headers['x-request-id'], 'call-17', path);
    assert.equal(answer.headers.traceparent, headers.traceparent, path);
  }
});

test('without model control, load and unload are refused with 403', async () => {
  const guarded = await serveModels({ scale: scaleModel() });
  try {
    for (const verb of ['load', 'unload']) {
      const answer = await call(`${guarded.url}/v2/repository/models/scale/${verb}`, { method: 'POST' });
      assert.equal(answer.status, 403);
      assert.match(errorOf(answer), /--model_control explicit/);
    }
    assert.equal(
      (await call(`${guarded.url}/v2/models/scale/infer`, { body: rowOf(1, 2, 3, 4) })).status,
      200,
    );
    assert.equal(json<{ name: string }>(await call(`${guarded.url}/v2`)).name, 'onnx-serving');
  } finally {
    await guarded.close();
  }
});

test('a server whose models all failed is live but not ready, and tells why each failed', async () => {
  const broken = await serveModels({ bad: { model: identityModel('FP32'), settings: { maximum: 1 } } });
  try {
    assert.equal((await call(`${broken.url}/v2/health/live`)).status, 200);
    const ready = await call(`${broken.url}/v2/health/ready`);
    assert.equal(ready.status, 503);
    assert.deepEqual(json(ready), { ready: false });
    const index = json<{ name: string; state: string; reason: string }[]>(
      await call(`${broken.url}/v2/repository/index`, { method: 'POST' }),
    );
    assert.equal(index[0]!.state, 'UNAVAILABLE');
    assert.match(index[0]!.reason, /maximum/);
    const infer = await call(`${broken.url}/v2/models/bad/infer`, { body: rowOf(1, 2, 3, 4) });
    assert.equal(infer.status, 503);
    assert.match(errorOf(infer), /^Request for unknown model: 'bad' .*maximum/);
  } finally {
    await broken.close();
  }
});
