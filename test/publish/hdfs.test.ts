import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { resolvePublishConfig } from '../../src/config/publish-settings.js';
import { openTarget } from '../../src/publish/open-target.js';
import { textUpload } from '../../src/publish/publish-target.js';
import { type HdfsPeer, startHdfs } from '../support/peers.js';
import { targetContract } from './target-contract.js';

/** The cluster belongs to whoever started it. */
const superuser = process.getuid?.() === 0 ? 'root' : (process.env.USER ?? 'root');
const both = { openTarget, renames: true, locks: true, close: async (): Promise<void> => {} };

let peer: HdfsPeer;
before(async () => {
  peer = await startHdfs();
});
after(() => peer.close());

targetContract('HDFS by WebHDFS', async () => {
  const place = { remotePath: '/web/models', fsName: `webhdfs://${peer.httpHost}`, fsUgi: superuser };
  return { publish: { to: 'hdfs', ...place }, monitor: { type: 'hdfs', ...place }, ...both };
});

// Each call starts Java, which takes a second or more: what both targets share is not shown once more.
test('HDFS by a hadoop program: one lock, files and directories that replace those before', async () => {
  const { fsName, hadoopBin, httpHost } = peer;
  const place = { to: 'hdfs', remotePath: '/program', fsUgi: `${superuser},secret` } as const;
  const target = openTarget(resolvePublishConfig({ ...place, fsName, hadoopBin }));
  const reader = openTarget(resolvePublishConfig({ ...place, fsName: `webhdfs://${httpHost}` }));
  const textAt = async (path: string): Promise<string | undefined> => (await reader.read(path))?.toString();
  try {
    assert.equal(await target.createLock('/program/lock', 'one'), 'created');
    assert.equal(await target.createLock('/program/lock', 'two'), 'exists');
    assert.equal(await target.readLock('/program/lock'), 'one');
    assert.equal(await target.read('/program/none'), undefined);
    for (const text of ['first', 'second']) {
      await target.write('/program/a b', textUpload(text));
      assert.equal(await textAt('/program/a b'), text);
      await target.writeDirectory('/program/tree', [{ path: `in/${text}`, ...textUpload(text) }]);
      assert.equal(await textAt(`/program/tree/in/${text}`), text);
    }
    assert.equal(await textAt('/program/tree/in/first'), undefined);
    await target.removeLock('/program/lock');
    assert.equal(await reader.readLock('/program/lock'), undefined);
  } finally {
    await target.close();
    await reader.close();
  }
});
