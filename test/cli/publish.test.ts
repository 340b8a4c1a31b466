import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { publishOptionsOf } from '../../src/cli/publish.js';
import { publishSettings, resolvePublishConfig } from '../../src/config/publish-settings.js';
import { ServingError } from '../../src/errors.js';
import { packageRoot, ServerProcess } from '../support/server-process.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

const root = makeDirectory('publish-cli');
after(() => removeDirectory(root));

test('publish tells what it sent, and its exit code what went wrong', async (t) => {
  const model = placeModel(root, 'house', scaleModel());
  const store = join(root, 'store');
  const run = async (...args: string[]): Promise<{ code: unknown; out: string; err: string }> => {
    const process = new ServerProcess(t, ['publish', ...args]);
    const code = await process.ended;
    return { code, out: process.out, err: process.err };
  };
  const done = await run(model, '--to', 'file', '--remote-path', store);
  assert.deepEqual([done.code, done.err], [0, '']);
  assert.match(done.out, /^house: 1 file published, \d+ B sent\n$/);
  assert.match(readFileSync(join(store, 'house.done'), 'utf8'), /^[0-9a-f]{64} {2}house\.tar\.gz\n#/);

  const bad = await run(model, '--to', 's3', '--remote_path', '/x', '--ftp_port', 'many');
  assert.equal(bad.code, 2);
  assert.match(bad.err, /ftp_port/);
  assert.equal((await run(model, '--to', 'file')).code, 2);
  mkdirSync(join(root, 'empty'));
  const none = await run(join(root, 'empty'), '--to', 'file', '--remote_path', store);
  assert.equal(none.code, 3);
  assert.match(none.err, /holds no model/);
  const nothing = await run(join(root, 'nowhere'), '--to', 'file', '--remote_path', store);
  assert.equal(nothing.code, 3);
  assert.match(nothing.err, /There is nothing at .*nowhere\.$/m);
});

test('with --watch it goes on until it is asked to end', async (t) => {
  const model = placeModel(root, 'watched', scaleModel());
  const store = join(root, 'watch-store');
  const process = new ServerProcess(t, [
    ...['publish', '--watch', model, '--to', 'file', '--remote_path', store],
    ...['--interval', '0.05', '--settle', '0.1', '--log_format', 'json'],
  ]);
  const doneFile = join(store, 'watched.done');
  await until('it is published', () => existsSync(doneFile));
  const before = readFileSync(doneFile, 'utf8');
  placeModel(root, 'watched', scaleModel(9));
  await until('the change is published', () => readFileSync(doneFile, 'utf8') !== before);
  process.kill('SIGTERM');
  assert.equal(await process.ended, 0);
  assert.match(process.err, /"publish":"watched".*published/);
});

test('options come from flags, then from the environment; a bad one is named and no secret is told', () => {
  const env = {
    ONNX_SERVING_PUBLISH_TO: 'ftp',
    ONNX_SERVING_PUBLISH_FTP_PASSWORD: 'secret',
    ONNX_SERVING_PUBLISH_WATCH: 'true',
  };
  const options = publishOptionsOf({ remote_path: '/x', ftp_host: 'files', interval: '0.5' }, env);
  const config = resolvePublishConfig(options);
  assert.deepEqual(
    [config.to, config.ftpPassword, config.watch, config.intervalS, config.pack],
    ['ftp', 'secret', true, 0.5, 'tar.gz'],
  );
  for (const [bad, said] of [
    [{ to: 'gopher', remotePath: '/x' }, 'to: expected'],
    [{ to: 'file', remotePath: 'x' }, 'remote_path: expected an absolute path'],
    [{ to: 'file', remotePath: '/x/../y' }, 'remote_path: expected a path without ..'],
    [{ to: 's3', remotePath: '/x', generalHost: 'http://user:pass-word@h' }, 'expected s3://bucket'],
    [{ to: 'http', remotePath: '/x', generalHost: 'h' }, 'general_host: expected an address'],
    [{ to: 'hdfs', remotePath: '/x', fsName: 'hdfs://h' }, 'fs_name: expected webhdfs'],
    [{ to: 'file', remotePath: '/x', remoteModelName: 'a/b' }, 'remote_model_name'],
    [{ to: 'file', remotePath: '/x', packed: 'tar' }, 'packed: unknown key'],
  ] as const) {
    assert.throws(
      () => resolvePublishConfig(bad),
      (error) => {
        assert.ok(error instanceof ServingError && error.code === 'SRV_BAD_CONFIG', String(error));
        assert.ok(error.message.includes(said), error.message);
        return !error.message.includes('pass-word');
      },
    );
  }
});

test('docs/publish.md names options that there are, and every place that one can publish to', () => {
  const page = readFileSync(join(packageRoot, 'docs/publish.md'), 'utf8');
  const known = new Set(publishSettings.map(({ outside }) => `--${outside}`));
  const monitors = ['--type', '--local_path', '--local_model_name', '--remote_donefile_name'];
  for (const [flag] of page.matchAll(/--[a-z]\w*/g))
    assert.ok(known.has(flag) || monitors.includes(flag), flag);
  for (const kind of publishSettings.find(({ key }) => key === 'to')!.schema.enum!) {
    assert.ok(page.includes(`| \`${kind}\` |`), kind);
  }
});
