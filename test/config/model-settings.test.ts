import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { parseModelSettings, readModelSettings } from '../../src/config/model-settings.js';
import { ServingError } from '../../src/errors.js';

const directory = mkdtempSync(join(tmpdir(), 'model-json-'));
after(() => rmSync(directory, { recursive: true }));

test('all keys of a model.json become settings in camelCase', () => {
  const settings = parseModelSettings(
    JSON.stringify({
      name: 'ranker',
      version_policy: { specific: [1, 4] },
      labels: { stable: 1, 'new one': 4 },
      preferred_batch_size: [8],
      default_priority: 2,
      priority_levels: 3,
      queue_policies: { 1: { max_queue_size: 10, request_timeout_ms: 0.5 } },
      max_batch_size: 32,
      max_queue_delay_us: 500,
      max_queue_size: 10,
      batching: 'on',
      allow_split_request: false,
      request_timeout_ms: 0,
      gpu_ids: [0, 1],
      cpu: false,
      example: { request: { inputs: [{ name: 'Ids' }] }, meaning: 'a score' },
      intra_op_threads: 2,
      graph_optimization: 'basic',
      prepare: 'off',
      prepacking: 'on',
      padding: { input_ids: { axes: [1], value: 0 }, words: { axes: [1], value: '' } },
      inputs: { Ids: 'input_ids' },
      outputs: { Score: 'dense_1' },
      weight: 0.5,
    }),
    'model.json',
  );
  assert.deepEqual(settings, {
    name: 'ranker',
    versionPolicy: { specific: [1, 4] },
    labels: { stable: 1, 'new one': 4 },
    preferredBatchSize: [8],
    defaultPriority: 2,
    priorityLevels: 3,
    queuePolicies: { 1: { max_queue_size: 10, request_timeout_ms: 0.5 } },
    maxBatchSize: 32,
    maxQueueDelayUs: 500,
    maxQueueSize: 10,
    batching: 'on',
    allowSplitRequest: false,
    requestTimeoutMs: 0,
    gpuIds: [0, 1],
    cpu: false,
    example: { request: { inputs: [{ name: 'Ids' }] }, meaning: 'a score' },
    intraOpThreads: 2,
    graphOptimization: 'basic',
    prepare: 'off',
    prepacking: 'on',
    padding: { input_ids: { axes: [1], value: 0 }, words: { axes: [1], value: '' } },
    inputs: { Ids: 'input_ids' },
    outputs: { Score: 'dense_1' },
    weight: 0.5,
  });
});

test('an empty model.json is no settings', () => {
  assert.deepEqual(parseModelSettings('{}', 'model.json'), {});
});

test('problems of a model.json name file, path and nearest key, all at once', () => {
  const text = JSON.stringify({
    max_batchsize: 8,
    maxBatchSize: 8,
    weight: 0,
    padding: { x: { axis: [1] } },
    batching: 'yes',
    reload: 'fast',
    keep_previous: -1,
  });
  assert.throws(
    () => parseModelSettings(text, 'models/a/model.json'),
    (error: unknown) => {
      assert.ok(error instanceof ServingError);
      assert.equal(error.code, 'SRV_BAD_CONFIG');
      assert.ok(error.message.startsWith('models/a/model.json: '));
      assert.deepEqual(error.details?.problems, [
        'max_batchsize: unknown key; did you mean "max_batch_size"?',
        'maxBatchSize: unknown key; did you mean "max_batch_size"?',
        'batching: expected auto, on or off, got "yes"',
        'padding.x.axis: unknown key; did you mean "axes"?',
        'padding.x.axes: missing: expected a non-empty list without repetitions',
        'reload: expected availability_first or resource_first, got "fast"',
        'keep_previous: expected an integer from 0 to 100, got -1',
        'weight: expected a number above 0, at most 1000, got 0',
      ]);
      return true;
    },
  );
});

test('two public names for one tensor of the graph are refused', () => {
  assert.throws(
    () => parseModelSettings('{"inputs":{"a":"x","b":"x"}}', 'model.json'),
    /inputs: "a" and "b" both mean "x"/,
  );
});

test('the batch axis cannot be padded', () => {
  assert.throws(() => parseModelSettings('{"padding":{"x":{"axes":[0]}}}', 'm'), /padding\.x\.axes\[0\]/);
});

test('a model.json that is no JSON object is refused', () => {
  for (const text of ['', '{"name":', '[]', 'null', '3']) {
    assert.throws(() => parseModelSettings(text, 'model.json'), { code: 'SRV_BAD_CONFIG' }, text);
  }
});

test('a key called __proto__ is an unknown key like others', () => {
  assert.throws(() => parseModelSettings('{"__proto__": {"cpu": true}}', 'm'), /__proto__: unknown key/);
});

test('a model.json is read from its file, and one that is not there is SRV_IO', async () => {
  const file = join(directory, 'model.json');
  writeFileSync(file, '{"cpu": true}');
  assert.deepEqual(await readModelSettings(file), { cpu: true });
  await assert.rejects(readModelSettings(join(directory, 'absent.json')), { code: 'SRV_IO' });
});

test('a version policy is all, latest or specific, and nothing of two kinds', () => {
  const policies = ['all', { latest: 2 }, { specific: [0, 7] }];
  for (const policy of policies) {
    const text = JSON.stringify({ version_policy: policy });
    assert.deepEqual(parseModelSettings(text, 'model.json').versionPolicy, policy);
  }
  for (const policy of [
    '"newest"',
    '{"latest": 0}',
    '{"latest": 1, "specific": [1]}',
    '{"specific": []}',
    '{"specific": [9007199254740993]}',
    '{"all": true}',
    '2',
  ]) {
    assert.throws(() => parseModelSettings(`{"version_policy": ${policy}}`, 'model.json'), {
      code: 'SRV_BAD_CONFIG',
      message: /version_policy: expected "all", \{"latest": .* or \{"specific": \[versions\]\}, got/,
    });
  }
});

test('labels that are numbers, name no version or one that is not chosen are refused', () => {
  const refusal = (settings: object): void =>
    assert.throws(
      () => parseModelSettings(JSON.stringify(settings), 'model.json'),
      (error: unknown) => {
        assert.ok(error instanceof ServingError);
        messages.push(error.message);
        return error.code === 'SRV_BAD_CONFIG';
      },
    );
  const messages: string[] = [];
  refusal({ labels: { 3: 3 } });
  refusal({ labels: { 'a/b': 3 } });
  refusal({ labels: { stable: '3' } });
  refusal({ labels: { stable: -1 } });
  refusal({ labels: { stable: 3 }, version_policy: { specific: [1, 2] } });
  assert.match(messages[0]!, /the label "3" is a number, which means a version/);
  assert.match(messages[1]!, /the label "a\/b" has a slash/);
  assert.match(messages[2]!, /labels\.stable: expected an integer .*, got "3"/);
  assert.match(messages[3]!, /labels\.stable: expected an integer .*, got -1/);
  assert.match(messages[4]!, /labels: "stable" names version 3, which version_policy does not choose/);
});

test('queue policies of what is no priority, or with unknown keys, are refused', () => {
  for (const [policies, message] of [
    [{ 0: {} }, /queue_policies: expected a priority from 1, got "0"/],
    [{ high: {} }, /queue_policies: expected a priority from 1, got "high"/],
    [{ 1: { max_queue: 1 } }, /queue_policies\.1\.max_queue: unknown key; did you mean "max_queue_size"/],
    [
      { 1: { timeout_action: 'drop' } },
      /queue_policies\.1\.timeout_action: expected reject or delay, got "drop"/,
    ],
    [{ 1: { max_queue_size: 0 } }, /queue_policies\.1\.max_queue_size: expected an integer of at least 1/],
  ] as const) {
    assert.throws(() => parseModelSettings(JSON.stringify({ queue_policies: policies }), 'model.json'), {
      code: 'SRV_BAD_CONFIG',
      message,
    });
  }
});
