import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { writeOnnxModel } from '../../src/model/onnx-writer.js';
import { openRuntime, type Runtime } from '../../src/runtime.js';
import { tensor } from '../../src/tensor/tensor.js';

async function openWithPadding(t: TestContext, padding: object): Promise<Runtime> {
  const directory = mkdtempSync(join(tmpdir(), 'padding-'));
  writeFileSync(
    join(directory, 'model.onnx'),
    writeOnnxModel({
      inputs: [{ name: 'x', datatype: 'INT64', shape: ['batch', 'length'] }],
      outputs: [{ name: 'y', datatype: 'INT64', shape: ['batch', 'length'] }],
      nodes: [{ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] }],
    }),
  );
  writeFileSync(join(directory, 'model.json'), JSON.stringify({ name: 'm', padding }));
  const runtime = await openRuntime({
    models: [{ path: directory }],
    threads: 1,
    cacheDir: join(directory, 'cache'),
  });
  t.after(async () => {
    await runtime.close();
    rmSync(directory, { recursive: true });
  });
  return runtime;
}

describe('padding in model.json', () => {
  it('lets rows of unlike lengths share a batch and gives each its own length back', async (t) => {
    const runtime = await openWithPadding(t, { x: { axes: [1], value: 9 } });
    const answers = await Promise.all(
      [[1n], [2n, 3n, 4n], [5n, 6n]].map((values) =>
        runtime.infer('m', { x: tensor('INT64', [1, values.length], values) }),
      ),
    );
    assert.deepEqual(
      answers.map(({ outputs }) => [outputs.y!.shape, [...(outputs.y!.data as BigInt64Array)]]),
      [
        [[1, 1], [2n]],
        [
          [1, 3],
          [4n, 6n, 8n],
        ],
        [
          [1, 2],
          [10n, 12n],
        ],
      ],
    );
    assert.equal(runtime.service.model('m').stats.executionCount, 1);
  });

  it('is refused for an input that the model does not have, an axis that is fixed or the batch, a value of the wrong kind', async (t) => {
    const reasonOf = async (padding: object): Promise<string> => {
      const runtime = await openWithPadding(t, padding);
      return runtime.listModels()[0]!.reason ?? 'ready';
    };
    assert.match(
      await reasonOf({ z: { axes: [1] } }),
      /pad the input 'z', which the model does not have; it has \[x\]/,
    );
    assert.match(await reasonOf({ x: { axes: [2] } }), /pad axis 2 of input 'x', which is not free/);
    assert.match(await reasonOf({ x: { axes: [0] } }), /axes/);
    assert.match(await reasonOf({ x: { axes: [1], value: 'a' } }), /pad input 'x' of INT64 with "a"/);
  });
});
