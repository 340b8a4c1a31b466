import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeBody } from '../../src/loadtest/request-body.js';
import { generateTensors, tensorsOfBody } from '../../src/loadtest/request-tensors.js';
import { tensor } from '../../src/tensor/tensor.js';

const options = { count: 2, rows: 3, shapes: {}, ranges: {}, seed: 1 };

test('generated requests fit the model, keep to their range and depend on the seed alone', () => {
  const inputs = [
    { name: 'x', datatype: 'FP32', shape: [-1, 4] },
    { name: 'id', datatype: 'INT64', shape: [-1] },
    { name: 's', datatype: 'BYTES', shape: [2] },
    { name: 'h', datatype: 'FP16', shape: [-1] },
  ] as const;
  const asked = { ...options, ranges: { id: [5, 9] as const } };
  const requests = generateTensors({ inputs }, asked);
  assert.equal(requests.length, 2);
  assert.deepEqual(
    Object.values(requests[0]!).map(({ shape }) => shape),
    [[3, 4], [3], [2], [3]],
  );
  const ids = [...(requests[1]!.id!.data as BigInt64Array)];
  assert.ok(ids.every((id) => id >= 5n && id <= 9n));
  assert.deepEqual(generateTensors({ inputs }, asked), requests);
  assert.notDeepEqual(generateTensors({ inputs }, { ...asked, seed: 2 }), requests);
});

test('a free dimension without a size is refused with the flag that gives it', () => {
  const inputs = [{ name: 'x', datatype: 'FP32', shape: [-1, -1] }] as const;
  assert.throws(() => generateTensors({ inputs }, options), /--shape x:3,16/);
  const [request] = generateTensors({ inputs }, { ...options, shapes: { x: [1, 8] } });
  assert.deepEqual(request!.x!.shape, [1, 8]);
});

test('a shape that does not fit and an unknown input are refused', () => {
  const inputs = [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }] as const;
  assert.throws(() => generateTensors({ inputs }, { ...options, shapes: { x: [1, 5] } }), /does not fit/);
  assert.throws(
    () => generateTensors({ inputs }, { ...options, shapes: { z: [1] } }),
    /no input z; it has x/,
  );
});

test('a JSON body reads back as the same tensors, exact 64-bit integers included', () => {
  const tensors = {
    x: tensor('FP32', [2, 2], [0.1, -1e-7, 3, 1e20]),
    big: tensor('INT64', [2], [9_007_199_254_740_993n, -1n]),
    s: tensor('BYTES', [1], ['a "quote"']),
  };
  const text = encodeBody(tensors, 'json').bytes.toString();
  assert.match(text, /0\.1,/);
  assert.match(text, /9007199254740993/);
  assert.throws(() => tensorsOfBody(text), /write it as a string of digits/);
  assert.deepEqual(tensorsOfBody(text.replace('9007199254740993', '"9007199254740993"')), tensors);
});

test('nested data is read', () => {
  const body = '{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,4]]}]}';
  assert.deepEqual(tensorsOfBody(body).x, tensor('FP32', [2, 2], [1, 2, 3, 4]));
});

test('a binary body has its tensors behind the header, in order', () => {
  const tensors = { s: tensor('BYTES', [1], ['hé']), x: tensor('FP32', [2], [1, 2]) };
  const { bytes, headers } = encodeBody(tensors, 'binary');
  const headerLength = Number(headers['inference-header-content-length']);
  const header = JSON.parse(bytes.subarray(0, headerLength).toString());
  assert.deepEqual(
    header.inputs.map(
      (input: { parameters: { binary_data_size: number } }) => input.parameters.binary_data_size,
    ),
    [7, 8],
  );
  assert.equal(bytes.length, headerLength + 15);
  assert.equal(headers['content-length'], String(bytes.length));
  assert.equal(bytes.readUInt32LE(headerLength), 3);
  assert.equal(bytes.readFloatLE(headerLength + 11), 2);
});

test('FP16 has no JSON form and says so', () => {
  assert.throws(
    () => encodeBody({ h: tensor('FP16', [1], new Uint16Array(1)) }, 'json'),
    /use --protocol binary/,
  );
});
