import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from 'commander';
import { flagTextsOf, serveFlags, serveOptions, withUnderscores } from '../../src/cli/flags.js';
import { settings } from '../../src/config/schema.js';
import type { FlagTexts } from '../../src/config/sources.js';

function parse(...args: string[]): FlagTexts {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  for (const option of serveOptions()) command.addOption(option);
  command.parse(withUnderscores(args), { from: 'user' });
  return flagTextsOf(command.opts());
}

test('every setting that can be a text has a flag of its outside name', () => {
  const flags = new Set(serveFlags.map(({ outside }) => outside));
  for (const { outside, schema } of settings) {
    assert.equal(flags.has(outside === 'models' ? 'model' : outside), !schema.fileOnly, outside);
  }
});

test('flags become texts by outside name, and absent ones are absent', () => {
  assert.deepEqual(parse('--port', '80', '--gpu_ids', '', '--log_level=warn'), {
    port: '80',
    gpu_ids: '',
    log_level: 'warn',
  });
});

test('dashes are accepted in names and kept in values', () => {
  assert.deepEqual(parse('--gpu-ids', '0,1', '--model-repository=my-models', '--server-name', 'a-b'), {
    gpu_ids: '0,1',
    model_repository: 'my-models',
    server_name: 'a-b',
  });
});

test('what stands after a lone -- is left as it is', () => {
  assert.deepEqual(withUnderscores(['--a-b', '--', '--c-d']), ['--a_b', '--', '--c-d']);
});

test('a repeated --model is a list', () => {
  assert.deepEqual(parse('--model', 'a', '--model', 'b', '--name', 'x'), { model: ['a', 'b'], name: ['x'] });
});

test('a switch without a value is on', () => {
  assert.deepEqual(parse('--cpu_group', '--allow_split_request', 'false'), {
    cpu_group: 'true',
    allow_split_request: 'false',
  });
});

test('a misspelt flag names its nearest neighbour', () => {
  assert.throws(() => parse('--max-batchsize', '3'), /--max_batch_size/);
  assert.throws(() => parse('--gpuids', '0'), /--gpu_ids/);
  assert.throws(() => parse('--prot', '1'), /--port/);
});
