/** Files in the HDFS of a test. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import type { HdfsPeer } from './peers.js';
import type { StoreUnderTest } from './store-contract.js';

/** Writes into HDFS, which is done in two requests: the first says where to. */
export function putIntoHdfs(hdfs: HdfsPeer, base: string): StoreUnderTest['put'] {
  return async (path, content) => {
    const place = `${base}/${path}`.split('/').map(encodeURIComponent).join('/');
    const url = `http://${hdfs.httpHost}/webhdfs/v1${place}?op=CREATE&overwrite=true&user.name=${superuser()}`;
    const first = await sendPut(url);
    assert.equal(first.status, 307);
    assert.equal((await sendPut(first.location, Buffer.from(content))).status, 201);
  };
}

/** Sends a PUT without following redirects. */
export function sendPut(url: string, body = Buffer.alloc(0)): Promise<{ status: number; location: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-length': body.length, 'content-type': 'application/octet-stream' };
    const sent = request(url, { method: 'PUT', headers }, (response) => {
      const { statusCode: status = 0, headers: answered } = response;
      response.resume().on('end', () => resolve({ status, location: answered.location ?? '' }));
    });
    sent.on('error', reject).end(body);
  });
}

/** The cluster belongs to whoever started it. */
export function superuser(): string {
  return process.getuid?.() === 0 ? 'root' : (process.env.USER ?? '');
}
