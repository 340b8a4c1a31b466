import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { HttpTarget } from '../../src/publish/http-target.js';
import { textUpload } from '../../src/publish/publish-target.js';
import { type PutServer, startPutServer } from '../support/put-server.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

const root = makeDirectory('http-target');
let server: PutServer;
before(async () => {
  mkdirSync(join(root, 'files'));
  server = await startPutServer(join(root, 'files'));
});
beforeEach(() => {
  server.override = () => false;
  server.requests.length = 0;
});
after(async () => {
  await server.close();
  removeDirectory(root);
});

async function withTarget<T>(address: string, use: (target: HttpTarget) => Promise<T>): Promise<T> {
  const target = new HttpTarget(address);
  try {
    return await use(target);
  } finally {
    await target.close();
  }
}

for (const [status, code, said] of [
  [401, 'SRV_REMOTE_REFUSED', 'not allowed'],
  [403, 'SRV_REMOTE_REFUSED', 'not allowed'],
  [405, 'SRV_REMOTE_REFUSED', 'does not take PUT'],
  [413, 'SRV_REMOTE_TOO_LARGE', 'too large'],
  [507, 'SRV_REMOTE_UNAVAILABLE', 'its disk is full'],
  [500, 'SRV_REMOTE_UNAVAILABLE', 'answered with 500'],
] as const) {
  test(`${status} for a PUT is ${code}, and no password is told`, async () => {
    server.override = (request, response) => {
      if (request.method !== 'PUT') return false;
      response.writeHead(status).end();
      return true;
    };
    const address = server.address.replace('//', '//user:pass-word@');
    await withTarget(`${address}/x?sig=secret`, (target) =>
      assert.rejects(target.write('/a', textUpload('b')), (error) => {
        assert.ok(error instanceof ServingError, String(error));
        assert.equal(error.code, code, error.message);
        assert.ok(error.message.includes(said) && error.message.includes('/x/'), error.message);
        assert.doesNotMatch(error.message, /pass-word|secret/);
        return true;
      }),
    );
  });
}

test('credentials and a signature in the address go with every request', async () => {
  const seen = new Set<string>();
  server.override = (request) => {
    seen.add(`${request.headers.authorization} ${new URL(request.url!, 'http://x').search}`);
    return false;
  };
  const address = server.address.replace('//', '//user:p%40ss@');
  await withTarget(`${address}/?sv=1&sig=a%2Bb`, (target) => target.write('/a', textUpload('b')));
  const basic = Buffer.from('user:p@ss').toString('base64');
  assert.deepEqual([...seen], [`Basic ${basic} ?sv=1&sig=a%2Bb`]);
});

test('a server that cannot rename is noticed once, and nothing of that is left', async () => {
  await withTarget(server.address, async (target) => {
    await target.write('/plain/one', textUpload('1'));
    await target.write('/plain/two', textUpload('2'));
  });
  assert.equal(server.requests.filter((one) => one.startsWith('MOVE')).length, 1);
  assert.deepEqual(
    ['one', 'two'].map((name) => readFileSync(join(root, 'files/plain', name), 'utf8')),
    ['1', '2'],
  );
  assert.deepEqual(readdirSync(join(root, 'files/plain')).toSorted(), ['one', 'two']);
});

test('files that vanished from a directory are removed by the list of the one before', async () => {
  await withTarget(server.address, async (target) => {
    const sums = (names: readonly string[]) => ({
      path: 'SHA256SUMS',
      ...textUpload(names.map((name) => `${'0'.repeat(64)}  ${name}\n`).join('')),
    });
    const file = (path: string) => ({ path, ...textUpload(path) });
    await target.writeDirectory('/tree', [file('a'), file('b/c'), sums(['a', 'b/c', '../outside'])]);
    await target.writeDirectory('/tree', [file('a'), sums(['a'])]);
  });
  assert.ok(existsSync(join(root, 'files/tree/a')));
  assert.ok(!existsSync(join(root, 'files/tree/b/c')));
  assert.ok(!server.requests.includes('DELETE /outside'));
});

test('a server that is not there is named', async () => {
  await withTarget('http://127.0.0.1:1', (target) =>
    assert.rejects(
      target.write('/a', textUpload('b')),
      (error) => error instanceof ServingError && error.code === 'SRV_REMOTE_UNAVAILABLE',
    ),
  );
});
