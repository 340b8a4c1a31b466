/** Readers of request files, with files that other software wrote, and with bad ones. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readRequests } from '../../src/warmup/read-requests.js';
import type { WarmUpRequest } from '../../src/warmup/request.js';
import { writeTfRecord } from '../../src/warmup/tf-record.js';
import { binaryBody, floatBytes } from '../support/http-call.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

// Written by the Python libraries of TensorFlow Serving and of the managed platform, protobuf 3.20.
const written = {
  predictLog:
    'MvEBCu4BChQKAW0aD3NlcnZpbmdfZGVmYXVsdBIfCgFmEhoIARIIEgIIARICCAMqDAAAwD8AACBAAABAwBIXCgFjEhIIARIEEgIIAiIIAADgQAAAAEESIQoBaRIcCAkSBBICCAJSEv///////////wGBgICAgICAEBIUCgFzEg8IBxIEEgIIAkIBYUICYmMSGwoDb25lEhQIAxIEEgIIBDoK+f//////////ARIUCgFoEg8IExIEEgIIAmoFgHiAgAESEQoBYhIMCAoSBBICCAJaAgEAEhoKAXUSFQgXEgQSAggBigEK////////////ARoBeQ==',
  classifyLog:
    'EnQKchJwCm4KNQozCgwKA2FnZRIFGgMKAR4KEwoDZW1iEgwSCgoIAACAPwAAAD8KDgoEbmFtZRIGCgQKAm4xCjUKMwoMCgNhZ2USBRoDCgE8ChMKA2VtYhIMEgoKCAAAAEAAAAA/Cg4KBG5hbWUSBgoECgJuMg==',
  sessionRunLog: 'KgUKAxoBeA==',
  predictRequest:
    'Cg9zZXJ2aW5nX2RlZmF1bHQSHwoBeBIaCAESBAoCAQQaEAAAgD8AAABAAABAQAAAgEASGgoCaWQSFAgJEgMKAQI6C/v//////////wEGEhIKAXMSDQgHEgMKAQEyBHRleHQaAXk=',
  onnxRequest: 'ChMKAXgSAgECGAEqCAAAgD8AAABAChMKAmlkEgEBGAcqCPf/////////',
} as const;
const bytesOf = (name: keyof typeof written): Buffer => Buffer.from(written[name], 'base64');

function place(t: TestContext, name: string, content: string | Uint8Array): string {
  const directory = makeDirectory('requests');
  t.after(() => removeDirectory(directory));
  writeFileSync(join(directory, name), content);
  return join(directory, name);
}

/** The inputs of a request: datatype, shape and elements by name. */
function shown({ content }: WarmUpRequest): Record<string, unknown> {
  if (content.kind === 'text') return { text: content.text };
  return Object.fromEntries(
    content.inputs.map(({ name, tensor: { datatype, shape, data } }) => [
      name,
      [datatype, [...shape], Array.from<unknown>(data)],
    ]),
  );
}

async function read(t: TestContext, name: string, content: string | Uint8Array): Promise<WarmUpRequest[]> {
  return [...(await readRequests(place(t, name, content))).requests];
}

const line = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2.5]}]}';

test('JSON lines keep the outputs that are asked for', async (t) => {
  const [first, second] = await read(
    t,
    'a.jsonl',
    `${line}\n\n{"inputs":[{"name":"i","datatype":"INT64","shape":[1],"data":[9007199254740993]}],"outputs":[{"name":"y"}]}`,
  );
  assert.deepEqual(shown(first!), { x: ['FP32', [1, 2], [1, 2.5]] });
  assert.equal(first!.outputs, undefined);
  assert.deepEqual(shown(second!), { i: ['INT64', [1], [9007199254740993n]] });
  assert.deepEqual(second!.outputs, ['y']);
  assert.deepEqual(second!.place.number, 3);
});

test('a .json file is one body, on as many lines as it likes', async (t) => {
  const [only, more] = await read(t, 'a.json', JSON.stringify(JSON.parse(line), undefined, 2));
  assert.deepEqual([shown(only!), more], [{ x: ['FP32', [1, 2], [1, 2.5]] }, undefined]);
});

test('a .bin file is a body as one posts it; several may stand one behind the other', async (t) => {
  const input = { name: 'x "}\\', datatype: 'FP32', shape: [3], parameters: { binary_data_size: 12 } };
  const { body } = binaryBody({ inputs: [input], outputs: [{ name: 'y' }] }, floatBytes(1, 2, 3));
  const requests = await read(t, 'a.bin', Buffer.concat([body, Buffer.from(`${line}\n`), body]));
  assert.deepEqual(requests.map(shown), [
    { 'x "}\\': ['FP32', [3], [1, 2, 3]] },
    { x: ['FP32', [1, 2], [1, 2.5]] },
    { 'x "}\\': ['FP32', [3], [1, 2, 3]] },
  ]);
  assert.deepEqual(requests[0]!.outputs, ['y']);
});

test('a PredictRequest of the managed platform is read from .bin and .pb', async (t) => {
  for (const name of ['a.bin', 'a.pb']) {
    const [request] = await read(t, name, bytesOf('predictRequest'));
    assert.deepEqual(shown(request!), {
      x: ['FP32', [1, 4], [1, 2, 3, 4]],
      id: ['INT64', [2], [-5n, 6n]],
      s: ['BYTES', [1], ['text']],
    });
    assert.deepEqual(request!.outputs, ['y']);
  }
});

test('a request of the managed platform to its ONNX processor is read too', async (t) => {
  const [request] = await read(t, 'a.bin', bytesOf('onnxRequest'));
  assert.deepEqual(shown(request!), { x: ['FP32', [1, 2], [1, 2]], id: ['INT64', [1], [-9n]] });
});

test("TF Serving's records are read: typed lists, raw content, one element for all, output_filter", async (t) => {
  const [request] = await read(t, 'tf_serving_warmup_requests', writeTfRecord(bytesOf('predictLog')));
  assert.deepEqual(shown(request!), {
    f: ['FP32', [1, 3], [1.5, 2.5, -3]],
    c: ['FP32', [2], [7, 8]],
    i: ['INT64', [2], [-1n, 9007199254740993n]],
    s: ['BYTES', [2], ['a', 'bc']],
    one: ['INT32', [4], [-7, -7, -7, -7]],
    h: ['FP16', [2], [0x3c00, 0x4000]],
    b: ['BOOL', [2], [1, 0]],
    u: ['UINT64', [1], [2n ** 64n - 1n]],
  });
  assert.deepEqual(request!.outputs, ['y']);
});

test('Examples become a row each', async (t) => {
  const [request] = await read(t, 'a.tfrecord', writeTfRecord(bytesOf('classifyLog')));
  assert.deepEqual(shown(request!), {
    age: ['INT64', [2, 1], [30n, 60n]],
    emb: ['FP32', [2, 2], [1, 0.5, 2, 0.5]],
    name: ['BYTES', [2, 1], ['n1', 'n2']],
  });
});

test('the files of a directory are read by name; hidden ones, directories and samples of traffic are not', async (t) => {
  const directory = join(place(t, 'b.txt', 'second'), '..');
  writeFileSync(join(directory, 'a.txt'), 'first');
  writeFileSync(join(directory, '.c.txt'), 'hidden');
  writeFileSync(join(directory, 'm.recorded.bin'), 'sample');
  mkdirSync(join(directory, 'd.txt'));
  const { requests } = await readRequests(directory);
  assert.deepEqual(requests.map(shown), [{ text: 'first' }, { text: 'second' }]);
});

const record = writeTfRecord(bytesOf('predictLog'));
const damaged = (at: number): Buffer => {
  const bytes = Buffer.from(record);
  bytes[at]! ^= 1;
  return bytes;
};
const body = (more: object, ...sections: Buffer[]): Buffer =>
  binaryBody({ inputs: [{ name: 'x', datatype: 'FP32', shape: [2], ...more }] }, ...sections).body;

const bad: readonly (readonly [string, string, string | Uint8Array, RegExp])[] = [
  ['a line that is no JSON', 'a.jsonl', `${line}\nnothing`, /a\.jsonl line 2: failed to parse/],
  ['a line without inputs', 'a.jsonl', '{}', /line 1: inputs: expected an array/],
  ['an element of a wrong type', 'a.jsonl', line.replace('2.5', '"q"'), /line 1: input 'x': /],
  ['a line with too few elements', 'a.jsonl', line.replace(',2.5', ''), /line 1: input 'x': /],
  ['lines in a .json file', 'a.json', `${line}\n${line}`, /a\.json: failed to parse/],
  ['an empty file', 'a.jsonl', '', /a\.jsonl: it is empty \(0 bytes\)/],
  ['a file of blank lines', 'a.jsonl', '\n \n', /it holds no request/],
  [
    'a file of an unknown form',
    'a.csv',
    '1,2',
    /its name does not tell what it holds; expected one that ends in \.bin/,
  ],
  [
    'a body whose JSON does not end',
    'a.bin',
    '{"inputs":[',
    /request 1: the JSON that begins at byte 0 does not end/,
  ],
  [
    'a body whose tensors are cut off',
    'a.bin',
    body({ parameters: { binary_data_size: 8 } }, floatBytes(1)),
    /request 1: its tensors have 8 bytes \(binary_data_size\), but 4 are left/,
  ],
  [
    'a body whose size is not that of its shape',
    'a.bin',
    body({ parameters: { binary_data_size: 4 } }, floatBytes(1)),
    /unexpected total byte size 4 for input 'x', expected 8/,
  ],
  [
    'bytes behind the last body',
    'a.bin',
    Buffer.concat([body({ parameters: { binary_data_size: 8 } }, floatBytes(1, 2)), Buffer.from('zz')]),
    /request 2: expected the "\{" of a body's JSON at byte \d+, found 0x7a/,
  ],
  [
    'bytes that are no message',
    'a.bin',
    Buffer.from([1, 2, 3]),
    /a\.bin: it begins with no "\{" and is no protobuf/,
  ],
  [
    'a truncated PredictRequest',
    'a.pb',
    bytesOf('predictRequest').subarray(0, 60),
    /no protobuf PredictRequest that can be read: /,
  ],
  [
    'a request whose raw data is too short',
    'a.pb',
    Buffer.from('CgsKAXgSAQMYASoBAA==', 'base64'),
    /tensor 'x': FP32 \[3\] has 12 bytes, its raw data has 1/,
  ],
  [
    'a record whose end is missing',
    'a.tfrecord',
    record.subarray(0, record.length - 1),
    /record 1: it is cut off: it claims \d+ bytes/,
  ],
  [
    'a record whose head is cut off',
    'a.tfrecord',
    Buffer.concat([record, record.subarray(0, 7)]),
    /record 2: it is cut off: its head needs 12 bytes, 7 are left/,
  ],
  ['a record with a damaged length', 'a.tfrecord', damaged(0), /record 1: the checksum of its length is/],
  ['a record with damaged data', 'a.tfrecord', damaged(40), /record 1: the checksum of its data is/],
  [
    'a record of a SessionRun',
    'a.tfrecord',
    writeTfRecord(bytesOf('sessionRunLog')),
    /record 1: .* it is a SessionRun/,
  ],
  [
    'a record that is no PredictionLog',
    'a.tfrecord',
    writeTfRecord(Buffer.from('hello')),
    /record 1: it is no PredictionLog/,
  ],
  [
    'more than 1000 records',
    'a.tfrecord',
    Buffer.concat(Array(1001).fill(record)),
    /record 1001: a warm-up has at most 1000/,
  ],
  ['a line that is not UTF-8', 'a.txt', Buffer.from([0x61, 0x0a, 0xff]), /a\.txt line 2: it is not UTF-8/],
  ['a line with a NUL', 'a.txt', 'a\0b', /a\.txt line 1: it has a NUL/],
];

for (const [what, name, content, message] of bad) {
  test(`${what} is refused`, async (t) => {
    await assert.rejects(read(t, name, content), { code: 'SRV_BAD_WARM_UP_FILE', message });
  });
}

test('an empty directory, a missing file and a file too large are refused', async (t) => {
  const file = place(t, 'a.txt', '12345');
  const empty = join(file, '..', 'empty');
  mkdirSync(empty);
  await assert.rejects(readRequests(empty), {
    code: 'SRV_BAD_WARM_UP_FILE',
    message: /empty: the directory holds no file of requests/,
  });
  await assert.rejects(readRequests(`${file}.gone`), {
    code: 'SRV_IO',
    message: /a\.txt\.gone cannot be read: ENOENT/,
  });
  await assert.rejects(readRequests(file, { maxBytes: 4 }), {
    code: 'SRV_BAD_WARM_UP_FILE',
    message: /it has 5 bytes, and 4 are left of what a warm-up may have/,
  });
});

async function listen(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('a URL is read by the ending of its path, or by its content type', async (t) => {
  const url = await listen(t, (request, reply) => {
    if (request.url === '/old.jsonl') {
      reply.writeHead(302, { location: '/new.jsonl?key=secret' }).end();
      return;
    }
    reply
      .setHeader('content-type', 'text/plain; charset=utf-8')
      .end(request.url === '/lines' ? 'a\nb' : line);
  });
  assert.equal((await readRequests(`${url}/old.jsonl?key=secret`)).requests.length, 1);
  assert.deepEqual((await readRequests(`${url}/lines`)).requests.map(shown), [{ text: 'a' }, { text: 'b' }]);
});

test('user and password of a URL are sent to its host alone, and never told', async (t) => {
  const other = await listen(t, (request, reply) => {
    reply.writeHead(request.headers.authorization === undefined ? 200 : 400).end(line);
  });
  const url = await listen(t, (request, reply) => {
    const isKnown =
      request.headers.authorization === `Basic ${Buffer.from('me:top/secret').toString('base64')}`;
    if (!isKnown) reply.writeHead(401).end();
    else if (request.url === '/away.jsonl') reply.writeHead(302, { location: `${other}/a.jsonl` }).end();
    else reply.end(line);
  });
  const withUser = (password: string): string => url.replace('//', `//me:${password}@`);
  for (const path of ['here.jsonl', 'away.jsonl']) {
    const { requests } = await readRequests(`${withUser('top%2Fsecret')}/${path}`);
    assert.equal(requests.length, 1, path);
  }
  const wrong = [`${withUser('topsecret')}/here.jsonl`, 'http://me:topsecret@no host/a.jsonl'];
  for (const place of wrong) {
    await assert.rejects(readRequests(place), (error: Error) => {
      assert.match(error.message, /answered 401|expected a URL/);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
  }
});

test('a URL that hangs, in its head or in its body, is given up after the time limit', async (t) => {
  const url = await listen(t, (request, reply) => {
    if (request.url === '/body.jsonl') reply.writeHead(200).write(line);
  });
  for (const path of ['head.jsonl', 'body.jsonl']) {
    await assert.rejects(readRequests(`${url}/${path}?token=secret`, { timeoutMs: 100 }), (error: Error) => {
      assert.match(error.message, /could not be fetched: the server did not send it within 100 ms/);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
  }
});

test('what a URL answers beside the file is refused', async (t) => {
  const url = await listen(t, (request, reply) => {
    if (request.url === '/short.jsonl') {
      reply.writeHead(200, { 'content-length': '1000' });
      reply.write(line, () => reply.destroy());
    } else reply.writeHead(request.url === '/big.jsonl' ? 200 : 404).end(line);
  });
  const fetched = (path: string): Promise<unknown> => readRequests(`${url}/${path}`, { maxBytes: 20 });
  await assert.rejects(fetched('gone.jsonl'), { code: 'SRV_IO', message: /the server answered 404/ });
  await assert.rejects(readRequests(`${url}/short.jsonl`), {
    code: 'SRV_IO',
    message: /short\.jsonl could not be fetched/,
  });
  await assert.rejects(fetched('big.jsonl'), { code: 'SRV_IO', message: /it has more than 20 bytes/ });
  await assert.rejects(readRequests('ftp://127.0.0.1/a.bin'), {
    code: 'SRV_BAD_CONFIG',
    message: /expected a path, or a URL of http, https, s3 or oss/,
  });
});
