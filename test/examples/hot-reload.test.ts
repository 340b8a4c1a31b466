import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { drawSale, randomNumbers } from '../../examples/hot-reload/houses.js';
import { fitPrices, priceOf } from '../../examples/hot-reload/price-model.js';

const watch = fileURLToPath(new URL('../../examples/hot-reload/watch.js', import.meta.url));

test('the price model finds what houses sell for, but for the spread', () => {
  const random = randomNumbers(3);
  const weights = fitPrices(Array.from({ length: 1000 }, () => drawSale(random, 0)));
  const errors = Array.from({ length: 1000 }, () => {
    const { house, price } = drawSale(random, 0);
    return Math.abs(priceOf(weights, house) / price - 1);
  });
  assert.ok(errors.reduce((sum, error) => sum + error, 0) / errors.length < 0.06);
});

test('versions are trained, published, fetched and served one after the other, and no request fails', () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [watch, '--every', '1', '--rate', '20', '--versions', '3'],
    { encoding: 'utf8', timeout: 240_000 },
  );
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /\n\d+ requests, 0 failures, [3-9]\d* versions answered\n$/);
  const seconds = stdout.split('\n').filter((line) => /^ +\d+ +\d+ +\d+ +[\d, ]+ +[\d.]+ %$/.test(line));
  assert.ok(seconds.length > 0, stdout);
});
