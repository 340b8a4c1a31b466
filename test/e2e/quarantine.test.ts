/** A model that ends the whole process while it runs. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import type { OnnxModel } from '../../src/model/onnx-writer.js';
import { call, errorOf, json, jsonInput } from '../support/http-call.js';
import { ServerProcess } from '../support/server-process.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';

/** Integer modulo: the smallest number modulo -1 overflows, which the processor answers with SIGFPE. */
const modulo: OnnxModel = {
  inputs: [
    { name: 'a', datatype: 'INT32', shape: ['n'] },
    { name: 'b', datatype: 'INT32', shape: ['n'] },
  ],
  outputs: [{ name: 'c', datatype: 'INT32', shape: ['n'] }],
  nodes: [{ op: 'Mod', inputs: ['a', 'b'], outputs: ['c'] }],
};

const ask = (url: string, a: number, b: number): ReturnType<typeof call> =>
  call(`${url}/v2/models/modulo/infer`, {
    body: { inputs: [jsonInput('a', 'INT32', [1], [a]), jsonInput('b', 'INT32', [1], [b])] },
  });

const isX64 = process.arch === 'x64';

test('a model that ends the process twice is not loaded a third time, and says why, while its neighbour serves', {
  skip: isX64 ? false : 'SIGFPE for an integer overflow is what x86 does',
}, async (t) => {
  const directory = makeDirectory('quarantine');
  t.after(() => removeDirectory(directory));
  const repository = join(directory, 'models');
  placeModel(repository, 'good', scaleModel());
  placeModel(repository, 'modulo', modulo);
  const args = ['serve', '--model_repository', repository, '--port', '0', '--thread', '1'];
  const cache = ['--cache_dir', join(directory, 'cache')];
  for (let life = 0; life < 2; life++) {
    const server = new ServerProcess(t, [...args, ...cache]);
    const url = await server.listening();
    assert.equal((await ask(url, 7, 4)).status, 200);
    await assert.rejects(ask(url, -2147483648, -1));
    assert.equal(await server.ended, 'SIGFPE');
  }
  const server = new ServerProcess(t, [...args, ...cache]);
  const url = await server.listening();
  const answer = await ask(url, 7, 4);
  assert.equal(answer.status, 503);
  assert.match(errorOf(answer), /quarantined: 2 processes ended by signal 8 while they ran it/);
  assert.equal(json(answer).code, 'SRV_MODEL_QUARANTINED');
  const good = await call(`${url}/v2/models/good/infer`, {
    body: { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] },
  });
  assert.equal(good.status, 200);
});
