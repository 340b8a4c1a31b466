import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { call, json, jsonInput } from '../support/http-call.js';

const program = fileURLToPath(new URL('../../examples/fastify/service.js', import.meta.url));

test('examples/fastify/service.ts serves models under its prefix, keeps its own route and ends on SIGTERM', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'onnx-serving-examples-'));
  const service = spawn(process.execPath, [program], {
    env: { ...process.env, XDG_CACHE_HOME: cache, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(service, 'exit');
  try {
    const [line] = (await Promise.race([
      once(createInterface(service.stdout), 'line'),
      ended.then(([code]) => Promise.reject(new Error(`it ended with ${code} before it listened`))),
    ])) as [string];
    const url = /^listening on (http:\S+)$/.exec(line)?.[1];
    assert.ok(url, line);

    const body = { inputs: [jsonInput('point', 'FP32', [1, 2], [0.6, 0])] };
    const infer = await call(`${url}/models/v2/models/ring/infer`, { body });
    assert.equal(infer.status, 200);
    const [output] = json<{ outputs: { data: number[] }[] }>(infer).outputs;
    assert.ok(output!.data[0]! > 0.9, String(output!.data));
    assert.equal((await call(`${url}/models/v2/health/ready`)).status, 200);
    assert.deepEqual(json(await call(`${url}/inside?x=0.6&y=0`)), { inside: true });
    assert.deepEqual(json(await call(`${url}/inside?x=0&y=0`)), { inside: false });

    const unknown = await call(`${url}/models/v2/models/nothing`);
    assert.equal(unknown.status, 404);
    assert.equal(json(unknown).code, 'SRV_MODEL_NOT_FOUND');
    // Outside the prefix the service answers as it did before.
    assert.equal(json(await call(`${url}/nothing`)).message, 'Route GET:/nothing not found');

    service.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  } finally {
    service.kill('SIGKILL');
    await ended;
    rmSync(cache, { recursive: true, force: true });
  }
});
