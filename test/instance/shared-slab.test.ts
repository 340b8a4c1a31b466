import assert from 'node:assert/strict';
import { it } from 'node:test';
import { openRuntime } from '../../src/runtime.js';
import { tensor } from '../../src/tensor/tensor.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';

it('slabs of SharedArrayBuffers, for runtimes that forbid external memory, give the same answers', async (t) => {
  const directory = makeDirectory('shared-slab');
  placeModel(directory, 'scale', scaleModel(3));
  const runtime = await openRuntime(
    { modelRepository: directory, threads: 2, cacheDir: `${directory}/cache`, idlePath: 'auto' },
    { slabMemory: 'shared' },
  );
  t.after(async () => {
    await runtime.close();
    removeDirectory(directory);
  });
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      runtime.infer('scale', { x: tensor('FP32', [1, 4], [i, i + 1, i + 2, i + 3]) }),
    ),
  );
  answers.forEach(({ outputs }, i) => {
    const values = outputs.y!.data as Float32Array;
    assert.deepEqual([...values], [3 * i, 3 * i + 3, 3 * i + 6, 3 * i + 9]);
    assert.ok(values.buffer instanceof ArrayBuffer);
  });
  const lone = await runtime.infer('scale', { x: tensor('FP32', [1, 4], [1, 2, 3, 4]) });
  assert.deepEqual([...(lone.outputs.y!.data as Float32Array)], [3, 6, 9, 12]);
});
