import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { emptySha256, encodeS3Path, encodeS3Query, signS3Request } from '../../src/remote/s3-signature.js';

/** The credentials, the moment and the bucket of the examples in the S3 reference, "Signature Calculations". */
const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};
const place = { region: 'us-east-1', at: new Date('2013-05-24T00:00:00.000Z') };
const host = 'https://examplebucket.s3.amazonaws.com';

const published = [
  {
    what: 'GET object with a range',
    request: {
      method: 'GET',
      url: new URL(`${host}/test.txt`),
      headers: { range: 'bytes=0-9' },
      bodySha256: emptySha256,
    },
    signature: 'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  },
  {
    what: 'PUT object with an odd name',
    request: {
      method: 'PUT',
      url: new URL(`${host}/${encodeS3Path('test$file.text')}`),
      headers: { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' },
      bodySha256: createHash('sha256').update('Welcome to Amazon S3.').digest('hex'),
    },
    signature: '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  },
  {
    what: 'GET bucket lifecycle',
    request: { method: 'GET', url: new URL(`${host}/?lifecycle=`), headers: {}, bodySha256: emptySha256 },
    signature: 'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  },
  {
    what: 'GET bucket, listed by prefix',
    request: {
      method: 'GET',
      url: new URL(`${host}/?${encodeS3Query({ prefix: 'J', 'max-keys': '2' })}`),
      headers: {},
      bodySha256: emptySha256,
    },
    signature: '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  },
];

for (const { what, request, signature } of published) {
  test(`the published example "${what}" gets the published signature`, () => {
    const { authorization } = signS3Request(request, credentials, place);
    assert.equal(/Signature=([0-9a-f]{64})$/.exec(authorization!)?.[1], signature);
    assert.match(authorization!, /Credential=AKIAIOSFODNN7EXAMPLE\/20130524\/us-east-1\/s3\/aws4_request,/);
  });
}

test('a session token is sent and signed', () => {
  const { request } = published[0]!;
  const signed = signS3Request(request, { ...credentials, sessionToken: 'token' }, place);
  assert.equal(signed['x-amz-security-token'], 'token');
  assert.match(signed.authorization!, /SignedHeaders=[^,]*;x-amz-security-token,/);
});

test('paths and queries are encoded byte for byte as signatures ask, and an address keeps them so', () => {
  const key = 'a b/ü+*!\'()~%2F/[x]{y}|^`"<>\\';
  const encoded = encodeS3Path(key);
  assert.equal(encoded, 'a%20b/%C3%BC%2B%2A%21%27%28%29~%252F/%5Bx%5D%7By%7D%7C%5E%60%22%3C%3E%5C');
  assert.equal(new URL(`http://host/${encoded}`).pathname, `/${encoded}`);
  const query = encodeS3Query({ prefix: 'a b/ü', 'list-type': '2', delimiter: '/', a: "'" });
  assert.equal(query, 'a=%27&delimiter=%2F&list-type=2&prefix=a%20b%2F%C3%BC');
  assert.equal(new URL(`http://host/?${query}`).search, `?${query}`);
});
