import assert from 'node:assert/strict';
import { chmodSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readOnnxFile } from '../../src/model/onnx-file.js';
import type { OnnxModel } from '../../src/model/onnx-writer.js';
import { Preparer, type PreparerOptions } from '../../src/model/preparer.js';
import { denseModel, rowModel, sharedModels, temporaryDirectory, writeModel } from './model-fixtures.js';

function openPreparer(t: TestContext, options: PreparerOptions = {}): Preparer {
  const preparer = new Preparer(options);
  t.after(() => preparer.close());
  return preparer;
}

test('large weights are put where clones share them, and a second start takes them from the cache', async (t) => {
  const directory = temporaryDirectory(t);
  const cacheDirectory = join(directory, 'cache');
  const path = writeModel(directory, denseModel(3, 1024));
  const first = await openPreparer(t, { cacheDirectory }).prepare({ path });
  assert.notEqual(first.form, 'original', first.formReason);
  assert.equal(first.cached, false);
  assert.equal(first.weightBytes, 3 * 4 * 2 ** 20);
  assert.equal(first.batching.rowsIndependent, true);
  assert.deepEqual(first.batching.rowShapes, { y: [1024] });
  assert.ok(readOnnxFile(first.file).constants.every((constant) => constant.externalFile));
  for (const measure of first.measures) {
    assert.equal(measure.refused, undefined);
    assert.ok(
      measure.privateBytes < 2 ** 21,
      `${measure.form}: ${measure.privateBytes} bytes are not shared`,
    );
  }
  const second = await openPreparer(t, { cacheDirectory }).prepare({ path });
  assert.deepEqual(second, { ...first, cached: true });
  const off = await openPreparer(t, { cacheDirectory }).prepare({ path, prepacking: 'off' });
  assert.equal(off.form, 'prepared');
  assert.equal(off.sessionExtra['session.disable_prepacking'], '1');
  const on = await openPreparer(t, { cacheDirectory }).prepare({ path, prepacking: 'on' });
  assert.equal(on.form, 'prepacked');
});

test('a model that was trained anew gets the form that was measured before, with its own weights', async (t) => {
  const directory = temporaryDirectory(t);
  const preparer = openPreparer(t, { cacheDirectory: join(directory, 'cache') });
  const dense = denseModel(1, 1024);
  const first = await preparer.prepare({ path: writeModel(directory, dense) });
  const weights = dense.initializers![0]!.data as Float32Array;
  const trained = weights.map((value) => value * 1.5);
  const initializers = [{ ...dense.initializers![0]!, data: trained }];
  const next = await preparer.prepare({
    path: writeModel(directory, { ...dense, initializers }, 'next.onnx'),
  });
  assert.equal(next.form, first.form);
  assert.match(next.formReason, /an earlier model of the same structure/);
  const kept = readFileSync(join(next.file, '..', 'model.weights'));
  if (next.form === 'prepared') assert.ok(kept.includes(Buffer.from(trained.buffer)));
  assert.ok(!kept.equals(readFileSync(join(first.file, '..', 'model.weights'))));
});

test('a cut prepared form is made anew', async (t) => {
  const directory = temporaryDirectory(t);
  // Which form a busy machine finds faster is not the question here.
  const options = { cacheDirectory: join(directory, 'cache') };
  const path = writeModel(directory, denseModel(1, 1024));
  const first = await openPreparer(t, options).prepare({ path, prepacking: 'off' });
  const weights = join(first.file, '..', 'model.weights');
  const bytes = statSync(weights).size;
  chmodSync(weights, 0o600);
  truncateSync(weights, 1000);
  const healed = await openPreparer(t, options).prepare({ path, prepacking: 'off' });
  assert.equal(healed.cached, false);
  assert.equal(statSync(join(healed.file, '..', 'model.weights')).size, bytes);
});

test('two servers that prepare the same model at once both get a whole form of one entry', async (t) => {
  const directory = temporaryDirectory(t);
  const options = { cacheDirectory: join(directory, 'cache') };
  const path = writeModel(directory, denseModel(1, 1024));
  const preparers = [openPreparer(t, options), openPreparer(t, options)];
  const models = await Promise.all(preparers.map((preparer) => preparer.prepare({ path })));
  assert.equal(models[0]?.file, models[1]?.file);
  assert.deepEqual(models.map(({ cached }) => cached).sort(), [false, true]);
  const left = readdirSync(options.cacheDirectory);
  assert.equal(left.filter((name) => name.endsWith('.d')).length, 1);
  assert.equal(left.length, 2, left.join(', '));
});

test('without a cache that can be written a model is served from its own file, and the reason is told', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'a-file');
  writeFileSync(file, '');
  const path = writeModel(directory, denseModel(1, 1024));
  const model = await openPreparer(t, { cacheDirectory: join(file, 'cache') }).prepare({ path });
  assert.equal(model.form, 'original');
  assert.equal(model.file, path);
  assert.match(model.formReason, /cannot be written: ENOTDIR/);
  const uncached = await openPreparer(t).prepare({ path });
  assert.match(uncached.formReason, /no cache directory/);
});

test('a cache limit that has no room for the weights is kept, and the reason is told', async (t) => {
  const directory = temporaryDirectory(t);
  const cacheDirectory = join(directory, 'cache');
  const path = writeModel(directory, denseModel(1, 1024));
  const none = await openPreparer(t, { cacheDirectory, cacheMaxBytes: 2 ** 20 }).prepare({ path });
  assert.equal(none.form, 'original');
  assert.match(none.formReason, /cache limit leaves no room/);
  const once = await openPreparer(t, { cacheDirectory, cacheMaxBytes: 6 * 2 ** 20 }).prepare({ path });
  assert.equal(once.form, 'prepared', once.formReason);
  assert.match(once.measures[1]?.refused ?? '', /no room for 8388608 bytes/);
});

test('an old model is lifted, so that its prepared form keeps its inputs', async (t) => {
  const directory = temporaryDirectory(t);
  const dense = denseModel(1, 1024);
  const old: OnnxModel = {
    ...dense,
    nodes: [
      ...dense.nodes.map((node) => ({ ...node, outputs: ['h'] })),
      { op: 'Relu', inputs: ['h'], outputs: ['y'] },
    ],
    inputs: [...dense.inputs, { name: 'w0', datatype: 'FP32', shape: [1024, 1024] }],
    irVersion: 3,
    opsets: { '': 8 },
  };
  const path = writeModel(directory, old);
  const model = await openPreparer(t, { cacheDirectory: join(directory, 'cache') }).prepare({ path });
  assert.notEqual(model.form, 'original', model.formReason);
  assert.deepEqual(
    model.signature.inputs.map(({ name }) => name),
    ['x'],
  );
});

test('weights in a file beside the model are shared too, and a missing file is told', async (t) => {
  const directory = temporaryDirectory(t);
  const dense = denseModel(1, 1024);
  const data = dense.initializers![0]!.data!;
  writeFileSync(join(directory, 'w.bin'), new Uint8Array(data.buffer));
  const withFile = (location: string): OnnxModel => ({
    ...dense,
    initializers: [
      {
        name: 'w0',
        datatype: 'FP32',
        shape: [1024, 1024],
        external: { location, offset: 0, length: data.byteLength },
      },
    ],
  });
  const preparer = openPreparer(t, { cacheDirectory: join(directory, 'cache') });
  const model = await preparer.prepare({ path: writeModel(directory, withFile('w.bin')) });
  assert.notEqual(model.form, 'original', model.formReason);
  assert.ok(model.fileBytes > data.byteLength);
  for (const location of ['gone.bin', '../w.bin', '/etc/hostname']) {
    const path = writeModel(directory, withFile(location), 'bad.onnx');
    await assert.rejects(preparer.prepare({ path }), { code: 'SRV_MODEL_INVALID', message: /external data/ });
  }
});

test('a model whose branches hold weights is served from its own file', async (t) => {
  const directory = temporaryDirectory(t);
  const dense = denseModel(2, 1024);
  const branch = (weight: number) => ({
    nodes: [{ op: 'MatMul', inputs: ['x', `w${weight}`], outputs: [`out${weight}`] }],
    inputs: [],
    outputs: [{ name: `out${weight}`, datatype: 'FP32' as const, shape: ['batch', 1024] }],
    initializers: [dense.initializers![weight]!],
  });
  const model: OnnxModel = {
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w0'], outputs: ['h'] },
      {
        op: 'If',
        inputs: ['c'],
        outputs: ['b'],
        attributes: {
          then_branch: { graph: branch(1) },
          else_branch: {
            graph: {
              ...branch(1),
              nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['out1'] }],
              initializers: [],
            },
          },
        },
      },
      { op: 'Add', inputs: ['h', 'b'], outputs: ['y'] },
    ],
    inputs: [...dense.inputs, { name: 'c', datatype: 'BOOL', shape: [] }],
    outputs: dense.outputs,
    initializers: [dense.initializers![0]!],
  };
  const path = writeModel(directory, model);
  const prepared = await openPreparer(t, { cacheDirectory: join(directory, 'cache') }).prepare({ path });
  assert.equal(prepared.form, 'original');
  assert.match(prepared.formReason, /branch or loop body holds weights/);
  assert.equal(prepared.trial.ran, true);
});

test('rows that interact are found out, whatever the operator', async (t) => {
  const directory = temporaryDirectory(t);
  const preparer = openPreparer(t);
  const verdict = async (model: OnnxModel) =>
    (await preparer.prepare({ path: writeModel(directory, model) })).batching;
  const alone = await verdict(rowModel({ op: 'Softmax', attributes: { axis: { int: 1 } } }));
  assert.deepEqual(alone.rowShapes, { y: [4] });
  assert.equal(alone.rowsIndependent, true);
  const axes = { axes: { ints: [0] }, keepdims: { int: 1 } };
  const interacting = [
    rowModel({ op: 'Softmax', attributes: { axis: { int: 0 } } }),
    rowModel({ op: 'ReduceMean', attributes: axes }),
    rowModel({ op: 'CumSum', inputs: ['x', 'axis'] }),
    rowModel({ op: 'RandomNormalLike' }),
  ].map((model) => ({
    ...model,
    initializers: [{ name: 'axis', datatype: 'INT64', shape: [], data: BigInt64Array.of(0n) }] as const,
  }));
  for (const model of interacting) {
    const { rowsIndependent, reason } = await verdict(model);
    assert.equal(rowsIndependent, false, `${model.nodes[0]?.op}: ${reason}`);
  }
});

test('a model that ends the process is refused with its signal, and the next one is prepared', async (t) => {
  const directory = temporaryDirectory(t);
  // The smallest integer modulo -1, made at run time so that loading does not see it: SIGFPE.
  const modulo: OnnxModel = {
    nodes: [
      { op: 'Sub', inputs: ['x', 'x'], outputs: ['zero'] },
      { op: 'Add', inputs: ['zero', 'smallest'], outputs: ['a'] },
      { op: 'Sub', inputs: ['zero', 'one'], outputs: ['b'] },
      { op: 'Mod', inputs: ['a', 'b'], outputs: ['y'] },
    ],
    inputs: [{ name: 'x', datatype: 'INT32', shape: ['N', 4] }],
    outputs: [{ name: 'y', datatype: 'INT32', shape: ['N', 4] }],
    initializers: [
      { name: 'smallest', datatype: 'INT32', shape: [1], data: Int32Array.of(-(2 ** 31)) },
      { name: 'one', datatype: 'INT32', shape: [1], data: Int32Array.of(1) },
    ],
  };
  const preparer = openPreparer(t);
  const [crash, next] = await Promise.allSettled([
    preparer.prepare({ path: writeModel(directory, modulo, 'modulo.onnx') }),
    preparer.prepare({ path: writeModel(directory, rowModel({ op: 'Relu' })) }),
  ]);
  assert.equal(next.status, 'fulfilled');
  assert.equal(crash.status, 'rejected');
  assert.match(String(crash.reason), /modulo\.onnx: .*signal SIG/);
});

test('an INT4 output, which ends a process that reads it, is hidden beside another output', async (t) => {
  const model: OnnxModel = {
    ...rowModel({ op: 'Relu' }),
    nodes: [
      { op: 'Cast', inputs: ['x'], outputs: ['q'], attributes: { to: { int: 22 } } },
      { op: 'Relu', inputs: ['x'], outputs: ['y'] },
    ],
    outputs: [
      { name: 'q', datatype: 22, shape: ['batch', 4] },
      { name: 'y', datatype: 'FP32', shape: ['batch', 4] },
    ],
    opsets: { '': 21 },
    irVersion: 10,
  };
  const prepared = await openPreparer(t).prepare({ path: writeModel(temporaryDirectory(t), model) });
  assert.deepEqual(prepared.hiddenOutputs, ['q']);
  assert.equal(prepared.trial.ran, true);
});

test('a file that is no model is refused and the process lives on', async (t) => {
  const directory = temporaryDirectory(t);
  const preparer = openPreparer(t);
  const path = join(directory, 'model.onnx');
  for (const content of ['', 'not a model', Buffer.alloc(10_000, 0x5a)]) {
    writeFileSync(path, content);
    await assert.rejects(preparer.prepare({ path }), { code: 'SRV_MODEL_INVALID' });
  }
  await assert.rejects(preparer.prepare({ path: join(directory, 'gone.onnx') }), { code: 'SRV_IO' });
});

test('a model for another provider is tried for its rows, and neither timed nor prepared', async (t) => {
  const directory = temporaryDirectory(t);
  const path = writeModel(directory, denseModel(1, 1024));
  const preparer = openPreparer(t, { cacheDirectory: join(directory, 'cache') });
  const model = await preparer.prepare({ path, executionProviders: ['cuda', 'cpu'] });
  assert.equal(model.form, 'original');
  assert.equal(model.batching.rowsIndependent, true);
  assert.equal(model.trial.p99Us, undefined);
});

test('every model of the refused set is refused with a reason while others are prepared', async (t) => {
  const paths = sharedModels(t, 'conformance/refused');
  if (!paths) return;
  const preparer = openPreparer(t);
  for (const path of paths) {
    await assert.rejects(preparer.prepare({ path }), (error: Error & { code?: string }) => {
      assert.match(error.code!, /^SRV_MODEL_(UNSUPPORTED|INVALID)$/);
      assert.ok(error.message.length > path.length + 20, error.message);
      return true;
    });
  }
});

test('models with a ZipMap are served without it', async (t) => {
  const paths = sharedModels(t, 'models');
  if (!paths) return;
  const preparer = openPreparer(t);
  for (const path of paths.filter((candidate) => candidate.includes('zipmap'))) {
    const model = await preparer.prepare({ path });
    assert.equal(model.hiddenOutputs.length, 1);
    assert.equal(model.signature.outputs.length, 1);
    assert.equal(model.trial.ran, true, model.trial.reason);
  }
});

for (const folder of ['models', 'conformance/onnx', 'conformance/wire']) {
  test(`all models of ${folder} are prepared, and again from the cache without the engine`, async (t) => {
    const paths = sharedModels(t, folder);
    if (!paths) return;
    const cacheDirectory = join(temporaryDirectory(t), 'cache');
    for (const isWarm of [false, true]) {
      const preparer = openPreparer(t, { cacheDirectory });
      const startedAt = performance.now();
      for (const path of paths) {
        const { cached } = await preparer.prepare({ path });
        if (isWarm) assert.ok(cached, path);
      }
      const ms = (performance.now() - startedAt) / paths.length;
      t.diagnostic(`${paths.length} models, ${ms.toFixed(1)} ms each, ${isWarm ? 'warm' : 'cold'}`);
      await preparer.close();
    }
  });
}
