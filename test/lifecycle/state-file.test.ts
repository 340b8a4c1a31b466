import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { StateFile } from '../../src/lifecycle/state-file.js';
import { type Logger, silentLogger } from '../../src/observe/logger.js';
import { makeDirectory, removeDirectory } from '../support/test-models.js';

function fixture(t: TestContext): { path: string; directory: string; logger: Logger; errors: string[] } {
  const directory = makeDirectory('state');
  t.after(() => removeDirectory(directory));
  const errors: string[] = [];
  const logger = { ...silentLogger(), error: (text: string) => void errors.push(text) } as never as Logger;
  return { path: join(directory, 'deep/state.json'), directory, logger, errors };
}

test('what is set is there for the next process, part by part', (t) => {
  const { path, logger, errors } = fixture(t);
  const first = new StateFile(path, logger);
  assert.equal(first.get('models'), undefined);
  assert.equal(first.get('toString'), undefined);
  first.set('models', { unloaded: ['a'] });
  first.set('labels', [1]);
  first.set('models', { unloaded: ['a', 'b'] });
  const second = new StateFile(path, logger);
  assert.deepEqual(second.get('models'), { unloaded: ['a', 'b'] });
  assert.deepEqual(second.get('labels'), [1]);
  second.set('labels', undefined);
  assert.equal(new StateFile(path, logger).get('labels'), undefined);
  assert.deepEqual(readdirSync(join(path, '..')), ['state.json'], 'nothing half written is left');
  assert.deepEqual(errors, []);
});

test('a file that is damaged is told and taken for an empty one', (t) => {
  const { path, logger, errors } = fixture(t);
  new StateFile(path, logger).set('models', 1);
  for (const text of ['{"models": ', '[1, 2]', 'null', '']) {
    writeFileSync(path, text);
    const state = new StateFile(path, logger);
    assert.equal(state.get('models'), undefined);
    assert.match(errors.pop()!, /the state of before is lost: .*state\.json/);
    state.set('models', 2);
    assert.equal(JSON.parse(readFileSync(path, 'utf8')).models, 2);
  }
});

test('a place that cannot be written is told, and what was set holds until the end', (t) => {
  const { directory, logger, errors } = fixture(t);
  mkdirSync(join(directory, 'taken'));
  writeFileSync(join(directory, 'file'), '');
  for (const path of [join(directory, 'taken'), join(directory, 'file/state.json')]) {
    const state = new StateFile(path, logger);
    assert.match(errors.pop()!, /the state of before is lost/);
    state.set('models', 3);
    assert.equal(state.get('models'), 3);
    assert.match(errors.pop()!, /the state is not kept over a restart/);
  }
});
