import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { modelFile, packageRoot, rowsFile } from '../../examples/ctr/artefacts.js';
import { auc } from '../../examples/ctr/auc.js';
import { denseModel } from '../../examples/ctr/dense-model.js';
import { writeRows } from '../../examples/ctr/expand.js';
import { tableRows } from '../../examples/ctr/feature-hash.js';
import { ImpressionStream, seeds } from '../../examples/ctr/generator.js';
import { exampleOf } from '../../examples/ctr/model-input.js';
import { dim } from '../../examples/ctr/network.js';
import { packRows, unpackRows } from '../../examples/ctr/rows-file.js';
import { ShippedModel } from '../../examples/ctr/shipped-model.js';
import { trainModel } from '../../examples/ctr/training.js';
import { wholeModel } from '../../examples/ctr/whole-model.js';
import { readOnnxBytes } from '../../src/model/onnx-file.js';

const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-ctr-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const stream = new ImpressionStream(seeds.demo);
const impressions = Array.from({ length: 20_000 }, () => stream.next());
const examples = impressions.map(exampleOf);
const labels = examples.map(({ label }) => label);

describe('the shipped CTR model', () => {
  test('is small enough to lie in the repository', () => {
    const bytes = statSync(modelFile).size + statSync(rowsFile).size;
    assert.ok(bytes < 4_500_000, String(bytes));
  });

  test('takes embeddings and counts for any number of rows, and gives a probability each', () => {
    const { inputs, outputs, opsets } = readOnnxBytes(readFileSync(modelFile));
    assert.deepEqual(
      [...inputs, ...outputs].map(({ name, datatype, shape }) => [name, datatype, shape]),
      [
        ['embeddings', 'FP32', [-1, 26, 16]],
        ['dense', 'FP32', [-1, 13]],
        ['ctr', 'FP32', [-1, 1]],
      ],
    );
    assert.deepEqual(opsets, { 'ai.onnx': 17 });
  });

  test('ranks unseen rows nearly as well as the truth does, and knows how likely a click is', async () => {
    const model = await ShippedModel.open();
    const probabilities = await model.predict(examples);
    await model.close();
    const best = auc(
      impressions.map(({ probability }) => probability),
      labels,
    );
    const reached = auc(probabilities, labels);
    assert.ok(best - reached < 0.0125, `${reached}, and the truth ${best}`);
    assert.ok(reached > 0.8, String(reached));
    const expected = probabilities.reduce((sum, probability) => sum + probability, 0);
    const clicks = labels.reduce<number>((sum, label) => sum + label, 0);
    assert.ok(Math.abs(expected / clicks - 1) < 0.05, `${expected} ${clicks}`);
    // These are the rows of the demo, of which the README tells.
    const readme = readFileSync(join(packageRoot, 'README.md'), 'utf8');
    const told = `an AUC of ${reached.toFixed(3)}, where the best possible is ${best.toFixed(3)}`;
    assert.ok(readme.includes(told), told);
  });

  test('answers the same with the table inside, as a whole model', async () => {
    const session = await InferenceSession.create(wholeModel(), { intraOpNumThreads: 1 });
    assert.deepEqual([...session.inputNames].sort(), ['dense', 'ids']);
    const rows = examples.slice(0, 500);
    const { ctr } = await session.run({
      ids: new Tensor(
        'int64',
        BigInt64Array.from(rows.flatMap(({ ids }) => [...ids].map(BigInt))),
        [500, 26],
      ),
      dense: new Tensor('float32', Float32Array.from(rows.flatMap(({ dense }) => [...dense])), [500, 13]),
    });
    await session.release();
    const model = await ShippedModel.open();
    const apart = await model.predict(rows);
    await model.close();
    assert.deepEqual(ctr!.dims, [500, 1]);
    (ctr!.data as Float32Array).forEach((probability, row) => {
      assert.ok(Math.abs(probability - apart[row]!) < 1e-6, `row ${row}`);
    });
  });
});

describe('the rows of the CTR table', () => {
  test('expand to a NumPy file of one row a key, zero where an id was never seen', () => {
    const path = writeRows(join(directory, 'made', 'here'));
    assert.deepEqual(readdirSync(join(directory, 'made', 'here')), ['rows.npy']);
    const bytes = readFileSync(path);
    const headerEnd = 10 + bytes.readUInt16LE(8);
    assert.equal(bytes.toString('latin1', 0, 8), '\x93NUMPY\x01\x00');
    assert.equal(headerEnd % 64, 0);
    assert.match(
      bytes.toString('latin1', 10, headerEnd),
      /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(1000001, 16\), \} *\n$/,
    );
    assert.equal(bytes.length, headerEnd + tableRows * dim * 4);
    const { values } = unpackRows(readFileSync(rowsFile));
    const data = new Float32Array(
      bytes.buffer.slice(bytes.byteOffset + headerEnd, bytes.byteOffset + bytes.length),
    );
    assert.deepEqual(data, values);
    const used = Array.from({ length: tableRows }, (_, row) => row).filter((row) =>
      values.subarray(row * dim, (row + 1) * dim).some((value) => value !== 0),
    ).length;
    assert.ok(used > 50_000 && used < 250_000, String(used));
  });

  test('come back from packing within half a step, without those that are not kept', () => {
    const values = Float32Array.from({ length: 20 * 4 }, (_, at) => Math.sin(at) * 10 ** ((at >> 2) - 10));
    values.fill(0, 12, 16);
    const {
      count,
      dim: width,
      values: back,
    } = unpackRows(packRows({ count: 20, dim: 4, values }, (row) => row !== 7));
    assert.deepEqual([count, width], [20, 4]);
    values.forEach((value, at) => {
      const row = at >> 2;
      const most = Math.max(...values.subarray(4 * row, 4 * row + 4).map(Math.abs));
      // The scale is rounded up by at most 1/128.
      if (row === 7) assert.equal(back[at], 0);
      else assert.ok(Math.abs(back[at]! - value) <= (most / 254) * 1.01, `${at}: ${back[at]} ${value}`);
    });
  });

  test('are refused when the file is cut off or another one', () => {
    const packed = readFileSync(rowsFile);
    assert.throws(() => unpackRows(packed.subarray(0, 1000)));
    assert.throws(() => unpackRows(readFileSync(modelFile)));
  });
});

describe('the training of the CTR model', () => {
  test('gives the same model again, learns, and exports what it learned', async () => {
    const told: number[] = [];
    const trainer = trainModel({ rows: 20_000, onProgress: ({ rows }) => void told.push(rows) });
    const again = trainModel({ rows: 20_000 });
    assert.deepEqual(again.network, trainer.network);
    assert.deepEqual(again.table, trainer.table);
    assert.equal(told.at(-1), 20_000);

    const rows = examples.slice(0, 10_000);
    const probabilities = rows.map((row) => trainer.predict(row));
    const reached = auc(probabilities, labels.slice(0, 10_000));
    assert.ok(reached > 0.7, String(reached));

    const session = await InferenceSession.create(denseModel(trainer.network), { intraOpNumThreads: 1 });
    const some = rows.slice(0, 100);
    const embeddings = some.flatMap(({ ids }) =>
      [...ids].flatMap((id) => [...trainer.table.subarray(id * dim, (id + 1) * dim)]),
    );
    const { ctr } = await session.run({
      embeddings: new Tensor('float32', Float32Array.from(embeddings), [100, 26, dim]),
      dense: new Tensor('float32', Float32Array.from(some.flatMap(({ dense }) => [...dense])), [100, 13]),
    });
    await session.release();
    (ctr!.data as Float32Array).forEach((probability, row) => {
      assert.ok(Math.abs(probability - probabilities[row]!) < 1e-5, `row ${row}`);
    });
  });
});
