import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePaddleConfig } from '../../src/repository/paddle-config.js';

const variable = (name: string, alias: string): string =>
  `name: "${name}" alias_name: "${alias}" is_lod_tensor: false feed_type: 1 shape: 13`;

test('aliases become public names of inputs and outputs', () => {
  const text = `feed_var { ${variable('x', 'words')} } fetch_var { ${variable('fc_0.tmp_1', 'price')} }`;
  assert.deepEqual(parsePaddleConfig(text, 'conf'), {
    inputs: { words: 'x' },
    outputs: { price: 'fc_0.tmp_1' },
  });
});

test('an alias that is the name itself, or is absent, needs no entry', () => {
  assert.deepEqual(
    parsePaddleConfig(`feed_var { ${variable('x', 'x')} } fetch_var { name: "y" }`, 'conf'),
    {},
  );
});

test('a text without variables, names, or with an alias twice is refused', () => {
  for (const text of [
    '',
    `feed_var { ${variable('x', 'x')} }`,
    'feed_var { alias_name: "a" } fetch_var { name: "y" }',
    `feed_var { ${variable('x', 'a')} } feed_var { ${variable('y', 'a')} } fetch_var { name: "y" }`,
  ]) {
    assert.throws(() => parsePaddleConfig(text, 'conf'), { code: 'SRV_BAD_CONFIG' }, text);
  }
});
