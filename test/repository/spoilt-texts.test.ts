/** Configuration files of other servers, spoilt at random: each is read, or refused as what it is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { parseModelsConfig } from '../../src/repository/models-config.js';
import { parseTritonConfig, unsupportedReason } from '../../src/repository/triton-config.js';

const modelsConfig = `model_config_list {
  config {
    name: "ranker" base_path: "/models/ranker" model_platform: "tensorflow"
    model_version_policy { specific { versions: 42 versions: [43, 9007199254740991] } }
    version_labels { key: "stable" value: 42 }
  }
  config < name: 'scorer', base_path: "s\\303\\251" model_version_policy: { latest: { num_versions: 2 } } >
}`;

const tritonConfig = `name: "m" platform: "onnxruntime_onnx" max_batch_size: 8
input [ { name: "a" data_type: TYPE_FP32 dims: [ 16, -1 ] optional: true } ]
output { name: "b" data_type: TYPE_STRING dims: 1 }
version_policy { specific { versions: [1, 2] } }
dynamic_batching { preferred_batch_size: [2, 4] max_queue_delay_microseconds: 100 priority_levels: 2
  default_priority_level: 1 default_queue_policy { timeout_action: DELAY max_queue_size: 3 }
  priority_queue_policy { key: 1 value { default_timeout_microseconds: 5 } } }
instance_group { count: 2 kind: KIND_GPU gpus: [0, 1] }
model_warmup { name: "w" inputs { key: "a" value { data_type: TYPE_FP32 dims: 1 zero_data: true } } }
parameters { key: "p" value { string_value: "1" } }
response_cache { enable: true } model_transaction_policy { decoupled: true }`;

const pieces = [
  '{',
  '}',
  '<',
  '>',
  '[',
  ']',
  ':',
  ',',
  ';',
  '"',
  "'",
  '\\',
  '#',
  '\n',
  '-',
  '0x',
  '1e400',
  '\0',
  'é',
];

/** Numbers from 0 to below 1, the same in every run. */
function* chances(): Generator<number, never> {
  let state = 20_251_125;
  for (;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state / 2 ** 32;
  }
}

for (const [name, text, parse] of [
  ['models.config', modelsConfig, (spoilt: string) => parseModelsConfig(spoilt, 'models.config')],
  [
    'config.pbtxt',
    tritonConfig,
    (spoilt: string) => unsupportedReason(parseTritonConfig(spoilt, 'config.pbtxt')),
  ],
] as const) {
  test(`a ${name} that is spoilt anywhere is read or refused with its name, and nothing else happens`, () => {
    const chance = chances();
    const below = (limit: number): number => Math.floor(chance.next().value * limit);
    const counts = { read: 0, refused: 0 };
    for (let round = 0; round < 3000; round++) {
      let spoilt = text;
      for (let edits = 1 + below(3); edits > 0; edits--) {
        const at = below(spoilt.length);
        const piece = below(3) === 0 ? spoilt.slice(at, at + below(40)) : pieces[below(pieces.length)]!;
        spoilt = spoilt.slice(0, at) + piece + spoilt.slice(at + below(12));
      }
      try {
        parse(spoilt);
        counts.read += 1;
      } catch (error) {
        assert.ok(error instanceof ServingError && error.code === 'SRV_BAD_CONFIG', `${error}\n${spoilt}`);
        assert.ok(error.message.startsWith(name), error.message);
        counts.refused += 1;
      }
    }
    assert.ok(counts.refused > 1000 && counts.read > 10, JSON.stringify(counts));
  });
}
