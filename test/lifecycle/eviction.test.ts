import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseEvictions } from '../../src/lifecycle/eviction.js';

const model = (name: string, bytes: number, lastUsedAt: number, stays = false) => ({
  name,
  bytes,
  lastUsedAt,
  stays,
});

test('those used longest ago go until the others fit, and those that stay are passed over', () => {
  const models = [model('new', 4, 9), model('old', 3, 1), model('busy', 5, 0, true), model('older', 2, 2)];
  assert.deepEqual(chooseEvictions(models, 14), { names: [], bytesLeft: 14 });
  assert.deepEqual(chooseEvictions(models, 13), { names: ['old'], bytesLeft: 11 });
  assert.deepEqual(chooseEvictions(models, 10), { names: ['old', 'older'], bytesLeft: 9 });
  assert.deepEqual(chooseEvictions(models, 1), { names: ['old', 'older', 'new'], bytesLeft: 5 });
  assert.deepEqual(chooseEvictions([], 0), { names: [], bytesLeft: 0 });
});
