/** Labels over HTTP and in this process, from their configuration to a request. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openRuntime } from '../../src/runtime.js';
import type { ModelStatus } from '../../src/server/service.js';
import { tensor } from '../../src/tensor/tensor.js';
import { type Answer, call, errorOf, json, jsonInput } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { makeDirectory, placeVersion, removeDirectory, scaleModel } from '../support/test-models.js';

let served: Served;
let models: string;
let inventory: string;

before(async () => {
  served = await serveModels({ scale: scaleModel() }, { runtime: { modelControl: 'explicit' } });
  models = `${served.url}/v2/models`;
  inventory = `${served.url}/v2/repository/models`;
});
after(() => served.close());

const row = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };
const first = (answer: Answer): number =>
  json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data[0]!;

/** Writes versions of a model that multiply by their number, and loads it. */
async function place(name: string, versions: readonly number[], settings: object): Promise<void> {
  for (const version of versions) placeVersion(served.repository, name, version, scaleModel(version));
  writeFileSync(join(served.repository, name, 'model.json'), JSON.stringify(settings));
  const answer = await call(`${inventory}/${name}/load`, { method: 'POST' });
  assert.equal(answer.status, 200, answer.body.toString());
}

const labelsOf = async (name: string): Promise<object> => json(await call(`${inventory}/${name}/labels`));
const statusOf = (name: string, version: number): ModelStatus | undefined =>
  served.runtime.listModels().find((one) => one.name === name && one.version === version);

test('labels of a model.json stand for versions in every route of a model', async () => {
  await place('ranker', [2, 3], { version_policy: 'all', labels: { stable: 2, canary: 3 } });
  const stable = await call(`${models}/ranker/versions/stable/infer`, { body: row });
  assert.equal(stable.status, 200, stable.body.toString());
  assert.deepEqual([first(stable), json(stable).model_version], [2, '2']);
  assert.equal(first(await call(`${models}/ranker/versions/canary/infer`, { body: row })), 3);
  assert.equal(first(await call(`${models}/ranker/infer`, { body: row })), 3);
  const raw = await call(`${models}/ranker/versions/stable/infer`, {
    headers: { 'inference-header-content-length': '0' },
    body: Buffer.from(Float32Array.of(1, 2, 3, 4).buffer),
  });
  assert.equal(raw.status, 200, raw.body.toString());
  assert.deepEqual(json(await call(`${models}/ranker/versions/stable/ready`)), {
    name: 'ranker',
    ready: true,
  });
  const metadata = json(await call(`${models}/ranker/versions/stable`));
  assert.deepEqual(metadata.labels, { canary: 3, stable: 2 });
  assert.deepEqual(metadata.versions, ['2', '3']);
  const config = json(await call(`${models}/ranker/versions/stable/config`));
  assert.deepEqual(config.version_policy, { all: {} });
  const stats = json<{ model_stats: { version: string }[] }>(
    await call(`${models}/ranker/versions/stable/stats`),
  );
  assert.equal(stats.model_stats[0]!.version, '2');
  assert.deepEqual([statusOf('ranker', 2)?.labels, statusOf('ranker', 3)?.labels], [['stable'], ['canary']]);
});

test('a label that is not there is a 404 that names those that are', async () => {
  const answer = await call(`${models}/ranker/versions/beta/infer`, { body: row });
  assert.equal(answer.status, 404);
  assert.equal(
    errorOf(answer),
    "Request for unknown model: 'ranker' label 'beta' is not found; the model has the labels 'canary', 'stable'",
  );
  const ready = await call(`${models}/ranker/versions/beta/ready`);
  assert.equal(ready.status, 404);
});

test('labels are moved, made and removed by request, all at once or not at all', async () => {
  await place('moving', [1, 2], { version_policy: 'all', labels: { stable: 1 } });
  const change = (body: object | string): Promise<Answer> => call(`${inventory}/moving/labels`, { body });
  const moved = await change({ stable: 2, previous: 1 });
  assert.equal(moved.status, 200, moved.body.toString());
  assert.deepEqual(json(moved), { previous: 1, stable: 2 });
  assert.equal(first(await call(`${models}/moving/versions/stable/infer`, { body: row })), 2);
  assert.deepEqual(json(await change({ previous: null })), { stable: 2 });
  for (const [body, status, message] of [
    [{ stable: 1, next: 3 }, 404, /version 3 is not found/],
    [{ stable: 1, next: '2' }, 400, /"next": expected a version, .*, got "2"/],
    [{ stable: 1, next: 1.5 }, 400, /got 1.5/],
    ['{"stable": 1, "next": 9007199254740993}', 400, /expected a version/],
    [{ stable: 1, '2': 2 }, 400, /the label "2" is a number/],
    [[], 400, /expected an object such as/],
    ['{', 400, /not JSON/],
    ['', 400, /not JSON/],
  ] as const) {
    const answer = await change(body);
    assert.equal(answer.status, status, JSON.stringify(body));
    assert.match(errorOf(answer), message);
  }
  assert.deepEqual(await labelsOf('moving'), { stable: 2 });
  assert.equal((await call(`${inventory}/nothing/labels`)).status, 404);
  assert.equal((await call(`${inventory}/nothing/labels`, { body: { a: 1 } })).status, 404);
});

test('a label whose version is gone answers 503 until it is moved, and a load does not move it', async () => {
  await place('leaving', [1], { labels: { stable: 1 } });
  await place('leaving', [1, 2], { labels: { stable: 1 } });
  const gone = await call(`${models}/leaving/versions/stable/infer`, { body: row });
  assert.equal(gone.status, 503);
  assert.match(errorOf(gone), /label 'stable' stands for version 1, which is not at ready state/);
  assert.equal(json(gone).code, 'SRV_MODEL_NOT_READY');
  assert.deepEqual(await labelsOf('leaving'), { stable: 1 });
  await call(`${inventory}/leaving/labels`, { body: { stable: 2 } });
  assert.equal(first(await call(`${models}/leaving/versions/stable/infer`, { body: row })), 2);
});

test('a label of the configuration waits for its version while that one before it is loaded', async () => {
  await place('waiting', [1], { labels: { stable: 1, next: 2 } });
  assert.deepEqual(await labelsOf('waiting'), { stable: 1 });
  const early = await call(`${models}/waiting/versions/next/infer`, { body: row });
  assert.equal(early.status, 503);
  await place('waiting', [1, 2], { version_policy: 'all', labels: { stable: 1, next: 2 } });
  assert.equal(first(await call(`${models}/waiting/versions/next/infer`, { body: row })), 2);
});

test('a program of this process names and moves labels too', async () => {
  const { runtime } = served;
  const inputs = { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) };
  assert.equal((await runtime.infer('ranker', inputs, { label: 'stable' })).version, 2);
  runtime.setLabels('ranker', { stable: 3 });
  assert.equal((await runtime.infer('ranker', inputs, { label: 'stable' })).version, 3);
  assert.deepEqual(runtime.labels('ranker'), { canary: 3, stable: 3 });
  await assert.rejects(runtime.infer('ranker', inputs, { label: 'none' }), { code: 'SRV_MODEL_NOT_FOUND' });
  await assert.rejects(runtime.infer('ranker', inputs, { label: 'stable', version: 3 }), {
    code: 'SRV_BAD_REQUEST',
  });
  assert.throws(() => runtime.setLabels('ranker', { stable: 9 }), { code: 'SRV_MODEL_NOT_FOUND' });
});

test('without model control labels are shown and not moved by request', async (t) => {
  const closed = await serveModels({ scale: { model: scaleModel(), settings: { labels: { stable: 1 } } } });
  t.after(() => closed.close());
  const place = `${closed.url}/v2/repository/models/scale/labels`;
  assert.deepEqual(json(await call(place)), { stable: 1 });
  const answer = await call(place, { body: { stable: null } });
  assert.equal(answer.status, 403);
  assert.equal(json(answer).code, 'SRV_MODEL_CONTROL_OFF');
  closed.runtime.setLabels('scale', { other: 1 });
  assert.deepEqual(json(await call(place)), { other: 1, stable: 1 });
});

test('labels that were moved stand where they stood after a restart, whatever their configuration says', async (t) => {
  const directory = makeDirectory('labels');
  t.after(() => removeDirectory(directory));
  const modelRepository = join(directory, 'models');
  for (const version of [1, 2]) placeVersion(modelRepository, 'm', version, scaleModel(version));
  writeFileSync(
    join(modelRepository, 'm/model.json'),
    JSON.stringify({ version_policy: 'all', labels: { stable: 1, late: 3 } }),
  );
  const open = () =>
    openRuntime({
      modelRepository,
      cacheDir: join(directory, 'cache'),
      stateFile: join(directory, 'state.json'),
      threads: 1,
    });
  {
    await using before = await open();
    before.setLabels('m', { stable: 2, mine: 1 });
  }
  await using after = await open();
  assert.deepEqual(after.labels('m'), { mine: 1, stable: 2 });
  const { version } = await after.infer(
    'm',
    { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) },
    { label: 'stable' },
  );
  assert.equal(version, 2);
});
