import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Engine, EngineSession } from '../../src/model/engine-session.js';
import { MeasuredStructures } from '../../src/model/measured-structures.js';
import type { ExcludedForm } from '../../src/model/prepare-messages.js';
import { type CachedModel, type PrepareContext, prepareModel } from '../../src/model/prepare-model.js';
import { PreparedCache } from '../../src/model/prepared-cache.js';
import { hashFile } from '../../src/native/binding.js';
import type { Tensor } from '../../src/tensor/tensor.js';
import { denseModel, temporaryDirectory, writeModel } from './model-fixtures.js';

const size = 512;
const owner = 'test';

/** An engine whose models give what they are given, and that notes what is opened. */
class RecordingEngine implements Engine {
  readonly opened: string[] = [];
  /** What is added to the results of forms that are opened from now on. */
  formError = 0;

  async open(model: string | Uint8Array, { optimizedFile }: { optimizedFile?: string } = {}) {
    const isForm = typeof model === 'string' && dirname(model).endsWith('prepared');
    const what = optimizedFile
      ? `write ${dirname(optimizedFile).split('/').at(-1)}`
      : isForm
        ? 'form'
        : 'original';
    this.opened.push(what);
    if (optimizedFile) {
      writeFileSync(optimizedFile, 'graph');
      writeFileSync(join(dirname(optimizedFile), 'model.weights'), 'weights');
    }
    return identity(isForm ? this.formError : 0);
  }

  /** What was opened since the last call. */
  take(): string[] {
    return this.opened.splice(0);
  }
}

function identity(error: number): EngineSession {
  return {
    inputs: [{ name: 'x', isTensor: true, shape: [-1, size] }],
    outputs: [{ name: 'y', isTensor: true, shape: [-1, size] }],
    run: async ({ x }) => {
      const { shape, data } = x as Tensor & { data: Float32Array };
      return { y: { datatype: 'FP32', shape, data: data.map((value) => value + error) } };
    },
    close: async () => {},
  };
}

function setUp(t: TestContext) {
  const directory = temporaryDirectory(t);
  const cacheDirectory = join(directory, 'cache');
  const engine = new RecordingEngine();
  const phases: string[] = [];
  const context: PrepareContext = {
    engine: async () => engine,
    cache: new PreparedCache<CachedModel>({ directory: cacheDirectory, maxBytes: 2 ** 30, hashFile, owner }),
    cacheDirectory,
    measured: new MeasuredStructures(),
    hashFile,
    environment: [],
    enter: async (phase) => void phases.push(phase),
    excluded: [],
  };
  /** Writes a version with weights of its own and prepares it. */
  const prepare = (version: number, changes: Partial<PrepareContext> = {}, width = size) => {
    const model = denseModel(1, width);
    model.initializers![0]!.data![0] = version;
    const path = writeModel(directory, model, `v${version}.onnx`);
    return prepareModel({ path, prepacking: 'off' }, { ...context, ...changes });
  };
  return { engine, phases, context, prepare };
}

const longWay = ['original', 'write prepared', 'form', 'form'];

test('a model of a structure that was measured is made in that form alone, while it is tried', async (t) => {
  const { engine, phases, prepare } = setUp(t);
  const first = await prepare(1);
  assert.equal(first.form, 'prepared', first.formReason);
  assert.deepEqual(engine.take(), longWay);
  phases.length = 0;
  for (const version of [2, 3]) {
    const next = await prepare(version);
    assert.deepEqual(engine.take(), ['write prepared', 'form']);
    assert.match(next.formReason, /best for an earlier model of the same structure/);
    assert.deepEqual(next.measures, []);
    assert.notEqual(next.file, first.file);
    assert.notEqual(next.digest, first.digest);
    assert.deepEqual(
      { form: next.form, batching: next.batching, extra: next.sessionExtra },
      { form: 'prepared', batching: first.batching, extra: first.sessionExtra },
    );
  }
  // A crash of either is one of this form.
  assert.deepEqual(phases, ['prepared', 'prepared']);
});

test('what the cache tells of an earlier version is known after a restart', async (t) => {
  const { engine, prepare } = setUp(t);
  await prepare(1);
  engine.take();
  const measured = new MeasuredStructures();
  assert.equal((await prepare(1, { measured })).cached, true);
  assert.equal((await prepare(2, { measured })).form, 'prepared');
  assert.deepEqual(engine.take(), ['write prepared', 'form']);
});

test('a form that is wrong for these weights is not served: the long way tells it', async (t) => {
  const { engine, prepare } = setUp(t);
  await prepare(1);
  engine.take();
  engine.formError = 1;
  const wrong = await prepare(2);
  assert.deepEqual(engine.take(), ['write prepared', 'form', 'original', 'write prepared', 'form']);
  assert.equal(wrong.form, 'original');
  assert.match(wrong.formReason, /not what the original gives/);
  assert.match(wrong.formReason, /the form of an earlier model was refused: not what/);
  // It is forgotten: another version is not tried in vain.
  engine.formError = 0;
  assert.equal((await prepare(3)).form, 'prepared');
  assert.deepEqual(engine.take(), longWay);
});

test('another structure, and a form that ended the process, go the long way', async (t) => {
  const { engine, prepare } = setUp(t);
  await prepare(1);
  engine.take();
  await prepare(2, {}, size * 2);
  assert.deepEqual(engine.take(), longWay);
  const excluded: ExcludedForm[] = [{ form: 'prepared', reason: 'trying it ended the process' }];
  const model = await prepare(3, { excluded });
  assert.deepEqual(engine.take(), ['original']);
  assert.match(model.formReason, /ended the process/);
});

test('a disk that fails costs the form and not the version', async (t) => {
  const { engine, context, prepare } = setUp(t);
  await prepare(1);
  t.mock.method(context.cache!, 'newWork', () => {
    throw new Error('ENOSPC: no space left on device');
  });
  const model = await prepare(2);
  assert.equal(model.form, 'original');
  assert.match(model.formReason, /could not be kept: ENOSPC.*earlier model was refused: ENOSPC/);
  assert.equal(engine.take().at(-1), 'original');
});

test('a form that is refused for what it gives is no lack of room: the verdict is kept', async (t) => {
  const { engine, context, prepare } = setUp(t);
  // A disk with room for one form.
  t.mock.method(context.cache!, 'lackOfRoom', () =>
    readdirSync(context.cacheDirectory!, { recursive: true }).some((name) =>
      String(name).endsWith('model.weights'),
    )
      ? 'the disk is full'
      : undefined,
  );
  engine.formError = 1;
  const first = await prepare(1);
  assert.equal(first.form, 'original');
  assert.match(first.formReason, /not what the original gives/);
  assert.doesNotMatch(first.formReason, /the disk is full/);
  assert.equal((await prepare(1)).cached, true);
});

test('a structure is measured anew after some versions, and forgotten when many others came', () => {
  const measured = new MeasuredStructures();
  const measure = {
    form: 'prepared',
    loadMs: 1,
    oneRowUs: 1,
    batchUs: 1,
    batchRows: 1,
    privateBytes: 0,
  } as const;
  const model = { form: 'prepared', measures: [measure] } as const;
  measured.note('often', model);
  for (let i = 0; i < 20; i++) assert.equal(measured.take('often'), 'prepared');
  assert.equal(measured.take('often'), undefined);
  for (let i = 0; i < 1000; i++) measured.note(`s${i}`, model);
  assert.equal(measured.take('s0'), 'prepared');
  measured.note('one more', model);
  assert.equal(measured.take('s0'), 'prepared');
  assert.equal(measured.take('s1'), undefined);
  measured.note('from its own file', { ...model, form: 'original' });
  measured.note('not measured itself', { ...model, measures: [] });
  measured.note('half refused', { ...model, measures: [measure, { ...measure, refused: 'it differs' }] });
  measured.forget('s2');
  for (const structure of ['from its own file', 'not measured itself', 'half refused', 's2'])
    assert.equal(measured.take(structure), undefined, structure);
});
