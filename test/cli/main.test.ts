import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serveFlags } from '../../src/cli/flags.js';

const program = fileURLToPath(new URL('../../../bin/onnx-serving.js', import.meta.url));

function run(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    env: { PATH: process.env.PATH },
  });
  return { code: status, out: stdout, err: stderr };
}

test('help ends with 0 and lists every flag, the environment and examples', () => {
  const { code, out, err } = run('serve', '--help');
  assert.equal(code, 0, err);
  for (const { outside } of serveFlags) assert.ok(out.includes(`--${outside} `), outside);
  assert.match(out, /ONNX_SERVING_MAX_BATCH_SIZE/);
  assert.match(out, /onnx-serving serve --model /);
});

test('bad usage ends with 2 and names the neighbour', () => {
  const flag = run('serve', '--max-batchsize', '3');
  assert.equal(flag.code, 2);
  assert.match(flag.err, /--max_batch_size/);
  const command = run('sevre');
  assert.equal(command.code, 2);
  assert.match(command.err, /serve/);
  assert.equal(run().code, 2);
});

test('a file that is no ONNX model ends with 3', () => {
  const { code, err } = run('model', 'inspect', program);
  assert.equal(code, 3);
  assert.match(err, /not ONNX|not a whole ONNX model|not an ONNX model/);
});
