import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseForm } from '../../src/model/form-policy.js';
import type { FormMeasure } from '../../src/model/prepared-model.js';

const mib = 2 ** 20;
const weights = 400 * mib;
const plain: FormMeasure = {
  form: 'prepared',
  loadMs: 3,
  oneRowUs: 10,
  batchUs: 1000,
  batchRows: 32,
  privateBytes: mib,
};
const packed: FormMeasure = { ...plain, form: 'prepacked', loadMs: 500, batchUs: 700 };

test('prepacked weights are served where they are a quarter faster at the batch in use', () => {
  assert.equal(chooseForm([plain, packed], weights, 'auto').form, 'prepacked');
  assert.match(chooseForm([plain, packed], weights, 'auto').reason, /1\.43x faster at 32 rows/);
  assert.equal(chooseForm([plain, { ...packed, batchUs: 900 }], weights, 'auto').form, 'prepared');
});

test('prepacked weights that clones do not share are not served, however fast', () => {
  assert.equal(chooseForm([plain, { ...packed, privateBytes: weights }], weights, 'auto').form, 'prepared');
});

test('what the operator chose is kept where it can be', () => {
  assert.equal(chooseForm([plain, { ...packed, batchUs: 2000 }], weights, 'on').form, 'prepacked');
  assert.equal(chooseForm([plain], weights, 'off').form, 'prepared');
  assert.equal(chooseForm([plain, { ...packed, refused: 'it differs' }], weights, 'on').form, 'prepared');
});

test('without a form that can be served the original is, and each refusal is told', () => {
  const refused = [
    { ...plain, refused: 'it differs' },
    { ...packed, refused: 'it crashed' },
  ];
  const { form, reason } = chooseForm(refused, weights, 'auto');
  assert.equal(form, 'original');
  assert.equal(reason, 'prepared: it differs; prepacked: it crashed');
});
