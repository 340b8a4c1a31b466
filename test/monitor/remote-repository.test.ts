/** A model repository at an address, against a web server of files. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, it } from 'node:test';
import { pino } from 'pino';
import { systemClock } from '../../src/batching/clock.js';
import { resolveMonitorConfig } from '../../src/config/monitor-settings.js';
import { Monitors } from '../../src/monitor/monitors.js';
import { RemoteRepository } from '../../src/monitor/remote-repository.js';
import type { FetchOptions, FetchProgress, RemoteStore } from '../../src/remote/remote-store.js';
import { wantedVersions } from '../../src/repository/version-policy.js';
import { type FileServer, serveFiles } from '../support/file-server.js';
import { ManualClock } from '../support/manual-clock.js';
import { until } from '../support/until.js';

let directory: string;
let server: FileServer;
let lines: string[];
let monitors: Monitors;
let progress: (FetchProgress | undefined)[];
const opened: RemoteRepository[] = [];
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-repository-'));
  mkdirSync(join(directory, 'remote/models'), { recursive: true });
  server = await serveFiles(join(directory, 'remote'));
  lines = [];
  progress = [];
});
afterEach(async () => {
  for (const repository of opened.splice(0)) await repository.close();
  await monitors.close();
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const open = (): RemoteRepository => openAt(`${server.address}/models`);

function openAt(address: string): RemoteRepository {
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  monitors = new Monitors({ logger, onProgress: (now) => void progress.push(now) });
  const repository = new RemoteRepository({
    address,
    directory: join(directory, 'cache'),
    intervalS: 3600,
    monitors,
    chooseVersions: async (_, present) => wantedVersions(present),
    logger,
    clock: systemClock,
  });
  opened.push(repository);
  return repository;
}

/** Writes `remote/models/<name>`; each version directory is marked as whole. */
function publish(...names: readonly string[]): void {
  for (const name of names) {
    const file = join(directory, 'remote/models', name);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, name);
    if (/\/\d+\//.test(name)) writeFileSync(join(file, '../_SUCCESS'), '');
  }
}

const remove = (name: string): void => rmSync(join(directory, 'remote/models', name), { recursive: true });
const modelsIn = ({ directory: place }: RemoteRepository): string[] =>
  readdirSync(place)
    .filter((name) => !name.startsWith('.'))
    .toSorted();
const logged = (): string => lines.join('');

it('each child is a model; what comes later is picked up, and what a listing lacks is dropped', async () => {
  publish('ctr/1/model.onnx', 'ctr/config.pbtxt', 'net.onnx', 'README.md', '.hidden/1/model.onnx');
  const repository = open();
  await repository.start();
  await monitors.firstLooks();
  assert.deepEqual(modelsIn(repository), ['ctr', 'net']);
  assert.ok(existsSync(join(repository.directory, 'ctr/1/model.onnx')));
  assert.ok(existsSync(join(repository.directory, 'ctr/config.pbtxt')));
  assert.ok(existsSync(join(repository.directory, 'net/1/net.onnx')));
  assert.ok(
    progress.some((now) => now?.bytes),
    'what is fetched is told',
  );
  assert.equal(progress.at(-1), undefined);

  publish('late/7/model.onnx');
  remove('ctr');
  await repository.look();
  await monitors.firstLooks();
  assert.deepEqual(modelsIn(repository), ['late', 'net']);
  assert.ok(existsSync(join(repository.directory, 'late/7/model.onnx')));
  assert.deepEqual(monitors.counts.map(({ monitor }) => monitor).toSorted(), ['late', 'net']);

  publish('ctr/1/model.onnx');
  await repository.look();
  await monitors.firstLooks();
  assert.ok(
    existsSync(join(repository.directory, 'ctr/1/model.onnx')),
    'one that comes back is fetched again',
  );
});

it('a child is listed before it is fetched, with why it is not here', async () => {
  publish('docs/index.txt');
  const repository = open();
  await repository.start();
  await monitors.firstLooks();
  assert.deepEqual(modelsIn(repository), ['docs']);
  assert.match(
    monitors.absenceOf(join(repository.directory, 'docs')) ?? '',
    /models\/docs has not been fetched yet: no done file at .*\/docs\/fluid_time_file, and no version directories/,
  );
});

it('a listing that fails, is none or is empty drops nothing, and what was fetched serves the next start', async () => {
  publish('ctr/1/model.onnx');
  const first = open();
  await first.start();
  await monitors.firstLooks();
  server.override = (_request, response) => {
    response.writeHead(500).end();
    return true;
  };
  await first.look();
  assert.match(logged(), /the model repository was not listed, and its models go on as before: .*500/);
  server.override = () => false;
  remove('ctr');
  await first.look();
  assert.match(logged(), /\/models lists no model: what was fetched before is kept/);
  remove('.');
  await first.look();
  assert.match(logged(), /\/models: expected a directory of models, got none/);
  assert.deepEqual(modelsIn(first), ['ctr']);
  await first.close();
  await monitors.close();
  const next = open();
  await next.start();
  assert.deepEqual(modelsIn(next), ['ctr']);
  mkdirSync(join(directory, 'remote/models'));
  publish('other/1/model.onnx');
  await next.look();
  assert.deepEqual(modelsIn(next), ['other'], 'what an earlier run fetched is dropped too');
});

it('two children of one name are told, and the directory is the model', async () => {
  publish('net/3/model.onnx', 'net.onnx');
  const repository = open();
  await repository.start();
  await monitors.firstLooks();
  await repository.look();
  assert.ok(existsSync(join(repository.directory, 'net/3/model.onnx')));
  assert.equal(logged().match(/net and net\.onnx would both be the model/g)?.length, 1);
});

it('a start waits as long as something comes, and not for a place that says nothing', async () => {
  const clock = new ManualClock();
  let onProgress: FetchOptions['onProgress'];
  const stamp = { text: 'x' };
  const openStore = (): RemoteStore => ({
    label: 'silent',
    stampOf: async () => stamp,
    list: async () => undefined,
    fetch: (_path, _target, options) => {
      onProgress = options?.onProgress;
      return new Promise(() => {});
    },
    close: async () => {},
  });
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  monitors = new Monitors({ logger, clock, openStore });
  const place = { remotePath: '/', remoteModelName: 'm.tar', remoteDonefileName: 'm.tar' };
  const local = { localPath: directory, localModelName: 'm', layout: 'versions', timeoutS: 3600 } as const;
  const resolved = resolveMonitorConfig({ generalHost: 'http://h', ...place, ...local });
  monitors.begin(monitors.make(resolved));
  let hasEnded = false;
  const waiting = monitors.whileHeard(monitors.firstLooks()).then(() => {
    hasEnded = true;
  });
  await until('it fetches', () => onProgress !== undefined);
  for (let turn = 1; turn <= 3; turn++) {
    await clock.advance(15_000);
    onProgress?.({ files: 1, bytes: turn });
  }
  await clock.advance(19_000);
  assert.equal(hasEnded, false);
  await clock.advance(1000);
  await waiting;
  assert.match(logged(), /the start goes on without models: silent\/m\.tar has not been fetched yet/);
  await assert.rejects(
    monitors.whileHeard(Promise.reject(new Error('the disk is full'))),
    /the disk is full/,
  );
});

it('a start goes on waiting while a listing is heard of', async () => {
  const clock = new ManualClock();
  let onAnswer: (() => void) | undefined;
  const openStore = (): RemoteStore => ({
    label: 'slow',
    stampOf: async () => undefined,
    list: (_path, options) => {
      onAnswer = options?.onAnswer;
      return new Promise(() => {});
    },
    fetch: () => new Promise(() => {}),
    close: async () => {},
  });
  monitors = new Monitors({ clock, openStore });
  const place = { remotePath: '/', remoteModelName: 'm', remoteDonefileName: 'm/done' };
  const local = { localPath: directory, localModelName: 'm', layout: 'versions', timeoutS: 3600 } as const;
  const resolved = resolveMonitorConfig({ generalHost: 'http://h', ...place, ...local });
  monitors.begin(monitors.make(resolved, async () => new Set()));
  let hasEnded = false;
  const waiting = monitors.whileHeard(monitors.firstLooks()).then(() => {
    hasEnded = true;
  });
  await until('it lists', () => onAnswer !== undefined);
  await clock.advance(15_000);
  onAnswer?.();
  await clock.advance(15_000);
  assert.equal(hasEnded, false);
  await clock.advance(5000);
  await waiting;
});

it('an address that is none is refused, and no password is in the log', async () => {
  assert.throws(() => openAt('gopher://host/models'), {
    code: 'SRV_BAD_CONFIG',
    message: /Expected an address that begins with http, .*got gopher:\/\/host/,
  });
  const repository = openAt(`${server.address.replace('//', '//reader:s3cret-word@')}/nowhere`);
  await repository.start();
  assert.match(logged(), /\/nowhere: expected a directory of models/);
  assert.doesNotMatch(logged(), /s3cret-word/);
});
