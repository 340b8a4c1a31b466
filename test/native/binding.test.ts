import assert from 'node:assert/strict';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { externalBuffersAllowed } from '../../src/native/binding.js';

test('the addon is built and can be loaded', () => {
  assert.equal(externalBuffersAllowed(), true);
});

test('without a build, the first call says what is missing and how to build it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'unbuilt-'));
  try {
    await writeFile(join(root, 'package.json'), '{"type":"module"}');
    const source = fileURLToPath(new URL('../../src/', import.meta.url));
    for (const file of ['errors.js', 'native/addon.js', 'native/binding.js'])
      await cp(source + file, join(root, 'dist/src', file));
    const unbuilt = await import(pathToFileURL(join(root, 'dist/src/native/binding.js')).href);
    assert.throws(() => unbuilt.slabStats(), {
      name: 'ServingError',
      code: 'SRV_INTERNAL',
      message: /the native addon cannot be loaded from .*onnx_serving\.node: .*npm run build/s,
    });
  } finally {
    await rm(root, { recursive: true });
  }
});
