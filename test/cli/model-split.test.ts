import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Command } from 'commander';
import { defaultOutput, registerModelSplit, reportText } from '../../src/cli/model-split.js';
import { findModels } from '../../src/repository/layout.js';
import { temporaryDirectory, writeModel } from '../model/model-fixtures.js';
import { embeddingModel } from '../model/split/split-fixtures.js';

async function run(...args: readonly string[]): Promise<string> {
  let text = '';
  const write = (part: string) => {
    text += part;
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: write, writeOut: write });
  registerModelSplit(program, { write }, { write });
  for (const command of program.commands) command.exitOverride();
  await program.parseAsync(['split', ...args], { from: 'user' });
  return text;
}

test('without --output the split lies beside the model, under its name', () => {
  assert.equal(defaultOutput('/models/ranker/model.onnx'), '/models/ranker-split');
  assert.equal(defaultOutput('/models/ranker/12/model.onnx'), '/models/ranker-split');
  assert.equal(defaultOutput('/models/ranker.onnx'), '/models/ranker-split');
});

test('small matrices are not cut out unasked, and the refusal tells what there is', async (t) => {
  const directory = temporaryDirectory(t);
  const file = writeModel(directory, embeddingModel());
  await assert.rejects(run(file, '-o', join(directory, 'out')), {
    code: 'SRV_MODEL_UNSUPPORTED',
    message: /no matrix of 16777216 bytes or more[\s\S]*'table' \[50,4\], 800 bytes, used by Gather 'rows'/,
  });
  await assert.rejects(run(file, '--initializer', 'tables'), { code: 'SRV_BAD_CONFIG' });
  assert.deepEqual(readdirSync(directory), ['model.onnx']);
});

test('a model is split into a directory that can be served', async (t) => {
  const directory = temporaryDirectory(t);
  const file = writeModel(directory, embeddingModel());
  const out = join(directory, 'out');
  const text = await run(file, '-o', out, '--min_bytes', '500', '--shard_num', '2', '--seqfile');
  assert.match(text, /^writing the network without 'table' \[50,4\]\n/);
  assert.match(text, /stage {4}ids -> tables\/table -> rows\n/);
  assert.match(text, /proof {4}same outputs to the bit in 4 runs of up to 64 rows\n/);
  assert.deepEqual(readdirSync(out).sort(), ['model.json', 'model.onnx', 'seqfiles', 'tables']);
  const [entry] = await findModels(out);
  assert.equal(entry?.error, undefined);
});

test('flags that cannot be meant are refused', async (t) => {
  const file = writeModel(temporaryDirectory(t), embeddingModel());
  for (const flags of [
    ['--min_bytes', 'much'],
    ['--shard_num', '0'],
    ['--dtype', 'f64'],
  ]) {
    await assert.rejects(run(file, ...flags), { code: /commander\.invalidArgument/ });
  }
});

test('the report says what was made, by which stages, and how it was proved', () => {
  const table = { initializer: 'emb', rows: 100, dim: 8, rowsRead: 100, rowsDifferent: 0, isReused: false };
  const text = reportText({
    directory: '/out',
    tables: [{ ...table, directory: '/out/tables/emb' }],
    stages: [
      { table: 'tables/emb', ids: 'ids', slots: 3, columns: [0, 2], target: 'rows' },
      { table: 'tables/emb', ids: ['a', 'b'], combiner: 'sum', target: 'more' },
    ],
    bytes: { before: 4096, after: 1024 },
    proof: { proof: { runs: 4, largestBatch: 64, ids: 'all', comparison: 'exact', unstable: [] } },
    notices: ['one thing'],
  });
  assert.equal(
    text,
    [
      '/out',
      '  network  1.0 KiB, of 4.0 KiB before',
      "  table    tables/emb: 100 rows of 8, from 'emb'",
      '  stage    ids columns 0, 2 -> tables/emb -> rows',
      '  stage    a, b -> tables/emb -> sum -> more',
      '  proof    same outputs to the bit in 4 runs of up to 64 rows',
      '  note     one thing',
      'Serve it: onnx-serving serve --model /out',
      '',
    ].join('\n'),
  );
  const reused = reportText({
    directory: '/out',
    tables: [
      {
        ...table,
        directory: '/old/emb',
        isReused: true,
        rowsDifferent: 7,
        publishedWith: 'version 3 of model m',
      },
    ],
    stages: [],
    bytes: { before: 4096, after: 1024 },
    proof: { notRun: 'it is too large' },
    notices: [],
  });
  assert.match(reused, /table {4}\.\.\/old\/emb: 100 rows of 8, used again for 'emb'/);
  assert.match(reused, /proof {4}the original was not run \(it is too large\); 100 rows were read back/);
  assert.match(reused, /note {5}7 of 100 rows of the reused table differ/);
  assert.match(
    reused,
    /note {5}\/old\/emb was published with version 3 of model m; as another one this model/,
  );
});
