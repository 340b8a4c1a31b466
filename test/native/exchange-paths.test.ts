import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ServingError } from '../../src/errors.js';
import { exchangePaths } from '../../src/native/binding.js';

let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-exchange-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

test('two directories change places, whatever is in them', () => {
  const [a, b] = [join(directory, 'a'), join(directory, 'b')];
  for (const place of [a, b]) {
    mkdirSync(place);
    writeFileSync(join(place, place.at(-1)!), '');
  }
  // Where the file system cannot, nothing is done: both are right, half an exchange is not.
  const isExchanged = exchangePaths(a, b);
  assert.deepEqual(readdirSync(a), [isExchanged ? 'b' : 'a']);
  assert.deepEqual(readdirSync(b), [isExchanged ? 'a' : 'b']);
});

test('a missing one is refused, and the other one stays', () => {
  const file = join(directory, 'file');
  writeFileSync(file, 'x');
  assert.throws(
    () => exchangePaths(file, join(directory, 'missing')),
    (error) => {
      assert.ok(error instanceof ServingError);
      assert.equal(error.code, 'SRV_IO');
      assert.match(error.message, /cannot exchange \S+file and \S+missing: No such file or directory/);
      return true;
    },
  );
  assert.equal(readFileSync(file, 'utf8'), 'x');
});
