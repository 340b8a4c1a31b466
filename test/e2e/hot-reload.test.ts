/** Two hundred versions in a row under traffic, in the real server, with bad ones among them. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import { type Answer, call, json, jsonInput } from '../support/http-call.js';
import { ServerProcess } from '../support/server-process.js';
import { makeDirectory, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

const infer = (url: string): Promise<Answer> =>
  call(`${url}/v2/models/m/infer`, { body: { inputs: [jsonInput('x', 'FP32', [1, 4], [1, 1, 1, 1])] } });

// The smallest integer modulo -1, made at run time: SIGFPE on x86, an answer elsewhere.
const crashing = writeOnnxModel({
  nodes: [
    { op: 'Cast', inputs: ['x'], outputs: ['whole'], attributes: { to: { int: 6 } } },
    { op: 'Sub', inputs: ['whole', 'whole'], outputs: ['zero'] },
    { op: 'Add', inputs: ['zero', 'smallest'], outputs: ['a'] },
    { op: 'Sub', inputs: ['zero', 'one'], outputs: ['b'] },
    { op: 'Mod', inputs: ['a', 'b'], outputs: ['c'] },
    { op: 'Cast', inputs: ['c'], outputs: ['y'], attributes: { to: { int: 1 } } },
  ],
  inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 4] }],
  outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 4] }],
  initializers: [
    { name: 'smallest', datatype: 'INT32', shape: [1], data: Int32Array.of(-(2 ** 31)) },
    { name: 'one', datatype: 'INT32', shape: [1], data: Int32Array.of(1) },
  ],
});

test('two hundred versions replace each other under load on one thread; no request fails or is answered by another', async (t) => {
  const directory = makeDirectory('hot-reload');
  t.after(() => removeDirectory(directory));
  const repository = join(directory, 'models');
  const publish = (version: number, bytes: Uint8Array): void => {
    const staging = join(repository, '.staging');
    mkdirSync(staging, { recursive: true });
    writeFileSync(join(staging, 'model.onnx'), bytes);
    // Whole at once: no waiting for the files to be left alone.
    writeFileSync(join(staging, '_SUCCESS'), '');
    mkdirSync(join(repository, 'm'), { recursive: true });
    renameSync(staging, join(repository, 'm', String(version)));
  };
  const good = (version: number): Uint8Array => writeOnnxModel(scaleModel(version));
  publish(1, good(1));
  const args = ['serve', '--model_repository', repository, '--port', '0', '--thread', '1'];
  const server = new ServerProcess(t, [...args, '--cache_dir', join(directory, 'cache')], {
    env: { HOME: directory },
  });
  const url = await server.listening();

  const wrong: string[] = [];
  let newest = 0;
  let answers = 0;
  let isOver = false;
  const client = async (): Promise<void> => {
    while (!isOver) {
      const answer = await infer(url);
      answers += 1;
      if (answer.status !== 200) {
        wrong.push(`${answer.status} ${answer.body}`);
        continue;
      }
      const { model_version, outputs } = json<{ model_version: string; outputs: { data: number[] }[] }>(
        answer,
      );
      if (outputs[0]!.data.some((value) => value !== Number(model_version))) {
        wrong.push(`version ${model_version} answered ${outputs[0]!.data}`);
      }
      newest = Math.max(newest, Number(model_version));
    }
  };
  const clients = [client(), client(), client(), client()];
  const failed: number[] = [];
  for (let version = 2; version <= 200; version++) {
    if (version % 50 === 0) {
      publish(
        version,
        version % 100 === 0 && process.arch === 'x64' ? crashing : Buffer.from('this is no model'),
      );
      failed.push(version);
      await until(`version ${version} has failed`, async () => {
        const index = json<{ version: string; reason: string }[]>(
          await call(`${url}/v2/repository/index`, { method: 'POST' }),
        );
        return index.some((entry) => entry.version === String(version) && entry.reason !== '');
      });
      assert.ok(newest < version);
      continue;
    }
    publish(version, good(version));
    await until(`version ${version} answers`, () => newest >= version || wrong.length > 0);
    if (wrong.length > 0) break;
  }
  isOver = true;
  await Promise.all(clients);
  assert.deepEqual(wrong, []);
  assert.equal(newest, 199);
  assert.deepEqual(failed, [50, 100, 150, 200]);
  assert.ok(answers > 199, `${answers} answers`);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.text);
});
