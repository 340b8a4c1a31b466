/** Model files that are no good, beside one that serves all the while. */
import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type OnnxModel, writeOnnxModel } from '../../src/model/onnx-writer.js';
import { type Answer, call, errorOf, json, jsonInput } from '../support/http-call.js';
import { packageRoot, ServerProcess } from '../support/server-process.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';

interface Place {
  readonly directory: string;
  readonly repository: string;
}

function newPlace(t: TestContext): Place {
  const directory = makeDirectory('broken');
  t.after(() => removeDirectory(directory));
  const repository = join(directory, 'models');
  placeModel(repository, 'good', scaleModel());
  return { directory, repository };
}

function start(
  t: TestContext,
  { directory, repository }: Place,
  args: readonly string[] = [],
): ServerProcess {
  return new ServerProcess(
    t,
    [
      'serve',
      '--model_repository',
      repository,
      '--port',
      '0',
      '--thread',
      '1',
      '--cache_dir',
      join(directory, 'cache'),
      ...args,
    ],
    { env: { HOME: directory } },
  );
}

const infer = (url: string, model: string, first = 1): Promise<Answer> =>
  call(`${url}/v2/models/${model}/infer`, {
    body: { inputs: [jsonInput('x', 'FP32', [1, 4], [first, 2, 3, 4])] },
  });

async function assertGood(url: string): Promise<void> {
  const answer = await infer(url, 'good', 1);
  assert.equal(answer.status, 200, answer.body.toString());
  assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [2, 4, 6, 8]);
}

interface IndexEntry {
  readonly name: string;
  readonly state: string;
  readonly reason: string;
}

async function indexOf(url: string): Promise<Map<string, IndexEntry>> {
  const entries = json<IndexEntry[]>(await call(`${url}/v2/repository/index`, { method: 'POST' }));
  return new Map(entries.map((entry) => [entry.name, entry]));
}

test('empty, truncated and foreign files, unsupported operators and types are refused with a reason each', async (t) => {
  const place = newPlace(t);
  const whole = Buffer.from(writeOnnxModel(scaleModel()));
  const file = (name: string, bytes: Buffer | string, as = 'model.onnx'): void => {
    mkdirSync(join(place.repository, name), { recursive: true });
    writeFileSync(join(place.repository, name, as), bytes);
  };
  file('empty', '');
  file('truncated', whole.subarray(0, whole.length >> 1));
  file('cut_by_one', whole.subarray(0, whole.length - 1));
  file('text', 'this is no model');
  file('noise', Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919) % 251)));
  file('torch', 'PK', 'model.pt');
  file('settings', whole);
  writeFileSync(join(place.repository, 'settings', 'model.json'), '{"max_batchsize": 4}');
  mkdirSync(join(place.repository, 'nothing'));
  const odd = (change: Partial<OnnxModel>): OnnxModel => ({ ...scaleModel(), ...change });
  placeModel(
    place.repository,
    'no_such_op',
    odd({ nodes: [{ op: 'NoSuchOp', inputs: ['x', 'factor'], outputs: ['y'] }] }),
  );
  placeModel(
    place.repository,
    'dangling',
    odd({ nodes: [{ op: 'Mul', inputs: ['x', 'nothing'], outputs: ['y'] }] }),
  );
  placeModel(place.repository, 'future', odd({ opsets: { '': 9999 } }));
  placeModel(
    place.repository,
    'external',
    odd({
      initializers: [
        {
          name: 'factor',
          datatype: 'FP32',
          shape: [1],
          external: { location: 'gone.bin', offset: 0, length: 4 },
        },
      ],
    }),
  );

  const server = start(t, place);
  const url = await server.listening();
  await assertGood(url);
  const index = await indexOf(url);
  for (const name of readdirSync(place.repository)) {
    const entry = index.get(name);
    assert.ok(entry, `${name} is in the index`);
    if (name === 'good') continue;
    assert.equal(entry.state, 'UNAVAILABLE', name);
    assert.ok(entry.reason.length > 10, `${name}: ${entry.reason}`);
    const answer = await infer(url, name);
    assert.ok([404, 503].includes(answer.status), `${name}: ${answer.status}`);
    assert.match(errorOf(answer), /^Request for unknown model: '/, name);
    assert.equal(json(await call(`${url}/v2/models/${name}/ready`)).ready, false, name);
  }
  assert.match(index.get('torch')!.reason, /onnx/i);
  assert.match(index.get('settings')!.reason, /max_batch_size/);
  await assertGood(url);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
});

test('every model of the refused set is refused with a reason while another one serves', async (t) => {
  const refused = join(packageRoot, '..', 'shared', 'conformance', 'refused');
  if (!existsSync(refused)) return t.skip(`${refused} is not there: its models are not tried`);
  const place = newPlace(t);
  const server = start(t, place);
  const url = await server.listening();
  const cases = readdirSync(refused).filter((name) => existsSync(join(refused, name, 'model.onnx')));
  assert.ok(cases.length > 0);
  for (const name of cases) {
    cpSync(join(refused, name), join(place.repository, name), { recursive: true });
    const [load] = await Promise.all([
      call(`${url}/v2/repository/models/${name}/load`, { method: 'POST' }),
      assertGood(url),
    ]);
    assert.ok(load.status >= 400, `${name}: ${load.status}`);
    assert.ok(errorOf(load).length > 20, name);
    const entry = (await indexOf(url)).get(name)!;
    assert.equal(entry.state, 'UNAVAILABLE', name);
    assert.ok(entry.reason.length > 20, name);
    await assertGood(url);
  }
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
});

/** A layer with weights of 2 MiB, so that its prepared form has a file that the engine maps. */
function heavyModel(): OnnxModel {
  const size = 724;
  const data = Float32Array.from({ length: size * size }, (_, i) => ((i * 2654435761) % 1000) / 1e6);
  return {
    nodes: [
      { op: 'Tile', inputs: ['x', 'times'], outputs: ['wide'] },
      { op: 'MatMul', inputs: ['wide', 'w'], outputs: ['h'] },
      { op: 'Slice', inputs: ['h', 'from', 'to', 'axis'], outputs: ['y'] },
    ],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
    initializers: [
      { name: 'times', datatype: 'INT64', shape: [2], data: BigInt64Array.of(1n, 181n) },
      { name: 'from', datatype: 'INT64', shape: [1], data: BigInt64Array.of(0n) },
      { name: 'to', datatype: 'INT64', shape: [1], data: BigInt64Array.of(4n) },
      { name: 'axis', datatype: 'INT64', shape: [1], data: BigInt64Array.of(1n) },
      { name: 'w', datatype: 'FP32', shape: [size, size], data },
    ],
  };
}

/** Files of a megabyte and more below a directory. */
function largeFiles(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => statSync(path).size >= 1_000_000);
}

async function valuesOf(url: string): Promise<number[]> {
  const answer = await infer(url, 'heavy');
  assert.equal(answer.status, 200, answer.body.toString());
  return json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data;
}

test('a prepared file that was cut short or overwritten between two starts is made anew', async (t) => {
  const place = newPlace(t);
  placeModel(place.repository, 'heavy', heavyModel(), { prepacking: 'off' });
  const first = start(t, place);
  const right = await valuesOf(await first.listening());
  first.kill('SIGTERM');
  assert.equal(await first.ended, 0, first.text);
  const prepared = largeFiles(join(place.directory, 'cache'));
  assert.ok(prepared.length > 0, `prepared: ${first.out}`);
  for (const spoil of [
    (path: string) => truncateSync(path, 4096),
    (path: string) => writeFileSync(path, Buffer.alloc(statSync(path).size, 1)),
    (path: string) => truncateSync(path, 0),
  ]) {
    for (const path of largeFiles(join(place.directory, 'cache'))) spoil(path);
    const again = start(t, place);
    const url = await again.listening();
    assert.deepEqual(await valuesOf(url), right);
    await assertGood(url);
    again.kill('SIGTERM');
    assert.equal(await again.ended, 0, again.text);
  }
});

test('a prepared file that is cut short while it is served harms its own model alone', async (t) => {
  if (process.platform !== 'linux') return t.skip('only Linux has the guard of mapped files');
  const place = newPlace(t);
  placeModel(place.repository, 'heavy', heavyModel(), { prepacking: 'off' });
  const server = start(t, place);
  const url = await server.listening();
  await valuesOf(url);
  const prepared = largeFiles(join(place.directory, 'cache'));
  assert.ok(prepared.length > 0);
  for (const path of prepared) truncateSync(path, 0);
  const answer = await infer(url, 'heavy');
  assert.ok(answer.status >= 500, `${answer.status} ${answer.body}`);
  await assertGood(url);
  await infer(url, 'heavy');
  await assertGood(url);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
});

test('a model file that is replaced under a server that serves it changes nothing until it is loaded again', async (t) => {
  const place = newPlace(t);
  const server = start(t, place);
  const url = await server.listening();
  await assertGood(url);
  const path = join(place.repository, 'good', 'model.onnx');
  const bytes = readFileSync(path);
  writeFileSync(path, '');
  await assertGood(url);
  const failed = await call(`${url}/v2/repository/models/good/load`, { method: 'POST' });
  assert.ok(failed.status >= 400);
  await assertGood(url);
  writeFileSync(path, bytes);
  assert.equal((await call(`${url}/v2/repository/models/good/load`, { method: 'POST' })).status, 200);
  await assertGood(url);
});
