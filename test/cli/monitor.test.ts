import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { monitorOptionsOf } from '../../src/cli/monitor.js';
import { type FileServer, serveFiles } from '../support/file-server.js';
import { ServerProcess } from '../support/server-process.js';
import { until } from '../support/until.js';

let directory: string;
let server: FileServer;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-cli-monitor-'));
  mkdirSync(join(directory, 'remote/ctr'), { recursive: true });
  server = await serveFiles(join(directory, 'remote'));
});
afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const publish = (content: string): void => {
  writeFileSync(join(directory, 'remote/ctr/model.onnx'), content);
  writeFileSync(join(directory, 'remote/done'), content);
};
const flags = (...more: string[]): string[] => [
  'monitor',
  '--remote-path',
  '/',
  '--remote_model_name=ctr',
  '--remote_donefile_name=done',
  '--local_path',
  join(directory, 'local'),
  '--local_model_name=ctr',
  ...more,
];
const model = (): string => readFileSync(join(directory, 'local/ctr/model.onnx'), 'utf8');

describe('onnx-serving monitor', () => {
  it('prints its options without secrets, fetches what is published, and ends with SIGTERM', async (t) => {
    publish('one');
    const monitor = new ServerProcess(t, flags('--interval', '0.05', '--debug'), {
      env: {
        ONNX_SERVING_MONITOR_GENERAL_HOST: server.address.replace('//', '//reader:s3cret-word@'),
        ONNX_SERVING_MONITOR_FTP_PASSWORD: 'another-secret',
      },
    });
    await until('the first model is in place', () => monitor.err.includes('is in place at'));
    assert.equal(model(), 'one');
    publish('two');
    await until('the next one is, too', () => monitor.err.split('is in place at').length === 3);
    assert.equal(model(), 'two');
    monitor.kill('SIGTERM');
    assert.equal(await monitor.ended, 0);
    assert.match(monitor.out, /^general_host +http:\/\/reader:\*\*\*@127/m);
    assert.match(monitor.out, /^ftp_password +\*\*\*$/m);
    assert.match(monitor.out, /^local_timestamp_file +fluid_time_file$/m);
    assert.match(monitor.out, /^interval +0\.05$/m);
    assert.doesNotMatch(monitor.text, /s3cret-word|another-secret/);
  });

  it('with --once ends with 0 when the model is in place, else with 1', async (t) => {
    const once = flags('--general_host', server.address, '--once');
    assert.equal(await new ServerProcess(t, once).ended, 1, 'no done file');
    publish('one');
    assert.equal(await new ServerProcess(t, once).ended, 0, 'installed');
    assert.equal(await new ServerProcess(t, once).ended, 0, 'unchanged');
    await server.close();
    assert.equal(await new ServerProcess(t, once).ended, 1, 'nobody there');
  });

  it('ends with 2 for options that are none', async (t) => {
    const bad = new ServerProcess(t, ['monitor', '--type', 'general', '--interval', 'soon']);
    assert.equal(await bad.ended, 2);
    assert.match(bad.err, /remote_path: missing/);
    assert.match(bad.err, /interval: expected a number above 0, at most 2000000, got "soon"/);
    const unknown = new ServerProcess(t, ['monitor', '--remote_pat', 'x']);
    assert.equal(await unknown.ended, 2);
    assert.match(unknown.err, /Did you mean --remote_path\?/);
    const address = new ServerProcess(t, flags('--type', 'ftp', '--ftp_host', 'ftp://no host'));
    assert.equal(await address.ended, 2);
    assert.match(address.err, /Expected a host, ftp:\/\/host or ftps:\/\/host, got ftp:\/\/no host/);
    assert.equal(address.out, '', 'no table of options that are refused');
  });
});

describe('the options of a command line', () => {
  it('are typed, and win over the environment', () => {
    const env = {
      ONNX_SERVING_MONITOR_FTP_PORT: '2121',
      ONNX_SERVING_MONITOR_FTP_PASSWORD: '123',
      ONNX_SERVING_MONITOR_DEBUG: 'false',
      ONNX_SERVING_MONITOR_FTP_HOST: '',
    };
    assert.deepEqual(
      monitorOptionsOf({ interval: '0.5', max_bytes: '1gb', ftp_port: '21', debug: true }, env),
      {
        ftpPort: 21,
        ftpPassword: '123',
        intervalS: 0.5,
        maxBytes: '1gb',
        debug: true,
      },
    );
  });
});
