import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
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
  assert.equal(config.versionPolicy, undefined);
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

/** The message of the refusal of this text. */
function refusal(text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof ServingError, String(error));
    assert.equal(error.code, 'SRV_BAD_CONFIG');
    return error.message;
  }
  return assert.fail(`it was taken: ${text}`);
}

test('an unknown field and a value of another type are refused with line and nearest name', () => {
  const text = refusal(`name: "a"
max_batchsize: 4
input { name: INPUT0 dims: ["x"] data_type: TYPE_FLOAT }
instance_group { kind: KIND_CPU counts: 1 }`);
  assert.match(text, /config\.pbtxt:2: max_batchsize: unknown field; did you mean "max_batch_size"\?/);
  assert.match(text, /config\.pbtxt:3: input\.name: expected a text in quotes, got INPUT0/);
  assert.match(text, /config\.pbtxt:3: input\.dims: expected an integer, got "x"/);
  assert.match(text, /config\.pbtxt:3: input\.data_type: expected TYPE_BOOL, .*, got TYPE_FLOAT/);
  assert.match(text, /config\.pbtxt:4: instance_group\.counts: unknown field; did you mean "count"\?/);
  assert.match(refusal('name: "a"\nname: "b"'), /config\.pbtxt:2: name: given twice, first in line 1/);
});

test('a text that is cut anywhere is refused with its file', () => {
  const whole = simple.trim();
  // Where a whole field ends, what stands before it is a sound text.
  const isSound = (length: number): boolean => /["\d}\]]$/.test(whole.slice(0, length)) && !isInside(length);
  const isInside = (length: number): boolean => {
    const text = whole.slice(0, length).replaceAll(/"[^"]*"/g, 'x');
    return /"/.test(text) || (text.match(/[[{]/g) ?? []).length !== (text.match(/[\]}]/g) ?? []).length;
  };
  let refused = 0;
  for (let length = 1; length < whole.length; length++) {
    if (isSound(length) || /\s$/.test(whole.slice(0, length))) continue;
    assert.match(refusal(whole.slice(0, length)), /^config\.pbtxt:\d+:/, whole.slice(0, length));
    refused++;
  }
  assert.ok(refused > 150, String(refused));
});

test('dynamic batching gives preferred sizes, priorities and the queue policy', () => {
  const { settings, notices } = parse(`max_batch_size: 16 dynamic_batching {
    preferred_batch_size: [ 4, 8, 4 ] max_queue_delay_microseconds: 100
    priority_levels: 3 default_priority_level: 2
    default_queue_policy {
      timeout_action: REJECT default_timeout_microseconds: 2500
      allow_timeout_override: true max_queue_size: 7 } }`);
  assert.deepEqual(settings, {
    maxBatchSize: 16,
    maxQueueDelayUs: 100,
    preferredBatchSize: [4, 8],
    priorityLevels: 3,
    defaultPriority: 2,
    maxQueueSize: 7,
    requestTimeoutMs: 2.5,
  });
  assert.deepEqual(notices, []);
});

test('dynamic batching that makes no sense is refused', () => {
  const batching = (text: string): string => refusal(`max_batch_size: 4\ndynamic_batching { ${text} }`);
  assert.match(batching('preferred_batch_size: [2, 8]'), /pbtxt:2: .*from 1 to max_batch_size 4, got 8/);
  assert.match(batching('preferred_batch_size: 0'), /from 1 to max_batch_size 4, got 0/);
  assert.match(batching('priority_levels: 3'), /pbtxt:2: .*from 1 to priority_levels 3, got nothing/);
  assert.match(
    batching('priority_levels: 3 default_priority_level: 4'),
    /from 1 to priority_levels 3, got 4/,
  );
  assert.match(batching('max_queue_delay_microseconds: -1'), /expected an integer of at least 0, got -1/);
  assert.match(
    refusal('max_batch_size: 1 dynamic_batching { } sequence_batching { }'),
    /one scheduler, got dynamic_batching and sequence_batching/,
  );
});

test('a queue policy may delay requests that wait for too long', () => {
  const { settings, notices } = parse(`max_batch_size: 4 dynamic_batching { default_queue_policy {
    timeout_action: DELAY default_timeout_microseconds: 2500 } }`);
  assert.deepEqual(settings, { maxBatchSize: 4, requestTimeoutMs: 2.5, timeoutAction: 'delay' });
  assert.deepEqual(notices, []);
});

test('queue policies of priorities are read, each within the levels', () => {
  const batching = (text: string) =>
    parse(`max_batch_size: 4 dynamic_batching { priority_levels: 2 default_priority_level: 2 ${text} }`);
  const { settings, notices } = batching(`
    priority_queue_policy { key: 1 value { default_timeout_microseconds: 50000 max_queue_size: 10 } }
    priority_queue_policy { key: 2 value { timeout_action: DELAY } }`);
  assert.deepEqual(settings.queuePolicies, {
    1: { max_queue_size: 10, request_timeout_ms: 50 },
    2: { timeout_action: 'delay' },
  });
  assert.deepEqual(notices, []);
  assert.throws(() => batching('\npriority_queue_policy { key: 3 value { max_queue_size: 1 } }'), {
    code: 'SRV_BAD_CONFIG',
    message: /pbtxt:2: priority_queue_policy: expected a key from 1 to priority_levels 2, got 3/,
  });
});

test('fields without effect are noticed with line and reason, and those that ask for nothing are not', () => {
  const { notices } = parse(`max_batch_size: 4
    optimization { graph { level: 1 } }
    cc_model_filenames { key: "8.6" value: "x.onnx" }
    input { name: "a" data_type: TYPE_FP32 dims: 1 format: FORMAT_NHWC optional: true }
    output { name: "b" data_type: TYPE_FP32 dims: 1 label_filename: "labels.txt" }
    instance_group { count: 2 kind: KIND_MODEL rate_limiter { priority: 2 } host_policy: "h" }
    response_cache { enable: true }
    dynamic_batching { preserve_ordering: true }
    metric_tags { key: "a" value: "b" }`);
  const lines = notices.map((notice) => notice.replace(/ is ignored: .+/, ''));
  assert.deepEqual(lines, [
    'config.pbtxt:2: optimization',
    'config.pbtxt:3: cc_model_filenames',
    'config.pbtxt:4: input.format',
    'config.pbtxt:4: input.optional',
    'config.pbtxt:5: output.label_filename',
    'config.pbtxt:6: instance_group.count',
    'config.pbtxt:6: instance_group.kind',
    'config.pbtxt:6: instance_group.rate_limiter',
    'config.pbtxt:6: instance_group.host_policy',
    'config.pbtxt:7: response_cache.enable',
    'config.pbtxt:8: dynamic_batching.preserve_ordering',
    'config.pbtxt:9: metric_tags',
  ]);
  const moot = parse(`max_batch_size: 4 runtime: "" optimization { }
    input { name: "a" data_type: TYPE_FP32 dims: 1 format: FORMAT_NONE optional: false is_shape_tensor: false }
    instance_group { kind: KIND_AUTO name: "g" passive: false }
    response_cache { enable: false } model_transaction_policy { decoupled: false } model_operations { }`);
  assert.deepEqual([moot.notices, moot.refusals], [[], []]);
});

test('what would answer wrongly when it is left out is refused, each with its reason', () => {
  const reasons = [
    ['sequence_batching { oldest { } }', /sequence_batching is not supported: sequence batching/],
    ['ensemble_scheduling { step { model_name: "a" } }', /ensemble_scheduling is not supported/],
    ['model_transaction_policy { decoupled: true }', /decoupled is not supported: a request has exactly one/],
    ['batch_input { kind: BATCH_ELEMENT_COUNT }', /batch_input is not supported/],
    ['batch_output { target_name: "a" }', /batch_output is not supported/],
    ['input { name: "a" reshape { shape: [] } }', /input\.reshape is not supported/],
    ['model_operations { op_library_filename: "a.so" }', /model_operations is not supported/],
    ['model_repository_agents { agents { name: "checksum" } }', /model_repository_agents is not supported/],
    ['instance_group { passive: true }', /passive is not supported/],
  ] as const;
  for (const [text, reason] of reasons) {
    const message = unsupportedReason(parse(`max_batch_size: 2\n${text}`)) ?? '';
    assert.match(message, /^config\.pbtxt:2: /, text);
    assert.match(message, reason);
  }
});

test('parameters are kept by key, and the threads of a run are taken from them', () => {
  const { parameters, settings } = parse(`max_batch_size: 1
    parameters { key: "intra_op_thread_count" value { string_value: "4" } }
    parameters { key: "team" value: { string_value: "ads" } }`);
  assert.deepEqual(parameters, { intra_op_thread_count: '4', team: 'ads' });
  assert.deepEqual(settings, { maxBatchSize: 1, intraOpThreads: 4 });
  const none = parse('parameters { key: "intra_op_thread_count" value { string_value: "0" } }');
  assert.equal(none.settings.intraOpThreads, undefined);
});

test('instances are counted over the groups', () => {
  assert.equal(parse('instance_group { count: 2 } instance_group { kind: KIND_CPU }').instanceCount, 3);
  assert.equal(parse('instance_group { kind: KIND_CPU }').instanceCount, undefined);
});

test('a version policy of two kinds, or with versions beyond 2^53, is refused', () => {
  assert.match(refusal('version_policy { latest { } all { } }'), /pbtxt:1: .*got latest and all/);
  assert.match(
    refusal('version_policy { specific { versions: [1, 9007199254740993] } }'),
    /version 9007199254740993 is above/,
  );
});

test('warm-up requests are read with their data', () => {
  const { warmUps } = parse(`max_batch_size: 4 model_warmup [ {
      name: "zeros" batch_size: 2 count: 3
      inputs { key: "a" value { data_type: TYPE_FP32 dims: [ 2, 3 ] zero_data: true } }
      inputs { key: "b" value { data_type: TYPE_STRING dims: 1 random_data: true zero_data: false } }
    }, {
      name: "recorded"
      inputs { key: "a" value: { data_type: TYPE_INT64 dims: 4 input_data_file: "first/a.bin" } }
    } ]`);
  assert.deepEqual(warmUps, [
    {
      name: 'zeros',
      batchSize: 2,
      count: 3,
      inputs: {
        a: { dataType: 'FP32', dims: [2, 3], data: { kind: 'zero' } },
        b: { dataType: 'BYTES', dims: [1], data: { kind: 'random' } },
      },
    },
    {
      name: 'recorded',
      batchSize: 0,
      count: 1,
      inputs: { a: { dataType: 'INT64', dims: [4], data: { kind: 'file', file: 'first/a.bin' } } },
    },
  ]);
});

test('a warm-up request with no data, two kinds of it, or a file elsewhere is refused', () => {
  const warmUp = (value: string): string =>
    refusal(
      `\nmodel_warmup { name: "w" inputs { key: "a" value { data_type: TYPE_FP32 dims: 1 ${value} } } }`,
    );
  assert.match(warmUp(''), /pbtxt:2: model_warmup "w", "a": expected one of .*, got none/);
  assert.match(warmUp('zero_data: true random_data: true'), /got zero_data and random_data/);
  assert.match(warmUp('input_data_file: "../secret"'), /below the directory warmup, got "\.\.\/secret"/);
  assert.match(warmUp('zero_data: true dims: -1'), /dims: expected numbers of at least 1, got \[1,-1\]/);
  assert.match(refusal('model_warmup { name: "w" }'), /model_warmup "w": it has no inputs/);
});
