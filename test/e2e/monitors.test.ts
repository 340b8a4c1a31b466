/** A server with `monitors` in its file: models come from afar, and new ones are served by themselves. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { loadServeConfig } from '../../src/config/load.js';
import { openRuntime } from '../../src/runtime.js';
import { tensor } from '../../src/tensor/tensor.js';
import { type FileServer, serveFiles } from '../support/file-server.js';
import { placeModel, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

let directory: string;
let server: FileServer;
before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-monitors-'));
  mkdirSync(join(directory, 'remote'));
  server = await serveFiles(join(directory, 'remote'));
});
after(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

function publish(factor: number): void {
  const remote = join(directory, 'remote');
  rmSync(join(remote, 'ctr'), { recursive: true, force: true });
  placeModel(join(directory, 'new'), 'ctr', scaleModel(factor));
  renameSync(join(directory, 'new/ctr'), join(remote, 'ctr'));
  writeFileSync(join(remote, 'done'), String(factor));
}

it('a model of a monitor is there when the server is, and its next version is served without a request failing', async (t) => {
  publish(2);
  const file = join(directory, 'serving.yaml');
  writeFileSync(
    file,
    `models:
  - path: local/ctr
file_system_poll_wait_seconds: 1
reload_interval_s: 1
cache_dir: ${join(directory, 'cache')}
thread: 1
monitors:
  - general_host: ${server.address}
    remote_path: /
    remote_model_name: ctr
    remote_donefile_name: done
    local_path: local
    local_model_name: ctr
    interval: 0.1
`,
  );
  const config = loadServeConfig({ flags: { config: file } });
  assert.equal(config.runtime.monitors[0]?.localPath, join(directory, 'local'));
  const runtime = await openRuntime(config.runtime);
  t.after(() => runtime.close());
  const answer = async (): Promise<unknown> => {
    const { outputs } = await runtime.infer('ctr', { x: tensor('FP32', [1, 4], [1, 10, 0, 0]) });
    return [...(Object.values(outputs)[0]!.data as Float32Array)];
  };
  assert.deepEqual(await answer(), [2, 20, 0, 0]);
  publish(3);
  const answers = new Set<string>();
  await until('the new model answers', async () => {
    const now = JSON.stringify(await answer());
    answers.add(now);
    return now === '[3,30,0,0]';
  });
  assert.deepEqual([...answers], ['[2,20,0,0]', '[3,30,0,0]']);
  const metrics = await runtime.metrics();
  assert.match(metrics, /onnx_serving_monitor_looks_total\{monitor="ctr",result="installed"\} 2/);
});

it('what is wrong with monitors in a file stops the start, with its place', () => {
  const file = join(directory, 'bad.yaml');
  writeFileSync(file, 'monitors:\n  - remote_pth: /\n    ftp_password: 1234567\n');
  assert.throws(
    () => loadServeConfig({ flags: { config: file } }),
    (error) => {
      const { message } = error as Error;
      assert.match(
        message,
        /monitors in \S+bad\.yaml\[0\]: remote_pth: unknown key; did you mean "remote_path"\?/,
      );
      assert.match(message, /\[0\]: local_path: missing/);
      assert.doesNotMatch(message, /1234567/);
      return true;
    },
  );
});
