import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { textUpload } from '../../src/publish/publish-target.js';
import { readS3Address } from '../../src/remote/s3-place.js';
import { S3Store } from '../../src/remote/s3-store.js';
import { fetchFile } from '../../src/warmup/remote-file.js';
import { type S3Server, startS3Server } from '../support/s3-server.js';

let server: S3Server;
before(async () => {
  server = await startS3Server();
});
after(() => server.close());

test('a file of requests may lie in a bucket', async () => {
  const store = new S3Store(readS3Address('s3://models', server.env));
  await store.put('/warm-up/requests one.jsonl', textUpload('{"inputs":[]}\n'));
  await store.close();
  const options = { timeoutMs: 20_000, maxBytes: 100, env: server.env };
  const { bytes } = await fetchFile('s3://models/warm-up/requests one.jsonl', options);
  assert.equal(bytes.toString(), '{"inputs":[]}\n');
  for (const [place, limits, said] of [
    ['s3://models/none', {}, 's3://models/none could not be fetched: it is not there'],
    ['s3://models/warm-up/requests one.jsonl', { maxBytes: 3 }, 'at most 3 bytes'],
    ['s3://other/none', { env: { ...server.env, AWS_SECRET_ACCESS_KEY: 'wrong' } }, '403'],
  ] as const) {
    await assert.rejects(fetchFile(place, { ...options, ...limits }), (error) => {
      assert.ok(error instanceof ServingError && error.code === 'SRV_IO', String(error));
      assert.ok(error.message.includes(said), error.message);
      return true;
    });
  }
});
