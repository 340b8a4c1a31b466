import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  createSlab,
  externalBuffersAllowed,
  releaseSlab,
  slabStats,
  viewSlab,
} from '../../src/native/binding.js';
import { runInWorker } from './run-in-worker.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Collects until the finalisers have brought the slabs down to a number; fails after many turns of the loop. */
async function waitForSlabs(expected: number): Promise<void> {
  for (let turn = 0; turn < 1000; turn++) {
    if (slabStats().slabs === expected) return;
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(slabStats().slabs, expected);
}

test('Node lets array buffers lie over memory of the addon', () => {
  assert.equal(externalBuffersAllowed(), true);
});

test('a slab starts with zeros and is the same buffer at every call', () => {
  const id = createSlab(4096);
  const view = viewSlab(id);
  assert.equal(view.byteLength, 4096);
  assert.ok(new Uint8Array(view).every((byte) => byte === 0));
  assert.equal(viewSlab(id), view);
  assert.equal(releaseSlab(id), true);
});

test('a released slab gives no new views, but those that exist keep its memory', async () => {
  await waitForSlabs(0);
  const id = createSlab(8192);
  const bytes = new Uint8Array(viewSlab(id));
  assert.equal(releaseSlab(id), true);
  assert.equal(releaseSlab(id), false);
  assert.throws(() => viewSlab(id), { code: 'SRV_INTERNAL', message: /slab \d+ is unknown or released/ });
  bytes[8191] = 9;
  assert.equal(bytes[8191], 9);
  assert.deepEqual(slabStats(), { slabs: 1, bytes: 8192 });
});

test('memory is unmapped when the last view of a released slab is collected', async () => {
  (() => {
    const id = createSlab(4096);
    viewSlab(id);
    releaseSlab(id);
  })();
  await waitForSlabs(0);
  assert.deepEqual(slabStats(), { slabs: 0, bytes: 0 });
});

test('a view that was collected can be made again over the same bytes', async () => {
  const id = createSlab(4096);
  new Uint8Array(viewSlab(id))[1] = 7;
  for (let turn = 0; turn < 20; turn++) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(new Uint8Array(viewSlab(id))[1], 7);
  }
  releaseSlab(id);
  await waitForSlabs(0);
});

test('a worker writes into the memory that the main thread sees', async () => {
  const id = createSlab(4096);
  const bytes = new Uint8Array(viewSlab(id));
  bytes[0] = 1;
  const seen = await runInWorker(
    `const bytes = new Uint8Array(binding.viewSlab(input));
     bytes[1] = 2;
     return bytes[0];`,
    id,
  );
  assert.equal(seen, 1);
  assert.equal(bytes[1], 2);
  releaseSlab(id);
});

test('a thread that ends lets go of its views and of the slabs it created', async () => {
  await waitForSlabs(0);
  await runInWorker('binding.viewSlab(binding.createSlab(4096)); return null;', null);
  assert.deepEqual(slabStats(), { slabs: 0, bytes: 0 });
});

test('a view cannot be transferred away from its thread', () => {
  const id = createSlab(4096);
  const view = viewSlab(id);
  try {
    structuredClone(view, { transfer: [view] });
  } catch (error) {
    assert.equal((error as Error).name, 'DataCloneError');
  }
  assert.equal(view.byteLength, 4096);
  releaseSlab(id);
});

test('a slab of 4 GiB, of nothing, or of half a byte is refused', () => {
  assert.throws(() => createSlab(2 ** 32), { code: 'SRV_OUT_OF_MEMORY', kind: 'resource_exhausted' });
  assert.throws(() => createSlab(0), { code: 'SRV_OUT_OF_MEMORY' });
  for (const bytes of [-1, 0.5, Number.NaN, 2 ** 60, '7' as unknown as number]) {
    assert.throws(() => createSlab(bytes), { name: 'ServingError', code: 'SRV_INTERNAL' });
  }
  assert.throws(() => viewSlab(2 ** 32 + 1), { code: 'SRV_INTERNAL' });
});
