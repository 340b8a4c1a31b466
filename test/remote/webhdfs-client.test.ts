import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { textUpload } from '../../src/publish/publish-target.js';
import { WebHdfsTarget } from '../../src/publish/webhdfs-target.js';
import { WebHdfsClient } from '../../src/remote/webhdfs-client.js';
import { WebHdfsStore } from '../../src/remote/webhdfs-store.js';

/** Starts a server, and gives its `host:port`. */
async function serverOf(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => answer(request, response));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('a password goes to the name node, and to no other host that it names', async (t) => {
  const seen: Record<string, string | undefined> = {};
  const other = await serverOf(t, ({ headers }, response) => {
    seen.other = headers.authorization;
    response.writeHead(201).end();
  });
  const own = await serverOf(t, ({ url = '', headers }, response) => {
    const { searchParams } = new URL(url, 'http://name');
    if (searchParams.get('op') === 'RENAME') response.end('{}');
    else if (searchParams.has('data')) {
      seen.own = headers.authorization;
      response.writeHead(201).end();
    } else {
      const host = url.includes('elsewhere') ? other : own;
      response.writeHead(307, { location: `http://${host}/x?data=true` }).end();
    }
  });
  const target = new WebHdfsTarget(`webhdfs://u:se%20cret@${own}`);
  assert.equal(target.label, `webhdfs://${own}`);
  await target.write('/elsewhere', textUpload('x'));
  await target.write('/here', textUpload('x'));
  assert.deepEqual(seen, {
    other: undefined,
    own: `Basic ${Buffer.from('u:se cret').toString('base64')}`,
  });
  await target.close();
});

test('a server that is no WebHDFS is told from a file that is missing', async (t) => {
  const host = await serverOf(t, (_, response) => response.writeHead(404).end('<html>Not found</html>'));
  const store = new WebHdfsStore(`webhdfs://${host}`);
  await assert.rejects(store.stampOf('/done'), {
    code: 'SRV_REMOTE_NOT_FOUND',
    message: /404, not JSON: .*html/,
  });
  const target = new WebHdfsTarget(`webhdfs://${host}`);
  await assert.rejects(target.read('/done'), { message: /not JSON/ });
  await store.close();
  await target.close();
});

test('a page where an answer was expected is no success', async (t) => {
  const host = await serverOf(t, (_, response) => response.end('<html>Sign in</html>'));
  const target = new WebHdfsTarget(`webhdfs://${host}`);
  await assert.rejects(target.write('/x', textUpload('x')), {
    message: /CREATE was answered with 200, not JSON/,
  });
  await assert.rejects(target.removeLock('/x'), { message: /DELETE was answered with 200, not JSON/ });
  await target.close();
});

test('an @ in a password is no end of it', () => {
  assert.equal(new WebHdfsClient('webhdfs://u:p@ssw0rd@name:9870', '').label, 'webhdfs://name:9870');
  assert.throws(
    () => new WebHdfsClient('webhdfs://u:p@ss@na me', ''),
    (error: Error) => !/p@ss|:p@/.test(error.message),
  );
});

test('a client that was given up asks nothing more', async (t) => {
  const host = await serverOf(t, () => undefined);
  const client = new WebHdfsClient(`webhdfs://${host}`, '');
  const request = { method: 'GET', path: '/x', query: { op: 'OPEN' }, signal: undefined } as const;
  const hanging = assert.rejects(client.send(request), { code: 'SRV_REMOTE_UNAVAILABLE' });
  setTimeout(() => client.close(), 50);
  await hanging;
  await assert.rejects(client.send(request), { code: 'SRV_CANCELLED' });
});
