import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { halvesToFloats, TensorRows } from '../../../src/model/split/tensor-rows.js';
import { readTensor } from '../../../src/model/split/wire-graph.js';
import { ByteSource, readFields, WireWriter } from '../../../src/protobuf-wire.js';
import { temporaryDirectory } from '../model-fixtures.js';

const values = Float32Array.from({ length: 12 }, (_, at) => at * 1.1);

/** A file that holds one tensor, and the tensor's rows. */
function rowsOf(
  t: TestContext,
  write: (tensor: WireWriter) => WireWriter,
  shape = [4, 3],
  type = 1,
): TensorRows {
  const tensor = new WireWriter();
  for (const size of shape) tensor.integer(1, size);
  write(tensor.integer(2, type)).string(8, 'table');
  const directory = temporaryDirectory(t);
  const path = join(directory, 'model.onnx');
  writeFileSync(path, new WireWriter().message(5, tensor).toBytes());
  writeFileSync(join(directory, 'weights.bin'), new Uint8Array(values.buffer));
  const source = ByteSource.ofFile(path);
  try {
    const [field] = readFields(source);
    const rows = new TensorRows(path, readTensor(source, field!));
    t.after(() => rows.close());
    return rows;
  } finally {
    source.close();
  }
}

const bytes = (from: number, to: number): Uint8Array => new Uint8Array(values.buffer.slice(from * 4, to * 4));

test('rows are read from raw data and from float data, also in several stretches', (t) => {
  for (const write of [
    (tensor: WireWriter) => tensor.bytes(9, bytes(0, 12)),
    (tensor: WireWriter) => tensor.bytes(4, bytes(0, 12)),
    (tensor: WireWriter) => tensor.bytes(4, bytes(0, 4)).bytes(4, bytes(4, 11)).bytes(4, bytes(11, 12)),
  ]) {
    const rows = rowsOf(t, write);
    assert.deepEqual([rows.rows, rows.dim], [4, 3]);
    assert.deepEqual(rows.read(0, 4), values);
    assert.deepEqual(rows.read(1, 3), values.slice(3, 9));
  }
});

test('elements that are stored one by one are refused with a way out', (t) => {
  const write = (tensor: WireWriter): WireWriter => {
    for (const value of values) tensor.float(4, value);
    return tensor;
  };
  assert.throws(() => rowsOf(t, write), { code: 'SRV_MODEL_UNSUPPORTED', message: /stored one by one/ });
});

test('a tensor that does not hold what its shape says is refused', (t) => {
  assert.throws(() => rowsOf(t, (tensor) => tensor.bytes(9, bytes(0, 11))), {
    code: 'SRV_MODEL_INVALID',
    message: /'table' of shape \[4,3\] needs 48 bytes of elements, but holds 44/,
  });
});

test('external data that is missing, short or elsewhere is refused', (t) => {
  const external =
    (location: string, offset: number, length = 48) =>
    (tensor: WireWriter): WireWriter => {
      for (const [key, value] of Object.entries({ location, offset, length })) {
        tensor.message(13, new WireWriter().string(1, key).string(2, String(value)));
      }
      return tensor.integer(14, 1);
    };
  assert.deepEqual(rowsOf(t, external('weights.bin', 0)).read(0, 4), values);
  for (const [write, message] of [
    [external('absent.bin', 0), /cannot be read from .*absent\.bin/],
    [
      external('weights.bin', 4),
      /needs 48 bytes at 4 of its external data 'weights.bin', which has 48 bytes/,
    ],
    [external('weights.bin', 0, 44), /is told to give 44/],
    [external('../weights.bin', 0), /lies outside the model's directory/],
    [external('/etc/passwd', 0), /lies outside the model's directory/],
  ] as const) {
    assert.throws(() => rowsOf(t, write), { code: 'SRV_MODEL_INVALID', message });
  }
});

test('halves become the floats that they stand for', () => {
  const bits = Uint16Array.of(0, 0x8000, 0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0xfc00);
  const floats = [0, -0, 1, -2, 2 ** -24, 65504, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  assert.deepEqual([...halvesToFloats(bits)], floats);
  assert.ok(Number.isNaN(halvesToFloats(Uint16Array.of(0x7e00))[0]));
});

test('doubles are read as floats, and the first row that floats cannot hold is told', (t) => {
  const doubles = Float64Array.from({ length: 12 }, (_, at) => (at === 7 ? 0.1 : at));
  const rows = rowsOf(t, (tensor) => tensor.bytes(9, new Uint8Array(doubles.buffer)), [4, 3], 11);
  assert.deepEqual(rows.read(0, 2), Float32Array.of(0, 1, 2, 3, 4, 5));
  assert.equal(rows.inexactRow, undefined);
  rows.read(1, 4);
  assert.equal(rows.inexactRow, 2);
});
