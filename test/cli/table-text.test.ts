import assert from 'node:assert/strict';
import { test } from 'node:test';
import { durationText, modelTable, type TableModel } from '../../src/cli/table-text.js';

const ready: TableModel = {
  name: 'ranker',
  version: 3,
  state: 'ready',
  devices: ['cpu'],
  signature: {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 400] }],
    outputs: [{ name: 'y', datatype: 'INT64', shape: [] }],
  },
  loadMs: 3.11,
  form: 'prepared',
};

test('the table aligns its columns and shows free dimensions as question marks', () => {
  const failed: TableModel = { name: 'b', version: 1, state: 'failed', devices: [], reason: 'it is empty' };
  assert.equal(
    modelTable([ready, failed]),
    [
      'MODEL   VERSION  STATE   DEVICE  INPUTS         OUTPUTS    LOAD    FORM',
      'ranker  3        ready   cpu     x FP32[?,400]  y INT64[]  3.1 ms  prepared',
      'b       1        failed  -       -              -          -       -',
      'b failed: it is empty',
      '',
    ].join('\n'),
  );
});

test('labels stand behind their version', () => {
  assert.match(
    modelTable([{ ...ready, labels: ['canary', 'stable'] }]),
    /^ranker {2}3 \(canary, stable\) {2}ready/m,
  );
});

test('a model of many inputs shows the first and counts the rest', () => {
  const inputs = Array.from({ length: 8 }, (_, index) => ({
    name: `f${index}`,
    datatype: 'FP32' as const,
    shape: [-1],
  }));
  assert.match(
    modelTable([{ ...ready, signature: { inputs, outputs: [] } }]),
    /f0 FP32\[\?\], f1 FP32\[\?\], f2 FP32\[\?\], \+5 more {2}-/,
  );
});

test('a thousand models are counted, not listed', () => {
  const text = modelTable(Array.from({ length: 1000 }, () => ready));
  assert.equal(text.split('\n').length, 53);
  assert.match(text, /and 950 more/);
});

test('durations are short', () => {
  assert.deepEqual([0.02, 12.3, 999, 61_000].map(durationText), ['0.0 ms', '12 ms', '999 ms', '61.0 s']);
});
