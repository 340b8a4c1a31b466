/** Which monitors a list of models at addresses has, over time. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, it } from 'node:test';
import type { MonitorConfig } from '../../src/config/monitor-settings.js';
import { ServingError } from '../../src/errors.js';
import { Monitors } from '../../src/monitor/monitors.js';
import { RemoteModels } from '../../src/monitor/remote-models.js';
import type { RemoteStore } from '../../src/remote/remote-store.js';
import { ManualClock } from '../support/manual-clock.js';
import { until } from '../support/until.js';

let directory: string;
let monitors: Monitors;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-remote-models-'));
  monitors = new Monitors({});
});
afterEach(async () => {
  await monitors.close();
  rmSync(directory, { recursive: true, force: true });
});

const open = (): RemoteModels<string> =>
  new RemoteModels({ directory, intervalS: 3600, monitors, chooseVersions: async () => new Set<number>() });
const followed = (): string[] => monitors.counts.map(({ monitor }) => monitor).toSorted();
const at = (name: string): { path: string; name: string } => ({
  path: `file://${directory}/none/${name}`,
  name,
});

it('monitors begin and end with the models of the list, and nothing changes where one of them is bad', () => {
  const models = open();
  models.follow([at('a'), at('b')]);
  assert.deepEqual(followed(), ['a', 'b']);
  assert.throws(() => models.follow([at('c'), { path: 'gopher://host/d' }]), { code: 'SRV_BAD_CONFIG' });
  assert.deepEqual(followed(), ['a', 'b']);
  models.follow([at('b'), at('c'), at('c')]);
  assert.deepEqual(followed(), ['b', 'c']);
});

it('a model of two lists is brought until the list that came first is without it', () => {
  const [first, second] = [open(), open()];
  first.follow([at('a')]);
  second.follow([at('a')]);
  second.follow([]);
  assert.deepEqual(followed(), ['a']);
  first.follow([]);
  assert.deepEqual(followed(), []);
});

it('a model that comes with a policy is looked at once in an interval, and at once when it gets another one', async () => {
  const clock = new ManualClock();
  monitors = new Monitors({ clock });
  const models = open();
  const hasLooked = async (looks: number): Promise<void> => {
    await until(`${looks} looks, and a pause`, () => clock.timers === 1 && absent() === looks);
  };
  const absent = (): number => monitors.counts[0]?.looks.absent ?? 0;
  models.follow([{ ...at('a'), policy: 'all' }]);
  await hasLooked(1);
  await clock.advance(3_600_000);
  await hasLooked(2);
  models.follow([{ ...at('a'), policy: 'all' }]);
  await clock.settle();
  assert.equal(absent(), 2);
  models.follow([{ ...at('a'), policy: 'latest' }]);
  await hasLooked(3);
});

it('a model that ends and comes back begins anew', async () => {
  const models = open();
  models.follow([at('a')]);
  models.follow([]);
  models.follow([at('a')]);
  await monitors.firstLooks();
  assert.deepEqual(followed(), ['a']);
  assert.match(
    monitors.absenceOf(models.placedAt(at('a')).path) ?? '',
    /none\/a has not been fetched yet: no done file at .*, and no version directories/,
  );
});

it('an address keeps its place, and what was fetched of it, when a password or a token becomes another one', async () => {
  const fetched: string[] = [];
  const openStore = (config: MonitorConfig): RemoteStore => ({
    label: 'http://h',
    stampOf: async () => ({ text: 'same' }),
    list: async () => undefined,
    fetch: async (path, target) => {
      if (path !== '/net.onnx') throw new ServingError('SRV_REMOTE_NOT_FOUND', path);
      fetched.push(config.generalHost ?? '');
      writeFileSync(target, 'model');
      return { kind: 'file', files: 1, bytes: 5 };
    },
    close: async () => {},
  });
  const clock = new ManualClock();
  for (const path of ['http://a:one@h/net.onnx?token=1&v', 'http://b:two@h/net.onnx?token=2&v']) {
    monitors = new Monitors({ clock, openStore });
    open().follow([{ path }]);
    await monitors.firstLooks();
    await until('it has looked', () => {
      const { installed = 0, unchanged = 0 } = monitors.counts[0]!.looks;
      return installed + unchanged === 1;
    });
    await monitors.close();
  }
  assert.deepEqual(fetched, ['http://a:one@h?token=1&v'], 'the second one serves what is here');
  const placeOf = (path: string): string => open().placedAt({ path }).path;
  for (const other of ['http://h/net.onnx?key=1&v', 'https://h/net.onnx?token=1&v', 'http://h/net.onnx']) {
    assert.notEqual(placeOf(other), placeOf('http://h/net.onnx?token=1&v'), other);
  }
  assert.notEqual(placeOf('ftp://a:x@h/net.onnx'), placeOf('ftp://b:x@h/net.onnx'));
  assert.equal(placeOf('ftp://a:x@h/net.onnx'), placeOf('ftp://a:y@h/net.onnx'));
});

it('each address and name has a place of its own, and one that is none is told without its password', () => {
  const models = open();
  const places = ['https://h/m/net.onnx', 'https://h/m/net.tar.gz', 's3://bucket/net'].map((path) =>
    models.placedAt({ path }),
  );
  assert.deepEqual(
    places.map(({ name }) => name),
    ['net', 'net', 'net'],
  );
  assert.equal(new Set(places.map(({ path }) => path)).size, 3);
  for (const path of [
    'https://user:hush@h',
    'https://user:hush@h/%zz/m',
    'gopher://user:hush@h/m',
    's3://b',
  ]) {
    assert.throws(
      () => models.placedAt({ path }),
      (error) =>
        error instanceof ServingError && error.code === 'SRV_BAD_CONFIG' && !/hush/.test(error.message),
      path,
    );
  }
});
