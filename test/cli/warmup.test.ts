/** `warmup make`, `show`, `verify` and `record` as people call them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tensor } from '../../src/tensor/tensor.js';
import { readRequests } from '../../src/warmup/read-requests.js';
import { writeRequests } from '../../src/warmup/write-requests.js';
import { call, json } from '../support/http-call.js';
import { type Served, serveModels } from '../support/served.js';
import { packageRoot } from '../support/server-process.js';
import {
  identityModel,
  lookupModel,
  makeDirectory,
  removeDirectory,
  scaleModel,
} from '../support/test-models.js';

let root: string;
let served: Served;
before(async () => {
  root = makeDirectory('warm-up-tools');
  served = await serveModels(
    { scale: scaleModel(), lookup: lookupModel(), half: identityModel('FP16', ['batch', 2]) },
    { runtime: { modelControl: 'explicit', threads: 1, recordWarmup: 10 } },
  );
});
after(async () => {
  await served.close();
  removeDirectory(root);
});
const at = (name: string): string => join(root, name);
const write = (name: string, content: string | Uint8Array): string => {
  writeFileSync(at(name), content);
  return at(name);
};

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The server of these tests runs in this process, so it must not be blocked by waiting. */
function run(...args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [join(packageRoot, 'bin/onnx-serving.js'), 'warmup', ...args], {
    cwd: root,
    env: { ...process.env, ONNX_SERVING_CACHE_DIR: '', XDG_CACHE_HOME: at('cache') },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => (out += chunk));
  child.stderr.on('data', (chunk) => (err += chunk));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })));
}

async function good(...args: readonly string[]): Promise<string> {
  const { code, out, err } = await run(...args);
  assert.equal(code, 0, `${args.join(' ')}: ${out}${err}`);
  return out;
}

async function refused(code: number, message: RegExp, ...args: readonly string[]): Promise<void> {
  const ended = await run(...args);
  assert.equal(ended.code, code, `${args.join(' ')}: ${ended.out}${ended.err}`);
  assert.match(ended.err, message);
}

/** A `.npy` file of format version 1.0. */
function npy(descr: string, shape: string, data: NodeJS.TypedArray | Buffer, order = 'False'): Buffer {
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${shape}), }\n`;
  const head = Buffer.from(`\x93NUMPY\x01\x00\x00\x00${text}`, 'latin1');
  head.writeUInt16LE(text.length, 8);
  return Buffer.concat([head, Buffer.from(data.buffer, data.byteOffset, data.byteLength)]);
}

const body = (name: string, datatype: string, shape: readonly number[], data: readonly number[]): object => ({
  inputs: [{ name, datatype, shape, data }],
});

test('arrays are made into a .bin file that curl can post as it is', async () => {
  write(
    'x.npy',
    npy(
      '<f4',
      '3, 4',
      Float32Array.from({ length: 12 }, (_, i) => i),
    ),
  );
  assert.match(
    await good('make', '--out', 'one.bin', '--input', 'x=x.npy', '--output', 'y'),
    /one\.bin: 1 requests/,
  );
  const shown = await good('show', 'one.bin');
  assert.match(shown, /one\.bin\n {2}x FP32\[3,4\] 0 1 2 3 4 5 \.\.\.\n {2}asks for y\n/);
  const [, headerLength] = /Inference-Header-Content-Length: (\d+)'/.exec(shown)!;
  const reply = await call(`${served.url}/v2/models/scale/infer`, {
    headers: { 'inference-header-content-length': headerLength! },
    body: readFileSync(at('one.bin')),
  });
  const { outputs } = json<{ outputs: { data: number[] }[] }>(reply);
  assert.deepEqual(outputs[0]!.data, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]);
});

test('arrays are cut into requests of some rows', async () => {
  write('x.npy', npy('<f4', '5, 4', new Float32Array(20).fill(1)));
  await good('make', '--out', 'cut.jsonl', '--input', 'x=x.npy', '--rows', '2');
  const { requests } = await readRequests(at('cut.jsonl'));
  assert.deepEqual(
    requests.map(({ content }) => content.kind === 'tensors' && content.inputs[0]!.tensor.shape[0]),
    [2, 2, 1],
  );
  write('y.npy', npy('<i8', '4,', BigInt64Array.of(1n, 2n, 3n, 4n)));
  await refused(
    2,
    /need the same number of rows; got x \[5,4\], y \[4\]/,
    'make',
    '--out',
    'a.bin',
    '--input',
    'x=x.npy',
    '--input',
    'y=y.npy',
    '--rows',
    '2',
  );
});

test('arrays of every kind keep their elements', async () => {
  write('n.npy', npy('<i8', '2,', BigInt64Array.of(-1n, 2n ** 53n + 1n)));
  write('b.npy', npy('|b1', '2,', Uint8Array.of(1, 0)));
  write('u.npy', npy('<U3', '2,', Uint32Array.of(0x61, 0x20ac, 0, 0x62, 0x63, 0x64)));
  write('s.npy', npy('|S2', '2,', Buffer.from('a\0bc')));
  write('h.npy', npy('<f2', '1,', Uint16Array.of(0x3c00)));
  await good(
    'make',
    '--out',
    'kinds.bin',
    ...['n', 'b', 'u', 's', 'h'].flatMap((one) => ['--input', `${one}=${one}.npy`]),
  );
  const [line] = (await good('show', '--json', 'kinds.bin')).split('\n');
  assert.deepEqual(
    (JSON.parse(line!) as { inputs: { datatype: string; data: unknown }[] }).inputs.map(
      ({ datatype, data }) => [datatype, data],
    ),
    [
      ['INT64', ['-1', '9007199254740993']],
      ['BOOL', [1, 0]],
      ['BYTES', ['a€', 'bcd']],
      ['BYTES', ['a', 'bc']],
      ['FP16', [0x3c00]],
    ],
  );
  await refused(
    1,
    /input 'h': FP16 has no JSON form; write it into a \.bin file/,
    'make',
    '--out',
    'a.jsonl',
    '--input',
    'h=h.npy',
  );
});

test('arrays that cannot be read are refused, with the reason', async () => {
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from('not an array'), /it is no \.npy file/],
    [npy('<f4', '2,', Float32Array.of(1)), /<f4 of shape \(2\) has 8 bytes, 4 came/],
    [npy('>f4', '1,', Float32Array.of(1)), /its elements are of type >f4/],
    [npy('<f4', '1, 1', Float32Array.of(1), 'True'), /in Fortran order/],
    [npy('<f4', '1,', Float32Array.of(1)).subarray(0, 30), /its header of \d+ bytes is cut off/],
  ];
  for (const [bytes, message] of cases) {
    write('bad.npy', bytes);
    await refused(1, message, 'make', '--out', 'a.bin', '--input', 'x=bad.npy');
  }
  await refused(1, /gone\.npy cannot be read/, 'make', '--out', 'a.bin', '--input', 'x=gone.npy');
  await refused(2, /Expected NAME=FILE\.npy/, 'make', '--out', 'a.bin', '--input', 'x');
  await refused(2, /give files of requests, or arrays/, 'make', '--out', 'a.bin');
});

test('files of requests are made into others', async () => {
  write('a.json', JSON.stringify(body('x', 'FP32', [1, 4], [1, 2, 3, 4]), undefined, 2));
  write('b.jsonl', `${JSON.stringify(body('x', 'FP32', [1, 4], [5, 6, 7, 8]))}\n`);
  await good('make', '--out', 'both.bin', 'a.json', 'b.jsonl');
  await good('make', '--out', 'both.jsonl', 'both.bin');
  assert.equal(
    readFileSync(at('both.jsonl'), 'utf8'),
    '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}\n' +
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[5,6,7,8]}]}\n',
  );
  await refused(2, /a \.json file holds one request, there are 2/, 'make', '--out', 'both.json', 'both.bin');
  await refused(
    2,
    /files that end in \.bin, \.jsonl, \.ndjson or \.json/,
    'make',
    '--out',
    'both.csv',
    'both.bin',
  );
  assert.match(
    await good('show', '--limit', '1', 'both.jsonl'),
    /both\.jsonl line 1\n.*\n\.\.\. and 1 more\n/,
  );
});

test('verify runs the requests on a model file and tells which fail', async () => {
  const requests = [[1], [99], [2]].map((id) => JSON.stringify(body('id', 'INT64', [1, 1], id))).join('\n');
  write('ids.jsonl', requests);
  const model = join(served.repository, 'lookup');
  const failed = await run('verify', 'ids.jsonl', '--model', model);
  assert.equal(failed.code, 1, failed.err);
  assert.match(failed.out, /^FAILED ids\.jsonl line 2: the engine refused these values/);
  assert.match(failed.out, /2 of 3 requests were answered/);
  await refused(3, /There is nothing at .*nowhere\.$/m, 'verify', 'ids.jsonl', '--model', at('nowhere'));
  write('sound.jsonl', requests.split('\n')[0]!);
  assert.match(await good('verify', 'sound.jsonl', '--model', model), /^1 of 1 requests were answered/);
});

test('verify sends the requests to a server and tells which fail', async () => {
  write(
    'mixed.jsonl',
    `${JSON.stringify(body('x', 'FP32', [1, 4], [1, 2, 3, 4]))}\n${JSON.stringify(body('q', 'FP32', [1], [1]))}`,
  );
  const { code, out } = await run('verify', 'mixed.jsonl', '--url', served.url, '--name', 'scale');
  assert.equal(code, 1);
  assert.match(out, /^FAILED mixed\.jsonl line 2: .* answered 400: .*unexpected inference input 'q'/);
  await writeRequests(at('half.bin'), [
    { inputs: [{ name: 'x', tensor: tensor('FP16', [1, 2], Uint16Array.of(0x3c00, 0)) }] },
  ]);
  assert.match(await good('verify', 'half.bin', '--url', served.url, '--name', 'half'), /^1 of 1/);
  await refused(1, /answered 404/, 'verify', 'mixed.jsonl', '--url', served.url, '--name', 'nobody');
  await refused(
    1,
    /cannot be asked: /,
    'verify',
    'mixed.jsonl',
    '--url',
    'http://127.0.0.1:1',
    '--name',
    'scale',
  );
  await refused(2, /give either --model PATH, or --url URL and --name NAME/, 'verify', 'mixed.jsonl');
});

test('record writes what a server kept of its traffic, and verify and the next version take it', async () => {
  for (let i = 0; i < 4; i++) {
    await call(`${served.url}/v2/models/scale/infer`, { body: body('x', 'FP32', [1, 4], [i, i, i, i]) });
  }
  const out = await good('record', '--url', served.url, '--model', 'scale', '--out', 'recorded.bin');
  assert.match(out, /^recorded\.bin: \d+ of \d+ requests, \d+ bytes\n$/);
  assert.match(await good('show', 'recorded.bin'), /batches of this traffic had 1.* rows/);
  await good('verify', 'recorded.bin', '--url', served.url, '--name', 'scale');
  const beside = join(served.repository, 'scale', '.warmup', 'scale.recorded.bin');
  const { body: sample } = await call(`${served.url}/v2/models/scale/warmup`);
  const kept = await good('record', '--url', served.url, '--model', 'scale');
  assert.match(kept, /^\S+ of the server: \d+ of \d+ requests, \d+ bytes, for the next version of scale\n$/);
  assert.equal(kept.split(' ')[0], beside);
  assert.deepEqual(readFileSync(beside), sample);
  assert.equal(existsSync(at('scale.bin')), false);
  // Where the server cannot write, the sample is not lost.
  rmSync(join(beside, '..'), { recursive: true });
  writeFileSync(join(beside, '..'), 'a file is in the way');
  const here = await good('record', '--url', served.url, '--model', 'scale');
  assert.match(
    here,
    /^scale\.bin: .* cannot keep it beside the model: .*scale\.recorded\.bin cannot be written: /,
  );
  assert.deepEqual(readFileSync(at('scale.bin')), sample);
  rmSync(join(beside, '..'));
  await refused(
    1,
    /no sample of the requests of 'lookup' is kept/,
    'record',
    '--url',
    served.url,
    '--model',
    'lookup',
  );
  await refused(
    1,
    /no request to 'lookup' came/,
    'record',
    '--url',
    served.url,
    '--model',
    'lookup',
    '--seconds',
    '1',
  );
  await refused(
    2,
    /recorded requests are written into \.bin files/,
    'record',
    '--url',
    served.url,
    '--model',
    'scale',
    '--out',
    'a.jsonl',
  );
});
