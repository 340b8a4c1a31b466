import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryState } from '../../src/lifecycle/state-file.js';
import { RequestedState } from '../../src/model/requested-state.js';
import type { Logger } from '../../src/observe/logger.js';
import { readLoadOverride } from '../../src/repository/load-override.js';

function open(store: MemoryState): { readonly state: RequestedState; readonly errors: readonly string[] } {
  const errors: string[] = [];
  const logger = { error: (text: string) => errors.push(text) } as unknown as Logger;
  return { state: new RequestedState(store, logger), errors };
}

test('what was asked for is there again, a model that made room no more among those that are loaded', () => {
  const store = new MemoryState();
  const { state } = open(store);
  for (const name of ['a', 'b', 'c', 'a']) state.noteLoaded(name);
  state.noteAsleep('b');
  state.rejectedOf('c').add('content');
  const override = readLoadOverride('{"backend": "onnxruntime", "max_batch_size": 2}', 'c');
  state.overrides.set('c', override);
  for (const content of ['one', 'two', 'one']) state.noteServed('c', content);
  assert.equal(state.noteServed('c', 'one'), false, 'nothing new');
  state.keep();
  const again = open(store);
  assert.deepEqual(again.state.servedOf('c'), ['one', 'two']);
  assert.deepEqual([...again.state.loaded], ['c', 'a']);
  assert.deepEqual([...again.state.asleep], ['b']);
  assert.deepEqual([...again.state.rejectedOf('c')], ['content']);
  assert.deepEqual(again.state.overrides.get('c'), override);
  assert.deepEqual(again.errors, []);
  again.state.forget('c');
  assert.deepEqual([...open(store).state.loaded], ['a']);
  assert.deepEqual(open(store).state.servedOf('c'), []);
});

test('a state that cannot be read is told, and nothing was asked for', () => {
  const spoilt: readonly [unknown, RegExp][] = [
    [[], /models of the state: expected an object/],
    [{ unloaded: 'ranker' }, /models\.unloaded of the state: expected a list/],
    [{ rejected: { ranker: 3 } }, /models\.rejected\.ranker of the state/],
    [{ overrides: { ranker: {} } }, /models\.overrides\.ranker\.settings of the state: missing/],
    [{ loaded: [7] }, /models\.loaded\[0\] of the state/],
  ];
  for (const [value, said] of spoilt) {
    const store = new MemoryState();
    store.set('models', value);
    const { state, errors } = open(store);
    assert.equal(errors.length, 1);
    assert.match(errors[0]!, said);
    assert.deepEqual([...state.unloaded, ...state.loaded, ...state.overrides.keys()], []);
  }
});
