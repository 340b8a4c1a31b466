import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTensor, parseTensorAsync, printTensor, printTensorAsync } from '../../src/native/binding.js';
import { type FixedData, type FixedDatatype, fixedDatatypes } from '../../src/tensor/datatype.js';
import { runInWorker } from './run-in-worker.js';

type TextDatatype = Exclude<FixedDatatype, 'FP16' | 'BF16'>;

function onnx(datatype: FixedDatatype): number {
  return fixedDatatypes[datatype].onnx;
}

/** Parses text that stands in the middle of a larger body. */
function parse(datatype: TextDatatype, shape: readonly number[], text: string): FixedData {
  const out = new fixedDatatypes[datatype].array(shape.reduce((count, dim) => count * dim, 1));
  const body = Buffer.from(`{"data":${text}}`);
  parseTensor(body, 8, body.length - 1, onnx(datatype), shape, out);
  return out;
}

function print(datatype: TextDatatype, values: readonly (number | bigint)[]): string {
  const data = new fixedDatatypes[datatype].array(values.length);
  for (const [i, value] of values.entries()) data[i] = value as never;
  return printTensor(data, onnx(datatype), 0, values.length);
}

/** A repeatable generator of numbers in [0, 1) (Lehmer). */
function makeRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

/** Any finite double or float: all bit patterns are alike. */
function anyFloat(random: () => number, view: Float32Array | Float64Array): number {
  const bits = new Uint16Array(view.buffer);
  do {
    for (let i = 0; i < bits.length; i++) bits[i] = random() * 65536;
  } while (!Number.isFinite(view[0]!));
  return view[0]!;
}

const edges: Readonly<Record<TextDatatype, readonly (number | bigint)[]>> = {
  BOOL: [0, 1],
  UINT8: [0, 255],
  UINT16: [0, 65535],
  UINT32: [0, 4294967295],
  UINT64: [0n, 18446744073709551615n],
  INT8: [-128, 127],
  INT16: [-32768, 32767],
  INT32: [-2147483648, 2147483647],
  INT64: [-9223372036854775808n, 9223372036854775807n],
  FP32: [-3.4028234663852886e38, 1.401298464324817e-45, 0.10000000149011612, 16777216],
  FP64: [-1.7976931348623157e308, 5e-324, 0.1, 2 ** 53],
};

for (const [datatype, values] of Object.entries(edges) as [TextDatatype, readonly (number | bigint)[]][]) {
  test(`the smallest and the largest ${datatype} are printed and read back`, () => {
    assert.deepEqual([...parse(datatype, [values.length], print(datatype, values))], values);
  });
}

for (const [datatype, values] of Object.entries(edges) as [TextDatatype, readonly (number | bigint)[]][]) {
  if (datatype.startsWith('FP')) continue;
  test(`${datatype} refuses its neighbours, fractions, exponents and foreign words`, () => {
    const below = BigInt(values[0]!) - 1n;
    const above = BigInt(values.at(-1)!) + 1n;
    for (const text of [
      `${below}`,
      `${above}`,
      '1.0',
      '1e0',
      '01',
      '+1',
      '-',
      'null',
      'NaN',
      '""',
      '[1]',
      '{}',
      `1${'0'.repeat(25)}`,
    ]) {
      assert.throws(() => parse(datatype, [2], `[1,${text}]`), {
        name: 'ServingError',
        code: 'SRV_BAD_TENSOR',
        message: new RegExp(`^data\\[1\\]: expected ${datatype}, .* got .*\\(byte 11\\)$`),
      });
    }
  });
}

test('64-bit integers may be quoted, smaller ones and floats may not', () => {
  assert.deepEqual([...parse('INT64', [2], '["-9223372036854775808", "12"]')], [-9223372036854775808n, 12n]);
  assert.deepEqual([...parse('UINT64', [1], '["18446744073709551615"]')], [18446744073709551615n]);
  for (const text of ['" 1"', '"1', '"1 "', '"0x1"', '"1.0"', '"9223372036854775808"']) {
    assert.throws(() => parse('INT64', [1], `[${text}]`), { code: 'SRV_BAD_TENSOR' });
  }
  assert.throws(() => parse('INT32', [1], '["1"]'), { code: 'SRV_BAD_TENSOR' });
  assert.throws(() => parse('FP32', [1], '["1"]'), { code: 'SRV_BAD_TENSOR' });
});

test('BOOL takes words and digits and prints words', () => {
  assert.deepEqual([...parse('BOOL', [4], '[true, false, 1, 0]')], [1, 0, 1, 0]);
  assert.equal(print('BOOL', [1, 0, 255]), '[true,false,true]');
  assert.throws(() => parse('BOOL', [1], '[True]'), {
    message: 'data[0]: expected BOOL, true, false, 1 or 0, got True (byte 9)',
  });
});

test('floats take and print NaN, the infinities and negative zero', () => {
  for (const datatype of ['FP32', 'FP64'] as const) {
    const values = parse(datatype, [8], '[NaN,Infinity,-Infinity,"NaN","Infinity","-Infinity",-0,-0.0]');
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    assert.deepEqual([...values], [nan, inf, -inf, nan, inf, -inf, -0, -0]);
    assert.equal(print(datatype, [nan, inf, -inf, -0, 0]), '[NaN,Infinity,-Infinity,-0.0,0]');
  }
});

test('a decimal too large for its float is refused, one too small becomes zero', () => {
  for (const text of ['3.4028235677973367e38', '1e39', '-1e400', `1${'0'.repeat(500)}`]) {
    assert.throws(() => parse('FP32', [1], `[${text}]`), {
      code: 'SRV_BAD_TENSOR',
      message: /expected FP32, a number in range/,
    });
  }
  for (const text of ['1.7976931348623159e308', '1e400', '-1e99999999999999999999']) {
    assert.throws(() => parse('FP64', [1], `[${text}]`), { code: 'SRV_BAD_TENSOR' });
  }
  // One decimal unit below the boundary, which lies between the two.
  assert.deepEqual([...parse('FP32', [1], '[3.4028235677973366e38]')], [3.4028234663852886e38]);
  assert.deepEqual([...parse('FP32', [3], '[1e-46,-1e-400,0e999]')], [0, -0, 0]);
  assert.deepEqual([...parse('FP64', [2], '[1e-400,-1e-99999999999]')], [0, -0]);
});

test('only numbers of the JSON grammar are read', () => {
  for (const text of [
    '+1',
    '01',
    '-01',
    '.5',
    '1.',
    '1.e5',
    '1e',
    '1e+',
    '--1',
    '- 1',
    '0x1',
    '1_0',
    'nan',
    'inf',
    '1f',
    '"1',
  ]) {
    assert.throws(() => parse('FP64', [1], `[${text}]`), { code: 'SRV_BAD_TENSOR' }, text);
  }
});

test('FP64 of random text equals what JSON.parse gives', () => {
  const random = makeRandom(1);
  const digits = (count: number) => Array.from({ length: count }, () => Math.floor(random() * 10)).join('');
  const texts: string[] = [];
  for (let i = 0; i < 20_000; i++) {
    const whole = random() < 0.5 ? '0' : `${1 + Math.floor(random() * 9)}${digits(random() * 20)}`;
    const fraction = random() < 0.8 ? `.${digits(1 + random() * 24)}` : '';
    const exponent = random() < 0.4 ? `e${Math.floor((random() - 0.5) * 600)}` : '';
    texts.push(`${random() < 0.5 ? '-' : ''}${whole}${fraction}${exponent}`);
  }
  const finite = texts.filter((text) => Number.isFinite(JSON.parse(text)));
  assert.deepEqual([...parse('FP64', [finite.length], `[${finite}]`)], JSON.parse(`[${finite}]`));
});

test('FP32 of random doubles equals Math.fround of them', () => {
  const random = makeRandom(2);
  const values = Array.from(
    { length: 20_000 },
    () => (random() - 0.5) * 10 ** Math.floor((random() - 0.5) * 70),
  );
  const parsed = parse('FP32', [values.length], JSON.stringify(values));
  assert.deepEqual(parsed, Float32Array.from(values));
});

test('FP32 is rounded once, where fround of a double rounds twice', () => {
  // A hair above the midpoint of 1 and the next float; as a double it is the midpoint, which rounds to even.
  const text = '1.00000005960464477540000000000000001';
  assert.equal(Math.fround(JSON.parse(text)), 1);
  assert.deepEqual([...parse('FP32', [1], `[${text}]`)], [1 + 2 ** -23]);
});

test('any float is printed in digits that read back as the same float, no longer than JavaScript prints', () => {
  const random = makeRandom(3);
  for (const [datatype, view] of [
    ['FP32', new Float32Array(1)],
    ['FP64', new Float64Array(1)],
  ] as const) {
    const values = Array.from({ length: 20_000 }, () => anyFloat(random, view));
    const text = print(datatype, values);
    assert.deepEqual([...parse(datatype, [values.length], text)], values);
    const significant = (number: string) => number.replace(/e.*|[-.]/g, '').replace(/^0+|0+$/g, '').length;
    if (datatype === 'FP64') {
      for (const [i, number] of text.slice(1, -1).split(',').entries()) {
        assert.ok(significant(number) <= significant(String(values[i])) || !number.includes('e'), number);
      }
    }
  }
});

test('data may be flat or nested exactly as the shape', () => {
  const expected = [1, 2, 3, 4, 5, 6];
  assert.deepEqual([...parse('INT32', [2, 3], '[1,2,3,4,5,6]')], expected);
  assert.deepEqual([...parse('INT32', [2, 3], ' [ [1,2 ,3],\n[4,5,6]\t] ')], expected);
  assert.deepEqual([...parse('INT32', [1, 2, 3, 1], '[[[[1],[2],[3]],[[4],[5],[6]]]]')], expected);
  assert.deepEqual([...parse('INT32', [], '5')], [5]);
  assert.deepEqual([...parse('INT32', [], ' [5] ')], [5]);
  for (const [shape, text] of [
    [[0], '[]'],
    [[0, 3], '[]'],
    [[2, 0], '[[],[ ]]'],
    [[2, 0], '[]'],
    [[2, 0, 3], '[[],[]]'],
  ] as const) {
    assert.equal(parse('FP32', shape, text).length, 0);
  }
});

test('a count that does not fit the shape is told with both numbers', () => {
  for (const [shape, text, message] of [
    [[2, 2], '[1,2,3]', 'data has 3 elements, expected 4 for shape [2,2]'],
    [[2, 2], '[1,2,3,4,5]', 'data has 5 elements, expected 4 for shape [2,2]'],
    [[2], '[]', 'data has 0 elements, expected 2 for shape [2]'],
    [[0], '[1]', 'data has 1 element, expected 0 for shape [0]'],
    [[], '[1,2]', 'data has 2 elements, expected 1 for shape []'],
    [[2, 2], '[[1,2],[3]]', 'data has an array of 1 at dimension 1, expected 2 for shape [2,2] (byte 15)'],
    [
      [2, 2],
      '[[1,2],[3,4],[5,6]]',
      'data has an array of more than 2 at dimension 0, expected 2 for shape [2,2] (byte 8)',
    ],
    [[2, 2], '[[1,2]]', 'data has an array of 1 at dimension 0, expected 2 for shape [2,2] (byte 8)'],
    [
      [0, 2],
      '[[1,2]]',
      'data has an array of more than 0 at dimension 0, expected 0 for shape [0,2] (byte 8)',
    ],
  ] as const) {
    assert.throws(() => parse('FP32', shape, text), { code: 'SRV_BAD_TENSOR', message });
  }
});

test('malformed arrays are refused', () => {
  for (const text of [
    '',
    '[',
    '[1',
    '[1,',
    '[1,]',
    '[,1]',
    '[1 2]',
    '[1,2]]',
    '[1,2],',
    '{"0":1}',
    '1',
    '[1,[2]]',
    '[[1],[2]',
    '[[1],2]',
    '[[1] [2]]',
    '[[1],]',
  ]) {
    assert.throws(() => parse('FP32', [2, 1], text), { name: 'ServingError', code: 'SRV_BAD_TENSOR' }, text);
  }
});

test('an error shows what came, shortened and without control characters', () => {
  assert.throws(() => parse('INT32', [18], `[${'1,'.repeat(17)}3000000000]`), {
    message: 'data[17]: expected INT32, -2147483648 to 2147483647, got 3000000000 (byte 43)',
  });
  assert.throws(() => parse('INT8', [1], `["\u0007é${'x'.repeat(100)}"]`), {
    message: `data[0]: expected INT8, -128 to 127, got "???${'x'.repeat(25)}... (byte 9)`,
  });
  assert.throws(() => parse('INT8', [1], '[1,'), {
    message: /data\[1\]: .* got the end of the text \(byte 11\)/,
  });
});

test('arguments that would touch foreign memory are refused', () => {
  const body = Buffer.from('[1,2,3,4]');
  const out = new Float32Array(4);
  const bad: [string, unknown[]][] = [
    ['start and end', [body, 5, 4, 1, [4], out]],
    ['start and end', [body, 0, 10, 1, [4], out]],
    ['start is not', [body, -1, 9, 1, [4], out]],
    ['end is not', [body, 0, Number.NaN, 1, [4], out]],
    ['body is not', ['[1]', 0, 3, 1, [4], out]],
    ['out has 4 elements, expected 5', [body, 0, 9, 1, [5], out]],
    ['out is not the typed array', [body, 0, 9, 1, [4], new Float64Array(4)]],
    ['out is not the typed array', [body, 0, 9, 13, [4], new BigInt64Array(4)]],
    ['out is not a typed array', [body, 0, 9, 1, [4], new ArrayBuffer(16)]],
    ['out is not a typed array', [body, 0, 9, 1, [4]]],
    ['onnxType', [body, 0, 9, 10, [4], out]],
    ['onnxType', [body, 0, 9, 2 ** 32 + 1, [4], out]],
    ['shape', [body, 0, 9, 1, [-4], out]],
    ['shape', [body, 0, 9, 1, [0.5], out]],
    ['shape', [body, 0, 9, 1, ['4'], out]],
    ['shape', [body, 0, 9, 1, 4, out]],
    ['shape', [body, 0, 9, 1, Array(65).fill(1), out]],
    ['shape has more elements than can be counted', [body, 0, 9, 1, [2 ** 32, 2 ** 32, 4], out]],
  ];
  for (const [message, args] of bad) {
    assert.throws(() => parseTensor(...(args as Parameters<typeof parseTensor>)), {
      name: 'ServingError',
      code: 'SRV_INTERNAL',
      message: new RegExp(`^parseTensor: ${message}`),
    });
  }
  for (const [start, count] of [
    [0, 5],
    [5, 0],
    [1, 4],
    [-1, 1],
    [0, 0.5],
    [2 ** 53 - 1, 2],
  ] as const) {
    assert.throws(() => printTensor(out, 1, start, count), { code: 'SRV_INTERNAL' });
  }
  assert.throws(() => printTensor(out, 11, 0, 1), { code: 'SRV_INTERNAL' });
});

test('a part of the elements is printed, and none is an empty array', () => {
  const data = Float32Array.from([1, 2.5, -3, 0.1]);
  assert.equal(printTensor(data, onnx('FP32'), 1, 3), '[2.5,-3,0.1]');
  assert.equal(printTensor(data, onnx('FP32'), 4, 0), '[]');
  assert.equal(printTensor(data.subarray(1), onnx('FP32'), 0, 1), '[2.5]');
  assert.equal(printTensor(new Float32Array(), onnx('FP32'), 0, 0), '[]');
});

test('any number of elements is printed whole', () => {
  for (const count of [1, 127, 128, 129, 255, 256, 257, 1000]) {
    const values = Array.from({ length: count }, (_, i) => i);
    assert.deepEqual(JSON.parse(print('INT64', values.map(BigInt))), values);
  }
});

test('the asynchronous twins give the same values, text and errors', async () => {
  const random = makeRandom(4);
  const values = Float64Array.from({ length: 5000 }, random);
  const text = await printTensorAsync(values, onnx('FP64'), 0, values.length);
  assert.ok(Buffer.isBuffer(text));
  assert.equal(text.toString(), printTensor(values, onnx('FP64'), 0, values.length));
  assert.equal((await printTensorAsync(values, onnx('FP64'), 3, 0)).toString(), '[]');
  const out = new Float64Array(5000);
  assert.equal(await parseTensorAsync(text, 0, text.length, onnx('FP64'), [50, 100], out), undefined);
  assert.deepEqual(out, values);
  await assert.rejects(parseTensorAsync(text, 0, text.length, onnx('FP64'), [3], new Float64Array(3)), {
    name: 'ServingError',
    code: 'SRV_BAD_TENSOR',
    message: 'data has 5000 elements, expected 3 for shape [3]',
  });
  await assert.rejects(parseTensorAsync(text, 0, text.length + 1, onnx('FP64'), [3], out), {
    code: 'SRV_INTERNAL',
  });
  await assert.rejects(printTensorAsync(out, onnx('FP32'), 0, 1), { code: 'SRV_INTERNAL' });
});

test('workers parse and print at the same time, each with its own errors', async () => {
  const body = `const body = Buffer.from(input);
    const out = new Float32Array(2);
    for (let i = 0; i < 2000; i++) binding.parseTensor(body, 0, body.length, 1, [2], out);
    await binding.parseTensorAsync(body, 0, body.length, 1, [2], out);
    return binding.printTensor(out, 1, 0, 2) + await binding.printTensorAsync(out, 1, 0, 2);`;
  const results = await Promise.all(['[1,2]', '[0.5,NaN]', '[1]'].map((text) => runInWorker(body, text)));
  assert.deepEqual(results, [
    '[1,2][1,2]',
    '[0.5,NaN][0.5,NaN]',
    { code: 'SRV_BAD_TENSOR', name: 'ServingError', message: 'data has 1 element, expected 2 for shape [2]' },
  ]);
});

test('a worker that ends while it parses and prints takes nothing else with it', async () => {
  await runInWorker(
    `const data = new Float64Array(1e6).fill(Math.PI);
     const body = Buffer.from('[' + data.join() + ']');
     binding.parseTensorAsync(body, 0, body.length, 11, [1e6], new Float64Array(1e6));
     binding.printTensorAsync(data, 11, 0, 1e6);
     setImmediate(() => process.exit());
     return null;`,
    null,
  );
});
