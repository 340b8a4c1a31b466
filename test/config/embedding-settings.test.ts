import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EmbeddingSettings, idsNames, slotsOf } from '../../src/config/embedding-settings.js';
import { parseModelSettings } from '../../src/config/model-settings.js';
import { ServingError } from '../../src/errors.js';

const plain = { table: 'table', ids: 'ids', target: 'rows' };

function problemsOf(embeddings: unknown, more: Readonly<Record<string, unknown>> = {}): unknown {
  try {
    parseModelSettings(JSON.stringify({ embeddings, ...more }), 'model.json');
    return [];
  } catch (error) {
    assert.ok(error instanceof ServingError && error.code === 'SRV_BAD_CONFIG');
    return error.details?.problems;
  }
}

const accepted: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>> = {
  'one id a row': [plain],
  'a pinned table in memory': [{ ...plain, version: 3, in_mem: true }],
  'a fixed and a free number of slots': [
    { ...plain, slots: 26 },
    { ...plain, ids: 'words', slots: -1, target: 'words' },
  ],
  'an ids input for each slot': [{ ...plain, ids: ['C1', 'C2'], slots: 1 }],
  'the columns of one matrix in several stages': [
    { ...plain, slots: 3, columns: [0, 2] },
    { ...plain, slots: 3, columns: [1], table: 'other', target: 'other' },
  ],
  'ragged ids by lengths and by offsets': [
    { ...plain, lengths: 'n', combiner: 'sum' },
    { ...plain, ids: 'i2', offsets: 'o', combiner: 'sqrtn', weights: 'w', target: 't2' },
  ],
  'hashed text': [
    {
      ...plain,
      datatype: 'BYTES',
      slots: 26,
      hash: { function: 'xxh64', seed: '18446744073709551615', modulus: 1_000_001, column: 14 },
    },
  ],
  'a modulus of numbers': [{ ...plain, hash: { modulus: 100 }, rows: 100 }],
  'a default row': [{ ...plain, missing: 'default', default_row: [0.5, 1] }],
};

for (const [what, embeddings] of Object.entries(accepted)) {
  test(`stages may have ${what}`, () => {
    assert.deepEqual(problemsOf(embeddings), []);
    assert.deepEqual(parseModelSettings(JSON.stringify({ embeddings }), 'm').embeddings, embeddings);
  });
}

const refused: Readonly<
  Record<string, readonly [stage: Readonly<Record<string, unknown>>, problem: string]>
> = {
  'no table': [{ ids: 'ids', target: 'rows' }, 'embeddings[0].table: missing: expected a non-empty string'],
  'a misspelt key': [{ ...plain, slot: 3 }, 'embeddings[0].slot: unknown key; did you mean "slots"?'],
  'no name of ids': [
    { ...plain, ids: [] },
    'embeddings[0].ids: expected a name, or a list of 1 to 4096 names without repetitions, got []',
  ],
  'no slots': [
    { ...plain, slots: 0 },
    'embeddings[0].slots: expected an integer of at least 1, or -1 for any width, got 0',
  ],
  'slots of several inputs': [
    { ...plain, ids: ['a', 'b'], slots: 2 },
    'embeddings[0].slots: ids are 2 inputs of one slot each: expected no slots (each is [B]) or 1 (each is [B, 1]), got 2',
  ],
  'columns without slots': [
    { ...plain, columns: [0] },
    'embeddings[0].columns: expected one ids input and its number of slots beside it',
  ],
  'a column past the last': [
    { ...plain, slots: 2, columns: [0, 2] },
    'embeddings[0].columns[1]: expected a column from 0 to 1, got 2',
  ],
  'lengths and offsets': [
    { ...plain, lengths: 'l', offsets: 'o', combiner: 'sum' },
    'embeddings[0].offsets: lengths is there too; expected one of the two',
  ],
  'ragged ids without a combiner': [
    { ...plain, lengths: 'l' },
    'embeddings[0].combiner: expected sum, mean or sqrtn, because ids are ragged (lengths): rows without a combiner would have no batch axis',
  ],
  'ragged ids of several inputs': [
    { ...plain, ids: ['a', 'b'], lengths: 'l', combiner: 'sum' },
    'embeddings[0].ids: expected one name, because ids are ragged (lengths), got 2',
  ],
  'ragged ids with slots': [
    { ...plain, slots: 2, offsets: 'o', combiner: 'sum' },
    'embeddings[0].slots: cannot be given with offsets: ragged ids are [N]',
  ],
  'weights without a combiner': [
    { ...plain, slots: 2, weights: 'w' },
    'embeddings[0].weights: expected a combiner (sum, mean or sqrtn) beside it',
  ],
  'rows of unsigned ids': [
    { ...plain, datatype: 'UINT64', rows: 5 },
    'embeddings[0].rows: expected ids of INT64 or INT32 beside it, got UINT64',
  ],
  'a default row that nothing asks for': [
    { ...plain, default_row: [1] },
    'embeddings[0].default_row: expected "missing": "default" beside it, got "zeros"',
  ],
  'text without a hash': [
    { ...plain, datatype: 'BYTES' },
    'embeddings[0].hash.function: ids of BYTES need one of xxh64, murmur3, fnv1a, python2',
  ],
  'hashed numbers': [
    { ...plain, hash: { function: 'xxh64', modulus: 7 } },
    'embeddings[0].hash.function: is for BYTES, got ids of INT64, which take only modulus',
  ],
  'a hash of numbers that does nothing': [
    { ...plain, hash: {} },
    'embeddings[0].hash.modulus: missing: expected an integer',
  ],
  'a seed that is too large': [
    { ...plain, datatype: 'BYTES', hash: { function: 'murmur3', seed: 4_294_967_296 } },
    'embeddings[0].hash.seed: expected at most 4294967295, got 4294967296',
  ],
  'a seed for a function without one': [
    { ...plain, datatype: 'BYTES', hash: { function: 'python2', seed: '1' } },
    'embeddings[0].hash.seed: python2 has no seed, got 1',
  ],
  'a seed that is no number': [
    { ...plain, datatype: 'BYTES', hash: { function: 'xxh64', seed: '0x1' } },
    'embeddings[0].hash.seed: expected an integer of at least 0, or its digits as a string, got "0x1"',
  ],
};

for (const [what, [stage, problem]] of Object.entries(refused)) {
  test(`a stage with ${what} is refused by the path of its field`, () => {
    assert.deepEqual(problemsOf([stage]), [problem]);
  });
}

test('two stages for one input of the network are refused', () => {
  assert.deepEqual(problemsOf([plain, { ...plain, table: 'b' }]), [
    'embeddings[1].target: "rows" is fed by embeddings[0] already',
  ]);
});

test('a public input has one form in all stages', () => {
  const stages = [
    plain,
    { ...plain, target: 'b', slots: 2 },
    { ...plain, ids: 'ids2', target: 'c', weights: 'ids', combiner: 'sum' },
  ];
  assert.deepEqual(problemsOf(stages), [
    'embeddings[1].ids: "ids" is ids of INT64 [B, 2] here, but ids of INT64 [B] in embeddings[0].ids',
    'embeddings[2].weights: "ids" is weights of FP32 [B] here, but ids of INT64 [B] in embeddings[0].ids',
  ]);
});

test('an input that a stage feeds has no public name', () => {
  assert.deepEqual(problemsOf([plain], { inputs: { vectors: 'rows' } }), [
    'embeddings[0].target: "rows" is fed by this stage, so inputs cannot call it "vectors"',
  ]);
});

test('a stage tells its ids inputs and slots', () => {
  const stage = (more: Partial<EmbeddingSettings>): EmbeddingSettings => ({ ...plain, ...more });
  assert.deepEqual(idsNames(stage({})), ['ids']);
  assert.deepEqual(idsNames(stage({ ids: ['a', 'b'] })), ['a', 'b']);
  assert.equal(slotsOf(stage({})), 1);
  assert.equal(slotsOf(stage({ slots: 26 })), 26);
  assert.equal(slotsOf(stage({ slots: 26, columns: [1, 2] })), 2);
  assert.equal(slotsOf(stage({ ids: ['a', 'b'], slots: 1 })), 2);
  assert.equal(slotsOf(stage({ slots: -1 })), -1);
  assert.equal(slotsOf(stage({ lengths: 'n', combiner: 'sum' })), -1);
});
