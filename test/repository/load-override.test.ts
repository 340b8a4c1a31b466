import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import type { ModelEntry, RepositoryEntry } from '../../src/repository/layout.js';
import { type LoadOverride, readLoadOverride, withOverride } from '../../src/repository/load-override.js';
import { parseTritonConfig, tritonConfigOfJson } from '../../src/repository/triton-config.js';

const read = (value: unknown): LoadOverride => readLoadOverride(JSON.stringify(value), 'ranker');

const entry = (version: number, more: Partial<ModelEntry> = {}): ModelEntry => ({
  name: 'ranker',
  version,
  modelFile: `/models/ranker/${version}/model.onnx`,
  directory: '/models/ranker',
  settings: { maxBatchSize: 64, requestTimeoutMs: 9 },
  origin: 'versions',
  wanted: version === 3,
  ...more,
});

const wanted = (entries: readonly RepositoryEntry[]): (number | string)[] =>
  entries.flatMap((one): (number | string)[] => {
    if (one.error !== undefined) return [`${one.version} ${one.error.code}`];
    return one.wanted ? [one.version] : [];
  });

test('a model.json is taken as such', () => {
  assert.deepEqual(read({ max_batch_size: 3, version_policy: { latest: 2 }, name: 'ranker' }), {
    settings: { maxBatchSize: 3, versionPolicy: { latest: 2 }, name: 'ranker' },
  });
  assert.deepEqual(read({}), { settings: {} });
});

for (const [what, config] of [
  [
    'names as in the file',
    {
      name: 'ranker',
      backend: 'onnxruntime',
      max_batch_size: 16,
      dynamic_batching: { max_queue_delay_microseconds: 100, preferred_batch_size: [4, 8] },
      parameters: { intra_op_thread_count: { string_value: '2' } },
    },
  ],
  [
    "protobuf's JSON: camelCase, 64-bit numbers as texts, null for nothing",
    {
      backend: 'onnxruntime',
      maxBatchSize: 16,
      dynamicBatching: { maxQueueDelayMicroseconds: '100', preferredBatchSize: [4, 8] },
      parameters: { intra_op_thread_count: { stringValue: '2' } },
      versionPolicy: null,
    },
  ],
] as const) {
  test(`Triton's configuration as JSON becomes settings: ${what}`, () => {
    const { settings, tritonConfig } = read(config);
    assert.deepEqual(settings, {
      maxBatchSize: 16,
      maxQueueDelayUs: 100,
      preferredBatchSize: [4, 8],
      intraOpThreads: 2,
    });
    assert.deepEqual(tritonConfig?.parameters, { intra_op_thread_count: '2' });
  });
}

test('a field of both forms is read as the one whose form it has', () => {
  const policy = { kind: 'latest', count: 2 };
  assert.deepEqual(
    read({ version_policy: { latest: { num_versions: 2 } } }).tritonConfig?.versionPolicy,
    policy,
  );
  assert.deepEqual(read({ max_batch_size: 0 }).settings, { batching: 'off' });
});

test('what a config.pbtxt says is said by its JSON form too', () => {
  const text = `
    name: "ranker" platform: "onnxruntime_onnx" max_batch_size: 8 default_model_filename: "net.onnx"
    input [ { name: "a" data_type: TYPE_INT64 dims: [ -1, 16 ] } ]
    output [ { name: "b" data_type: TYPE_FP32 dims: [ 16 ] } ]
    version_policy { specific { versions: [ 1, 3 ] } }
    instance_group [ { kind: KIND_GPU gpus: [ 0, 1 ] count: 2 }, { kind: KIND_CPU } ]
    dynamic_batching {
      priority_levels: 2 default_priority_level: 1 max_queue_delay_microseconds: 50
      priority_queue_policy { key: 1 value: { max_queue_size: 5 timeout_action: REJECT } }
    }
    model_warmup [ { name: "w" batch_size: 2
      inputs { key: "a" value: { data_type: TYPE_INT64 dims: [ 16 ] zero_data: true } } } ]
    parameters { key: "x" value: { string_value: "1" } }
  `;
  const { notices: _, source: __, ...config } = parseTritonConfig(text, 'config.pbtxt');
  const again = tritonConfigOfJson(JSON.parse(JSON.stringify(config.json)), 'json');
  const { notices, source: ___, ...rest } = again;
  assert.deepEqual(rest, config);
  assert.match(notices.join(), /instance_group\.count is ignored/);
});

for (const [what, text, code, message] of [
  ['no JSON', '{', 'SRV_BAD_CONFIG', /load of 'ranker' is not JSON/],
  [
    'what is watched',
    '{"reloadable_type": "md5sum"}',
    'SRV_BAD_CONFIG',
    /belong into model.json: a load does not change which stamp is watched/,
  ],
  ['no object', '[1]', 'SRV_BAD_CONFIG', /does not hold a JSON object/],
  ['another name', '{"name": "x"}', 'SRV_BAD_CONFIG', /name: expected "ranker" or none, got "x"/],
  [
    "another name in Triton's form",
    '{"name": "x", "backend": ""}',
    'SRV_BAD_CONFIG',
    /expected "ranker" or none/,
  ],
  [
    'a misspelt field of Triton',
    '{"backend": "onnxruntime", "max_batch_sise": 1}',
    'SRV_BAD_CONFIG',
    /max_batch_sise: unknown field.*max_batch_size/,
  ],
  [
    'a value of another type',
    '{"backend": "onnxruntime", "max_batch_size": "many"}',
    'SRV_BAD_CONFIG',
    /max_batch_size: expected an integer, got "many"/,
  ],
  [
    'a map that is none',
    '{"parameters": [1]}',
    'SRV_BAD_CONFIG',
    /parameters: expected a message in braces, got 1/,
  ],
  ['another backend', '{"backend": "tensorrt"}', 'SRV_MODEL_UNSUPPORTED', /backend is "tensorrt"/],
  [
    'what cannot be followed',
    '{"backend": "onnxruntime", "sequence_batching": {}}',
    'SRV_MODEL_UNSUPPORTED',
    /sequence_batching is not supported/,
  ],
] as const) {
  test(`an override is refused: ${what}`, () => {
    assert.throws(
      () => readLoadOverride(text, 'ranker'),
      (error) => {
        assert.ok(error instanceof ServingError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

test('an override wins key by key, and its policy over that of the files', () => {
  const entries = [entry(1), entry(2), entry(3)];
  const plain = withOverride(entries, read({ max_batch_size: 3 }));
  assert.deepEqual(wanted(plain), [3]);
  assert.deepEqual(plain[2]!.error === undefined && plain[2]!.settings, {
    maxBatchSize: 3,
    requestTimeoutMs: 9,
  });
  assert.deepEqual(wanted(withOverride(entries, read({ version_policy: 'all' }))), [1, 2, 3]);
  const specific = { version_policy: { specific: { versions: [1, 7] } } };
  assert.deepEqual(wanted(withOverride(entries, read(specific))), [1, '7 SRV_MODEL_NOT_FOUND']);
  const lacking = withOverride(entries, read(specific));
  assert.deepEqual(wanted(withOverride(lacking, read({ version_policy: 'all' }))), [1, 2, 3]);
  const labelled = withOverride(entries, read({ labels: { stable: 2 } }));
  assert.deepEqual(labelled[0]!.error === undefined && labelled[0]!.labels, { stable: 2 });
});
