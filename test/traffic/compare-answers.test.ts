import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Datatype, tensor } from '../../src/index.js';
import type { NamedTensor } from '../../src/server/service.js';
import { compareAnswers } from '../../src/traffic/compare-answers.js';

const output = (
  shape: readonly number[],
  values: readonly (number | bigint | string)[] | Uint16Array,
  datatype: Datatype = 'FP32',
  name = 'y',
): NamedTensor => ({ name, tensor: tensor(datatype, shape, values as readonly number[]) });

test('equal answers differ in nothing', () => {
  const answer = [output([2, 3], [1, 2, 3, 6, 5, 4])];
  assert.deepEqual(compareAnswers(answer, answer), { maxAbs: 0, flips: 0, rows: 2 });
});

test('the largest difference and the rows whose largest element moved are found', () => {
  assert.deepEqual(
    compareAnswers([output([2, 3], [1, 2, 3, 6, 5, 4])], [output([2, 3], [1, 2, 2.5, 6, 6.25, 4])]),
    { maxAbs: 1.25, flips: 1, rows: 2 },
  );
});

test('rows of one number cannot flip', () => {
  assert.deepEqual(compareAnswers([output([2, 1], [1, 2])], [output([2, 1], [2, 1])]), {
    maxAbs: 1,
    flips: 0,
    rows: 0,
  });
});

test('a number beside none is infinitely far, two of none are equal', () => {
  const found = compareAnswers([output([1, 1], [Number.NaN])], [output([1, 1], [1])]);
  assert.deepEqual(found, { maxAbs: Number.POSITIVE_INFINITY, flips: 0, rows: 0 });
  assert.deepEqual(compareAnswers([output([1, 1], [Number.NaN])], [output([1, 1], [Number.NaN])]), {
    maxAbs: 0,
    flips: 0,
    rows: 0,
  });
  const infinite = output([1, 1], [Number.POSITIVE_INFINITY]);
  assert.deepEqual(compareAnswers([infinite], [infinite]), { maxAbs: 0, flips: 0, rows: 0 });
});

test('64-bit integers, halves and texts are compared too', () => {
  assert.deepEqual(compareAnswers([output([1, 2], [5n, 9n], 'INT64')], [output([1, 2], [5n, 2n], 'INT64')]), {
    maxAbs: 7,
    flips: 1,
    rows: 1,
  });
  // 1.0 and 1.5 as FP16, then as BF16.
  assert.deepEqual(
    compareAnswers(
      [output([1], Uint16Array.of(0x3c00), 'FP16')],
      [output([1], Uint16Array.of(0x3e00), 'FP16')],
    ),
    {
      maxAbs: 0.5,
      flips: 0,
      rows: 0,
    },
  );
  assert.deepEqual(
    compareAnswers(
      [output([1], Uint16Array.of(0x3f80), 'BF16')],
      [output([1], Uint16Array.of(0x3fc0), 'BF16')],
    ),
    {
      maxAbs: 0.5,
      flips: 0,
      rows: 0,
    },
  );
  assert.deepEqual(
    compareAnswers([output([3], ['a', 'b', 'c'], 'BYTES')], [output([3], ['a', 'x', 'c'], 'BYTES')]),
    { maxAbs: 0, flips: 1, rows: 3 },
  );
});

test('a missing output, another shape or texts for numbers cannot be compared, and it is said why', () => {
  const served = [output([1, 2], [1, 2])];
  assert.match(String(compareAnswers(served, [output([1, 2], [1, 2], 'FP32', 'z')])), /no output 'y'/);
  assert.match(
    String(compareAnswers(served, [output([2, 1], [1, 2])])),
    /'y' is FP32 \[2,1\], the served one FP32 \[1,2\]/,
  );
  assert.match(String(compareAnswers(served, [output([1, 2], ['a', 'b'], 'BYTES')])), /'y' is BYTES/);
});

test('of a long output the first 32,768 elements are compared', () => {
  const zeros = Array.from({ length: 40_000 }, () => 0);
  const late = zeros.with(39_999, 1);
  const early = zeros.with(32_767, 1);
  const one = (values: number[]): NamedTensor[] => [output([40_000, 1], values)];
  assert.deepEqual(compareAnswers(one(zeros), one(late)), { maxAbs: 0, flips: 0, rows: 0 });
  assert.deepEqual(compareAnswers(one(zeros), one(early)), { maxAbs: 1, flips: 0, rows: 0 });
});
