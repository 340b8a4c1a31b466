/** The CTR sample fed with categories as the log has them: the server makes the ids. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { modelFile, tableDirectory } from '../../examples/ctr/artefacts.js';
import { categoryText, ImpressionStream, seeds } from '../../examples/ctr/generator.js';
import { exampleOf } from '../../examples/ctr/model-input.js';
import { prepareTable } from '../../examples/ctr/sample-table.js';
import { call, json, jsonInput } from '../support/http-call.js';
import { packageRoot, ServerProcess } from '../support/server-process.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

/** The `model.json` and the request of the page. */
function ofReadme(): { readonly settings: string; readonly body: string } {
  const page = readFileSync(join(packageRoot, 'examples/ctr/README.md'), 'utf8');
  const [, settings] = /```json\n(\{\n {2}"name": "ctr-text".+?)```/s.exec(page)!;
  const [, body] = /```sh\ncurl -s http:\S+\/ctr-text\/infer -d '([^']+)'\n```/.exec(page)!;
  return { settings: settings!, body: body! };
}

async function probabilities(url: string, inputs: readonly object[]): Promise<readonly number[]> {
  const answer = await call(url, { body: { inputs } });
  assert.equal(answer.status, 200, answer.body.toString());
  return json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data;
}

test('26 texts of categories, some of them missing, get the probabilities of their ids', async (t) => {
  const directory = makeDirectory('ctr-texts');
  t.after(() => removeDirectory(directory));
  await prepareTable();
  const { settings, body } = ofReadme();
  const model = join(directory, 'ctr-text');
  mkdirSync(model);
  mkdirSync(join(directory, 'ctr'));
  copyFileSync(modelFile, join(model, 'model.onnx'));
  writeFileSync(join(model, 'model.json'), settings);
  // The page's model.json names the table of the sample as that of its neighbour.
  symlinkSync(tableDirectory, join(directory, 'ctr/table'));

  const server = new ServerProcess(
    t,
    ['serve', '--model', join(packageRoot, 'examples/ctr'), '--model', model, '--port', '0', '--thread', '1'],
    { env: { XDG_CACHE_HOME: join(directory, 'cache') } },
  );
  const url = `${await server.listening()}/v2/models`;

  const stream = new ImpressionStream(seeds.demo);
  let missing = 0;
  for (let request = 0; request < 10; request++) {
    const rows = Array.from({ length: 50 }, () => stream.next());
    const texts = rows.flatMap(({ ranks }) =>
      Array.from(ranks, (rank, column) => categoryText(column, rank)),
    );
    missing += texts.filter((text) => text === '').length;
    const examples = rows.map(exampleOf);
    const dense = jsonInput(
      'dense',
      'FP32',
      [50, 13],
      examples.flatMap((row) => [...row.dense]),
    );
    const ids = jsonInput(
      'ids',
      'INT64',
      [50, 26],
      examples.flatMap((row) => [...row.ids]),
    );
    const categories = jsonInput('categories', 'BYTES', [50, 26], texts);
    const byIds = await probabilities(`${url}/ctr/infer`, [ids, dense]);
    assert.ok(new Set(byIds).size > 40);
    const byTexts = await probabilities(`${url}/ctr-text/infer`, [categories, dense]);
    assert.equal(byTexts.length, 50);
    byTexts.forEach((probability, row) => {
      assert.ok(Math.abs(probability - byIds[row]!) < 1e-6, `row ${row}: ${probability} ${byIds[row]}`);
    });
  }
  assert.ok(missing > 500, String(missing));

  // The request of the page: the row that the README asks about, as the log has it.
  const answer = await call(`${url}/ctr-text/infer`, { body });
  assert.equal(answer.status, 200, answer.body.toString());
  assert.equal(json<{ outputs: { data: number[] }[] }>(answer).outputs[0]!.data[0]!.toFixed(2), '0.81');
});
