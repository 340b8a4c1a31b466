import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib';
import { type Answer, binaryBody, call, errorOf, floatBytes, json, jsonInput } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { identityModel, pairModel, scaleModel } from '../support/test-models.js';

const fixedTypes = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'FP32',
  'FP64',
] as const;

let served: Served;
let url: string;

before(async () => {
  served = await serveModels({
    scale: scaleModel(),
    pair: pairModel(),
    ...Object.fromEntries([...fixedTypes, 'BYTES' as const].map((type) => [type, identityModel(type)])),
    cube: identityModel('INT64', ['batch', 2, 2]),
    wide: identityModel('FP32', ['batch', 'width']),
    one_text: identityModel('BYTES', [1]),
  });
  url = served.url;
});
after(() => served.close());

interface Reply {
  readonly model_name: string;
  readonly model_version: string;
  readonly id?: string;
  readonly outputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly number[];
    readonly data?: readonly unknown[];
    readonly parameters?: { readonly binary_data_size: number };
  }[];
}

const infer = (model: string, body: object | string, headers: Record<string, string> = {}): Promise<Answer> =>
  call(`${url}/v2/models/${model}/infer`, { body, headers });

async function inferJson(model: string, body: object): Promise<Reply> {
  const answer = await infer(model, body);
  assert.equal(answer.status, 200, answer.body.toString());
  assert.match(answer.headers['content-type']!, /^application\/json/);
  assert.equal(answer.headers['inference-header-content-length'], undefined);
  return json<Reply>(answer);
}

/** The head and the binary tensors of an answer; checks that lengths add up to the byte. */
function takeApart(answer: Answer): { head: Reply; sections: Buffer[] } {
  assert.equal(answer.status, 200, answer.body.toString());
  assert.equal(answer.headers['content-type'], 'application/octet-stream');
  const length = Number(answer.headers['inference-header-content-length']);
  const head = JSON.parse(answer.body.subarray(0, length).toString()) as Reply;
  let at = length;
  const sections: Buffer[] = [];
  for (const { parameters } of head.outputs) {
    if (!parameters) continue;
    sections.push(answer.body.subarray(at, at + parameters.binary_data_size));
    at += parameters.binary_data_size;
  }
  assert.equal(at, answer.body.length);
  return { head, sections };
}

const fourOf = (value: number): number[] => [value, value, value, value];
const pairInputs = [jsonInput('a', 'FP32', [1, 4], [1, 2, 3, 4]), jsonInput('b', 'FP32', [1, 4], fourOf(1))];

test('flat and nested data mean the same', async () => {
  const flat = await inferJson('scale', {
    inputs: [jsonInput('x', 'FP32', [2, 4], [1, 2, 3, 4, 5, 6, 7, 8])],
  });
  const nested = await inferJson('scale', {
    inputs: [
      jsonInput(
        'x',
        'FP32',
        [2, 4],
        [
          [1, 2, 3, 4],
          [5, 6, 7, 8],
        ],
      ),
    ],
  });
  assert.deepEqual(flat, nested);
  assert.deepEqual(flat, {
    model_name: 'scale',
    model_version: '1',
    outputs: [{ name: 'y', datatype: 'FP32', shape: [2, 4], data: [2, 4, 6, 8, 10, 12, 14, 16] }],
  });
  const deep = [
    [
      [1, 2],
      [3, 4],
    ],
  ];
  const cube = await inferJson('cube', { inputs: [jsonInput('x', 'INT64', [1, 2, 2], deep)] });
  assert.deepEqual(cube.outputs[0]!.data, [1, 2, 3, 4]);
});

test('requests that differ in nothing but their elements are told apart', async () => {
  const ofElements = (data: unknown): object => ({ inputs: [jsonInput('x', 'FP32', [1, 4], data)] });
  for (const value of [1, 2, 3]) {
    const reply = await inferJson('scale', ofElements(fourOf(value)));
    assert.deepEqual(reply.outputs[0]!.data, fourOf(2 * value));
  }
  const short = await infer('scale', ofElements([1, 2, 3]));
  assert.equal(short.status, 400);
  assert.match(errorOf(short), /input 'x'/);
  // What stands for elements in the text that is kept is refused when it is sent.
  const ordinal = await infer('scale', ofElements(0));
  assert.equal(ordinal.status, 400);
  assert.deepEqual((await inferJson('scale', ofElements(fourOf(4)))).outputs[0]!.data, fourOf(8));

  const head = {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], parameters: { binary_data_size: 16 } }],
  };
  for (const value of [1, 2]) {
    const { body, headers } = binaryBody(head, floatBytes(...fourOf(value)));
    assert.deepEqual(json<Reply>(await infer('scale', body, headers)).outputs[0]!.data, fourOf(2 * value));
  }
  const cut = binaryBody(head, floatBytes(1, 2, 3));
  assert.equal((await infer('scale', cut.body, cut.headers)).status, 400);
});

test('more kinds of requests than are remembered are all answered', async () => {
  for (let round = 0; round < 2; round++) {
    for (let priority = 1; priority <= 150; priority++) {
      const inputs = [jsonInput('x', 'FP32', [1, 4], fourOf(priority))];
      const reply = await inferJson('scale', { parameters: { priority }, inputs });
      assert.deepEqual(reply.outputs[0]!.data, fourOf(2 * priority));
    }
  }
});

test('a version in the path runs that version', async () => {
  const answer = await call(`${url}/v2/models/scale/versions/1/infer`, {
    body: { inputs: [jsonInput('x', 'FP32', [1, 4], fourOf(1))] },
  });
  assert.equal(json<Reply>(answer).model_version, '1');
});

test('all outputs come in the order of the model, or those asked for in the order of the request', async () => {
  const names = (reply: Reply): string[] => reply.outputs.map(({ name }) => name);
  assert.deepEqual(names(await inferJson('pair', { inputs: pairInputs })), ['sum', 'difference']);
  const turned = await inferJson('pair', {
    inputs: pairInputs,
    outputs: [{ name: 'difference' }, { name: 'sum' }],
  });
  assert.deepEqual(names(turned), ['difference', 'sum']);
  assert.deepEqual(turned.outputs[0]!.data, [0, 1, 2, 3]);
  const one = await inferJson('pair', { inputs: pairInputs, outputs: [{ name: 'difference' }] });
  assert.deepEqual(names(one), ['difference']);
  assert.deepEqual(one.outputs[0]!.data, [0, 1, 2, 3]);
});

test('requests that want different outputs each get their own, also out of one batch', async () => {
  const wants = [['sum'], ['difference'], ['difference', 'sum'], undefined];
  const replies = await Promise.all(
    wants.map((names) =>
      inferJson('pair', {
        inputs: pairInputs,
        ...(names ? { outputs: names.map((name) => ({ name })) } : {}),
      }),
    ),
  );
  replies.forEach((reply, index) => {
    const names = wants[index] ?? ['sum', 'difference'];
    assert.deepEqual(
      reply.outputs.map(({ name }) => name),
      names,
    );
    for (const { name, data } of reply.outputs) {
      assert.deepEqual(data, name === 'sum' ? [2, 3, 4, 5] : [0, 1, 2, 3]);
    }
  });
});

test('inputs may come in any order', async () => {
  const reply = await inferJson('pair', { inputs: pairInputs.toReversed() });
  assert.deepEqual(reply.outputs[1]!.data, [0, 1, 2, 3]);
});

test('the id is echoed as it was sent, whatever it holds', async () => {
  for (const id of ['1', '', 'with "quotes" and \n', 'Ünïcode 🜚', 'x'.repeat(100_000)]) {
    const reply = await inferJson('scale', { id, inputs: [jsonInput('x', 'FP32', [1, 4], fourOf(1))] });
    assert.equal(reply.id, id);
  }
  const silent = await inferJson('scale', { inputs: [jsonInput('x', 'FP32', [1, 4], fourOf(1))] });
  assert.ok(!('id' in silent));
});

test('timeout, priority and unknown parameters are taken', async () => {
  const reply = await inferJson('scale', {
    parameters: { timeout: 5_000_000, priority: 1, colour: 'blue', weight: 0.5, flag: true },
    inputs: [{ ...jsonInput('x', 'FP32', [1, 4], fourOf(1)), parameters: { note: 'mine' } }],
    outputs: [{ name: 'y', parameters: { note: 'mine' } }],
  });
  assert.deepEqual(reply.outputs[0]!.data, fourOf(2));
});

test('binary_data_output makes every output binary that does not say otherwise', async () => {
  const all = takeApart(
    await infer('pair', { parameters: { binary_data_output: true }, inputs: pairInputs }),
  );
  assert.deepEqual(all.sections, [floatBytes(2, 3, 4, 5), floatBytes(0, 1, 2, 3)]);
  for (const output of all.head.outputs) assert.ok(!('data' in output));

  const mixed = takeApart(
    await infer('pair', {
      parameters: { binary_data_output: true },
      inputs: pairInputs,
      outputs: [{ name: 'sum', parameters: { binary_data: false } }, { name: 'difference' }],
    }),
  );
  assert.deepEqual(mixed.head.outputs[0]!.data, [2, 3, 4, 5]);
  assert.deepEqual(mixed.sections, [floatBytes(0, 1, 2, 3)]);
});

test('binary_data asks for one output in binary', async () => {
  const { head, sections } = takeApart(
    await infer('pair', {
      inputs: pairInputs,
      outputs: [{ name: 'sum' }, { name: 'difference', parameters: { binary_data: true } }],
    }),
  );
  assert.deepEqual(head.outputs[0]!.data, [2, 3, 4, 5]);
  assert.deepEqual(sections, [floatBytes(0, 1, 2, 3)]);
});

test('binary inputs are taken in the order of the list, beside inputs in JSON', async () => {
  const input = (name: string): object => ({
    name,
    datatype: 'FP32',
    shape: [1, 4],
    parameters: { binary_data_size: 16 },
  });
  const both = binaryBody(
    { inputs: [input('a'), input('b')] },
    floatBytes(1, 2, 3, 4),
    floatBytes(4, 3, 2, 1),
  );
  const reply = json<Reply>(await infer('pair', both.body, both.headers));
  assert.deepEqual(
    reply.outputs.map(({ data }) => data),
    [fourOf(5), [-3, -1, 1, 3]],
  );

  const mixed = binaryBody(
    { inputs: [jsonInput('a', 'FP32', [1, 4], [1, 2, 3, 4]), input('b')], outputs: [{ name: 'sum' }] },
    floatBytes(4, 3, 2, 1),
  );
  assert.deepEqual(json<Reply>(await infer('pair', mixed.body, mixed.headers)).outputs[0]!.data, fourOf(5));

  const bothWays = binaryBody(
    {
      parameters: { binary_data_output: true },
      inputs: [input('b'), input('a')],
      outputs: [{ name: 'difference' }],
    },
    floatBytes(1, 1, 1, 1),
    floatBytes(1, 2, 3, 4),
  );
  const { sections } = takeApart(await infer('pair', bothWays.body, bothWays.headers));
  assert.deepEqual(sections, [floatBytes(0, 1, 2, 3)]);
});

test('a header length that is the whole body is a request in JSON', async () => {
  const { headers, body } = binaryBody({ inputs: [jsonInput('x', 'FP32', [1, 4], fourOf(1))] });
  assert.deepEqual(json<Reply>(await infer('scale', body, headers)).outputs[0]!.data, fourOf(2));
});

test('a raw binary request is one row of the only input, and is answered in binary', async () => {
  const raw = { 'inference-header-content-length': '0' };
  const { head, sections } = takeApart(await infer('scale', floatBytes(1, 2, 3, 4), raw));
  assert.deepEqual(head.outputs[0]!.shape, [1, 4]);
  assert.deepEqual(sections, [floatBytes(2, 4, 6, 8)]);
  const wide = takeApart(await infer('wide', floatBytes(1, 2, 3), raw));
  assert.deepEqual(wide.head.outputs[0]!.shape, [1, 3]);
  const text = takeApart(await infer('one_text', Buffer.from('\x05\0\0\0hello', 'latin1'), raw));
  assert.equal(text.sections[0]!.subarray(4).toString(), 'hello');
});

test('a raw binary request that does not fit is refused with the reason', async () => {
  const raw = { 'inference-header-content-length': '0' };
  for (const [model, body, reason] of [
    ['pair', floatBytes(1, 2, 3, 4), /1 input/],
    ['scale', floatBytes(1, 2, 3), /unexpected total byte size 12/],
    ['scale', Buffer.alloc(0), /unexpected total byte size 0/],
    ['wide', Buffer.alloc(5), /unexpected total byte size 5/],
    ['one_text', Buffer.from([9, 0, 0, 0, 65]), /truncated/],
    ['BYTES', Buffer.from([1, 0, 0, 0, 65]), /shape \[1\]/],
  ] as const) {
    const answer = await infer(model, body, raw);
    assert.equal(answer.status, 400, model);
    assert.match(errorOf(answer), reason);
  }
});

const edgeTexts: Readonly<Record<string, readonly string[]>> = {
  BOOL: ['true', 'false', 'true'],
  UINT8: ['0', '255', '1'],
  UINT16: ['0', '65535', '1'],
  UINT32: ['0', '4294967295', '1'],
  UINT64: ['0', '18446744073709551615', '9007199254740993'],
  INT8: ['-128', '127', '0'],
  INT16: ['-32768', '32767', '0'],
  INT32: ['-2147483648', '2147483647', '0'],
  INT64: ['-9223372036854775808', '9223372036854775807', '9007199254740993'],
  FP32: ['0.1', '3.4028235e38', '-1e-45'],
  FP64: ['0.1', '1.7976931348623157e308', '-5e-324'],
};

for (const [type, texts] of Object.entries(edgeTexts)) {
  test(`${type} goes through JSON exactly, to the last digit`, async () => {
    const body = `{"inputs":[{"name":"x","datatype":"${type}","shape":[1,3],"data":[${texts}]}]}`;
    const answer = await call(`${url}/v2/models/${type}/infer`, { body });
    assert.equal(answer.status, 200, answer.body.toString());
    const data = /"data":\[([^\]]*)\]/.exec(answer.body.toString())![1]!.split(',');
    // Floats come back in the shortest digits that mean them, which may be written otherwise.
    const exact = type === 'FP32' ? Math.fround : Number;
    if (type.startsWith('FP')) {
      assert.deepEqual(
        data.map((text) => exact(Number(text))),
        texts.map((text) => exact(Number(text))),
      );
    } else assert.deepEqual(data, texts);
  });
}

test('64-bit integers may be sent as decimal strings and come back as digits', async () => {
  const texts = ['-9223372036854775808', '9223372036854775807', '9007199254740993'];
  const data = texts.map((text) => `"${text}"`);
  const body = `{"inputs":[{"name":"x","datatype":"INT64","shape":[1,3],"data":[${data}]}]}`;
  const answer = await call(`${url}/v2/models/INT64/infer`, { body });
  assert.equal(answer.status, 200, answer.body.toString());
  assert.ok(answer.body.toString().includes(`[${texts}]`), answer.body.toString());
});

test('NaN and the infinities are read and written as bare words', async () => {
  for (const type of ['FP32', 'FP64']) {
    const body = `{"inputs":[{"name":"x","datatype":"${type}","shape":[1,3],"data":[NaN, Infinity, -Infinity]}]}`;
    const answer = await call(`${url}/v2/models/${type}/infer`, { body });
    assert.equal(answer.status, 200, answer.body.toString());
    assert.ok(answer.body.toString().includes('"data":[NaN,Infinity,-Infinity]'), answer.body.toString());
  }
});

test('-0.0 keeps its sign', async () => {
  const body = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[-0.0, 0, -0]}]}';
  const answer = await call(`${url}/v2/models/FP32/infer`, { body });
  const data = JSON.parse(answer.body.toString()).outputs[0].data as number[];
  assert.deepEqual(
    data.map((value) => Object.is(value, -0)),
    [true, false, true],
  );
});

test('strings of any script go through JSON and binary alike', async () => {
  const texts = ['', 'héllo "w\\orld"\n', '🜚 漢字'];
  const reply = await inferJson('BYTES', { inputs: [jsonInput('x', 'BYTES', [1, 3], texts)] });
  assert.deepEqual(reply.outputs[0]!.data, texts);
  const nested = await inferJson('BYTES', { inputs: [jsonInput('x', 'BYTES', [1, 3], [texts])] });
  assert.deepEqual(nested.outputs[0]!.data, texts);
  const section = Buffer.concat(
    texts.flatMap((text) => {
      const bytes = Buffer.from(text);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
  const { headers, body } = binaryBody(
    {
      parameters: { binary_data_output: true },
      inputs: [
        { name: 'x', datatype: 'BYTES', shape: [1, 3], parameters: { binary_data_size: section.length } },
      ],
    },
    section,
  );
  assert.deepEqual(takeApart(await infer('BYTES', body, headers)).sections, [section]);
});

for (const type of fixedTypes) {
  test(`${type} goes through binary to the bit`, async () => {
    const width = { BOOL: 1, FP16: 2, FP32: 4, FP64: 8 }[type as string] ?? Number(/\d+/.exec(type)![0]) / 8;
    const bytes = Buffer.from(
      [...Array(3 * width).keys()].map((i) => (type === 'BOOL' ? i % 2 : (37 * i + 11) % 256)),
    );
    const { headers, body } = binaryBody(
      {
        parameters: { binary_data_output: true },
        inputs: [
          { name: 'x', datatype: type, shape: [1, 3], parameters: { binary_data_size: bytes.length } },
        ],
      },
      bytes,
    );
    const { head, sections } = takeApart(await infer(type, body, headers));
    assert.equal(head.outputs[0]!.datatype, type);
    assert.deepEqual(sections, [bytes]);
  });
}

test('FP16 in JSON is refused on both sides, with what to do instead', async () => {
  const input = await infer('FP16', { inputs: [jsonInput('x', 'FP16', [1, 3], [1, 2, 3])] });
  assert.equal(input.status, 400);
  assert.match(errorOf(input), /input 'x': FP16 has no JSON form; send it as a binary tensor/);
  const { headers, body } = binaryBody(
    { inputs: [{ name: 'x', datatype: 'FP16', shape: [1, 3], parameters: { binary_data_size: 6 } }] },
    Buffer.alloc(6),
  );
  const output = await infer('FP16', body, headers);
  assert.equal(output.status, 400);
  assert.match(errorOf(output), /output 'y': FP16 has no JSON form; ask for it in binary/);
});

test('BF16 in JSON is refused with a clear text', async () => {
  const answer = await infer('FP32', { inputs: [jsonInput('x', 'BF16', [1, 3], [1, 2, 3])] });
  assert.equal(answer.status, 400);
  assert.match(errorOf(answer), /BF16 has no JSON form/);
});

for (const [encoding, pack] of [
  ['gzip', gzipSync],
  ['deflate', deflateSync],
] as const) {
  test(`a body compressed with ${encoding} is read, in JSON and in binary`, async () => {
    const text = JSON.stringify({ inputs: [jsonInput('x', 'FP32', [1, 4], [1, 2, 3, 4])] });
    const answer = await infer('scale', pack(text), { 'content-encoding': encoding });
    assert.deepEqual(json<Reply>(answer).outputs[0]!.data, [2, 4, 6, 8]);
    const { headers, body } = binaryBody(
      { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], parameters: { binary_data_size: 16 } }] },
      floatBytes(1, 2, 3, 4),
    );
    const binary = await infer('scale', pack(body), { ...headers, 'content-encoding': encoding });
    assert.deepEqual(json<Reply>(binary).outputs[0]!.data, [2, 4, 6, 8]);
  });
}

for (const [encoding, unpack] of [
  ['gzip', gunzipSync],
  ['deflate', inflateSync],
] as const) {
  test(`a long reply is compressed with ${encoding} where the client takes it, in JSON and in binary`, async () => {
    const values = Array.from({ length: 4000 }, (_, i) => i % 10);
    const inputs = [jsonInput('x', 'FP32', [1000, 4], values)];
    const answer = await infer('scale', { inputs }, { 'accept-encoding': encoding });
    assert.equal(answer.headers['content-encoding'], encoding);
    assert.match(answer.headers.vary!, /accept-encoding/i);
    const reply = JSON.parse(unpack(answer.body).toString()) as Reply;
    assert.deepEqual(
      reply.outputs[0]!.data,
      values.map((value) => 2 * value),
    );

    const packed = await infer(
      'scale',
      { inputs, parameters: { binary_data_output: true } },
      { 'accept-encoding': encoding },
    );
    assert.equal(packed.headers['content-encoding'], encoding);
    const { sections } = takeApart({ ...packed, body: unpack(packed.body) });
    assert.deepEqual(sections[0], floatBytes(...values.map((value) => 2 * value)));
  });
}

test('a reply is compressed in the encoding that the client weighs most, and not at all for identity', async () => {
  const body = { inputs: [jsonInput('x', 'FP32', [1000, 4], Array(4000).fill(1))] };
  const encodingOf = async (accept: string): Promise<string | undefined> =>
    (await infer('scale', body, { 'accept-encoding': accept })).headers['content-encoding'];
  assert.equal(await encodingOf('gzip;q=0.2, deflate;q=0.7'), 'deflate');
  assert.equal(await encodingOf('br, gzip'), 'gzip');
  assert.equal(await encodingOf('identity'), undefined);
  assert.equal(await encodingOf('gzip;q=0'), undefined);
  assert.equal(await encodingOf('br'), undefined);
});

test('the content type of a request does not matter', async () => {
  const text = JSON.stringify({ inputs: [jsonInput('x', 'FP32', [1, 4], fourOf(1))] });
  for (const type of ['application/json', 'application/octet-stream', 'text/plain; charset=utf-8', 'x/y']) {
    assert.equal((await infer('scale', text, { 'content-type': type })).status, 200, type);
  }
  assert.equal((await infer('scale', text)).status, 200);
});

test('a body over a megabyte is read, and its numbers come back right', async () => {
  const rows = 50_000;
  const values = Array.from({ length: 4 * rows }, (_, i) => (i % 1000) + 0.125);
  const reply = await inferJson('scale', { inputs: [jsonInput('x', 'FP32', [rows, 4], values)] });
  assert.deepEqual(reply.outputs[0]!.shape, [rows, 4]);
  assert.ok(reply.outputs[0]!.data!.every((value, i) => value === 2 * values[i]!));
});
