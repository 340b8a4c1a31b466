import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HttpReply, ReplyReader } from '../../src/loadtest/reply-reader.js';

/** Reads a reply that comes in pieces of the given size. */
function read(text: string, pieceBytes: number): HttpReply | undefined {
  const reader = new ReplyReader();
  reader.begin(true);
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const reply = reader.push(bytes.subarray(at, at + pieceBytes));
    if (reply) {
      assert.ok(at + pieceBytes >= bytes.length, 'ended before the last piece');
      return reply;
    }
  }
  return reader.end();
}

const everyPiece = [1, 2, 3, 7, 1000];

test('a reply with a length is read whatever the pieces', () => {
  for (const pieceBytes of everyPiece) {
    assert.deepEqual(read('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', pieceBytes), {
      status: 200,
      bytes: 5,
      text: 'hello',
      isKept: true,
    });
  }
});

test('a chunked reply is read whatever the pieces, trailers included', () => {
  const text =
    'HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nt: 1\r\n\r\n';
  for (const pieceBytes of everyPiece) {
    const reply = read(text, pieceBytes);
    assert.equal(reply?.status, 503);
    assert.equal(reply?.text, 'hello0123456789');
  }
});

test('a reply without a length ends with its connection', () => {
  const reply = read('HTTP/1.1 200 OK\r\n\r\nall of it', 4);
  assert.equal(reply?.text, 'all of it');
  assert.equal(reply?.isKept, false);
});

test('a server that closes is not sent to again, and an interim reply is skipped', () => {
  const text =
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx';
  for (const pieceBytes of everyPiece) {
    assert.deepEqual(read(text, pieceBytes), { status: 200, bytes: 1, text: 'x', isKept: false });
  }
});

test('a reply without a body ends with its head', () => {
  assert.equal(read('HTTP/1.1 204 No Content\r\n\r\n', 1000)?.bytes, 0);
  assert.equal(read('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', 3)?.bytes, 0);
});

test('half a reply is no reply, and other protocols are refused', () => {
  assert.equal(read('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel', 4), undefined);
  assert.throws(() => read('SSH-2.0-OpenSSH\r\n\r\n', 100), /not an HTTP/);
  assert.throws(() => read('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n', 100), /no size/);
  assert.throws(() => read('HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy', 100), /longer than it says/);
});
