/** Ids of a request become keys: numbers, texts, columns, moduli. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EmbeddingSettings } from '../../src/config/embedding-settings.js';
import { idsEncoder } from '../../src/model/id-keys.js';
import { hashBytes } from '../../src/native/binding.js';
import { hashIds, placeIds } from '../../src/native/tables.js';
import { hashKeys } from '../../src/sparse/hash-keys.js';
import { type Tensor, tensor } from '../../src/tensor/tensor.js';

const plain: EmbeddingSettings = { table: 't', ids: 'ids', target: 'rows' };

/** What a stage makes of tensors, which are its ids inputs in order. */
function keysOf(
  stage: Partial<EmbeddingSettings>,
  ...sent: readonly Tensor[]
): { readonly shape: readonly number[]; readonly keys: readonly bigint[] } {
  const made = idsEncoder(
    { ...plain, ...stage },
    sent.map((_, index) => index),
  )(sent);
  assert.equal(made.datatype, 'UINT64');
  assert.ok(made.data instanceof BigUint64Array);
  assert.equal(
    made.data.length,
    made.shape.reduce((product, dim) => product * dim, 1),
  );
  return { shape: made.shape, keys: [...made.data] };
}

const text = (...values: readonly string[]): Tensor => tensor('BYTES', [values.length], values);
const hashOf = (
  name: 'xxh64' | 'murmur3' | 'fnv1a' | 'python2',
  value: string,
  seed: number | string = 0,
): bigint => keysOf({ datatype: 'BYTES', hash: { function: name, seed } }, text(value)).keys[0]!;

const max = 2n ** 64n - 1n;

test('a number without rules is its own key, a negative one its two’s complement', () => {
  const wide = keysOf({}, tensor('INT64', [4], [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)]));
  assert.deepEqual(wide, { shape: [4, 1], keys: [0n, max, 2n ** 63n - 1n, 2n ** 63n] });
  const unsigned = keysOf({ datatype: 'UINT64' }, tensor('UINT64', [2], [0n, max]));
  assert.deepEqual(unsigned, { shape: [2, 1], keys: [0n, max] });
  const narrow = keysOf({ datatype: 'INT32' }, tensor('INT32', [3], [7, -1, -(2 ** 31)]));
  assert.deepEqual(narrow, { shape: [3, 1], keys: [7n, max, max - 2n ** 31n + 1n] });
});

test('ids that are keys themselves are not copied', () => {
  const data = BigInt64Array.of(1n, 2n);
  const made = idsEncoder(plain, [0])([tensor('INT64', [2], data)]);
  assert.equal(made.data.buffer, data.buffer);
});

test('ids keep the shape of their slots', () => {
  const ids = tensor('INT64', [2, 3], [1n, 2n, 3n, 4n, 5n, 6n]);
  assert.deepEqual(keysOf({ slots: 3 }, ids).shape, [2, 3]);
  assert.deepEqual(keysOf({ slots: -1 }, ids).shape, [2, 3]);
  assert.deepEqual(keysOf({ slots: -1, rows: 10 }, ids), { shape: [2, 3], keys: [1n, 2n, 3n, 4n, 5n, 6n] });
  const narrow = tensor('INT32', [2, 2], [1, 2, 3, 4]);
  assert.deepEqual(keysOf({ datatype: 'INT32', slots: 2 }, narrow), {
    shape: [2, 2],
    keys: [1n, 2n, 3n, 4n],
  });
});

test('columns are taken out of a matrix, in their order', () => {
  const ids = tensor('INT64', [2, 3], [1n, 2n, 3n, 4n, 5n, 6n]);
  assert.deepEqual(keysOf({ slots: 3, columns: [2, 0] }, ids), { shape: [2, 2], keys: [3n, 1n, 6n, 4n] });
  assert.deepEqual(keysOf({ slots: 3, columns: [1, 1, 1] }, ids), {
    shape: [2, 3],
    keys: [2n, 2n, 2n, 5n, 5n, 5n],
  });
  assert.deepEqual(keysOf({ slots: 3, columns: [1], hash: { modulus: 3 } }, ids), {
    shape: [2, 1],
    keys: [2n, 2n],
  });
});

test('several ids inputs become the slots of a row', () => {
  const first = tensor('INT64', [3], [1n, 2n, 3n]);
  const second = tensor('INT64', [3], [-1n, 20n, 30n]);
  const expected = { shape: [3, 2], keys: [1n, max, 2n, 20n, 3n, 30n] };
  assert.deepEqual(keysOf({ ids: ['a', 'b'] }, first, second), expected);
  const columns = [first, second].map((one) => ({ ...one, shape: [3, 1] }) as Tensor);
  assert.deepEqual(keysOf({ ids: ['a', 'b'], slots: 1 }, ...columns), expected);
  const texts = keysOf(
    { ids: ['a', 'b'], datatype: 'BYTES', hash: { function: 'fnv1a' } },
    text('a', 'foobar'),
    text('', 'a'),
  );
  assert.deepEqual(texts, {
    shape: [2, 2],
    keys: [0xaf63dc4c8601ec8cn, 0xcbf29ce484222325n, 0x85944171f73967e8n, 0xaf63dc4c8601ec8cn],
  });
});

test('ids inputs of one stage with unlike numbers of rows are refused, by name', () => {
  for (const [first, second] of [
    [2, 3],
    [3, 2],
    [1, 0],
  ] as const) {
    const numbers = [first, second].map((rows) => tensor('INT64', [rows], new BigInt64Array(rows)));
    const texts = [first, second].map((rows) => tensor('BYTES', [rows], Array<string>(rows).fill('x')));
    const refusal = {
      code: 'SRV_BAD_SIGNATURE',
      message: new RegExp(`'b' has ${second} rows?.*'a' has ${first}`),
    };
    assert.throws(() => keysOf({ ids: ['a', 'b'] }, ...numbers), refusal);
    const hash = { function: 'xxh64' } as const;
    assert.throws(() => keysOf({ ids: ['a', 'b'], datatype: 'BYTES', hash }, ...texts), refusal);
  }
});

test('a modulus of signed numbers is floored, as Python and ONNX Mod have it; of unsigned ones plain', () => {
  const hash = { modulus: 7 };
  const signed = [0n, 6n, 7n, -1n, -7n, -8n, -(2n ** 63n), 2n ** 63n - 1n];
  const floored = signed.map((id) => ((id % 7n) + 7n) % 7n);
  assert.deepEqual(keysOf({ hash }, tensor('INT64', [8], signed)).keys, floored);
  assert.deepEqual(keysOf({ hash, datatype: 'INT32' }, tensor('INT32', [3], [-1, -7, 13])).keys, [
    6n,
    0n,
    6n,
  ]);
  assert.deepEqual(keysOf({ hash, datatype: 'UINT64' }, tensor('UINT64', [2], [max, 2n ** 63n])).keys, [
    max % 7n,
    2n ** 63n % 7n,
  ]);
  const wide = { modulus: Number.MAX_SAFE_INTEGER };
  assert.deepEqual(keysOf({ hash: wide }, tensor('INT64', [1], [-1n])).keys, [
    BigInt(Number.MAX_SAFE_INTEGER - 1),
  ]);
  assert.deepEqual(keysOf({ hash: { modulus: 1 } }, tensor('INT64', [2], [-5n, 5n])).keys, [0n, 0n]);
});

test('with rows, ids are positions: negative ones from the end, those outside have no row', () => {
  const ids = [0n, 9n, -1n, -10n, 10n, -11n, 2n ** 63n - 1n, -(2n ** 63n)];
  const keys = [0n, 9n, 9n, 0n, max, max, max, max];
  assert.deepEqual(keysOf({ rows: 10 }, tensor('INT64', [8], ids)).keys, keys);
  const narrow = keysOf({ rows: 10, datatype: 'INT32' }, tensor('INT32', [4], [9, -10, 10, -(2 ** 31)]));
  assert.deepEqual(narrow.keys, [9n, 0n, max, max]);
  // Counted after the modulus, whose remainders are never negative.
  assert.deepEqual(keysOf({ rows: 10, hash: { modulus: 12 } }, tensor('INT64', [3], [-1n, 22n, 13n])).keys, [
    max,
    max,
    1n,
  ]);
});

test('ragged ids stay in one row of keys', () => {
  const stage = { lengths: 'n', combiner: 'sum' } as const;
  assert.deepEqual(keysOf(stage, tensor('INT64', [3], [1n, 2n, 3n])).shape, [3]);
  assert.deepEqual(keysOf({ ...stage, rows: 2 }, tensor('INT64', [2], [-1n, 5n])), {
    shape: [2],
    keys: [1n, max],
  });
  assert.deepEqual(keysOf(stage, tensor('INT64', [0], [])), { shape: [0], keys: [] });
  const hashed = keysOf({ ...stage, datatype: 'BYTES', hash: { function: 'fnv1a' } }, text('a', 'a', ''));
  assert.deepEqual(hashed, {
    shape: [3],
    keys: [0xaf63dc4c8601ec8cn, 0xaf63dc4c8601ec8cn, 0xcbf29ce484222325n],
  });
});

test('no rows, and rows without ids, give no keys', () => {
  assert.deepEqual(keysOf({}, tensor('INT64', [0], [])), { shape: [0, 1], keys: [] });
  assert.deepEqual(keysOf({ slots: -1 }, tensor('INT64', [2, 0], [])), { shape: [2, 0], keys: [] });
  const hash = { function: 'murmur3' } as const;
  assert.deepEqual(keysOf({ slots: -1, datatype: 'BYTES', hash }, tensor('BYTES', [2, 0], [])).shape, [2, 0]);
  assert.deepEqual(keysOf({ slots: 3, columns: [1] }, tensor('INT64', [0, 3], [])), {
    shape: [0, 1],
    keys: [],
  });
  assert.deepEqual(
    keysOf({ ids: ['a', 'b'] }, tensor('INT64', [0], []), tensor('INT64', [0], [])).shape,
    [0, 2],
  );
});

test('xxh64 gives the published values', () => {
  assert.equal(hashOf('xxh64', ''), 0xef46db3751d8e999n);
  assert.equal(hashOf('xxh64', 'a'), 0xd24ec4f1a98c6e5bn);
  assert.equal(hashOf('xxh64', 'abc'), 0x44bc2cf5ad770999n);
  assert.equal(hashOf('xxh64', 'Nobody inspects the spammish repetition'), 0xfbcea83c8a378bf1n);
  assert.equal(hashOf('xxh64', 'xxhash', 20141025), 13067679811253438005n);
  assert.equal(hashOf('xxh64', 'xxhash', '20141025'), 13067679811253438005n);
  assert.notEqual(hashOf('xxh64', 'xxhash', String(max)), hashOf('xxh64', 'xxhash'));
  for (const length of [1, 7, 8, 31, 32, 33, 100, 1000]) {
    const value = 'ab'.repeat(length).slice(0, length);
    assert.equal(hashOf('xxh64', value).toString(16).padStart(16, '0'), hashBytes(Buffer.from(value)));
  }
});

test('murmur3 gives the low half of the published 128 bits', () => {
  const published: readonly (readonly [seed: number, text: string, low: bigint])[] = [
    [0, '', 0n],
    [0, 'hello', 0xcbd8a7b341bd9b02n],
    [0, 'hello, world', 0x342fac623a5ebc8en],
    [0, '19 Jan 2038 at 3:14:07 AM', 0xb89e5988b737affcn],
    [0, 'The quick brown fox jumps over the lazy dog.', 0xcd99481f9ee902c9n],
    [1, '', 0x4610abe56eff5cb5n],
    [1, 'hello', 0xa78ddff5adae8d10n],
    [1, 'hello, world', 0x8b95f808840725c6n],
    [0x2a, '', 0xf02aa77dfa1b8523n],
    [0x2a, 'hello', 0xc4b8b3c960af6f08n],
  ];
  for (const [seed, value, low] of published) assert.equal(hashOf('murmur3', value, seed), low, value);
  assert.notEqual(hashOf('murmur3', 'hello', 2 ** 32 - 1), hashOf('murmur3', 'hello'));
});

test('fnv1a gives the published values', () => {
  assert.equal(hashOf('fnv1a', ''), 0xcbf29ce484222325n);
  assert.equal(hashOf('fnv1a', 'a'), 0xaf63dc4c8601ec8cn);
  assert.equal(hashOf('fnv1a', 'foobar'), 0x85944171f73967e8n);
});

/** The string hash of CPython 2, from its source, on integers without bounds. */
function python2(value: string): bigint {
  const bytes = Buffer.from(value);
  if (bytes.length === 0) return 0n;
  let hash = BigInt(bytes[0]!) << 7n;
  for (const byte of bytes) hash = BigInt.asUintN(64, hash * 1000003n) ^ BigInt(byte);
  hash = BigInt.asIntN(64, hash ^ BigInt(bytes.length));
  return hash === -1n ? -2n : hash;
}

test('python2 gives what Python 2 gave, signs and remainders included', () => {
  const modulus = 1_000_001;
  const keyOf = (value: string): bigint =>
    keysOf({ datatype: 'BYTES', hash: { function: 'python2', modulus } }, text(value)).keys[0]!;
  assert.equal(keyOf('145a9ed9b0'), 230803n);
  assert.equal(keyOf('14'), 25204n);
  assert.equal(keyOf('1405db9164'), 737395n);
  assert.equal(hashOf('python2', 'a'), 12416037344n);
  assert.equal(hashOf('python2', ''), 0n);
  const words = [
    'a',
    'ab',
    'ü',
    '日本',
    '\u0000',
    ...Array.from({ length: 200 }, (_, n) => (n * 7919).toString(36)),
  ];
  assert.ok(words.some((word) => python2(word) < 0n));
  for (const word of words) {
    const hash = python2(word);
    assert.equal(hashOf('python2', word), BigInt.asUintN(64, hash), word);
    assert.equal(keyOf(word), ((hash % 1000001n) + 1000001n) % 1000001n, word);
  }
});

test('the modulus of an unsigned hash takes all 64 bits', () => {
  const stage = { datatype: 'BYTES', hash: { function: 'xxh64', modulus: 1000 } } as const;
  assert.equal(keysOf(stage, text('')).keys[0], 0xef46db3751d8e999n % 1000n);
});

test('the number of a column is put before the text, counted over the slots of the stage', () => {
  const hash = { function: 'fnv1a', column: 14 } as const;
  const bare = (value: string): bigint => hashOf('fnv1a', value);
  const stage = { datatype: 'BYTES', hash } as const;
  assert.deepEqual(keysOf(stage, text('x', 'y')).keys, ['14x', '14y'].map(bare));
  const matrix = tensor('BYTES', [2, 3], ['a', 'b', 'c', 'd', 'e', 'f']);
  assert.deepEqual(
    keysOf({ ...stage, slots: 3 }, matrix).keys,
    ['14a', '15b', '16c', '14d', '15e', '16f'].map(bare),
  );
  assert.deepEqual(keysOf({ ...stage, slots: 3, columns: [2, 0] }, matrix), {
    shape: [2, 2],
    keys: ['14c', '15a', '14f', '15d'].map(bare),
  });
  assert.deepEqual(
    keysOf({ ...stage, ids: ['a', 'b'] }, text('x', 'y'), text('z', '')).keys,
    ['14x', '15z', '14y', '15'].map(bare),
  );
  assert.deepEqual(
    keysOf({ ...stage, lengths: 'n', combiner: 'sum' }, text('p', 'q', 'r')).keys,
    ['14p', '14q', '14r'].map(bare),
  );
  assert.deepEqual(keysOf({ ...stage, hash: { ...hash, column: 0 } }, text('x')).keys, [bare('0x')]);
});

test('a text is hashed as its UTF-8 bytes, NUL characters and all', () => {
  assert.equal(
    hashOf('xxh64', 'aé\u0000日').toString(16).padStart(16, '0'),
    hashBytes(Buffer.from('aé\u0000日')),
  );
});

test('hashKeys gives programs the keys of a stage', () => {
  const texts = ['a', '145a9ed9b0', '日本'];
  for (const [name, seed, modulus] of [
    ['xxh64', 2n ** 64n - 1n, undefined],
    ['murmur3', 7n, 1000],
    ['fnv1a', 0n, undefined],
    ['python2', 0n, 1_000_001],
  ] as const) {
    const limit = modulus === undefined ? {} : { modulus };
    const stage = { datatype: 'BYTES', hash: { function: name, seed: String(seed), ...limit } } as const;
    assert.deepEqual(
      [...hashKeys(texts, { function: name, seed, ...limit })],
      keysOf(stage, text(...texts)).keys,
    );
  }
  assert.deepEqual(hashKeys([], { function: 'xxh64' }), new BigUint64Array(0));
});

test('the addon refuses buffers that do not fit, and stays alive', () => {
  const out = new BigUint64Array(2);
  const refused = { code: 'SRV_INTERNAL' };
  assert.throws(() => hashIds(['a'], 1, 0n, 0, -1, 1, out), refused);
  assert.throws(() => hashIds(['a', 'b'], 0, 0n, 0, -1, 1, out), refused);
  assert.throws(() => hashIds(['a', 'b'], 9, 0n, 0, -1, 1, out), refused);
  assert.throws(() => hashIds(['a', 'b'], 1, -1n, 0, -1, 1, out), refused);
  assert.throws(() => hashIds(['a', 'b'], 1, 0n, 0, -1, 0, out), refused);
  assert.throws(() => hashIds(['a', 5 as never], 1, 0n, 0, -1, 1, out), refused);
  const ids = BigInt64Array.of(1n, 2n);
  assert.throws(() => placeIds(ids, 1, 0, new BigUint64Array(3), 1, 0, 0, 0), refused);
  assert.throws(() => placeIds(ids, 2, 2, out, 1, 0, 0, 0), refused);
  assert.throws(() => placeIds(ids, 1, 0, out, 1, 1, 0, 0), refused);
  assert.throws(() => placeIds(ids, 0, 0, out, 1, 0, 0, 0), refused);
  assert.throws(() => placeIds(new Float64Array(2) as never, 1, 0, out, 1, 0, 0, 0), refused);
  assert.throws(() => placeIds(ids, 1, 0, new BigInt64Array(2) as never, 1, 0, 0, 0), refused);
});
