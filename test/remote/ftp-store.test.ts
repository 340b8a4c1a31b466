import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { FtpStore } from '../../src/remote/ftp-store.js';
import { openStoreAt } from '../../src/remote/open-store.js';
import { startFtp } from '../support/peers.js';
import { contentOf, hasCode, putInto, storeContract } from '../support/store-contract.js';

storeContract('an FTP server', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'onnx-serving-ftp-'));
  const server = await startFtp(directory, 'reader', 'secret');
  return {
    store: new FtpStore({ host: '127.0.0.1', port: server.port, username: 'reader', password: 'secret' }),
    base: '/base',
    put: putInto(join(directory, 'base')),
    close: async () => {
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
});

describe('signing in to an FTP server', () => {
  let directory: string;
  let server: Awaited<ReturnType<typeof startFtp>>;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'onnx-serving-ftp-'));
    await putInto(directory)('models/ctr/model.onnx', 'x');
    server = await startFtp(directory, 'reader', 'p@ss word');
  });
  after(async () => {
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('is done anonymously, by an address, and with a directory in it', async () => {
    const addresses = [
      [`ftp://127.0.0.1:${server.port}`, '/models/ctr'],
      [`ftp://127.0.0.1:${server.port}`, 'models/ctr'],
      [`ftp://reader:p%40ss%20word@127.0.0.1:${server.port}/models`, '/ctr'],
    ] as const;
    for (const [index, [address, path]] of addresses.entries()) {
      const store = openStoreAt(address);
      const target = join(directory, `target-${index}`);
      await store.fetch(path, target);
      assert.deepEqual(contentOf(target), { 'model.onnx': 'x' });
      await store.close();
    }
  });

  it('is refused with a wrong password, which no message repeats', async () => {
    const store = new FtpStore({
      host: '127.0.0.1',
      port: server.port,
      username: 'reader',
      password: 'wrong-one',
    });
    await assert.rejects(store.stampOf('/models/ctr/model.onnx'), (error) => {
      hasCode('SRV_REMOTE_REFUSED')(error);
      return !(error as Error).message.includes('wrong-one');
    });
    await store.close();
  });
});

describe('an FTP server that hangs or is gone', () => {
  let silent: Server;
  before(async () => {
    silent = createServer();
    await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  });
  after(() => void silent.close());

  it('is given up when the caller has waited enough', async () => {
    const store = new FtpStore({ host: '127.0.0.1', port: (silent.address() as AddressInfo).port });
    const stop = new AbortController();
    silent.once('connection', () => stop.abort());
    await assert.rejects(store.stampOf('/done', { signal: stop.signal }), hasCode('SRV_CANCELLED'));
    await store.close();
  });

  it('is named when nobody listens', async () => {
    const gone = createServer();
    await new Promise<void>((listening) => gone.listen(0, '127.0.0.1', listening));
    const { port } = gone.address() as AddressInfo;
    await new Promise((closed) => gone.close(closed));
    const store = new FtpStore({ host: '127.0.0.1', port });
    await assert.rejects(store.stampOf('/done'), (error) => {
      hasCode('SRV_REMOTE_UNAVAILABLE')(error);
      return (error as Error).message.startsWith(`ftp://127.0.0.1:${port}/done: `);
    });
    await store.close();
  });
});
