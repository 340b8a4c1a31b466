import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTritonConfig, unsupportedReason } from '../../src/repository/triton-config.js';

const parse = (text: string) => parseTritonConfig(text, 'config.pbtxt');

const simple = `
name: "simple"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] } ]
`;

test('a config.pbtxt gives name, tensors and the batch limit', () => {
  const config = parse(simple);
  assert.equal(config.name, 'simple');
  assert.equal(config.maxBatchSize, 8);
  assert.deepEqual(config.inputs, [{ name: 'INPUT0', dataType: 'TYPE_INT32', dims: [16] }]);
  assert.deepEqual(config.outputs, [{ name: 'OUTPUT0', dataType: 'TYPE_INT32', dims: [16] }]);
  assert.deepEqual(config.settings, { maxBatchSize: 8 });
  assert.deepEqual(config.versionPolicy, { kind: 'latest', count: 1 });
  assert.equal(unsupportedReason(config), undefined);
});

test('the JSON form keeps lists as lists, maps as objects and words as they are', () => {
  const config = parse(`${simple}
    parameters { key: "a" value: { string_value: "1" } }
    instance_group { kind: KIND_CPU }
    dynamic_batching { preserve_ordering: true }
    version_policy: { all {} }
  `);
  assert.deepEqual(JSON.parse(JSON.stringify(config.json)), {
    name: 'simple',
    platform: 'onnxruntime_onnx',
    max_batch_size: 8,
    input: [{ name: 'INPUT0', data_type: 'TYPE_INT32', dims: [16] }],
    output: [{ name: 'OUTPUT0', data_type: 'TYPE_INT32', dims: [16] }],
    parameters: { a: { string_value: '1' } },
    instance_group: [{ kind: 'KIND_CPU' }],
    dynamic_batching: { preserve_ordering: true },
    version_policy: { all: {} },
  });
});

test('no max_batch_size means that rows never merge', () => {
  assert.deepEqual(parse('backend: "onnxruntime"').settings, { batching: 'off' });
});

test('dynamic batching gives the queue delay and limit', () => {
  const { settings } = parse(`max_batch_size: 4 dynamic_batching {
    max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 7 } }`);
  assert.deepEqual(settings, { maxBatchSize: 4, maxQueueDelayUs: 100, maxQueueSize: 7 });
});

test('instance groups choose cards, predictors and the CPU', () => {
  const settings = (group: string) => parse(`max_batch_size: 1 instance_group [ ${group} ]`).settings;
  assert.deepEqual(settings('{ kind: KIND_GPU gpus: [0, 1] count: 2 }'), {
    maxBatchSize: 1,
    cpu: false,
    gpuIds: [0, 1],
  });
  assert.deepEqual(settings('{ kind: KIND_CPU count: 3 }'), { maxBatchSize: 1, cpu: true, gpuIds: [] });
  assert.deepEqual(settings('{ kind: KIND_CPU }, { kind: KIND_GPU gpus: 1 }'), {
    maxBatchSize: 1,
    cpu: true,
    gpuIds: [1],
  });
  assert.deepEqual(settings('{ count: 1 }'), { maxBatchSize: 1 });
});

test('version policies are read', () => {
  const policy = (text: string) => parse(`version_policy { ${text} }`).versionPolicy;
  assert.deepEqual(policy('latest { num_versions: 3 }'), { kind: 'latest', count: 3 });
  assert.deepEqual(policy('specific { versions: [1, 4] }'), { kind: 'specific', versions: [1, 4] });
  assert.deepEqual(policy('all { }'), { kind: 'all' });
});

test('sequence batching and other backends are named as unsupported', () => {
  assert.match(
    unsupportedReason(parse('sequence_batching { }')) ?? '',
    /sequence batching is not supported yet/,
  );
  assert.match(unsupportedReason(parse('platform: "ensemble"')) ?? '', /"ensemble".*"onnxruntime_onnx"/);
  assert.match(unsupportedReason(parse('backend: "python"')) ?? '', /"python".*"onnxruntime"/);
});

test('a max_batch_size that is no count is refused', () => {
  assert.throws(() => parse('max_batch_size: -1'), { code: 'SRV_BAD_CONFIG' });
  assert.throws(() => parse('max_batch_size: 1.5'), { code: 'SRV_BAD_CONFIG' });
});
