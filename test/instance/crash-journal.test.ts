import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { CrashMemory, readCrash } from '../../src/instance/crash-journal.js';

const magic = 0x4a53584f;

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'journal-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** Writes what a process of that identity would have left behind. */
function leave(
  directory: string,
  identity: string,
  crash: { signal: number; thread: number; running: readonly (readonly [thread: number, id: number])[] },
): void {
  const words = new Uint32Array(8 + 2 * 16);
  words.set([magic, 1, crash.signal, crash.thread, 16]);
  crash.running.forEach(([thread, id], slot) => {
    words.set([thread, id], 8 + 2 * slot);
  });
  writeFileSync(join(directory, `${identity}.journal`), new Uint8Array(words.buffer));
  const models = [
    { id: 1, digest: 'aa', name: 'good', version: 1 },
    { id: 2, digest: 'bb', name: 'bad', version: 3 },
  ];
  writeFileSync(
    join(directory, `${identity}.models`),
    models.map((model) => `${JSON.stringify(model)}\n`).join(''),
  );
}

function open(directory: string, identity = 'me'): CrashMemory {
  const memory = new CrashMemory({ directory, identity, isAlive: (name) => name === 'alive' });
  assert.equal(memory.open(), undefined);
  memory.close();
  return memory;
}

describe('the crash memory', () => {
  it('blames the model of the thread that crashed, and after two such ends says why it is not loaded', (t) => {
    const directory = directoryOf(t);
    const crash = {
      signal: 11,
      thread: 70,
      running: [
        [71, 1],
        [70, 2],
      ],
    } as const;
    leave(directory, 'first', crash);
    assert.equal(open(directory).quarantineReason('bb'), undefined);
    leave(directory, 'second', crash);
    const memory = open(directory);
    assert.match(memory.quarantineReason('bb')!, /2 processes ended by signal 11 while they ran it/);
    assert.equal(memory.quarantineReason('aa'), undefined);
    assert.deepEqual(readdirSync(directory), ['quarantine.json']);
  });

  it('blames every model in flight when a thread of the engine crashed', (t) => {
    const directory = directoryOf(t);
    leave(directory, 'x', {
      signal: 8,
      thread: 99,
      running: [
        [71, 1],
        [70, 2],
      ],
    });
    const record = readCrash(join(directory, 'x.journal'), join(directory, 'x.models'));
    assert.deepEqual(
      record?.models.map(({ name }) => name),
      ['good', 'bad'],
    );
  });

  it('blames nobody for a process that was killed from outside, or that ran nothing', (t) => {
    const directory = directoryOf(t);
    leave(directory, 'killed', { signal: 0, thread: 0, running: [[70, 2]] });
    leave(directory, 'elsewhere', { signal: 11, thread: 70, running: [] });
    open(directory);
    assert.deepEqual(readdirSync(directory), []);
  });

  it('leaves the journal of a process that lives alone', (t) => {
    const directory = directoryOf(t);
    leave(directory, 'alive', { signal: 0, thread: 0, running: [[70, 2]] });
    open(directory);
    assert.deepEqual(readdirSync(directory).sort(), ['alive.journal', 'alive.models']);
  });

  it('says why it cannot remember when its directory cannot be made, and stops nothing', (t) => {
    const file = join(directoryOf(t), 'file');
    writeFileSync(file, '');
    const memory = new CrashMemory({ directory: join(file, 'below'), identity: 'me', isAlive: () => false });
    assert.match(memory.open() ?? '', /ENOTDIR|EEXIST/);
    assert.equal(memory.remember({ id: 5, digest: 'cc', name: 'm', version: 1 }), 0);
  });

  it('blames the model of a whole line beside one that a full disk cut', (t) => {
    const directory = directoryOf(t);
    leave(directory, 'full', { signal: 11, thread: 70, running: [[70, 2]] });
    const file = join(directory, 'full.models');
    writeFileSync(file, `{"id":3,"dig\n${readFileSync(file, 'utf8')}`);
    open(directory);
    assert.match(readFileSync(join(directory, 'quarantine.json'), 'utf8'), /"bb"/);
  });

  it('takes a damaged journal or quarantine file for an empty one', (t) => {
    const directory = directoryOf(t);
    writeFileSync(join(directory, 'broken.journal'), 'short');
    writeFileSync(join(directory, 'broken.models'), '');
    writeFileSync(join(directory, 'quarantine.json'), '{"bb": 7, ');
    assert.equal(open(directory).quarantineReason('bb'), undefined);
    assert.equal(readFileSync(join(directory, 'quarantine.json'), 'utf8'), '{"bb": 7, ');
  });
});
