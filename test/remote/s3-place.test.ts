import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { readS3Address } from '../../src/remote/s3-place.js';

const keys = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' };

test('without an endpoint of its own a bucket is at AWS, in the region, as a part of the host', () => {
  const place = readS3Address('s3://models/ctr/1', {
    ...keys,
    AWS_REGION: 'eu-west-1',
    AWS_SESSION_TOKEN: 't',
  });
  assert.equal(place.endpoint.href, 'https://s3.eu-west-1.amazonaws.com/');
  assert.deepEqual(
    [place.bucket, place.path, place.region, place.isVirtualHost],
    ['models', '/ctr/1', 'eu-west-1', true],
  );
  assert.deepEqual(place.credentials, { accessKeyId: 'id', secretAccessKey: 'secret', sessionToken: 't' });
  assert.equal(readS3Address('s3://models', { AWS_DEFAULT_REGION: 'r' }).region, 'r');
  assert.equal(readS3Address('s3://models', {}).region, 'us-east-1');
  assert.equal(readS3Address('s3://my.models', {}).isVirtualHost, false);
});

test('an endpoint of its own takes the bucket in the path, unless told otherwise', () => {
  const own = { AWS_ENDPOINT_URL: 'http://minio:9000' };
  assert.equal(readS3Address('s3://models', own).isVirtualHost, false);
  assert.equal(
    readS3Address('s3://models', { ...own, ONNX_SERVING_S3_ADDRESSING: 'virtual' }).isVirtualHost,
    true,
  );
  const both = { ...own, AWS_ENDPOINT_URL_S3: 'http://s3:1' };
  assert.equal(readS3Address('s3://models', both).endpoint.host, 's3:1');
});

test('oss goes to the S3 endpoint of its region, as a part of the host', () => {
  const place = readS3Address('oss://models/a', { OSS_REGION: 'cn-beijing' });
  assert.equal(place.endpoint.href, 'https://s3.oss-cn-beijing.aliyuncs.com/');
  assert.deepEqual([place.isVirtualHost, place.credentials, place.label], [true, undefined, 'oss://models']);
  const own = readS3Address('oss://models', { OSS_ENDPOINT: 'oss-cn-shanghai.aliyuncs.com' });
  assert.deepEqual([own.endpoint.href, own.isVirtualHost], ['https://oss-cn-shanghai.aliyuncs.com/', true]);
});

for (const [address, env, said] of [
  ['s3:models', {}, 'expected s3://bucket/path'],
  ['s3://user:word@models/a', {}, '"s3://***@models/a"'],
  ['s3://aa/b', { AWS_ACCESS_KEY_ID: 'id' }, 'AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not'],
  [
    'oss://aa/b',
    { OSS_ACCESS_KEY_SECRET: 's' },
    'OSS_ACCESS_KEY_SECRET is set, but OSS_ACCESS_KEY_ID is not',
  ],
  ['s3://models', { AWS_ENDPOINT_URL: 'ftp://host' }, 'AWS_ENDPOINT_URL: expected an address'],
  ['s3://models', { ONNX_SERVING_S3_ADDRESSING: 'host' }, 'expected virtual or path, got "host"'],
] as const) {
  test(`a place that cannot be is refused: ${said}`, () => {
    assert.throws(
      () => readS3Address(address, env),
      (error) =>
        error instanceof ServingError && error.code === 'SRV_BAD_CONFIG' && error.message.includes(said),
    );
  });
}
