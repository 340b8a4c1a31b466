import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { HadoopStore } from '../../src/remote/hadoop-store.js';
import { WebHdfsStore } from '../../src/remote/webhdfs-store.js';
import { putIntoHdfs, sendPut, superuser } from '../support/hdfs-files.js';
import { type HdfsPeer, startHdfs } from '../support/peers.js';
import { hasCode, storeContract } from '../support/store-contract.js';
import { until } from '../support/until.js';

let hdfs: HdfsPeer;
before(async () => {
  hdfs = await startHdfs();
});
after(() => hdfs.close());

storeContract('HDFS by WebHDFS', async () => ({
  store: new WebHdfsStore(`webhdfs://${hdfs.httpHost}`, superuser()),
  base: '/web',
  put: putIntoHdfs(hdfs, '/web'),
  close: async () => {},
}));

storeContract('HDFS by a hadoop program', async () => ({
  store: new HadoopStore({ bin: hdfs.hadoopBin, fsName: hdfs.fsName, fsUgi: `${superuser()},secret` }),
  base: '/program',
  put: putIntoHdfs(hdfs, '/program'),
  close: async () => {},
}));

describe('HDFS with permissions', () => {
  before(async () => {
    await putIntoHdfs(hdfs, '/private')('file', 'x');
    const url = `http://${hdfs.httpHost}/webhdfs/v1/private?op=SETPERMISSION&permission=700&user.name=${superuser()}`;
    assert.equal((await sendPut(url)).status, 200);
  });

  it('refuses other users, and says why', async () => {
    const web = new WebHdfsStore(`webhdfs://${hdfs.httpHost}`, 'somebody');
    await assert.rejects(web.stampOf('/private/file'), (error) => {
      hasCode('SRV_REMOTE_REFUSED')(error);
      return /AccessControlException: Permission denied: user=somebody/.test((error as Error).message);
    });
    await web.close();
    const program = new HadoopStore({ bin: hdfs.hadoopBin, fsName: hdfs.fsName, fsUgi: 'somebody,secret' });
    await assert.rejects(program.stampOf('/private/file'), hasCode('SRV_REMOTE_REFUSED'));
    await program.close();
  });
});

describe('a hadoop program', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'onnx-serving-hadoop-'));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const program = (name: string, text: string): string => {
    const file = join(directory, name);
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    chmodSync(file, 0o755);
    return file;
  };

  it('is named when it is not there, or fails', async () => {
    const missing = new HadoopStore({ bin: join(directory, 'no'), fsName: '', fsUgi: '' });
    await assert.rejects(missing.stampOf('/x'), (error) => {
      hasCode('SRV_REMOTE_UNAVAILABLE')(error);
      return /\/no cannot be run: /.test((error as Error).message);
    });
    const bin = program('fails', 'echo "WARNING: noise" >&2; echo "-stat: Fatal error" >&2; exit 7');
    const failing = new HadoopStore({ bin, fsName: '', fsUgi: '' });
    await assert.rejects(failing.stampOf('/x'), (error) => {
      hasCode('SRV_REMOTE_UNAVAILABLE')(error);
      return (error as Error).message.endsWith('ended with 7: -stat: Fatal error');
    });
  });

  it('is given secrets in a file for its owner alone, which is gone afterwards', async () => {
    const bin = program(
      'tells',
      `echo "$@" > ${directory}/args; shift 2; stat -c %a "$1" > ${directory}/mode; cat "$1" > ${directory}/conf; echo "1 2 regular file"`,
    );
    const store = new HadoopStore({ bin, fsName: 'afs://host:1', fsUgi: 'me,a<secret>' });
    assert.deepEqual(await store.stampOf('/x'), { text: '1 2 regular file' });
    await store.close();
    const { readFileSync } = await import('node:fs');
    const [args, mode, conf] = ['args', 'mode', 'conf'].map((name) =>
      readFileSync(join(directory, name), 'utf8'),
    );
    assert.doesNotMatch(args!, /secret/);
    assert.equal(mode, '600\n');
    assert.match(conf!, /<name>hadoop\.job\.ugi<\/name><value>me,a&lt;secret&gt;<\/value>/);
    assert.match(conf!, /<name>fs\.default\.name<\/name><value>afs:\/\/host:1<\/value>/);
    const file = /(\S+site\.xml)/.exec(args!)![1]!;
    assert.throws(() => readdirSync(join(file, '..')), /ENOENT/);
  });

  it('is ended with what it started when the caller gives up', async () => {
    const bin = program('hangs', `sleep 600 & echo $! > ${directory}/pid; wait`);
    const store = new HadoopStore({ bin, fsName: '', fsUgi: '' });
    const stop = new AbortController();
    const asked = store.stampOf('/x', { signal: stop.signal });
    const { existsSync, readFileSync } = await import('node:fs');
    await until(
      'it runs',
      () => existsSync(join(directory, 'pid')) && readFileSync(join(directory, 'pid'), 'utf8') !== '',
    );
    stop.abort();
    await assert.rejects(asked, hasCode('SRV_CANCELLED'));
    const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'));
    const isGone = (): boolean => {
      try {
        return /State:\s+Z/.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
      } catch {
        return true;
      }
    };
    await until('what it started has ended', isGone);
  });
});

describe('WebHDFS of two name nodes', () => {
  let standby: Server;
  before(async () => {
    standby = createServer((_request, response) => {
      const RemoteException = {
        exception: 'StandbyException',
        message: 'Operation category READ is not supported in state standby.\nmore',
      };
      response
        .writeHead(403, { 'content-type': 'application/json' })
        .end(JSON.stringify({ RemoteException }));
    });
    await new Promise<void>((listening) => standby.listen(0, '127.0.0.1', listening));
    await putIntoHdfs(hdfs, '/two')('file', 'x');
  });
  after(() => {
    standby.close();
    standby.closeAllConnections();
  });

  it('goes on to the other one where one stands by', async () => {
    const waiting = `127.0.0.1:${(standby.address() as AddressInfo).port}`;
    const store = new WebHdfsStore(`webhdfs://${waiting},${hdfs.httpHost}`, superuser());
    assert.ok(await store.stampOf('/two/file'));
    await store.close();
    const alone = new WebHdfsStore(`webhdfs://${waiting}`, superuser());
    await assert.rejects(alone.stampOf('/two/file'), (error) => {
      hasCode('SRV_REMOTE_UNAVAILABLE')(error);
      return /StandbyException: Operation category READ is not supported in state standby\.$/.test(
        (error as Error).message,
      );
    });
    await alone.close();
  });
});
