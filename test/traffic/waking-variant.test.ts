import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, ServingError } from '../../src/errors.js';
import { MemoryState } from '../../src/lifecycle/state-file.js';
import { silentLogger } from '../../src/observe/logger.js';
import type { InferAnswer, InferCall } from '../../src/server/service.js';
import { type SplitService, TrafficService } from '../../src/traffic/traffic-service.js';
import { ManualClock } from '../support/manual-clock.js';

/** Sends a request to a variant that it has to wait for, where another one is ready; who was asked, and how it ended. */
async function askWaking(code: ErrorCode): Promise<readonly string[]> {
  const asked: string[] = [];
  const infer = async ({ model }: InferCall): Promise<InferAnswer> => {
    asked.push(model);
    if (model === 'dormant') throw new ServingError(code, 'it did not come');
    return { model, version: 1, outputs: [], recordEncode: () => undefined };
  };
  const chances = [0.9, 0.1];
  const service = new TrafficService({
    models: { infer } as unknown as SplitService,
    traffic: {
      pair: {
        variants: [
          { tag: 'one', model: 'ready', weight: 1 },
          { tag: 'two', model: 'dormant', weight: 1 },
        ],
      },
    },
    targets: {
      readyVersion: ({ model }) => (model === 'ready' ? 1 : undefined),
      mayWake: ({ model }) => model === 'dormant',
      problemWith: () => undefined,
    },
    clock: new ManualClock(),
    logger: silentLogger(),
    state: new MemoryState(),
    modelControl: 'none',
    hasRoom: () => true,
    random: () => chances.shift()!,
  });
  const end = await service.infer({ model: 'pair', inputs: [], protocol: 'http', origin: 'socket' }).then(
    ({ variant }) => `answered by ${variant}`,
    (error: ServingError) => error.code,
  );
  return [...asked, end];
}

test('a request that gave up waiting for the model of its variant is not given to another one', async () => {
  for (const code of ['SRV_DEADLINE_EXCEEDED', 'SRV_CANCELLED'] as const) {
    assert.deepEqual(await askWaking(code), ['dormant', code]);
  }
  for (const code of ['SRV_MODEL_INVALID', 'SRV_QUEUE_FULL'] as const) {
    assert.deepEqual(await askWaking(code), ['dormant', 'ready', 'answered by one']);
  }
});
