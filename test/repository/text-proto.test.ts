import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  lastNumber,
  lastText,
  messagesOf,
  numbersOf,
  parseTextProto,
} from '../../src/repository/text-proto.js';

const parse = (text: string) => parseTextProto(text, 'config.pbtxt');

test('fields, comments, nested messages, lists and enums are read', () => {
  const message = parse(`
    # a comment
    name: "a" # another
    kind: KIND_CPU; count: 2, on: true
    input [ { dims: [ 1, -2 ] }, { dims: 3 dims: 4 } ]
    group: < gpus: [0] > group { gpus: 1 }
    empty: []
    [ext.field]: 5
  `);
  assert.equal(lastText(message, 'name'), 'a');
  assert.equal(lastText(message, 'kind'), 'KIND_CPU');
  assert.equal(lastNumber(message, 'count'), 2);
  assert.deepEqual(
    messagesOf(message, 'input').map((input) => numbersOf(input, 'dims')),
    [
      [1, -2],
      [3, 4],
    ],
  );
  assert.deepEqual(
    messagesOf(message, 'group').map((group) => numbersOf(group, 'gpus')),
    [[0], [1]],
  );
  assert.deepEqual(message.get('empty'), []);
  assert.equal(lastNumber(message, '[ext.field]'), 5);
});

test('strings take both quotes, escapes of bytes, and neighbours that continue them', () => {
  const message =
    parse(String.raw`a: "x\n\"\t\\" b: 'it''s' c: "\xc3\xa9\303\251\u00e9\U0001F600" d: "one "  # c
    'two'`);
  assert.equal(lastText(message, 'a'), 'x\n"\t\\');
  assert.equal(lastText(message, 'b'), 'its');
  assert.equal(lastText(message, 'c'), 'ééé😀');
  assert.equal(lastText(message, 'd'), 'one two');
});

test('numbers are read in every spelling and lose no digits', () => {
  const message = parse(
    'n: [0x10, 010, -7, 1.5f, .5, 2., 1e3, - 3, inf, -inf] big: 9223372036854775807 nan: nan',
  );
  assert.deepEqual(numbersOf(message, 'n'), [16, 8, -7, 1.5, 0.5, 2, 1000, -3, Infinity, -Infinity]);
  assert.deepEqual(message.get('big'), [{ kind: 'number', value: 9223372036854775807n, line: 1 }]);
  assert.ok(Number.isNaN(lastNumber(message, 'nan')));
});

test('every value knows the line of its field, in lists its own', () => {
  const message = parse('a: 1\n# two\nb {\n c: 1 c: 2\n}\nd: [1,\n2\n]');
  assert.deepEqual(
    ['a', 'b', 'd'].map((field) => message.get(field)?.map(({ line }) => line)),
    [[1], [3], [6, 7]],
  );
  assert.deepEqual(
    messagesOf(message, 'b').map((inner) => inner.get('c')?.map(({ line }) => line)),
    [[4, 4]],
  );
});

test('a text that is no message is refused with line and column', () => {
  const cases: readonly [string, RegExp][] = [
    ['name: "a\n"', /config\.pbtxt:1:9: a string does not end/],
    ['\nname "a"', /config\.pbtxt:2:6: expected ":" or "{"/],
    ['a {', /:1:4: the text ends before a "}"/],
    ['a: [1 2]', /expected "," or "\]"/],
    ['a: [1, 2', /expected "," or "\]"/],
    ['}', /expected a field name/],
    ['a:', /expected a value/],
    ['a: -b', /which is no number/],
    ['a: 12abc', /expected a value/],
    ['a: "\\q"', /unknown escape/],
    ['a: "\\U00110000"', /no character/],
    ['\u0000\u0001binary', /expected a field name/],
  ];
  for (const [text, message] of cases) assert.throws(() => parse(text), { code: 'SRV_BAD_CONFIG', message });
});

test('deep nesting is refused, not overflowed', () => {
  assert.throws(() => parse('a{'.repeat(100_000)), /nested more than 100 deep/);
});
