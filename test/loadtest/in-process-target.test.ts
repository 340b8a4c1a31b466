import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { type InferenceRuntime, openInProcessTarget } from '../../src/loadtest/in-process-target.js';
import { tensor } from '../../src/tensor/tensor.js';

const requests = [{ x: tensor('FP32', [1], [1]) }, { x: tensor('FP32', [1], [2]) }];

function fakeRuntime(infer: InferenceRuntime['infer']): InferenceRuntime & { isClosed: boolean } {
  return {
    isClosed: false,
    infer,
    async close() {
      this.isClosed = true;
    },
  };
}

test('an in-process target goes round its requests and closes its runtime', async () => {
  const sent: unknown[] = [];
  const runtime = fakeRuntime(async (_model, inputs) => sent.push(inputs));
  const target = await openInProcessTarget({ runtime, model: 'm', requests, rowsPerRequest: 1 });
  for (const index of [0, 1, 2]) assert.equal(await target.send(index), undefined);
  assert.deepEqual(sent, [requests[0], requests[0], requests[1], requests[0]]);
  await target.close();
  assert.equal(runtime.isClosed, true);
});

test('a rejected inference is counted under its code; one on the first request stops the run', async () => {
  let calls = 0;
  const refuse = async (): Promise<void> => {
    if (calls++ > 0) throw new ServingError('SRV_QUEUE_FULL', 'full');
  };
  const target = await openInProcessTarget({
    runtime: fakeRuntime(refuse),
    model: 'm',
    requests,
    rowsPerRequest: 1,
  });
  assert.equal(await target.send(1), 'SRV_QUEUE_FULL');
  await assert.rejects(
    openInProcessTarget({ runtime: fakeRuntime(refuse), model: 'm', requests, rowsPerRequest: 1 }),
    { code: 'SRV_QUEUE_FULL' },
  );
});
