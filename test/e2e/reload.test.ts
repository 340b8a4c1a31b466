/** Models that come and go under the traffic of others, in the real server. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Answer, call, json, jsonInput } from '../support/http-call.js';
import { ServerProcess } from '../support/server-process.js';
import {
  makeDirectory,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
} from '../support/test-models.js';

const infer = (url: string, model: string): Promise<Answer> =>
  call(`${url}/v2/models/${model}/infer`, {
    body: { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] },
  });

test('thirty loads and unloads of one model lose no request to another, and a reload none to itself', async (t) => {
  const directory = makeDirectory('reload');
  t.after(() => removeDirectory(directory));
  const repository = join(directory, 'models');
  placeModel(repository, 'steady', scaleModel(2));
  placeModel(repository, 'coming', scaleModel(3));
  placeVersion(repository, 'growing', 1, scaleModel(10));
  const server = new ServerProcess(
    t,
    [
      'serve',
      '--model_repository',
      repository,
      '--port',
      '0',
      '--thread',
      '2',
      '--cache_dir',
      join(directory, 'cache'),
    ],
    { env: { HOME: directory } },
  );
  const url = await server.listening();
  const change = async (model: string, verb: 'load' | 'unload'): Promise<void> => {
    const answer = await call(`${url}/v2/repository/models/${model}/${verb}`, { method: 'POST' });
    assert.equal(answer.status, 200, answer.body.toString());
  };
  const failures: string[] = [];
  const counts = new Map<string, number>();
  let isOver = false;
  const traffic = async (model: string, isRight: (first: number) => boolean): Promise<void> => {
    while (!isOver) {
      const answer = await infer(url, model);
      const first =
        answer.status === 200
          ? json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data[0]!
          : Number.NaN;
      if (isRight(first)) counts.set(model, (counts.get(model) ?? 0) + 1);
      else failures.push(`${model} ${answer.status} ${answer.body}`);
    }
  };
  let newest = 1;
  const clients = [
    traffic('steady', (first) => first === 2),
    traffic('steady', (first) => first === 2),
    traffic('growing', (first) => first % 10 === 0 && first >= 10 && first <= 10 * (newest + 1)),
  ];
  for (let cycle = 1; cycle <= 30; cycle++) {
    await change('coming', 'unload');
    assert.equal((await infer(url, 'coming')).status, 503);
    await change('coming', 'load');
    assert.equal((await infer(url, 'coming')).status, 200);
    if (cycle % 10 === 0) {
      newest += 1;
      placeVersion(repository, 'growing', newest, scaleModel(10 * newest));
      await change('growing', 'load');
      const { model_version } = json(await infer(url, 'growing'));
      assert.equal(model_version, String(newest));
    } else if (cycle % 10 === 5) await change('growing', 'load');
  }
  isOver = true;
  await Promise.all(clients);
  assert.deepEqual(failures, []);
  assert.ok(counts.get('steady')! > 60 && counts.get('growing')! > 30, String([...counts]));
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
});
