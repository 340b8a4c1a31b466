import assert from 'node:assert/strict';
import { chmodSync, linkSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { changedFile, filePrints } from '../../src/instance/file-print.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

test('a file has changed when its content may have, and not for its rights or another link', (t) => {
  const directory = makeDirectory('file-print');
  t.after(() => removeDirectory(directory));
  const [first, second] = ['a', 'b'].map((name) => join(directory, name)) as [string, string];
  for (const path of [first, second]) writeFileSync(path, 'weights');
  utimesSync(second, 1, 1);
  const prints = filePrints([first, second]);
  chmodSync(second, 0o600);
  linkSync(second, join(directory, 'backup'));
  assert.equal(changedFile(prints), undefined);
  writeFileSync(second, 'WEIGHTS');
  assert.equal(changedFile(prints), second);
  rmSync(first);
  assert.equal(changedFile(prints), first);
  assert.equal(changedFile(filePrints([first])), undefined, 'what was not there has not changed');
});
