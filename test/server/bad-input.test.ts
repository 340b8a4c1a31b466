/**
 * Every bad request is refused with a status and a reason, and nobody else notices: each test sends the bad one
 * among good ones to a model that waits for a batch to fill, and a good one afterwards.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import {
  type Answer,
  binaryBody,
  type Call,
  call,
  errorOf,
  floatBytes,
  json,
  jsonInput,
} from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { identityModel, lookupModel, pairModel, scaleModel } from '../support/test-models.js';

const maxBodySize = 200_000;
const waiting = { max_queue_delay_us: 10_000 };

let served: Served;
let url: string;

before(async () => {
  served = await serveModels(
    {
      scale: { model: scaleModel(), settings: waiting },
      pair: { model: pairModel(), settings: waiting },
      lookup: { model: lookupModel(), settings: waiting },
      int8: identityModel('INT8'),
      uint64: identityModel('UINT64'),
      bool: identityModel('BOOL'),
      text: identityModel('BYTES'),
      free: identityModel('FP32', ['batch', 'width']),
    },
    { server: { maxBodySize } },
  );
  url = served.url;
});
after(() => served.close());

const good = (value: number): Call => ({
  body: { inputs: [jsonInput('x', 'FP32', [1, 4], [value, value, value, value])] },
});
const to = (model: string): string => `${url}/v2/models/${model}/infer`;

async function assertGood(value: number): Promise<void> {
  const answer = await call(to('scale'), good(value));
  assert.equal(answer.status, 200, answer.body.toString());
  const [output] = json<{ outputs: { data: number[] }[] }>(answer).outputs;
  assert.deepEqual(output!.data, Array(4).fill(2 * value));
}

/** Sends a bad request between two good ones, and a good one after it. */
async function refused(
  bad: Call & { readonly path?: string },
  status: number,
  reason: RegExp,
): Promise<Answer> {
  const path = bad.path ?? '/v2/models/scale/infer';
  const [, answer] = await Promise.all([assertGood(1), call(`${url}${path}`, bad), assertGood(2)]);
  assert.equal(answer.status, status, answer.body.toString());
  assert.match(answer.headers['content-type']!, /^application\/json/);
  assert.match(errorOf(answer), reason);
  await assertGood(3);
  return answer;
}

/** A bad body for a model. */
function refusedBody(body: object | string, reason: RegExp, model = 'scale'): Promise<Answer> {
  return refused({ path: `/v2/models/${model}/infer`, body }, 400, reason);
}

/** A bad input of the model `scale`. */
function refusedInput(datatype: string, shape: unknown, data: unknown, reason: RegExp): Promise<Answer> {
  return refusedBody({ inputs: [{ name: 'x', datatype, shape, data }] }, reason);
}

const fourOnes = [1, 1, 1, 1];

test('a body that is not JSON is refused', async () => {
  for (const body of [
    '',
    'hello',
    '{',
    '{"inputs":',
    '<xml/>',
    '{"inputs":[}',
    '\0\x01',
    '{"inputs":[]} trailing',
  ]) {
    await refusedBody(body, /JSON/i);
  }
  await refusedBody(Buffer.from([0xff, 0xfe, 0x7b, 0x7d]), /JSON/i);
});

test('JSON that is no object is refused', async () => {
  for (const body of ['null', '[]', '1', '"inputs"', 'true']) await refusedBody(body, /expected an object/);
});

test('numbers that are not JSON are refused with their place', async () => {
  for (const data of [
    '[1,2,3,]',
    '[1,,2,3]',
    '[01,2,3,4]',
    '[1,2,3,0x4]',
    '[1,2,3,4',
    '[1,2,3,+4]',
    '[.5,1,2,3]',
  ]) {
    await refusedBody(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":${data}}]}`, /./);
  }
});

test('missing and misplaced parts of the request are named', async () => {
  await refusedBody({}, /inputs: expected an array/);
  await refusedBody({ inputs: null }, /inputs: expected an array, got null/);
  await refusedBody({ inputs: {} }, /inputs: expected an array/);
  await refusedBody({ inputs: [] }, /expected 1 inputs but got 0 inputs/);
  await refusedBody({ inputs: [null] }, /inputs\[0\]: expected an object/);
  await refusedBody({ inputs: [[1]] }, /inputs\[0\]: expected an object/);
  await refusedBody({ inputs: [{ datatype: 'FP32', shape: [1, 4], data: fourOnes }] }, /inputs\[0\]\.name/);
  await refusedBody(
    { inputs: [{ name: 'x', shape: [1, 4], data: fourOnes }] },
    /input 'x': datatype nothing/,
  );
  await refusedBody({ inputs: [{ name: 'x', datatype: 'FP32', data: fourOnes }] }, /shape of input 'x'/);
  await refusedBody(
    { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4] }] },
    /neither data nor binary_data_size/,
  );
  await refusedBody({ id: 7, inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)] }, /id: expected a string/);
  await refusedBody(
    { outputs: 'y', inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)] },
    /outputs: expected an array/,
  );
});

test('a wrong name and a missing input are told with the names that the model has', async () => {
  await refusedBody(
    { inputs: [jsonInput('z', 'FP32', [1, 4], fourOnes)] },
    /unexpected inference input 'z' .*; got \[z\], expected \[x\]/,
  );
  await refusedBody(
    { inputs: [jsonInput('a', 'FP32', [1, 4], fourOnes)] },
    /expected 2 inputs but got 1 inputs .*'b'/,
    'pair',
  );
  const inputs = ['a', 'b', 'c'].map((name) => jsonInput(name, 'FP32', [1, 4], fourOnes));
  await refusedBody({ inputs }, /unexpected inference input 'c'/, 'pair');
});

test('an input that is sent twice is refused', async () => {
  const inputs = ['a', 'b', 'a'].map((name) => jsonInput(name, 'FP32', [1, 4], fourOnes));
  await refusedBody({ inputs }, /an input is sent twice/, 'pair');
});

test('a wrong datatype is told with both', async () => {
  await refusedInput('FP64', [1, 4], fourOnes, /'x' of model 'scale' has datatype FP64; expected FP32/);
  await refusedInput('BYTES', [1, 4], ['1', '1', '1', '1'], /has datatype BYTES; expected FP32/);
  await refusedInput('fp32', [1, 4], fourOnes, /datatype "fp32" is not one of the protocol's/);
  await refusedInput('constructor', [1, 4], fourOnes, /is not one of the protocol's/);
  await refusedInput('__proto__', [1, 4], fourOnes, /is not one of the protocol's/);
});

test('a wrong rank and a wrong fixed dimension are told with both shapes', async () => {
  await refusedInput('FP32', [4], fourOnes, /expected \[-1,4\], got \[4\]/);
  await refusedInput('FP32', [1, 1, 4], fourOnes, /expected \[-1,4\], got \[1,1,4\]/);
  await refusedInput('FP32', [], [1], /expected \[-1,4\], got \[\]/);
  await refusedInput('FP32', [2, 2], fourOnes, /expected \[-1,4\], got \[2,2\]/);
});

test('an element count that is not that of the shape is refused', async () => {
  await refusedInput('FP32', [1, 4], [1, 2, 3], /x/);
  await refusedInput('FP32', [1, 4], [1, 2, 3, 4, 5], /x/);
  await refusedInput('FP32', [1, 4], [], /x/);
  await refusedInput(
    'FP32',
    [2, 4],
    [
      [1, 2, 3, 4],
      [1, 2, 3],
    ],
    /x/,
  );
  await refusedInput(
    'FP32',
    [1, 4],
    [
      [1, 2],
      [3, 4],
    ],
    /x/,
  );
  await refusedBody(
    { inputs: [jsonInput('x', 'BYTES', [1, 3], ['a'])] },
    /expected 3 elements, got 1|expected 3/,
    'text',
  );
});

test('a negative, fractional or textual dimension is refused', async () => {
  for (const shape of [
    [-1, 4],
    [1.5, 4],
    ['1', 4],
    [null, 4],
    [true, 4],
    [[1], 4],
  ]) {
    await refusedInput('FP32', shape, fourOnes, /shape|dimension/);
  }
  await refusedInput('FP32', 'rows', fourOnes, /shape of input 'x': expected an array/);
});

test('a shape whose product overflows is refused before memory is taken', async () => {
  for (const shape of ['[9007199254740993,4]', '[4294967296,4294967296]', '[1e300,4]', '[1000000000000,4]']) {
    const body = `{"inputs":[{"name":"x","datatype":"FP32","shape":${shape},"data":[1]}]}`;
    await refusedBody(body, /shape/);
  }
  await refusedBody(
    '{"inputs":[{"name":"x","datatype":"BYTES","shape":[4294967296,3],"data":["a"]}]}',
    /expected/,
    'text',
  );
  await refusedInput('FP32', [0, 9e15], fourOnes, /x/);
});

test('an integer outside of its range is refused with the range', async () => {
  for (const value of ['128', '-129', '1e3', '9223372036854775808', '0.5', 'NaN', 'Infinity']) {
    const body = `{"inputs":[{"name":"x","datatype":"INT8","shape":[1,3],"data":[0,0,${value}]}]}`;
    await refusedBody(body, /'x'.*INT8/, 'int8');
  }
  for (const value of ['-1', '18446744073709551616', '"18446744073709551616"', '"12x"', '""', '1.5']) {
    const body = `{"inputs":[{"name":"x","datatype":"UINT64","shape":[1,3],"data":[0,0,${value}]}]}`;
    await refusedBody(body, /'x'/, 'uint64');
  }
  await refusedBody({ inputs: [jsonInput('x', 'BOOL', [1, 3], [true, false, 'yes'])] }, /'x'/, 'bool');
});

test('elements of the wrong kind are refused', async () => {
  for (const data of [
    ['1', 'a', '1', '1'],
    [true, 1, 1, 1],
    [null, 1, 1, 1],
    [{}, 1, 1, 1],
    [[1], 1, 1, 1],
  ]) {
    await refusedInput('FP32', [1, 4], data, /'x'/);
  }
  for (const data of [5, 'text', null, {}, true]) await refusedInput('FP32', [1, 4], data, /'x'/);
  await refusedBody(
    { inputs: [jsonInput('x', 'BYTES', [1, 3], ['a', 1, 'b'])] },
    /data\[1\].*expected a string/,
    'text',
  );
  await refusedBody({ inputs: [jsonInput('x', 'BYTES', [1, 3], { 0: 'a' })] }, /'x'/, 'text');
});

test('a string with a NUL, which the engine would cut in silence, is refused', async () => {
  await refusedBody({ inputs: [jsonInput('x', 'BYTES', [1, 3], ['a', 'b\0c', 'd'])] }, /NUL/, 'text');
  const section = Buffer.from('\x01\0\0\0a\x01\0\0\0\0\x01\0\0\0b', 'latin1');
  await refusedSection('BYTES', [1, 3], section, section.length, /NUL/, 'text');
});

function refusedSection(
  datatype: string,
  shape: readonly number[],
  section: Buffer,
  size: unknown,
  reason: RegExp,
  model = 'scale',
): Promise<Answer> {
  const inputs = [{ name: 'x', datatype, shape, parameters: { binary_data_size: size } }];
  return refused({ path: `/v2/models/${model}/infer`, ...binaryBody({ inputs }, section) }, 400, reason);
}

test('a truncated binary section is refused', async () => {
  await refusedSection('FP32', [1, 4], floatBytes(1, 2, 3), 16, /x|binary/);
  await refusedSection('FP32', [1, 4], Buffer.alloc(0), 16, /x|binary/);
});

test('binary sizes that do not add up are refused', async () => {
  await refusedSection('FP32', [1, 4], floatBytes(1, 2, 3, 4), 12, /unexpected total byte size 12|follow/);
  await refusedSection('FP32', [1, 4], floatBytes(1, 2, 3, 4, 5), 20, /unexpected total byte size 20/);
  await refusedSection(
    'FP32',
    [1, 4],
    floatBytes(1, 2, 3, 4, 5),
    16,
    /4 bytes follow the last binary tensor/,
  );
  for (const size of [-1, 1.5, '16', null, 2 ** 60, true]) {
    await refusedSection('FP32', [1, 4], floatBytes(1, 2, 3, 4), size, /x|binary/);
  }
});

test('lengths inside a BYTES tensor that do not add up are refused', async () => {
  const text = (bytes: string): Promise<Answer> => {
    const section = Buffer.from(bytes, 'latin1');
    return refusedSection('BYTES', [1, 3], section, section.length, /BYTES input 'x'/, 'text');
  };
  await text('\x01\0\0\0a\x01\0\0\0b\xff\xff\xff\xffc');
  await text('\x01\0\0\0a\x01\0\0\0b');
  await text('\x01\0\0\0a\x01\0\0\0b\x01\0\0\0c\x01\0\0\0d');
  await text('\x01\0\0\0a\x01\0\0\0b\x01\0');
  await text('\x01\0\0\0a\x01\0\0\0b\x02\0\0\0\xc3\x28');
});

test('an input with both data and a binary size is refused', async () => {
  const input = { ...jsonInput('x', 'FP32', [1, 4], fourOnes), parameters: { binary_data_size: 16 } };
  await refused(
    binaryBody({ inputs: [input] }, floatBytes(1, 2, 3, 4)),
    400,
    /both data and binary_data_size/,
  );
});

test('a header length that is no length within the body is refused', async () => {
  const body = JSON.stringify({ inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)] });
  for (const length of ['-1', '1e1', 'all', '999999', '0x10', '']) {
    await refused(
      { headers: { 'inference-header-content-length': length }, body },
      400,
      /Inference-Header-Content-Length/,
    );
  }
  await refused({ headers: { 'inference-header-content-length': '5' }, body }, 400, /JSON/);
});

test('an output that the model does not have is refused, and so is one asked for twice', async () => {
  const ask = (...names: unknown[]): object => ({
    inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)],
    outputs: names.map((name) => ({ name })),
  });
  await refusedBody(ask('nothing'), /unexpected inference output 'nothing' .* it gives \[y\]/);
  await refusedBody(ask('constructor'), /unexpected inference output 'constructor'/);
  await refusedBody(ask('y', 'y'), /twice/);
  await refusedBody(ask(5), /outputs\[0\]\.name/);
  await refusedBody(ask(null), /outputs\[0\]\.name/);
});

test('an unknown model and an unknown version are a 404 with the phrase that clients look for', async () => {
  for (const path of [
    'nothing',
    'constructor',
    '__proto__',
    'scale/versions/2',
    'scale/versions/-1',
    'scale/versions/1.0',
  ]) {
    await refused({ path: `/v2/models/${path}/infer`, ...good(1) }, 404, /^Request for unknown model: '/);
  }
});

test('parameters of the wrong kind are refused', async () => {
  const inputs = [jsonInput('x', 'FP32', [1, 4], fourOnes)];
  await refusedBody({ inputs, parameters: [] }, /parameters of the request: expected an object/);
  await refusedBody({ inputs, parameters: { timeout: -1 } }, /timeout: expected a non-negative integer/);
  await refusedBody({ inputs, parameters: { timeout: '5' } }, /timeout/);
  await refusedBody({ inputs, parameters: { priority: 0.5 } }, /priority/);
  await refusedBody({ inputs, parameters: { binary_data_output: 'yes' } }, /binary_data_output/);
  await refusedBody({ inputs, parameters: { sequence_id: 7 } }, /sequence_id is not supported/);
  await refusedBody(
    { inputs, outputs: [{ name: 'y', parameters: { classification: 3 } }] },
    /classification/,
  );
  await refusedBody({ inputs, outputs: [{ name: 'y', parameters: { binary_data: 1 } }] }, /binary_data/);
});

test('a body over the limit is refused with 413, also when its length is not declared', async () => {
  const body = Buffer.alloc(maxBodySize + 1, 32);
  await refused({ body }, 413, /is 200001 bytes; the limit is 200000 \(max_body_size\)/);
  await refused({ body, headers: { 'transfer-encoding': 'chunked' } }, 413, /more than 200000 bytes/);
});

test('a body that is declared too large is refused before it is sent', async () => {
  const { port } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  socket.write('POST /v2/models/scale/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n');
  const answer = await textOf(socket);
  assert.match(answer, /^HTTP\/1\.1 413 /);
  assert.match(answer, /connection: close/i);
  assert.match(answer, /the limit is 200000 \(max_body_size\)/);
  await assertGood(1);
});

function textOf(socket: ReturnType<typeof connect>): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('close', () => resolve(text));
    socket.on('error', reject);
  });
}

test('a compressed body that expands past the limit is refused with 413', async () => {
  const bomb = Buffer.alloc(50 * maxBodySize, 32);
  await refused(
    { headers: { 'content-encoding': 'gzip' }, body: gzipSync(bomb) },
    413,
    /decompressed has more than/,
  );
  await refused(
    { headers: { 'content-encoding': 'deflate' }, body: deflateSync(bomb) },
    413,
    /decompressed has more/,
  );
});

test('a body that does not decompress is refused', async () => {
  const packed = gzipSync(JSON.stringify({ inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)] }));
  for (const body of [Buffer.from('no gzip'), packed.subarray(0, packed.length - 9), Buffer.alloc(0)]) {
    await refused({ headers: { 'content-encoding': 'gzip' }, body }, 400, /cannot be decompressed|JSON/);
  }
});

test('an encoding that is not supported is refused, also one that every object has as a property', async () => {
  const { body } = good(1);
  for (const encoding of [
    'br',
    'zstd',
    'gzip, gzip',
    'constructor',
    'hasOwnProperty',
    '__proto__',
    'toString',
  ]) {
    await refused(
      { headers: { 'content-encoding': encoding }, body: body! },
      400,
      /is not supported; expected gzip/,
    );
  }
});

test('a request whose values the engine refuses fails alone in its batch', async () => {
  const lookUp = (id: number): Promise<Answer> =>
    call(to('lookup'), { body: { inputs: [jsonInput('id', 'INT64', [1, 1], [id])] } });
  // Twelve: more than the batches that a version may lose before it stops merging.
  for (let round = 0; round < 12; round++) {
    const ids = [0, 1, 99, 2, 3, ...(round % 2 ? [-77] : [])];
    const answers = await Promise.all(ids.map(lookUp));
    answers.forEach((answer, index) => {
      const id = ids[index]!;
      if (id < 0 || id > 3) {
        assert.equal(answer.status, 400, answer.body.toString());
        assert.match(errorOf(answer), /the engine refused these values/);
      } else {
        assert.equal(answer.status, 200, answer.body.toString());
        assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [id, 10 * id]);
      }
    });
  }
  const { model_stats } = json<{ model_stats: { inference_stats: { fail: { count: number } } }[] }>(
    await call(`${url}/v2/models/lookup/stats`),
  );
  assert.equal(model_stats[0]!.inference_stats.fail.count, 18);
});

test('of keys that are sent twice the last one counts, and nothing breaks', async () => {
  const tensor = (data: string): string => `{"name":"x","datatype":"FP32","shape":[1,4],"data":${data}}`;
  for (const body of [
    `{"inputs":[${tensor('[9,9,9,9]')}],"inputs":[${tensor('[1,1,1,1]')}]}`,
    `{"inputs":[{"name":"q","name":"x","datatype":"INT8","datatype":"FP32","shape":[7],"shape":[1,4],"data":[9],"data":[1,1,1,1]}]}`,
    `{"id":"a","id":"b","inputs":[${tensor('[1,1,1,1]')}]}`,
  ]) {
    const answer = await call(to('scale'), { body });
    assert.equal(answer.status, 200, answer.body.toString());
    assert.deepEqual(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data, [2, 2, 2, 2]);
  }
});

test('the order of keys does not matter: data may come before datatype and shape', async () => {
  for (const body of [
    '{"inputs":[{"data":[1,1,1,1],"shape":[1,4],"datatype":"FP32","name":"x"}]}',
    '{"outputs":[{"name":"y"}],"inputs":[{"data":[[1,1,1,1]],"datatype":"FP32","name":"x","shape":[1,4]}],"id":"z"}',
  ]) {
    const answer = await call(to('scale'), { body });
    assert.equal(answer.status, 200, answer.body.toString());
  }
});

test('data that is a plain number is not taken for the place of another tensor', async () => {
  for (const data of ['0', '1', '0.0', '-0']) {
    const body = `{"inputs":[{"name":"a","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]},{"name":"b","datatype":"FP32","shape":[1,4],"data":${data}}]}`;
    await refusedBody(body, /'b'/, 'pair');
    const escaped = body
      .replace('"data":[1', '"data":[1')
      .replace(`"data":${data}}`, `"d\\u0061ta":${data}}`);
    await refusedBody(escaped, /'b'/, 'pair');
  }
});

test('deep nesting is refused wherever it stands', async () => {
  const nest = (levels: number, inner = ''): string => '['.repeat(levels) + inner + ']'.repeat(levels);
  const levels = 40_000;
  const tensor = (key: string): string =>
    `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,1,1,1],"${key}":${nest(levels)}}]}`;
  await refusedBody(
    `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":${nest(levels, '1')}}]}`,
    /./,
  );
  await refusedBody(nest(levels), /JSON/);
  await refusedBody(`{"inputs":${nest(levels)}}`, /./);
  await refusedBody(`{"inputs":[{"name":${nest(levels)}}]}`, /./);
  await refusedBody(`{"inputs":[{"name":"x","datatype":${nest(levels)}}]}`, /./);
  await refusedBody(`{"id":${nest(levels)},"inputs":[]}`, /./);
  await refusedBody(`{"inputs":[],"outputs":${nest(levels)}}`, /./);
  await refusedBody(tensor('shape'), /./);
  await refusedBody(tensor('parameters'), /./);
  await refusedBody(
    `{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,3],"data":${nest(levels, '"a"')}}]}`,
    /./,
    'text',
  );
});

test('a shape of more dimensions than any tensor has is refused', async () => {
  for (const rank of [65, 40_000]) {
    for (const [type, model, data] of [
      ['FP32', 'scale', '[1]'],
      ['BYTES', 'text', '["a"]'],
    ] as const) {
      const body = `{"inputs":[{"name":"x","datatype":"${type}","shape":[${Array(rank).fill(1)}],"data":${data}}]}`;
      await refusedBody(body, /'x': shape has \d+ dimensions; at most 64/, model);
    }
  }
  await refusedInput('FP32', Array(64).fill(1), [1], /unexpected shape for input 'x'/);
});

test('names that every JavaScript object has are names like any other', async () => {
  for (const name of ['__proto__', 'constructor', 'hasOwnProperty', 'toString', 'prototype', 'length']) {
    await refusedBody(
      { inputs: [jsonInput(name, 'FP32', [1, 4], fourOnes)] },
      /unexpected inference input '/,
    );
    const both = [jsonInput('x', 'FP32', [1, 4], fourOnes), jsonInput(name, 'FP32', [1, 4], fourOnes)];
    await refusedBody({ inputs: both }, /unexpected inference input/);
  }
  const polluting = `{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},
    "parameters":{"__proto__":{"binary_data_output":true}},
    "inputs":[{"__proto__":{"name":"q"},"name":"x","datatype":"FP32","shape":[1,4],"data":[1,1,1,1]}]}`;
  const answer = await call(to('scale'), { body: polluting });
  assert.equal(answer.status, 200, answer.body.toString());
  assert.equal(answer.headers['inference-header-content-length'], undefined);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
});

test('a huge id comes back whole, and a huge name is refused with a short text', async () => {
  const id = 'i'.repeat(150_000);
  const answer = await call(to('scale'), {
    body: { id, inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)] },
  });
  assert.equal(json(answer).id, id);
  const named = { inputs: [jsonInput('n'.repeat(100_000), 'FP32', [1, 4], fourOnes)] };
  const refusal = await refusedBody(named, /unexpected inference input 'nnn/);
  assert.ok(refusal.body.length < 3000, `${refusal.body.length} bytes`);
});

test('many inputs, and many outputs, are refused without harm', async () => {
  const inputs = Array.from({ length: 2000 }, (_, i) => jsonInput(`x${i}`, 'FP32', [1], [1]));
  const refusal = await refusedBody({ inputs }, /unexpected inference input 'x0'/);
  assert.ok(refusal.body.length < 3000, `${refusal.body.length} bytes`);
  const outputs = Array.from({ length: 5000 }, () => ({ name: 'y' }));
  await refusedBody({ inputs: [jsonInput('x', 'FP32', [1, 4], fourOnes)], outputs }, /twice/);
});

test('a null body and an empty one are refused where a request is expected', async () => {
  await refused({ method: 'POST' }, 400, /JSON/);
  await refused({ body: 'null' }, 400, /expected an object/);
  for (const path of ['/v2/repository/index']) {
    for (const body of ['null', '5', '"x"', '{']) await refused({ path, body }, 400, /JSON/);
    assert.equal((await call(`${url}${path}`, { method: 'POST' })).status, 200);
  }
});

test('after all of this no body is counted as being in memory, and the slots are free', async () => {
  await assertGood(4);
  const metrics = (await call(`${url}/metrics`)).body.toString();
  assert.match(metrics, /\nonnx_serving_queue_bytes 0\n/);
  for (const gauge of ['queue_depth', 'in_flight']) {
    for (const line of metrics.match(new RegExp(`^onnx_serving_${gauge}\\{.*$`, 'gm'))!)
      assert.match(line, / 0$/);
  }
});
