import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { openFetchMeter, sizeText } from '../../src/cli/fetch-meter.js';

/** A terminal that keeps what is written on it. */
function terminal(isTTY = true): { stream: NodeJS.WriteStream; text: () => string } {
  let text = '';
  const stream = new PassThrough() as unknown as NodeJS.WriteStream;
  Object.assign(stream, {
    isTTY,
    columns: 120,
    cursorTo: () => true,
    clearLine: () => true,
    moveCursor: () => true,
  });
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return { stream, text: () => text };
}

test('a fetch of known size has a bar on a terminal, one of unknown size has none', () => {
  const { stream, text } = terminal();
  const meter = openFetchMeter(stream);
  assert.ok(meter);
  meter({ files: 1, bytes: 500_000, totalBytes: 2_000_000 });
  assert.match(text(), /fetching \|[^|]+\| 25%, 500\.0 kB of 2\.0 MB/);
  meter(undefined);
  meter({ files: 3, bytes: 500 });
  assert.match(text(), /fetching 500 B, 3 files/);
  meter(undefined);
  meter(undefined);
});

test('a total that grows moves the bar', () => {
  const { stream, text } = terminal();
  const meter = openFetchMeter(stream);
  assert.ok(meter);
  meter({ files: 1, bytes: 500_000, totalBytes: 1_000_000 });
  meter({ files: 2, bytes: 1_000_000, totalBytes: 4_000_000 });
  meter(undefined);
  meter({ files: 2, bytes: 1_000_000, totalBytes: 4_000_000 });
  meter(undefined);
  assert.match(text(), /50%, 500\.0 kB of 1\.0 MB[\s\S]*25%, 1\.0 MB of 4\.0 MB, 2 files/);
});

test('elsewhere than on a terminal there is no meter', () => {
  assert.equal(openFetchMeter(terminal(false).stream), undefined);
});

test('sizes are told in the unit that fits', () => {
  assert.deepEqual([0, 999, 1000, 1_234_567, 5e9, 7e15].map(sizeText), [
    '0 B',
    '999 B',
    '1.0 kB',
    '1.2 MB',
    '5.0 GB',
    '7000.0 TB',
  ]);
});
