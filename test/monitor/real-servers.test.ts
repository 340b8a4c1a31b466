/** Monitors of every type against the servers that they are for. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { MonitorOptions } from '../../src/config/monitor-settings.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { tarOf } from '../support/archives.js';
import { putIntoHdfs, superuser } from '../support/hdfs-files.js';
import { type HdfsPeer, startFtp, startHdfs, startPythonHttp } from '../support/peers.js';
import { contentOf, putInto, type StoreUnderTest } from '../support/store-contract.js';

let directory: string;
let remote: string;
let ftp: Awaited<ReturnType<typeof startFtp>>;
let python: Awaited<ReturnType<typeof startPythonHttp>>;
let hdfs: HdfsPeer;
before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-real-'));
  remote = join(directory, 'remote');
  mkdirSync(remote);
  [ftp, python, hdfs] = await Promise.all([
    startFtp(remote, 'reader', 'secret'),
    startPythonHttp(remote),
    startHdfs(),
  ]);
});
after(async () => {
  await Promise.all([ftp, python, hdfs].map((peer) => peer.close()));
  rmSync(directory, { recursive: true, force: true });
});

let runs = 0;
/** Brings a directory, leaves it alone, and brings an archive in its place. */
async function bringsModels(options: MonitorOptions, put: StoreUnderTest['put']): Promise<void> {
  const local = join(directory, `local-${runs++}`);
  const base = { remotePath: '/models', remoteDonefileName: 'done', localPath: local, localModelName: 'ctr' };
  const monitorOf = (remoteModelName: string): Monitor =>
    new Monitor({ ...base, remoteModelName, ...options });
  const model = (): unknown => {
    const files = contentOf(join(local, 'ctr'));
    delete files.fluid_time_file;
    return files;
  };
  const monitor = monitorOf('ctr');
  await put('models/ctr/model.onnx', 'one');
  await put('models/ctr/1/rows', 'rows');
  await put('models/done', `one ${runs}`);
  assert.equal(await monitor.look(), 'installed');
  assert.deepEqual(model(), { 'model.onnx': 'one', '1/rows': 'rows' });
  assert.equal(await monitor.look(), 'unchanged');
  await put('models/m.tar.gz', gzipSync(tarOf([{ name: 'ctr/model.onnx', content: 'two' }])));
  await put('models/done', `two ${runs}`);
  assert.equal(await monitorOf('m.tar.gz').look(), 'installed');
  assert.deepEqual(model(), { 'model.onnx': 'two' });
  assert.ok(readFileSync(join(local, 'ctr/fluid_time_file')));
}

it('general: a web server', () => bringsModels({ generalHost: python.address }, putInto(remote)));

it('general: an ftp address', () =>
  bringsModels({ generalHost: `ftp://reader:secret@127.0.0.1:${ftp.port}` }, putInto(remote)));

it('ftp', () =>
  bringsModels(
    { type: 'ftp', ftpHost: '127.0.0.1', ftpPort: ftp.port, ftpUsername: 'reader', ftpPassword: 'secret' },
    putInto(remote),
  ));

it('local', () => bringsModels({ type: 'local', remotePath: join(remote, 'models') }, putInto(remote)));

it('hdfs by WebHDFS', () =>
  bringsModels(
    { type: 'hdfs', fsName: `webhdfs://${hdfs.httpHost}`, fsUgi: `${superuser()},secret` },
    putIntoHdfs(hdfs, ''),
  ));

it('hdfs by a hadoop program', () =>
  bringsModels({ type: 'hdfs', hadoopBin: hdfs.hadoopBin, fsName: hdfs.fsName }, putIntoHdfs(hdfs, '')));
