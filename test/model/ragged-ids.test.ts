/** Ragged rows: lengths and offsets of a request. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lengthsOf, raggedRows } from '../../src/model/ragged-ids.js';
import { splitRows } from '../../src/model/split-request.js';
import { type FixedTensor, type Tensor, tensor } from '../../src/tensor/tensor.js';

/** The lengths that `count` ids get from what was sent. */
function lengths(kind: 'lengths' | 'offsets', sent: Tensor, count: number): number[] {
  const ids = tensor('INT64', [count], new BigInt64Array(count));
  const made = lengthsOf({ name: 'where', input: 1, ids: 0, kind }, [ids, sent]);
  assert.deepEqual([made.datatype, made.shape], ['INT32', [sent.shape[0]]]);
  return [...(made.data as Int32Array)];
}

const wide = (...values: readonly number[]): Tensor => tensor('INT64', [values.length], values);
const narrow = (...values: readonly number[]): Tensor => tensor('INT32', [values.length], values);

for (const [name, of] of Object.entries({ INT64: wide, INT32: narrow })) {
  test(`lengths and offsets of ${name} tell the same`, () => {
    assert.deepEqual(lengths('lengths', of(2, 0, 3), 5), [2, 0, 3]);
    assert.deepEqual(lengths('offsets', of(0, 2, 2), 5), [2, 0, 3]);
    assert.deepEqual(lengths('lengths', of(0, 0), 0), [0, 0]);
    assert.deepEqual(lengths('offsets', of(0, 0), 0), [0, 0]);
    assert.deepEqual(lengths('lengths', of(4), 4), [4]);
    assert.deepEqual(lengths('offsets', of(0), 4), [4]);
    assert.deepEqual(lengths('offsets', of(0, 0, 4, 4), 4), [0, 4, 0, 0]);
    assert.deepEqual(lengths('lengths', of(), 0), []);
    assert.deepEqual(lengths('offsets', of(), 0), []);
  });

  test(`lengths of ${name} that do not fit are refused with their place`, () => {
    const refused = (sent: Tensor, count: number, message: RegExp): void =>
      assert.throws(() => lengths('lengths', sent, count), { code: 'SRV_BAD_BAGS', message });
    refused(of(2, -1, 4), 5, /input 'where': length 1 is -1, expected 0 to 3/);
    refused(of(2, 4), 5, /length 1 is 4, expected 0 to 3, what is left of 5 ids/);
    refused(of(2, 2), 5, /the rows have 4 ids, but 5 were sent/);
    refused(of(), 1, /the rows have 0 ids, but 1 were sent/);
    refused(of(2 ** 31 - 1, 1), 5, /length 0/);
  });

  test(`offsets of ${name} that do not fit are refused with their place`, () => {
    const refused = (sent: Tensor, count: number, message: RegExp): void =>
      assert.throws(() => lengths('offsets', sent, count), { code: 'SRV_BAD_BAGS', message });
    refused(of(1, 2), 5, /offset 0 is 1, expected 0/);
    refused(of(-1, 2), 5, /offset 0 is -1, expected 0/);
    refused(of(0, 3, 2), 5, /offset 2 is 2, expected 3 to 5/);
    refused(of(0, 6), 5, /offset 1 is 6, expected 0 to 5/);
    refused(of(0, -1), 5, /offset 1 is -1/);
    refused(of(), 5, /0 ids, but 5/);
  });
}

test('64-bit lengths beyond all numbers are refused too', () => {
  const huge = tensor('INT64', [2], [2n ** 63n - 1n, -(2n ** 63n)]);
  assert.throws(() => lengths('lengths', huge, 3), { code: 'SRV_BAD_BAGS' });
  assert.throws(() => lengths('offsets', huge, 3), { code: 'SRV_BAD_BAGS' });
  const wrapping = tensor('INT64', [3], [2n ** 62n, 2n ** 62n, -(2n ** 63n)]);
  assert.throws(() => lengths('lengths', wrapping, 0), { code: 'SRV_BAD_BAGS' });
});

test('ragged rows are cut by their lengths, without a copy', () => {
  const ids = tensor('UINT64', [6], [1n, 2n, 3n, 4n, 5n, 6n]) as FixedTensor;
  const rows = Int32Array.of(2, 0, 3, 1);
  const cut = (from: number, to: number): FixedTensor => raggedRows(ids, rows, from, to);
  assert.deepEqual([...cut(0, 2).data], [1n, 2n]);
  assert.deepEqual([...cut(1, 2).data], []);
  assert.deepEqual([...cut(2, 4).data], [3n, 4n, 5n, 6n]);
  assert.deepEqual(cut(2, 3).shape, [3]);
  assert.equal(cut(2, 3).data.buffer, ids.data.buffer);
});

test('a ragged request is split row by row: ids and weights by lengths, the rest by rows', () => {
  const inputs = [
    tensor('FP32', [3, 2], [1, 1, 2, 2, 3, 3]),
    tensor('UINT64', [4], [10n, 11n, 30n, 31n]),
    tensor('INT32', [3], [2, 0, 2]),
    tensor('FP32', [4], [0.1, 0.2, 0.3, 0.4]),
  ];
  const ragged = new Map([
    [1, 2],
    [3, 2],
  ]);
  const pieces = splitRows(inputs, 3, 2, ragged).map(({ rows, inputs }) => ({
    rows,
    data: inputs.map(({ data }) => [...data]),
    shapes: inputs.map(({ shape }) => shape),
  }));
  assert.deepEqual(pieces, [
    {
      rows: 2,
      data: [
        [1, 1, 2, 2],
        [10n, 11n],
        [2, 0],
        [Math.fround(0.1), Math.fround(0.2)],
      ],
      shapes: [[2, 2], [2], [2], [2]],
    },
    {
      rows: 1,
      data: [[3, 3], [30n, 31n], [2], [Math.fround(0.3), Math.fround(0.4)]],
      shapes: [[1, 2], [2], [1], [2]],
    },
  ]);
});
