/** The CTR model in one piece, taken apart by `model split`: callers notice nothing. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ImpressionStream, seeds } from '../../examples/ctr/generator.js';
import { exampleOf } from '../../examples/ctr/model-input.js';
import { call, json, jsonInput } from '../support/http-call.js';
import { packageRoot, ServerProcess } from '../support/server-process.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const train = fileURLToPath(new URL('../../examples/ctr/train.js', import.meta.url));

test('a whole model and its split answer the same requests with the same probabilities', async (t) => {
  const directory = makeDirectory('ctr-split');
  t.after(() => removeDirectory(directory));
  const whole = join(directory, 'whole.onnx');
  const split = join(directory, 'split');
  const run = (...args: string[]): string =>
    execFileSync(process.execPath, args, { cwd: packageRoot, encoding: 'utf8', stdio: 'pipe' });
  run(train, '--whole', whole);
  assert.match(
    run('bin/onnx-serving.js', 'model', 'split', whole, '-o', split),
    /^ +table +tables\/table: 1000001 rows of 16, from 'table'$/m,
  );

  const server = new ServerProcess(
    t,
    ['serve', '--model', whole, '--model', split, '--port', '0', '--thread', '1'],
    {
      env: { XDG_CACHE_HOME: join(directory, 'cache') },
    },
  );
  const url = `${await server.listening()}/v2/models`;
  const [wholeInputs, splitInputs] = await Promise.all(
    ['whole', 'split'].map(async (model) => {
      const { inputs } = json<{ inputs: { name: string }[] }>(await call(`${url}/${model}`));
      return inputs.toSorted((a, b) => a.name.localeCompare(b.name));
    }),
  );
  assert.deepEqual(wholeInputs, [
    { name: 'dense', datatype: 'FP32', shape: [-1, 13] },
    { name: 'ids', datatype: 'INT64', shape: [-1, 26] },
  ]);
  assert.deepEqual(splitInputs, wholeInputs);

  const stream = new ImpressionStream(seeds.demo);
  for (const count of [1, 7, 64]) {
    const rows = Array.from({ length: count }, () => exampleOf(stream.next()));
    const body = {
      inputs: [
        jsonInput(
          'ids',
          'INT64',
          [count, 26],
          rows.flatMap(({ ids }) => [...ids]),
        ),
        jsonInput(
          'dense',
          'FP32',
          [count, 13],
          rows.flatMap(({ dense }) => [...dense]),
        ),
      ],
    };
    const [byWhole, bySplit] = [
      await outputs(`${url}/whole/infer`, body),
      await outputs(`${url}/split/infer`, body),
    ];
    for (const [{ name, shape }] of [byWhole, bySplit]) assert.deepEqual([name, shape], ['ctr', [count, 1]]);
    const [expected, got] = [byWhole[0].data, bySplit[0].data];
    // Sums are taken in another order by where the rows lie in memory.
    got.forEach((probability, row) => {
      assert.ok(Math.abs(probability - expected[row]!) < 1e-6, `row ${row}: ${probability} ${expected[row]}`);
    });
  }
});

interface Output {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

async function outputs(url: string, body: object): Promise<readonly [Output]> {
  const answer = await call(url, { body });
  assert.equal(answer.status, 200, answer.body.toString());
  return json<{ outputs: [Output] }>(answer).outputs;
}
