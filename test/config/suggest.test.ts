import assert from 'node:assert/strict';
import { test } from 'node:test';
import { didYouMean, editDistance, nearestName } from '../../src/config/suggest.js';

test('the nearest name is found over case, dashes and underscores', () => {
  const known = ['maxBatchSize', 'maxQueueSize', 'port'];
  assert.equal(nearestName('max_batch_size', known), 'maxBatchSize');
  assert.equal(nearestName('max-queue-sise', known), 'maxQueueSize');
  assert.equal(nearestName('prot', known), 'port');
});

test('a beginning finds the whole name', () => {
  assert.equal(nearestName('max_batch', ['max_queue_delay_us', 'max_batch_size']), 'max_batch_size');
  assert.equal(nearestName('max', ['max_queue_delay_us']), undefined);
});

test('a name that is near nothing suggests nothing', () => {
  assert.equal(nearestName('colour', ['port', 'host', 'thread']), undefined);
  assert.equal(didYouMean('colour', ['port']), '');
  assert.equal(nearestName('x', []), undefined);
});

test('the distance counts insertions, deletions, replacements and swaps once each', () => {
  assert.equal(editDistance('thread', 'threads'), 1);
  assert.equal(editDistance('prot', 'port'), 1);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(editDistance('same', 'same'), 0);
});
