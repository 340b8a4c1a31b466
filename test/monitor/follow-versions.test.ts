/** A monitor that follows the version directories of a remote directory, against a web server of files. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { pino } from 'pino';
import { type LookOutcome, Monitor } from '../../src/monitor/monitor.js';
import type { FetchProgress } from '../../src/remote/remote-store.js';
import { policyIn } from '../../src/repository/layout.js';
import { type VersionPolicy, wantedVersions } from '../../src/repository/version-policy.js';
import { type FileServer, serveFiles } from '../support/file-server.js';
import { ManualClock } from '../support/manual-clock.js';
import { contentOf } from '../support/store-contract.js';
import { until } from '../support/until.js';

let directory: string;
let remote: string;
let local: string;
let server: FileServer;
let lines: string[];
let clock: ManualClock;
let shown: (FetchProgress | undefined)[];
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-versions-'));
  remote = join(directory, 'remote/models/ctr');
  local = join(directory, 'local');
  mkdirSync(remote, { recursive: true });
  server = await serveFiles(join(directory, 'remote'));
  lines = [];
  clock = new ManualClock();
  shown = [];
});
afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(policy?: VersionPolicy): Monitor {
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  return new Monitor(
    {
      generalHost: server.address,
      remotePath: '/models',
      remoteModelName: 'ctr',
      remoteDonefileName: 'ctr/fluid_time_file',
      localPath: local,
      localModelName: 'ctr',
      layout: 'versions',
    },
    {
      logger,
      chooseVersions: async (present) =>
        wantedVersions(present, policy ?? (await policyIn(join(local, 'ctr')))),
      clock,
      onProgress: (progress) => void shown.push(progress),
    },
  );
}

/** Looks when the interval is over. */
async function lookLater(monitor: Monitor): Promise<LookOutcome> {
  await clock.advance(monitor.nextPauseMs);
  return monitor.look();
}

function put(files: Readonly<Record<string, string>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(remote, name, '..'), { recursive: true });
    writeFileSync(join(remote, name), content);
  }
}

const remove = (name: string): void => rmSync(join(remote, name), { recursive: true });
const here = (): Record<string, string> => {
  const files = contentOf(join(local, 'ctr'));
  delete files.fluid_time_file;
  return files;
};
const logged = (): string => lines.join('');

describe('version directories without a done file', () => {
  it('are fetched once they are the same at two looks: the highest, under its number', async () => {
    const monitor = open();
    put({ '3/model.onnx': 'three', '12/model.onnx': 'twel' });
    assert.equal(await monitor.look(), 'incomplete');
    assert.match(
      monitor.absence ?? '',
      /ctr has not been fetched yet: version 12 in .* may still be written/,
    );
    put({ '12/model.onnx': 'twelve', '12/weights': 'more' });
    assert.equal(await lookLater(monitor), 'installed', 'the next lower one was the same');
    assert.deepEqual(here(), { '3/model.onnx': 'three' });
    assert.equal(await monitor.look(), 'incomplete', 'an interval has to lie between the two');
    assert.equal(await lookLater(monitor), 'installed');
    assert.deepEqual(here(), {
      '3/model.onnx': 'three',
      '12/model.onnx': 'twelve',
      '12/weights': 'more',
    });
    assert.equal(monitor.absence, undefined);
    assert.equal(await monitor.look(), 'unchanged');
    assert.equal(await open().look(), 'unchanged', 'a restart fetches nothing');
  });

  it('are fetched at once where _SUCCESS is in them', async () => {
    put({ '1/model.onnx': 'one', '2/model.onnx': 'two', '2/_SUCCESS': '' });
    assert.equal(await open().look(), 'installed');
    assert.deepEqual(Object.keys(here()).toSorted(), ['2/_SUCCESS', '2/model.onnx']);
  });

  it('are fetched again when they are replaced, once they are the same twice, marker or not', async () => {
    const monitor = open();
    put({ '1/model.onnx': 'one', '1/_SUCCESS': '' });
    assert.equal(await monitor.look(), 'installed');
    put({ '1/model.onnx': 'another' });
    assert.equal(await monitor.look(), 'incomplete');
    assert.equal(here()['1/model.onnx'], 'one');
    assert.equal(await lookLater(monitor), 'installed');
    assert.equal(here()['1/model.onnx'], 'another');
  });

  it('bring what lies beside them, and lose what does not lie there any more', async () => {
    const monitor = open();
    put({ '1/model.onnx': 'one', '1/_SUCCESS': '', 'model.json': '{}', 'warmup/a': 'x', '_log/b': 'y' });
    assert.equal(await monitor.look(), 'installed');
    const { 'model.json': settings, 'warmup/a': sample, '_log/b': hidden } = here();
    assert.deepEqual([settings, sample, hidden], ['{}', 'x', undefined]);
    put({ 'model.json': '{"weight":2}' });
    remove('warmup');
    shown = [];
    await monitor.look();
    assert.deepEqual([shown.some((now) => now?.bytes === 12), shown.at(-1)], [true, undefined]);
    assert.deepEqual([here()['model.json'], here()['warmup/a']], ['{"weight":2}', undefined]);
    rmSync(join(local, 'ctr/model.json'));
    await monitor.look();
    assert.equal(here()['model.json'], '{"weight":2}', 'what is missing here is fetched again');
  });

  it('follow a policy: several, all or those that are named', async () => {
    for (const version of [1, 2, 3, 4]) put({ [`${version}/model.onnx`]: String(version) });
    const versions = async (policy: VersionPolicy): Promise<string[]> => {
      rmSync(local, { recursive: true, force: true });
      const monitor = open(policy);
      await monitor.look();
      await lookLater(monitor);
      return Object.keys(here())
        .map((name) => name.split('/')[0]!)
        .toSorted();
    };
    assert.deepEqual(await versions({ kind: 'latest', count: 2 }), ['3', '4']);
    assert.deepEqual(await versions({ kind: 'all' }), ['1', '2', '3', '4']);
    assert.deepEqual(await versions({ kind: 'specific', versions: [2, 9] }), ['2']);
  });

  it('stay as they are while the settings that choose among them cannot be read', async () => {
    const monitor = open();
    put({ '1/model.onnx': '1', '1/_SUCCESS': '', '2/model.onnx': '2', '2/_SUCCESS': '' });
    put({ 'model.json': '{"version_policy":"all"}' });
    assert.equal(await monitor.look(), 'installed');
    put({ '3/model.onnx': '3', '3/_SUCCESS': '', 'model.json': '{"version_policy":' });
    assert.equal(await monitor.look(), 'failed');
    assert.match(logged(), /SRV_BAD_CONFIG.*the model was not fetched: .*ctr\/model\.json/);
    const models = (): string[] => Object.keys(here()).filter((name) => name.endsWith('.onnx'));
    assert.deepEqual(models().toSorted(), ['1/model.onnx', '2/model.onnx']);
    put({ 'model.json': '{"version_policy":"all", "weight":2}' });
    assert.equal(await monitor.look(), 'installed');
    assert.equal(models().length, 3);
  });

  it('may have any number that can be served, and files beside them the name of the model', async () => {
    put({
      '9007199254740991/model.onnx': '1',
      '9007199254740991/_SUCCESS': '',
      '9007199254740992/a.onnx': '',
    });
    put({ ctr: 'table', 'model.json': '{}' });
    assert.equal(await open().look(), 'installed');
    assert.equal(here()['9007199254740991/model.onnx'], '1');
    assert.equal(here().ctr, 'table');
  });

  it('that the publisher took back are removed, and an empty listing removes none', async () => {
    const monitor = open();
    put({ '1/model.onnx': '1', '1/_SUCCESS': '', '2/model.onnx': '2', '2/_SUCCESS': '' });
    await monitor.look();
    remove('2');
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(Object.keys(here()).toSorted(), ['1/_SUCCESS', '1/model.onnx']);
    remove('1');
    assert.equal(await monitor.look(), 'absent');
    assert.deepEqual(Object.keys(here()).toSorted(), ['1/_SUCCESS', '1/model.onnx']);
  });

  it('that hold no model, or mean one number twice, are passed over for the next one', async () => {
    const monitor = open();
    put({ '7/notes.txt': 'x', '7/_SUCCESS': '', '5/model.onnx': 'five', '5/_SUCCESS': '' });
    put({ '6/model.onnx': 'a', '6/_SUCCESS': '', '06/model.onnx': 'b', '06/_SUCCESS': '' });
    assert.equal(await monitor.look(), 'installed');
    assert.equal(here()['5/model.onnx'], 'five');
    assert.match(logged(), /ctr: 0?6, 0?6 mean the same version: keep one of them/);
    rmSync(local, { recursive: true });
    remove('5');
    assert.equal(await open().look(), 'absent');
    assert.match(logged(), /none of the version directories in .* that are wanted holds a \.onnx file/);
  });

  it('that are damaged do not keep the others away', async () => {
    put({ '1/model.onnx': '1', '1/_SUCCESS': '', '2/model.onnx': '2', '2/_SUCCESS': '' });
    put({ '2/model.onnx.sha256': 'f'.repeat(64) });
    const monitor = open({ kind: 'all' });
    assert.equal(await monitor.look(), 'failed');
    assert.deepEqual(Object.keys(here()).toSorted(), ['1/_SUCCESS', '1/model.onnx']);
    assert.match(logged(), /SRV_REMOTE_DAMAGED/);
  });

  it('that are damaged give way to the next lower ones while there is none here', async () => {
    for (const version of ['1', '2', '3']) put({ [`${version}/model.onnx`]: version });
    for (const version of ['2', '3']) put({ [`${version}/model.onnx.sha256`]: 'f'.repeat(64) });
    const monitor = open();
    assert.equal(await monitor.look(), 'incomplete');
    assert.equal(await lookLater(monitor), 'failed');
    assert.deepEqual(here(), { '1/model.onnx': '1' });
    assert.equal(monitor.absence, undefined);
    remove('2/model.onnx.sha256');
    await lookLater(monitor);
    assert.equal(await lookLater(monitor), 'failed');
    assert.deepEqual(
      here(),
      { '1/model.onnx': '1' },
      'once there is one, the one that is wanted is waited for',
    );
    remove('3/model.onnx.sha256');
    await lookLater(monitor);
    assert.equal(await lookLater(monitor), 'installed');
    assert.equal(here()['3/model.onnx'], '3');
  });

  it('that cannot be fetched are tried again after pauses that grow', async () => {
    const monitor = open();
    put({ '1/model.onnx': '1', '1/model.onnx.sha256': 'f'.repeat(64) });
    assert.equal(await monitor.look(), 'incomplete');
    for (const pauseMs of [10_000, 20_000, 40_000]) {
      assert.equal(await lookLater(monitor), 'failed');
      assert.equal(monitor.nextPauseMs, pauseMs);
    }
    remove('1/model.onnx.sha256');
    assert.equal(await lookLater(monitor), 'incomplete', 'another one has to be the same for an interval');
    assert.equal(await lookLater(monitor), 'installed');
  });

  it('are waited for at the start until they were seen twice', async () => {
    const monitor = open();
    put({ '1/model.onnx': '1' });
    const first = monitor.lookFirst(new AbortController().signal);
    await until('it was seen once', () => monitor.counts.incomplete === 1 && clock.timers === 1);
    await clock.advance(10_000);
    await first;
    assert.deepEqual(here(), { '1/model.onnx': '1' });
  });
});

describe('version directories with a done file', () => {
  it('are whole when it changes, and not before', async () => {
    const monitor = open({ kind: 'latest', count: 2 });
    put({ '1/model.onnx': '1', '2/model.onnx': '2', fluid_time_file: 'first' });
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(here(), { '1/model.onnx': '1', '2/model.onnx': '2' });
    put({ '3/model.onnx': '3', '2/model.onnx': 'half of two' });
    assert.equal(await monitor.look(), 'incomplete');
    assert.equal(await monitor.look(), 'incomplete');
    assert.deepEqual(here(), { '1/model.onnx': '1', '2/model.onnx': '2' });
    put({ fluid_time_file: 'second' });
    assert.equal(await monitor.look(), 'installed');
    assert.equal(here()['3/model.onnx'], '3');
    assert.equal(here()['2/model.onnx'], 'half of two');
    assert.equal(await monitor.look(), 'unchanged');
    assert.ok(readFileSync(join(local, 'ctr/fluid_time_file'), 'utf8').startsWith('20'));
  });

  it('are fetched later where another policy wants another of those that it announced', async () => {
    put({ '1/model.onnx': '1', '2/model.onnx': '2', fluid_time_file: 'first' });
    assert.equal(await open().look(), 'installed');
    assert.deepEqual(here(), { '2/model.onnx': '2' });
    assert.equal(await open({ kind: 'specific', versions: [1] }).look(), 'installed');
    assert.equal(here()['1/model.onnx'], '1');
  });
});
