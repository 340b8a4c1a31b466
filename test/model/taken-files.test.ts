import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import { TakenFiles } from '../../src/model/taken-files.js';
import { placeExternalModel } from '../publish/external-model.js';
import { scaleModel } from '../support/test-models.js';
import { temporaryDirectory } from './model-fixtures.js';

const one = writeOnnxModel(scaleModel(1));
const two = writeOnnxModel(scaleModel(2));

test('a file that is taken stays as it was, once for equal contents, until the last holder lets go', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'model.onnx');
  const taken = new TakenFiles({ directory: join(directory, 'taken'), settleMs: 20 });
  writeFileSync(file, one);
  const first = await taken.take(file);
  const again = await taken.take(file);
  assert.equal(again.file, first.file);
  writeFileSync(file, two);
  const second = await taken.take(file);
  assert.notEqual(second.file, first.file);
  assert.deepEqual(readFileSync(first.file), Buffer.from(one));
  assert.deepEqual(readFileSync(second.file), Buffer.from(two));
  await first.release();
  await first.release();
  assert.ok(existsSync(again.file));
  await again.release();
  assert.ok(!existsSync(first.file));
  await taken.close();
  assert.ok(!existsSync(second.file));
});

test('half a file is waited for, and what goes on changing is given up with its path', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'model.onnx');
  const taken = new TakenFiles({ directory: join(directory, 'taken'), settleMs: 100 });
  writeFileSync(file, one.subarray(0, 30));
  const half = taken.take(file);
  writeFileSync(file, one);
  assert.deepEqual(readFileSync((await half).file), Buffer.from(one));

  const slow = new TakenFiles({ directory: join(directory, 'slow'), settleMs: 1500, patienceMs: 3000 });
  const busy = setInterval(() => writeFileSync(file, one), 10);
  t.after(() => clearInterval(busy));
  await assert.rejects(slow.take(file), {
    code: 'SRV_IO',
    message: /model\.onnx: its files kept changing for 3000 ms/,
  });
  clearInterval(busy);
  const left = ['taken', 'slow'].flatMap((name) => {
    const copies = join(directory, name);
    return existsSync(copies) ? readdirSync(copies, { recursive: true }).map(String) : [];
  });
  assert.equal(left.filter((name) => name.endsWith('model.onnx')).length, 1, 'no copy of a try is left');
});

test('files of the future are taken once they have been left alone, by the clock that goes on', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'model.onnx');
  writeFileSync(file, one);
  const now = Date.now();
  t.mock.method(Date, 'now', () => now - 3_600_000);
  const taken = new TakenFiles({ directory: join(directory, 'taken'), settleMs: 100, patienceMs: 5_000 });
  assert.deepEqual(readFileSync((await taken.take(file)).file), Buffer.from(one));
  await taken.close();
});

test('of a copy that fails nothing is left', async (t) => {
  const directory = temporaryDirectory(t);
  const file = placeExternalModel(directory);
  rmSync(join(directory, 'big.weights'));
  mkdirSync(join(directory, 'big.weights'));
  const place = join(directory, 'taken');
  const taken = new TakenFiles({ directory: place, settleMs: 10 });
  await assert.rejects(taken.take(file));
  const left = existsSync(place) ? readdirSync(place, { recursive: true }).map(String) : [];
  assert.deepEqual(
    left.filter((name) => name.includes('.work-')),
    [],
  );
});

test('a file that is no model and is left alone is refused, as is one that is gone', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'model.onnx');
  const taken = new TakenFiles({ directory: join(directory, 'taken'), settleMs: 10, patienceMs: 300 });
  writeFileSync(file, 'this is no model');
  await assert.rejects(taken.take(file), { code: 'SRV_MODEL_INVALID' });
  rmSync(file);
  await assert.rejects(taken.take(file), { code: 'SRV_IO', message: /model\.onnx/ });
});

test('what ended processes left is removed, and what living ones have is not', async (t) => {
  const directory = join(temporaryDirectory(t), 'taken');
  mkdirSync(join(directory, '999999999-1/digest'), { recursive: true });
  mkdirSync(join(directory, `${process.pid}-0/digest`), { recursive: true });
  await new TakenFiles({ directory, settleMs: 10 }).removeLeftovers();
  assert.deepEqual(readdirSync(directory), [`${process.pid}-0`]);
});
