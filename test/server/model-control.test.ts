/** Rollback and the reading of a models.config by request, over HTTP. */
import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Answer, call, errorOf, json, jsonInput } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { makeDirectory, placeVersion, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

const row = { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] };

let served: Served;
before(async () => {
  served = await serveModels({ other: scaleModel(7) }, { runtime: { modelControl: 'explicit', threads: 1 } });
});
after(() => served.close());

/** Posts to a route of the repository. */
const post = (path: string, { url } = served): Promise<Answer> =>
  call(`${url}/v2/repository/${path}`, { method: 'POST' });

/** What a model answers with: its version, and the factor of the scale model. */
async function ask(model: string, { url } = served): Promise<readonly [version: string, factor: number]> {
  const answer = await call(`${url}/v2/models/${model}/infer`, { body: row });
  assert.equal(answer.status, 200, answer.body.toString());
  const reply = json<{ model_version: string; outputs: { data: number[] }[] }>(answer);
  return [reply.model_version, reply.outputs[0]!.data[0]!];
}

function assertRefused(answer: Answer, status: number, code: string, message: RegExp): void {
  assert.equal(answer.status, status, answer.body.toString());
  assert.equal(json(answer).code, code);
  assert.match(errorOf(answer), message);
}

for (const kept of [0, 1]) {
  test(`a rollback by request has the version before serve, and answers with it, where ${kept} is kept`, async () => {
    const model = `ranker${kept}`;
    for (const version of [1, 2]) {
      placeVersion(served.repository, model, version, scaleModel(version));
      writeFileSync(join(served.repository, model, 'model.json'), JSON.stringify({ keep_previous: kept }));
      assert.equal((await post(`models/${model}/load`)).status, 200);
    }
    assert.deepEqual(await ask(model), ['2', 2]);
    const answer = await post(`models/${model}/rollback`);
    assert.equal(answer.status, 200, answer.body.toString());
    assert.deepEqual(json(answer), { name: model, version: '1' });
    assert.deepEqual(await ask(model), ['1', 1]);
    assertRefused(
      await post(`models/${model}/rollback`),
      404,
      'SRV_MODEL_NOT_FOUND',
      new RegExp(`no earlier version is kept \\(keep_previous ${kept}\\) .* served is version 1`),
    );
    assert.deepEqual(await ask(model), ['1', 1]);
  });
}

test('a rollback of a model that is not there, or has one version alone, is a 404 and changes nothing', async () => {
  for (const [model, message] of [
    ['nobody', /failed to roll back 'nobody': unknown model/],
    ['other', /failed to roll back 'other': no earlier version is kept/],
  ] as const) {
    assertRefused(await post(`models/${model}/rollback`), 404, 'SRV_MODEL_NOT_FOUND', message);
  }
  assert.deepEqual(await ask('other'), ['1', 7]);
});

test('a models.config is read again by request, and one that cannot be read is a 400 and changes nothing', async (t) => {
  const directory = makeDirectory('models-config');
  t.after(() => removeDirectory(directory));
  for (const version of [1, 2]) placeVersion(directory, 'm', version, scaleModel(version));
  const modelConfigFile = join(directory, 'models.config');
  const write = (version: number): void => {
    writeFileSync(
      `${modelConfigFile}.new`,
      `model_config_list { config {
        name: "listed" base_path: "m" model_version_policy { specific { versions: ${version} } }
      } }`,
    );
    renameSync(`${modelConfigFile}.new`, modelConfigFile);
  };
  write(1);
  const configured = await serveModels(
    { other: scaleModel(7) },
    { runtime: { modelControl: 'explicit', modelConfigFile, fileSystemPollWaitSeconds: 0, threads: 1 } },
  );
  t.after(() => configured.close());
  assert.deepEqual(await ask('listed', configured), ['1', 1]);
  write(2);
  const answer = await post('config/reload', configured);
  assert.deepEqual([answer.status, answer.body.toString()], [200, '']);
  await until('what it names now is served', async () => (await ask('listed', configured))[0] === '2');
  writeFileSync(modelConfigFile, 'model_config_list { config { name: "listed"');
  assertRefused(await post('config/reload', configured), 400, 'SRV_BAD_CONFIG', /models\.config:1:\d+: /);
  assert.deepEqual(await ask('listed', configured), ['2', 2]);
});

test('without a models.config, reading it again is a 400 that says so', async () => {
  assertRefused(await post('config/reload'), 400, 'SRV_BAD_CONFIG', /model_config_file is not set/);
});

test('without model control, rolling back and reading a models.config are a 403', async (t) => {
  const closed = await serveModels({ other: scaleModel(7) }, { runtime: { threads: 1 } });
  t.after(() => closed.close());
  for (const path of ['models/other/rollback', 'models/nobody/rollback', 'config/reload']) {
    assertRefused(await post(path, closed), 403, 'SRV_MODEL_CONTROL_OFF', /--model_control explicit/);
  }
  assert.deepEqual(await ask('other', closed), ['1', 7]);
});
