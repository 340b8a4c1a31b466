/** Models that another server's files describe, served: TF Serving's models.config and Triton's repository. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import type { Logger } from '../../src/observe/logger.js';
import { openRuntime } from '../../src/runtime.js';
import { type Tensor, tensor } from '../../src/tensor/tensor.js';
import { makeDirectory, placeVersion, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

function directoryOf(t: TestContext): string {
  const directory = makeDirectory('configured');
  t.after(() => removeDirectory(directory));
  return directory;
}

/** A logger that keeps its lines. */
function keepingLogger(lines: string[]): Logger {
  const keep = (fields: unknown, text?: string): void => void lines.push(text ?? String(fields));
  return { debug: keep, info: keep, warn: keep, error: keep } as unknown as Logger;
}

const row = { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) };
const firstOf = (outputs: Readonly<Record<string, Tensor>>): unknown => outputs.y?.data[0];

test('the models of a models.config are served in their versions, under their labels, with its notices logged', async (t) => {
  const directory = directoryOf(t);
  for (const version of [1, 2, 3]) placeVersion(directory, 'ranker', version, scaleModel(version));
  mkdirSync(join(directory, 'plain/0042'), { recursive: true });
  writeFileSync(join(directory, 'plain/0042/model.onnx'), writeOnnxModel(scaleModel(42)));
  const modelConfigFile = join(directory, 'models.config');
  writeFileSync(
    modelConfigFile,
    `model_config_list {
      config {
        name: "my_ranker" base_path: "ranker" model_platform: "tensorflow"
        model_version_policy { specific { versions: 1 versions: 3 } }
        version_labels { key: "stable" value: 1 }
        version_labels { key: "canary" value: 3 }
      }
      config { name: "plain" base_path: "${join(directory, 'plain')}" }
      config { name: "lost" base_path: "nowhere" }
    }`,
  );
  const lines: string[] = [];
  await using runtime = await openRuntime(
    { modelConfigFile, cacheDir: join(directory, 'cache'), threads: 1 },
    { logger: keepingLogger(lines) },
  );
  assert.deepEqual(
    runtime.listModels().map(({ name, version, state, labels }) => [name, version, state, labels]),
    [
      ['my_ranker', 1, 'ready', ['stable']],
      ['my_ranker', 3, 'ready', ['canary']],
      ['plain', 42, 'ready', undefined],
      ['lost', 1, 'failed', undefined],
    ],
  );
  const stable = await runtime.infer('my_ranker', row, { label: 'stable' });
  assert.deepEqual([stable.version, firstOf(stable.outputs)], [1, 1]);
  assert.equal(firstOf((await runtime.infer('my_ranker', row, { label: 'canary' })).outputs), 3);
  assert.equal(firstOf((await runtime.infer('plain', row)).outputs), 42);
  assert.ok(
    lines.some((line) =>
      /models\.config:3: model_platform "tensorflow" of "my_ranker" is accepted/.test(line),
    ),
    lines.join('\n'),
  );
});

test('a new models.config replaces the old one while serving, and a broken one changes nothing', async (t) => {
  const directory = directoryOf(t);
  for (const version of [1, 2, 3]) placeVersion(directory, 'ranker', version, scaleModel(version));
  const modelConfigFile = join(directory, 'models.config');
  const write = (...configs: string[]): void => {
    const text = configs.map((config) => `config { ${config} }`).join('\n');
    writeFileSync(`${modelConfigFile}.new`, `model_config_list {\n${text}\n}`);
    renameSync(`${modelConfigFile}.new`, modelConfigFile);
  };
  const policy = (...versions: number[]): string =>
    `model_version_policy { specific { ${versions.map((version) => `versions: ${version}`).join(' ')} } }`;
  const label = (version: number): string => `version_labels { key: "stable" value: ${version} }`;
  write(
    `name: "a" base_path: "ranker" ${policy(1, 2)} ${label(1)}`,
    `name: "b" base_path: "ranker" ${policy(3)} ${label(3)}`,
  );
  const lines: string[] = [];
  await using runtime = await openRuntime(
    {
      modelConfigFile,
      modelConfigFilePollWaitSeconds: 1,
      fileSystemPollWaitSeconds: 1,
      cacheDir: join(directory, 'cache'),
      threads: 1,
    },
    { logger: keepingLogger(lines) },
  );
  const ready = (): string =>
    runtime
      .listModels()
      .filter(({ state }) => state === 'ready')
      .map(({ name, version }) => `${name}${version}`)
      .toSorted()
      .join(' ');
  assert.equal(ready(), 'a1 a2 b3');
  assert.equal((await runtime.infer('a', row, { label: 'stable' })).version, 1);

  write(
    `name: "a" base_path: "ranker" ${policy(1, 2)} ${label(2)}`,
    `name: "b" base_path: "ranker" ${policy(3)} ${label(3)}`,
  );
  await until('the label moves', () => runtime.labels('a').stable === 2);
  assert.equal((await runtime.infer('a', row, { label: 'stable' })).version, 2);
  assert.equal(ready(), 'a1 a2 b3');

  writeFileSync(modelConfigFile, 'model_config_list { config { name: "a"');
  await until('the broken file is told', () => lines.some((line) => /models\.config:1:\d+: /.test(line)));
  assert.equal(ready(), 'a1 a2 b3');

  write(`name: "a" base_path: "ranker" ${policy(3)} ${label(3)}`, 'name: "c" base_path: "ranker"');
  await until('the new set is served', () => ready() === 'a3 c3' && runtime.labels('a').stable === 3);
  assert.equal((await runtime.infer('a', row, { label: 'stable' })).version, 3);
  await assert.rejects(runtime.infer('b', row), { code: 'SRV_MODEL_NOT_FOUND' });
});

test('a label for a version that is not served is logged; allowed, it stands for it all the same', async (t) => {
  const directory = directoryOf(t);
  for (const version of [1, 2]) placeVersion(directory, 'm', version, scaleModel(version));
  const modelConfigFile = join(directory, 'models.config');
  writeFileSync(
    modelConfigFile,
    'model_config_list { config { name: "m" base_path: "m" version_labels { key: "old" value: 1 } } }',
  );
  const options = { modelConfigFile, cacheDir: join(directory, 'cache'), threads: 1 };
  for (const isAllowed of [false, true]) {
    const lines: string[] = [];
    await using runtime = await openRuntime(
      { ...options, allowVersionLabelsForUnavailableModels: isAllowed },
      { logger: keepingLogger(lines) },
    );
    assert.deepEqual(runtime.labels('m'), isAllowed ? { old: 1 } : {});
    await assert.rejects(runtime.infer('m', row, { label: 'old' }), { code: 'SRV_MODEL_NOT_READY' });
    assert.equal(
      lines.some((line) =>
        /label 'old' of model m is configured for version 1, which is not ready/.test(line),
      ),
      !isAllowed,
    );
  }
});

test('a models.config that is wrong stops the start with its line', async (t) => {
  const directory = directoryOf(t);
  const modelConfigFile = join(directory, 'models.config');
  writeFileSync(modelConfigFile, 'model_config_list {\n config { name: "m" bas_path: "m" }\n}');
  await assert.rejects(openRuntime({ modelConfigFile, cacheDir: directory }), {
    code: 'SRV_BAD_CONFIG',
    message: /models\.config:2: .*bas_path: unknown field; did you mean "base_path"\?/,
  });
});

test('a config.pbtxt that describes another model fails that one alone, with both descriptions', async (t) => {
  const directory = directoryOf(t);
  for (const name of ['right', 'wrong']) {
    placeVersion(directory, name, 1, scaleModel());
    writeFileSync(
      join(directory, name, 'config.pbtxt'),
      `max_batch_size: 8\ninput { name: "${name === 'right' ? 'x' : 'INPUT0'}" data_type: TYPE_FP32 dims: 4 }
       parameters { key: "team" value { string_value: "ads" } } response_cache { enable: true }
       dynamic_batching { preferred_batch_size: [4, 8] }`,
    );
  }
  const lines: string[] = [];
  await using runtime = await openRuntime(
    { modelRepository: directory, cacheDir: join(directory, '.cache'), threads: 1 },
    { logger: keepingLogger(lines) },
  );
  const [right, wrong] = runtime.listModels();
  assert.equal(right?.state, 'ready');
  assert.equal(wrong?.state, 'failed');
  assert.match(
    wrong?.reason ?? '',
    /the model has no "INPUT0"; the file does not name "x"\. The file has INPUT0/,
  );
  const { parameters, preferredBatchSizes } = runtime.service.model('right');
  assert.deepEqual([parameters, preferredBatchSizes], [{ team: 'ads' }, [4, 8]]);
  assert.ok(lines.some((line) => /response_cache\.enable is ignored: there is no cache/.test(line)));
});

test("Triton's example repository is served as it is, and its sequence model says why it is not", async (t) => {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, 'package.json'))) root = dirname(root);
  const modelRepository = join(root, '..', 'shared', 'triton-repository');
  if (!existsSync(modelRepository)) {
    t.skip(`${modelRepository} is not there: its models are not tried`);
    return;
  }
  const directory = directoryOf(t);
  await using runtime = await openRuntime({ modelRepository, cacheDir: directory, threads: 1 });
  const states = Object.fromEntries(runtime.listModels().map(({ name, state }) => [name, state]));
  assert.deepEqual(states, {
    simple: 'ready',
    simple_int8: 'ready',
    simple_sequence: 'failed',
    simple_string: 'ready',
  });
  const sequence = runtime.listModels().find(({ name }) => name === 'simple_sequence');
  assert.equal(sequence?.error?.code, 'SRV_MODEL_UNSUPPORTED');
  assert.match(
    sequence?.reason ?? '',
    /simple_sequence\/config\.pbtxt:\d+: sequence_batching is not supported: sequence batching is not supported yet/,
  );
  const numbers = Array.from({ length: 16 }, (_, index) => index);
  for (const [name, datatype] of [
    ['simple', 'INT32'],
    ['simple_int8', 'INT8'],
  ] as const) {
    const { outputs } = await runtime.infer(name, {
      INPUT0: tensor(datatype, [1, 16], numbers),
      INPUT1: tensor(
        datatype,
        [1, 16],
        numbers.map(() => 1),
      ),
    });
    assert.deepEqual(
      [...(outputs.OUTPUT0?.data ?? [])],
      numbers.map((number) => number + 1),
    );
    assert.deepEqual(
      [...(outputs.OUTPUT1?.data ?? [])],
      numbers.map((number) => number - 1),
    );
  }
  const { outputs } = await runtime.infer('simple_string', {
    INPUT0: tensor('BYTES', [1, 16], numbers.map(String)),
    INPUT1: tensor(
      'BYTES',
      [1, 16],
      numbers.map(() => '1'),
    ),
  });
  assert.deepEqual(
    [...(outputs.OUTPUT0?.data ?? [])].map(String),
    numbers.map((number) => String(number + 1)),
  );
});
