import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { readS3Address } from '../../src/remote/s3-place.js';
import { S3Store, type S3StoreOptions } from '../../src/remote/s3-store.js';
import type { S3Upload } from '../../src/remote/s3-upload.js';
import { type S3Server, startS3Server } from '../support/s3-server.js';

const root = mkdtempSync(join(tmpdir(), 's3-store-'));
let server: S3Server;
const opened: S3Store[] = [];

before(async () => {
  server = await startS3Server();
});
after(async () => {
  for (const store of opened) await store.close();
  await server.close();
  rmSync(root, { recursive: true });
});

function open(address: string, env: object = {}, options: S3StoreOptions = {}): S3Store {
  const store = new S3Store(readS3Address(address, { ...server.env, ...env }), options);
  opened.push(store);
  return store;
}

function upload(content: string | Buffer, options: Partial<S3Upload> = {}): S3Upload {
  const bytes = Buffer.from(content);
  return {
    body: {
      bytes: bytes.byteLength,
      chunks: async function* () {
        for (let at = 0; at < bytes.byteLength; at += 1 << 20) yield bytes.subarray(at, at + (1 << 20));
      },
    },
    sha256: createHash('sha256').update(bytes).digest('hex'),
    ...options,
  };
}

const failsWith =
  (code: string, ...texts: (string | RegExp)[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof ServingError, String(error));
    assert.equal(error.code, code, error.message);
    for (const text of texts) {
      assert.ok(
        typeof text === 'string' ? error.message.includes(text) : text.test(error.message),
        `${text}: ${error.message}`,
      );
    }
    assert.ok(!error.message.includes(server.env.AWS_SECRET_ACCESS_KEY!), error.message);
    assert.ok(!error.message.includes(server.env.AWS_ACCESS_KEY_ID!), error.message);
    return true;
  };

describe('a bucket of a server that checks signatures', () => {
  test('gives back what was put there, names with odd characters too', async () => {
    const store = open('s3://models/odd');
    const names = ["a b+ü'()*!~%2F&=?#.bin", 'ordinary', '日本/深い/モデル.onnx'];
    for (const name of names) await store.put(`/${name}`, upload(name));
    const got = await store.fetch('/', join(root, 'odd'));
    assert.deepEqual([got.kind, got.files], ['directory', names.length]);
    for (const name of names) assert.equal(readFileSync(join(root, 'odd', name), 'utf8'), name);
    assert.deepEqual(
      (await store.list('/'))?.map(({ name, isDirectory }) => [name, isDirectory]).toSorted(),
      [
        [names[0], false],
        ['ordinary', false],
        ['日本', true],
      ].toSorted(),
    );
    assert.deepEqual((await store.listAll('/')).toSorted(), names.toSorted());
  });

  test('lists directories page by page', async () => {
    const writer = open('s3://models/pages');
    for (let index = 0; index < 7; index++) await writer.put(`/part-${index}`, upload(String(index)));
    await writer.put('/below/file', upload('x'));
    const store = open('s3://models/pages', {}, { pageSize: 2 });
    assert.equal((await store.list('/'))?.length, 8);
    assert.equal((await store.listAll('/')).length, 8);
    assert.equal((await store.fetch('/', join(root, 'pages'))).files, 8);
  });

  test('stamps change with what they are of, and only then', async () => {
    const store = open('s3://models/stamps');
    assert.equal(await store.stampOf('/one'), undefined);
    assert.equal(await store.stampOf('/'), undefined);
    assert.equal(await store.list('/'), undefined);
    await store.put('/one', upload('1'));
    const [file, tree] = [await store.stampOf('/one'), await store.stampOf('/')];
    assert.deepEqual([await store.stampOf('/one'), await store.stampOf('/')], [file, tree]);
    await store.put('/one', upload('2'));
    assert.notDeepEqual(await store.stampOf('/one'), file);
    assert.notDeepEqual(await store.stampOf('/'), tree);
    await store.remove('/one');
    await store.remove('/one');
    assert.equal(await store.stampOf('/one'), undefined);
  });

  test('takes large objects in parts, and gives the digest of the whole', async () => {
    const store = open('s3://models/large');
    const bytes = Buffer.alloc((11 << 20) + 5, 'onnx');
    await store.put('/model', upload(bytes, { partBytes: 5 << 20 }));
    await store.fetch('/model', join(root, 'large'));
    assert.deepEqual(readFileSync(join(root, 'large')), bytes);
    // The same bytes under a digest that is not theirs.
    await store.put('/lie', upload(bytes, { partBytes: 5 << 20, sha256: '0'.repeat(64) }));
    await assert.rejects(
      store.fetch('/lie', join(root, 'lie')),
      failsWith('SRV_REMOTE_DAMAGED', 'x-amz-meta-sha256', '/lie'),
    );
  });

  test('a body that ends too early leaves what was there', async () => {
    const store = open('s3://models/short');
    await store.put('/model', upload('old'));
    const { body, sha256 } = upload(Buffer.alloc(12 << 20));
    await assert.rejects(
      store.put('/model', { body: { ...body, bytes: 13 << 20 }, sha256, partBytes: 5 << 20 }),
      failsWith('SRV_IO', 'expected 13631488 bytes'),
    );
    assert.equal((await store.readSmall('/model'))?.bytes.toString(), 'old');
  });

  test('conditions: only if absent, only if unchanged', async () => {
    const store = open('s3://models/conditions');
    await store.put('/lock', upload('1', { ifAbsent: true }));
    await assert.rejects(
      store.put('/lock', upload('2', { ifAbsent: true })),
      failsWith('SRV_REMOTE_CHANGED', 's3://models/conditions/lock', '412 PreconditionFailed'),
    );
    const { etag } = (await store.readSmall('/lock'))!;
    await store.put('/lock', upload('3', { ifEtag: etag }));
    await assert.rejects(store.put('/lock', upload('4', { ifEtag: etag })), failsWith('SRV_REMOTE_CHANGED'));
    assert.equal((await store.readSmall('/lock'))?.bytes.toString(), '3');
    assert.equal(await store.readSmall('/none'), undefined);
  });

  test('refusals name bucket, key, status and the code of S3, and no secret', async () => {
    await assert.rejects(
      open('s3://models/a', { AWS_SECRET_ACCESS_KEY: 'not-the-secret' }).readSmall('/key'),
      failsWith('SRV_REMOTE_REFUSED', 's3://models/a/key', '403 SignatureDoesNotMatch'),
    );
    await assert.rejects(
      open('s3://models/a', { AWS_ACCESS_KEY_ID: 'AKIANOBODY' }).list('/'),
      failsWith('SRV_REMOTE_REFUSED', 's3://models/a/: GET', '403 InvalidAccessKeyId'),
    );
    await assert.rejects(
      open('s3://no-such-bucket/a').fetch('/key', join(root, 'none')),
      failsWith('SRV_REMOTE_NOT_FOUND', 's3://no-such-bucket', '404 NoSuchBucket'),
    );
    await assert.rejects(
      open('s3://models/a').fetch('/no-such-key', join(root, 'none')),
      failsWith('SRV_REMOTE_NOT_FOUND', '/no-such-key is not there'),
    );
    await assert.rejects(
      open('s3://models').put('/a/../b', upload('x')),
      failsWith('SRV_BAD_CONFIG', 's3://models/a/../b'),
    );
  });

  test('oss addresses sign with the variables of OSS', async () => {
    const store = open('oss://models/oss', {
      AWS_ACCESS_KEY_ID: '',
      AWS_SECRET_ACCESS_KEY: '',
      OSS_ENDPOINT: server.endpoint,
      OSS_REGION: 'us-east-1',
      OSS_ACCESS_KEY_ID: server.env.AWS_ACCESS_KEY_ID,
      OSS_ACCESS_KEY_SECRET: server.env.AWS_SECRET_ACCESS_KEY,
    });
    await store.put('/model', upload('bytes'));
    assert.equal((await store.readSmall('/model'))?.bytes.toString(), 'bytes');
    assert.equal(store.label, 'oss://models/oss');
  });
});

describe('a server that misbehaves', () => {
  async function withServer(answer: RequestListener, body: (env: object) => Promise<void>): Promise<void> {
    const http = createServer(answer).listen(0, '127.0.0.1');
    await new Promise((done) => http.once('listening', done));
    try {
      await body({ AWS_ENDPOINT_URL_S3: `http://127.0.0.1:${(http.address() as AddressInfo).port}` });
    } finally {
      http.closeAllConnections();
      http.close();
    }
  }
  const pauses: number[] = [];
  const options: S3StoreOptions = { pause: async (ms) => void pauses.push(ms) };

  test('busy and broken answers are asked for again, with growing pauses, body and all', async () => {
    const bodies: string[] = [];
    pauses.length = 0;
    await withServer(
      async (request, reply) => {
        let body = '';
        for await (const chunk of request) body += chunk;
        bodies.push(body);
        if (bodies.length === 2) return void reply.destroy();
        reply.statusCode = bodies.length < 4 ? 503 : 200;
        reply.end();
      },
      (env) => open('s3://models', env, options).put('/key', upload('content')),
    );
    assert.deepEqual(bodies, ['content', 'content', 'content', 'content']);
    assert.deepEqual(pauses, [200, 400, 800]);
  });

  test('it is given up after four tries, with the status', async () => {
    await withServer(
      (_, reply) => {
        reply.writeHead(503, { 'content-type': 'application/xml' });
        reply.end('<Error><Code>SlowDown</Code><Message>Please\n reduce it</Message></Error>');
      },
      (env) =>
        assert.rejects(
          open('s3://models', env, options).readSmall('/key'),
          failsWith('SRV_REMOTE_UNAVAILABLE', 's3://models/key', '503 SlowDown: Please reduce it.'),
        ),
    );
  });

  test('a secret that a server repeats is masked', async () => {
    await withServer(
      (_, reply) => {
        const { AWS_SECRET_ACCESS_KEY: secret, AWS_ACCESS_KEY_ID: id } = server.env;
        reply.writeHead(403);
        reply.end(`<Error><Code>AccessDenied</Code><Message>${id} and ${secret}</Message></Error>`);
      },
      (env) =>
        assert.rejects(
          open('s3://models', env).readSmall('/key'),
          failsWith('SRV_REMOTE_REFUSED', '*** and ***'),
        ),
    );
  });

  test('the region of the bucket is named where another one was asked', async () => {
    await withServer(
      (_, reply) => {
        reply.writeHead(301, { 'x-amz-bucket-region': 'eu-west-1', location: 'http://127.0.0.1:1/' });
        reply.end('<Error><Code>PermanentRedirect</Code></Error>');
      },
      (env) =>
        assert.rejects(
          open('s3://models', env).readSmall('/key'),
          failsWith('SRV_REMOTE_REFUSED', '301 PermanentRedirect', 'the region eu-west-1', 'set AWS_REGION'),
        ),
    );
  });

  test('what is no listing is refused, as is one that does not say where it goes on', async () => {
    for (const [text, said] of [
      ['<html>sign in</html>', 'expected a document ListBucketResult, got html'],
      ['hello', 'got "hello"'],
      ['<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>', 'does not say where'],
    ] as const) {
      await withServer(
        (_, reply) => void reply.end(text),
        (env) => assert.rejects(open('s3://models', env).list('/'), failsWith('SRV_REMOTE_DAMAGED', said)),
      );
    }
  });

  test('a listing with names that lead out of a directory is refused', async () => {
    await withServer(
      (request, reply) => {
        if (!request.url?.includes('list-type')) return void reply.writeHead(404).end();
        reply.end(
          '<ListBucketResult><Contents><Key>a/../../x</Key><Size>1</Size></Contents></ListBucketResult>',
        );
      },
      (env) =>
        assert.rejects(
          open('s3://models', env).fetch('/a', join(root, 'out')),
          failsWith('SRV_REMOTE_DAMAGED', 'expected names of files'),
        ),
    );
  });
});
