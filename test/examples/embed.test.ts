import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const cache = mkdtempSync(join(tmpdir(), 'onnx-serving-examples-'));
after(() => rmSync(cache, { recursive: true, force: true }));

/** Runs a program to its end; rejects when its exit code is not 0. */
function outputOf(program: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, XDG_CACHE_HOME: cache }, timeout: 60_000 };
    execFile(process.execPath, [join(root, program)], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program}: ${error.message}\n${stderr}`));
      else resolve(stdout);
    });
  });
}

test('examples/embed/infer.ts prints the two probabilities and the code of the error', async () => {
  assert.equal(
    await outputOf('dist/examples/embed/infer.js'),
    'version 1: FP32 [2,1]\n0.99\n0.00\nSRV_BAD_SIGNATURE (invalid_argument)\n',
  );
});

test('examples/embed/many.ts answers a hundred callers and drops the one that gave up', async () => {
  assert.equal(await outputOf('dist/examples/embed/many.js'), 'at least 95 of 100 right\nSRV_CANCELLED\n');
});

test('examples/embed/versions.ts loads, names, splits, goes back and unloads', async () => {
  assert.deepEqual((await outputOf('dist/examples/embed/versions.js')).split('\n'), [
    '{ next: 2, stable: 1 } version 1',
    'version 2, variant new',
    'version 2',
    'back to version 1',
    'SRV_MODEL_NOT_READY',
    'SRV_MODEL_NOT_FOUND',
    'SRV_BAD_CONFIG',
    '',
  ]);
});

test('examples/embed/commonjs.cjs runs a model from CommonJS', async () => {
  assert.equal(await outputOf('examples/embed/commonjs.cjs'), '0.99\n');
});
