/** A public name over two versions of a model and other models, in the real server. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { TrafficStatus } from '../../src/server/service.js';
import { type Answer, call, json, jsonInput } from '../support/http-call.js';
import { ServerProcess } from '../support/server-process.js';
import {
  identityModel,
  lookupModel,
  makeDirectory,
  pairModel,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
} from '../support/test-models.js';
import { until } from '../support/until.js';

const config = {
  traffic: {
    // Two versions under the model's own name, with a shadow.
    ranker: {
      variants: [
        { tag: 'stable', version: 1, weight: 90 },
        { tag: 'next', version: 2, weight: 10 },
      ],
      sticky: { by: 'header', name: 'x-user' },
      shadow: [{ tag: 'rewrite', model: 'rewritten' }],
    },
    // One that refuses every good request, and steps that it must not take.
    scores: {
      variants: [
        { tag: 'good', model: 'rewritten', weight: 100 },
        { tag: 'bad', model: 'pair', weight: 0 },
      ],
      guard: { control: 'good', max_error_rate_margin: 0.2, min_requests: 10, window_s: 60 },
      steps: [
        { weight: 50, hold_s: 3600 },
        { weight: 100, hold_s: 0 },
      ],
    },
    // One that fails on some inputs.
    rows: {
      variants: [
        { tag: 'all', model: 'echo', weight: 50 },
        { tag: 'some', model: 'table', weight: 50 },
      ],
      guard: { control: 'all', max_error_rate_margin: 0.2, min_requests: 10, window_s: 60 },
    },
  },
};

function place(directory: string): void {
  const repository = join(directory, 'models');
  placeVersion(repository, 'ranker', 1, scaleModel(10));
  placeVersion(repository, 'ranker', 2, scaleModel(20));
  writeFileSync(join(repository, 'ranker', 'config.pbtxt'), 'version_policy { all { } }\n');
  placeModel(repository, 'rewritten', scaleModel(11));
  placeModel(repository, 'pair', pairModel());
  placeModel(repository, 'echo', identityModel('INT64', ['batch', 1]), { inputs: { id: 'x' } });
  placeModel(repository, 'table', lookupModel());
}

function writeConfig(directory: string, traffic: object): string {
  const file = join(directory, 'serve.json');
  const places = { model_repository: 'models', cache_dir: 'cache' };
  writeFileSync(file, JSON.stringify({ ...places, thread: 2, port: 0, traffic }));
  return file;
}

async function start(t: TestContext, directory: string): Promise<{ server: ServerProcess; url: string }> {
  const file = writeConfig(directory, config.traffic);
  const server = new ServerProcess(t, ['serve', '--config', file], { env: { HOME: directory } });
  return { server, url: await server.listening() };
}

const infer = (url: string, model: string, input: object, user?: string): Promise<Answer> =>
  call(`${url}/v2/models/${model}/infer`, {
    headers: user === undefined ? {} : { 'x-user': user },
    body: { inputs: [input] },
  });
const x = jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4]);
const statusOf = async (url: string, name: string): Promise<TrafficStatus> =>
  json<TrafficStatus>(await call(`${url}/v2/traffic/${name}`));
const weightsOf = ({ variants }: TrafficStatus): number[] => variants.map(({ weight }) => weight);

test('split, sticky keys, shadow, weights by request, rollback, and a restart that forgets none of it', async (t) => {
  const directory = makeDirectory('traffic');
  t.after(() => removeDirectory(directory));
  place(directory);
  const first = await start(t, directory);
  let { url } = first;

  const users = Array.from({ length: 120 }, (_, index) => `user-${index}`);
  const places = async (): Promise<Map<string, string>> => {
    const found = new Map<string, string>();
    for (const user of users) {
      const answer = await infer(url, 'ranker', x, user);
      assert.equal(answer.status, 200, answer.body.toString());
      const reply = json<{
        model_version: string;
        parameters: { variant: string };
        outputs: { data: number[] }[];
      }>(answer);
      const { variant } = reply.parameters;
      assert.equal(answer.headers['x-variant'], variant);
      assert.equal(reply.model_version, variant === 'stable' ? '1' : '2');
      assert.equal(reply.outputs[0]!.data[0], variant === 'stable' ? 10 : 20);
      found.set(user, variant);
    }
    return found;
  };
  const before = await places();
  const onNext = [...before.values()].filter((variant) => variant === 'next').length;
  assert.ok(onNext > 0 && onNext < 40, String(onNext));
  assert.deepEqual(await places(), before, 'keys stay while weights stay');

  await until('the shadow was compared', async () => (await statusOf(url, 'ranker')).shadow[0]!.compared > 0);
  const [shadow] = (await statusOf(url, 'ranker')).shadow;
  assert.ok(shadow!.max_abs_difference === 4 || shadow!.max_abs_difference === 36, JSON.stringify(shadow));

  const changed = await call(`${url}/v2/traffic/ranker`, {
    method: 'PUT',
    body: { weights: { stable: 90, next: 90 } },
  });
  assert.equal(changed.status, 200, changed.body.toString());
  const after = await places();
  for (const [user, variant] of before) {
    if (after.get(user) !== variant) assert.equal(after.get(user), 'next', `${user} moved to the raised one`);
  }
  assert.ok([...after.values()].filter((variant) => variant === 'next').length > onNext);

  assert.equal((await statusOf(url, 'scores')).phase, 'stepping');
  await until('the variant with the wrong signature is rolled back', async () => {
    await infer(url, 'scores', x);
    return (await statusOf(url, 'scores')).phase === 'rolled_back';
  });
  const scores = await statusOf(url, 'scores');
  assert.deepEqual(weightsOf(scores), [100, 0]);
  assert.equal(scores.rollback!.variant, 'bad');
  assert.match(
    scores.rollback!.reason,
    /\d+ of its \d+ requests failed \(100 %\), the control's rate is 0 %/,
  );
  for (let i = 0; i < 20; i++) assert.equal((await infer(url, 'scores', x)).status, 200);

  // Ids outside of the table: half of the requests.
  let id = 0;
  await until('the variant that fails on some inputs is rolled back', async () => {
    id += 1;
    await infer(url, 'rows', jsonInput('id', 'INT64', [1, 1], [id % 2 === 0 ? 1 : 1000]));
    return (await statusOf(url, 'rows')).phase === 'rolled_back';
  });
  assert.deepEqual(weightsOf(await statusOf(url, 'rows')), [100, 0]);
  assert.match(first.server.err, /variant bad of scores was taken out: /);
  const metrics = (await call(`${url}/metrics`)).body.toString();
  assert.match(
    metrics,
    /onnx_serving_variant_rollbacks_total\{model="scores",variant="bad",limit="error_rate"\} 1/,
  );

  first.server.kill('SIGTERM');
  assert.equal(await first.server.ended, 0, first.server.text);
  const second = await start(t, directory);
  ({ url } = second);
  assert.deepEqual(weightsOf(await statusOf(url, 'ranker')), [90, 90]);
  assert.deepEqual(await places(), after, 'keys stay over a restart');
  const again = await statusOf(url, 'scores');
  assert.deepEqual([weightsOf(again), again.phase], [[100, 0], 'rolled_back']);
  assert.deepEqual(again.rollback, scores.rollback);

  // The file of settings changes weights too, of this name alone.
  const { ranker, ...others } = config.traffic;
  const [stable, next] = ranker.variants;
  writeConfig(directory, {
    ranker: {
      ...ranker,
      variants: [
        { ...stable, weight: 1 },
        { ...next, weight: 3 },
      ],
    },
    ...others,
  });
  await until('the weights of the file hold', async () => {
    return String(weightsOf(await statusOf(url, 'ranker'))) === '1,3';
  });
  assert.equal((await statusOf(url, 'scores')).phase, 'rolled_back');
  writeConfig(directory, { ranker: { variants: [{ tag: 'stable', version: 9, weight: 1 }] } });
  await until('a file that cannot be meant is refused', () =>
    second.server.err.includes(
      'traffic goes on as before: Bad configuration: traffic.ranker.variants[0]: model',
    ),
  );
  assert.deepEqual(weightsOf(await statusOf(url, 'ranker')), [1, 3]);
  second.server.kill('SIGTERM');
  assert.equal(await second.server.ended, 0, second.server.text);
});

test('a target that is not there ends the start with 2 and says what there is', async (t) => {
  const directory = makeDirectory('traffic');
  t.after(() => removeDirectory(directory));
  place(directory);
  const file = join(directory, 'serve.yaml');
  writeFileSync(
    file,
    'model_repository: models\ncache_dir: cache\nport: 0\ntraffic:\n  best:\n    variants: [{ tag: a, model: rewriten, weight: 1 }]\n',
  );
  const server = new ServerProcess(t, ['serve', '--config', file], { env: { HOME: directory } });
  assert.equal(await server.ended, 2, server.text);
  assert.match(
    server.err,
    /traffic\.best\.variants\[0\]: there is no model "rewriten"; there are .*ranker.*; did you mean "rewritten"\?/,
  );
});
