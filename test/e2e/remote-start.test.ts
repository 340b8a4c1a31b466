/** A server whose models lie elsewhere, where nobody answers at its first start. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { serveFiles } from '../support/file-server.js';
import { ServerProcess } from '../support/server-process.js';
import { placeModel, scaleModel } from '../support/test-models.js';

test('it listens, is not ready and says why, and serves once the model comes', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-remote-start-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const remote = join(directory, 'remote');
  mkdirSync(remote);
  placeModel(remote, 'net', scaleModel());
  const files = await serveFiles(remote);
  t.after(() => files.close());
  files.override = (_request, response) => {
    response.destroy();
    return true;
  };
  const server = new ServerProcess(t, [
    ...['serve', '--model', `${files.address}/net/model.onnx`, '--port', '0', '--thread', '1'],
    ...['--cache_dir', join(directory, 'cache'), '--reload_interval_s', '1', '--log_format', 'json'],
    // Whoever looks at the file system no more is told by the fetch.
    ...['--file_system_poll_wait_seconds', '0'],
  ]);
  const url = await server.listening();
  const ready = async (): Promise<number> => (await fetch(`${url}/v2/health/ready`)).status;
  assert.equal(await ready(), 503);
  assert.equal((await fetch(`${url}/v2/health/live`)).status, 200);
  const index = await fetch(`${url}/v2/repository/index`, { method: 'POST', body: '{}' });
  const [model] = (await index.json()) as { name: string; state: string; reason: string }[];
  assert.match(model?.reason ?? '', /model\.onnx has not been fetched yet: .*127\.0\.0\.1/);
  assert.match(server.err, /"failures":1,"retryInS":1,/);
  assert.doesNotMatch(server.err, /%\]|█/, 'no bar where nobody looks at a terminal');
  files.override = () => false;
  await server.written(/version 1 is ready/);
  assert.equal(await ready(), 200);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});
