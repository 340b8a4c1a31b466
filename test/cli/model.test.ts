import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inspectModel, type PrepareWorld, prepareModels } from '../../src/cli/model.js';
import type { RuntimeConfig } from '../../src/config/schema.js';
import { ServingError } from '../../src/errors.js';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import type { PreparedModel, PrepareRequest } from '../../src/model/prepared-model.js';

const root = mkdtempSync(join(tmpdir(), 'model-'));
after(() => rmSync(root, { recursive: true }));

function modelFile(directory: string, weights: number): string {
  mkdirSync(join(root, directory), { recursive: true });
  const file = join(root, directory, 'model.onnx');
  const model = writeOnnxModel({
    name: 'net',
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', weights] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', weights] }],
    initializers: [{ name: 'w', datatype: 'FP32', shape: [weights], data: new Float32Array(weights) }],
    nodes: [{ op: 'Add', inputs: ['x', 'w'], outputs: ['y'] }],
  });
  writeFileSync(file, model);
  return file;
}

test('inspecting shows signature, opsets, initialisers by size and the form to come', async () => {
  const text = await inspectModel(modelFile('small', 4), { json: false });
  assert.match(text, /^file +\S+model\.onnx\n/);
  assert.match(text, /opsets +ai\.onnx \d+/);
  assert.match(text, /Inputs\n +x +FP32 +\[batch,4\]/);
  assert.match(text, /Outputs\n +y +FP32 +\[batch,4\]/);
  assert.match(text, /Initialisers by size: 1, together 16 B\n +w +FP32 +\[4\] +16 B/);
  assert.match(text, /prepared form +original: no weights of 1 MiB or more/);
});

test('a model with large weights will have a prepared form, as JSON too', async () => {
  const file = modelFile('large', 1 << 19);
  const facts = JSON.parse(await inspectModel(join(root, 'large'), { json: true })) as {
    file: string;
    preparedForm: { form: string; reason: string };
  };
  assert.equal(facts.file, file);
  assert.equal(facts.preparedForm.form, 'prepared');
  assert.match(facts.preparedForm.reason, /2\.0 MiB of weights/);
});

test('inspecting what is no ONNX model says what it is', async () => {
  const directory = join(root, 'not-onnx');
  mkdirSync(directory);
  writeFileSync(join(directory, 'empty.onnx'), '');
  writeFileSync(join(directory, 'net.h5'), '');
  await assert.rejects(inspectModel(join(directory, 'empty.onnx'), { json: false }), {
    code: 'SRV_MODEL_INVALID',
  });
  await assert.rejects(inspectModel(join(directory, 'net.h5'), { json: false }), {
    code: 'SRV_FOREIGN_FORMAT',
  });
  for (const absent of ['absent.onnx', 'absent', 'empty.onnx/1']) {
    await assert.rejects(inspectModel(join(directory, absent), { json: false }), {
      code: 'SRV_MODEL_NOT_FOUND',
      message: `There is nothing at ${join(directory, absent)}.`,
    });
  }
  // What is there and cannot be read is another failure.
  symlinkSync('loop', join(directory, 'loop'));
  await assert.rejects(inspectModel(join(directory, 'loop'), { json: false }), { code: 'SRV_IO' });
});

class FakePrepareWorld implements PrepareWorld {
  readonly surroundings = { env: {}, homeDir: '/h', tempDir: '/t', usableCpus: 1, isTerminal: false };
  out = '';
  err = '';
  config: RuntimeConfig | undefined;
  readonly requests: PrepareRequest[] = [];
  isClosed = false;
  readonly stdout = { write: (text: string) => (this.out += text) };
  readonly stderr = { write: (text: string) => (this.err += text) };

  openPreparer(config: RuntimeConfig): ReturnType<PrepareWorld['openPreparer']> {
    this.config = config;
    return {
      prepare: async (request) => {
        this.requests.push(request);
        if (request.path.includes('crash')) throw new ServingError('SRV_MODEL_CRASHED', 'it crashed');
        return { form: 'prepared', formReason: 'it is large', cached: false } as PreparedModel;
      },
      close: async () => {
        this.isClosed = true;
      },
    };
  }
}

test('preparing goes through models and repositories, and counts the ones that fail', async () => {
  const file = modelFile('places/one', 4);
  modelFile('places/repository/a', 4);
  modelFile('places/repository/crash', 4);
  writeFileSync(join(root, 'places/one/model.json'), '{"prepare": "off", "prepacking": "on"}');
  const world = new FakePrepareWorld();
  const failures = await prepareModels(
    [file, join(root, 'places/repository')],
    { cacheDir: '/cache' },
    world,
  );
  assert.equal(failures, 1);
  assert.equal(world.config?.cacheDir, '/cache');
  assert.deepEqual(world.requests[0], { path: file, prepacking: 'on', prepared: 'off' });
  assert.match(world.out, /^one: prepared \(it is large\), took .*\na: prepared/);
  assert.equal(world.err, 'crash: failed: it crashed\n');
  assert.ok(world.isClosed);
});

test('preparing a place without models fails and says so', async () => {
  const world = new FakePrepareWorld();
  assert.equal(await prepareModels([join(root, 'absent')], {}, world), 1);
  assert.match(world.err, /absent: failed: .*cannot be read/);
});
