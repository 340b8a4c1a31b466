/** A monitor against stores that behave and stores that do not. One file: each fault is a look at the same server and clock. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pino } from 'pino';
import type { MonitorOptions } from '../../src/config/monitor-settings.js';
import { ServingError } from '../../src/errors.js';
import { type LookOutcome, Monitor, type MonitorDependencies } from '../../src/monitor/monitor.js';
import { tarOf, zipOf } from '../support/archives.js';
import { type FileServer, serveFiles } from '../support/file-server.js';
import { ManualClock } from '../support/manual-clock.js';
import { contentOf } from '../support/store-contract.js';
import { until } from '../support/until.js';

let directory: string;
let remote: string;
let local: string;
let server: FileServer;
let lines: string[];
let time: number;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'onnx-serving-monitor-'));
  remote = join(directory, 'remote/models');
  local = join(directory, 'local');
  mkdirSync(remote, { recursive: true });
  server = await serveFiles(join(directory, 'remote'));
  lines = [];
  time = 1_700_000_000_000;
});
afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(options: MonitorOptions = {}, dependencies: MonitorDependencies = {}): Monitor {
  const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
  return new Monitor(
    {
      generalHost: server.address,
      remotePath: '/models',
      remoteModelName: 'ctr',
      remoteDonefileName: 'done',
      localPath: local,
      localModelName: 'ctr',
      ...options,
    },
    { logger, timeOfDay: () => time, ...dependencies },
  );
}

let published = 0;
/** Publishes a model directory the way a careful publisher does: the done file last. */
function publish(
  files: Readonly<Record<string, string | Buffer>>,
  done = `publication ${published++}`,
): void {
  rmSync(join(remote, 'ctr'), { recursive: true, force: true });
  put(Object.fromEntries(Object.entries(files).map(([name, content]) => [`ctr/${name}`, content])));
  put({ done });
}

function put(files: Readonly<Record<string, string | Buffer>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(remote, name, '..'), { recursive: true });
    writeFileSync(join(remote, name), content);
  }
}

const model = (): Record<string, string> => {
  const files = contentOf(join(local, 'ctr'));
  delete files.fluid_time_file;
  return files;
};
const stampMs = (): number => statSync(join(local, 'ctr/fluid_time_file')).mtimeMs;
const logged = (): string => lines.join('');
const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex');

describe('a monitor', () => {
  it('brings a model, leaves it alone until the done file changes, and brings the next one whole', async () => {
    const monitor = open();
    assert.equal(await monitor.isInstalled(), false);
    publish({ 'model.onnx': 'one', 'tables/a': 'rows', 'old.txt': 'gone tomorrow' });
    assert.equal(await monitor.look(), 'installed');
    assert.equal(await monitor.isInstalled(), true);
    assert.deepEqual(model(), { 'model.onnx': 'one', 'tables/a': 'rows', 'old.txt': 'gone tomorrow' });
    assert.equal(stampMs(), time);

    assert.equal(await monitor.look(), 'unchanged');
    publish({ 'model.onnx': 'two', 'tables/b': 'rows' });
    time += 5000;
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(model(), { 'model.onnx': 'two', 'tables/b': 'rows' });
    assert.equal(stampMs(), time);
    assert.equal(readFileSync(join(local, 'ctr/fluid_time_file'), 'utf8'), '2023-11-14T22:13:25.000Z\n');
    assert.deepEqual(
      { ...monitor.counts },
      {
        installed: 2,
        unchanged: 1,
        absent: 0,
        incomplete: 0,
        changed: 0,
        failed: 0,
        bytes: 20 + 7,
        failuresInARow: 0,
      },
    );
    assert.deepEqual(readdirSync(local).toSorted(), ['_serving_monitor_tmp', 'ctr']);
  });

  it('waits for a done file', async () => {
    const monitor = open();
    put({ 'ctr/model.onnx': 'one' });
    assert.equal(await monitor.look(), 'absent');
    assert.equal(existsSync(join(local, 'ctr')), false);
  });

  it('remembers over a restart what it has, and fetches again when it is gone or another is asked for', async () => {
    publish({ 'model.onnx': 'one' });
    assert.equal(await open().look(), 'installed');
    assert.equal(await open().look(), 'unchanged');
    rmSync(join(local, 'ctr'), { recursive: true });
    assert.equal(await open().look(), 'installed');
    put({ 'other/model.onnx': 'other' });
    assert.equal(await open({ remoteModelName: 'other' }).look(), 'installed');
    assert.deepEqual(model(), { 'model.onnx': 'other' });
    writeFileSync(join(local, '_serving_monitor_tmp/ctr.state.json'), '{"stamp"');
    assert.equal(await open({ remoteModelName: 'other' }).look(), 'installed');
  });

  it('touches the stamp file later than before, even when the clock goes backwards', async () => {
    const monitor = open();
    publish({ 'model.onnx': 'one' });
    await monitor.look();
    const first = stampMs();
    time -= 3_600_000;
    publish({ 'model.onnx': 'two' });
    assert.equal(await monitor.look(), 'installed');
    assert.ok(stampMs() > first, `${stampMs()} after ${first}`);
  });

  it('fetches again when the done file becomes older: stamps are compared for being unlike', async () => {
    publish({ 'model.onnx': 'one' }, 'same');
    const monitor = open({ type: 'local', remotePath: remote });
    assert.equal(await monitor.look(), 'installed');
    rmSync(join(remote, 'done'));
    writeFileSync(join(remote, 'done'), 'same');
    execFileSync('touch', ['-d', '2001-02-03', join(remote, 'done')]);
    assert.equal(await monitor.look(), 'installed');
  });

  it('never shows a reader less than a whole model', async () => {
    const monitor = open({ type: 'local', remotePath: remote });
    const names = Array.from({ length: 8 }, (_, index) => `f${index}`);
    const version = (text: string): Record<string, string> =>
      Object.fromEntries(names.map((name) => [name, text]));
    publish(version('0'));
    await monitor.look();
    let isDone = false;
    const seen = new Set<string>();
    const reading = (async () => {
      while (!isDone) {
        // One call lists one directory: whatever was put in its place meanwhile is another one.
        const found = readdirSync(join(local, 'ctr'), { withFileTypes: true });
        seen.add(
          found
            .map(({ name }) => name)
            .filter((name) => name !== 'fluid_time_file')
            .toSorted()
            .join(),
        );
        await new Promise((turn) => setImmediate(turn));
      }
    })();
    for (let round = 1; round <= 5; round++) {
      publish(version(String(round)));
      assert.equal(await monitor.look(), 'installed');
    }
    isDone = true;
    await reading;
    assert.deepEqual([...seen], [names.toSorted().join()]);
  });

  it('keeps the temporary directory where it is told to, outside of the local path too', async () => {
    publish({ 'model.onnx': 'one' });
    const elsewhere = join(directory, 'elsewhere');
    assert.equal(await open({ localTmpPath: elsewhere, localTimestampFile: 'stamp' }).look(), 'installed');
    assert.deepEqual(readdirSync(local), ['ctr']);
    assert.deepEqual(readdirSync(join(local, 'ctr')).toSorted(), ['model.onnx', 'stamp']);
    assert.ok(existsSync(join(elsewhere, 'ctr.state.json')));
  });

  it('keeps the sample of traffic that a server wrote beside the model, as it is', async () => {
    const monitor = open();
    publish({ 'model.onnx': 'one' });
    await monitor.look();
    const samples = join(local, 'ctr/.warmup');
    const sample = join(samples, 'ctr.recorded.bin');
    mkdirSync(samples, { mode: 0o700 });
    writeFileSync(sample, 'requests', { mode: 0o600 });
    writeFileSync(join(samples, 'ctr.recorded.bin.77.tmp'), 'requ');
    // Only root writes for others.
    if (process.getuid?.() === 0) for (const path of [samples, sample]) chownSync(path, 4321, 4321);
    const facts = (): unknown => [samples, sample].map((path) => [statSync(path).uid, statSync(path).mode]);
    const before = facts();
    for (const round of ['two', 'three']) {
      publish({ 'model.onnx': round });
      assert.equal(await monitor.look(), 'installed');
      assert.deepEqual(model(), { 'model.onnx': round, '.warmup/ctr.recorded.bin': 'requests' });
      assert.deepEqual(facts(), before);
    }
  });

  it('leaves the sample of a publisher alone, and the one of the model before behind', async () => {
    const monitor = open({ type: 'local', remotePath: remote });
    publish({ 'model.onnx': 'one', '.warmup/ctr.recorded.bin': 'old', '.warmup/other.recorded.bin': 'old' });
    await monitor.look();
    publish({ 'model.onnx': 'two', '.warmup/ctr.recorded.bin': 'published' });
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(model(), { 'model.onnx': 'two', '.warmup/ctr.recorded.bin': 'published' });
  });

  it('follows no link of a sample, and takes no file for the directory of samples', async () => {
    const monitor = open();
    const samples = join(local, 'ctr/.warmup');
    const secret = join(directory, 'secret');
    mkdirSync(secret);
    writeFileSync(join(secret, 'a'), 'secret');
    publish({ 'model.onnx': 'one' });
    await monitor.look();
    mkdirSync(samples);
    writeFileSync(join(samples, 'ctr.recorded.bin'), 'requests');
    symlinkSync(join(secret, 'a'), join(samples, 'file.recorded.bin'));
    symlinkSync(secret, join(samples, 'directory'));
    publish({ 'model.onnx': 'two' });
    await monitor.look();
    assert.deepEqual(readdirSync(samples), ['ctr.recorded.bin']);
    for (const place of [() => symlinkSync(secret, samples), () => writeFileSync(samples, 'a file')]) {
      rmSync(samples, { recursive: true });
      place();
      publish({ 'model.onnx': 'three' });
      assert.equal(await monitor.look(), 'installed');
      assert.deepEqual(readdirSync(join(local, 'ctr')).toSorted(), ['fluid_time_file', 'model.onnx']);
      mkdirSync(samples);
    }
    assert.deepEqual(contentOf(secret), { a: 'secret' });
  });

  it('puts the old model back that a process left aside when it ended between two renames', async () => {
    publish({ 'model.onnx': 'one' });
    await open().look();
    renameSync(join(local, 'ctr'), join(local, '.ctr.previous'));
    assert.equal(await open().look(), 'unchanged');
    assert.deepEqual(model(), { 'model.onnx': 'one' });
  });

  it('says at the start what is wrong with its options', () => {
    assert.throws(() => open({ remotePath: undefined, type: 'ftp' }), /remote_path: missing/);
    assert.throws(() => open({ generalHost: 'gopher://x' }), /Expected an address that begins with http, /);
  });
});

describe('models that a monitor takes', () => {
  const tar = tarOf([
    { name: 'ctr/', type: '5' },
    { name: 'ctr/model.onnx', content: 'packed' },
  ]);

  it('are archives: tar, tar.gz and zip, whose only directory is the model', async () => {
    const zip = zipOf([{ name: 'ctr/model.onnx', content: 'packed' }]);
    for (const [name, content] of [
      ['model.tar', tar],
      ['model.tar.gz', gzipSync(tar)],
      ['model.zip', zip],
    ] as const) {
      put({ [name]: content, done: name });
      assert.equal(await open({ remoteModelName: name }).look(), 'installed');
      assert.deepEqual(model(), { 'model.onnx': 'packed' });
    }
  });

  it('are what unpacked_filename names in an archive', async () => {
    const archive = tarOf([
      { name: 'a/model.onnx', content: 'a' },
      { name: 'b/model.onnx', content: 'b' },
    ]);
    put({ 'm.tar': archive, done: '1' });
    assert.equal(await open({ remoteModelName: 'm.tar', unpackedFilename: 'b' }).look(), 'installed');
    assert.deepEqual(model(), { 'model.onnx': 'b' });
    assert.equal(
      await open({ remoteModelName: 'm.tar', unpackedFilename: 'a/model.onnx' }).look(),
      'installed',
    );
    assert.deepEqual(model(), { 'model.onnx': 'a' });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'installed');
    assert.deepEqual(model(), { 'a/model.onnx': 'a', 'b/model.onnx': 'b' });
    assert.equal(await open({ remoteModelName: 'm.tar', unpackedFilename: 'c' }).look(), 'failed');
    assert.match(logged(), /expected c \(unpacked_filename\) in it, got a, b\./);
  });

  it('are version directories in archives, and single files', async () => {
    put({ 'm.tar': tarOf([{ name: '1/model.onnx', content: 'x' }]), done: '1', 'net.onnx': 'a file' });
    await open({ remoteModelName: 'm.tar' }).look();
    assert.deepEqual(model(), { '1/model.onnx': 'x' });
    await open({ remoteModelName: 'net.onnx' }).look();
    assert.deepEqual(model(), { 'net.onnx': 'a file' });
  });

  it('are no archives that are refused, nor directories where an archive is expected', async () => {
    put({ 'm.tar': tarOf([{ name: '../evil', content: 'x' }]), done: '1', 'ctr/model.onnx': 'x' });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'failed');
    assert.match(logged(), /SRV_BAD_ARCHIVE.*leads out of it/);
    assert.equal(await open({ unpackedFilename: 'ctr' }).look(), 'failed');
    assert.match(logged(), /expected an archive, because unpacked_filename is given, got a directory/);
    assert.equal(existsSync(join(local, 'ctr')), false);
  });

  it('may go to version directories: a number more each time, old ones are removed', async () => {
    const monitor = open({ layout: 'versions', keepVersions: 2 });
    for (const content of ['one', 'two', 'three']) {
      publish({ 'model.onnx': content });
      assert.equal(await monitor.look(), 'installed');
    }
    assert.deepEqual(model(), { '2/model.onnx': 'two', '3/model.onnx': 'three' });
    assert.equal(await open({ layout: 'versions', keepVersions: 2 }).look(), 'unchanged');
    assert.ok(existsSync(join(local, 'ctr/fluid_time_file')));
  });

  it('are, of a flood of version directories, the newest alone', async () => {
    const versions = Array.from({ length: 40 }, (_, index) => [`${index + 1}/model.onnx`, `v${index + 1}`]);
    publish({ ...Object.fromEntries(versions), 'notes/readme': 'x' });
    const monitor = open({ layout: 'versions' });
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(model(), { '40/model.onnx': 'v40' });
    const fetched = server.requests.filter((line) => line.includes('model.onnx'));
    assert.ok(
      fetched.every((line) => line.includes('/ctr/40/')),
      fetched.join(),
    );
    // The publisher takes the newest back.
    publish({ ...Object.fromEntries(versions.slice(0, 39)) });
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(model(), { '39/model.onnx': 'v39' });
    assert.match(logged(), /version 40 was removed/);
  });
});

describe('digests that a publisher offers', () => {
  it('beside a file are compared', async () => {
    const archive = tarOf([{ name: 'm/model.onnx', content: 'x' }]);
    put({ 'm.tar': archive, 'm.tar.sha256': `${sha256(archive)}  m.tar\n`, done: '1' });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'installed');
    put({ 'm.tar.sha256': `${sha256('other')}  m.tar\n`, done: '2' });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'failed');
    assert.match(logged(), /m\.tar: m\.tar\.sha256 says sha256 [\da-f]{64}, but the bytes have [\da-f]{64}/);
    put({ 'm.tar.sha256': 'nonsense', done: '3' });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'failed');
    assert.match(logged(), /expected a digest in hexadecimal as its first word/);
    rmSync(join(remote, 'm.tar.sha256'));
    put({ 'm.tar.md5': createHash('md5').update('other').digest('hex'), done: '4' });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'failed');
  });

  it('in a directory are compared: beside files and in lists', async () => {
    publish({
      'model.onnx': 'x',
      'model.onnx.sha256': sha256('x'),
      'a/b': 'y',
      SHA256SUMS: `${sha256('y')}  a/b\n`,
    });
    assert.equal(await open().look(), 'installed');
    assert.match(logged(), /"digests":2/);
    publish({ 'model.onnx': 'x', 'model.onnx.sha256': sha256('z') });
    assert.equal(await open().look(), 'failed');
    publish({ 'model.onnx': 'x', SHA256SUMS: `${sha256('y')}  a/b\n` });
    assert.equal(await open().look(), 'failed');
    assert.match(logged(), /SHA256SUMS names it, but it is not there/);
    publish({ 'model.onnx': 'x', SHA256SUMS: `${sha256('y')}  ../../secret\n` });
    assert.equal(await open().look(), 'failed');
    assert.equal(model()['a/b'], 'y');
  });

  it('in the done file are compared: of the archive, or of files of the directory', async () => {
    const archive = tarOf([{ name: 'm/model.onnx', content: 'x' }]);
    put({ 'm.tar': archive, done: `today\n${sha256(archive)}  m.tar\n` });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'installed');
    put({ done: `today\n${sha256('other')} *m.tar\n` });
    assert.equal(await open({ remoteModelName: 'm.tar' }).look(), 'failed');
    publish({ 'model.onnx': 'x' }, `SHA256 (ctr/model.onnx) = ${sha256('x')}\n`);
    assert.equal(await open().look(), 'installed');
    publish({ 'model.onnx': 'x' }, `${sha256('x')}  ctr/model.onnx\n${sha256('y')}  ctr/more\n`);
    assert.equal(await open().look(), 'failed');
    assert.match(logged(), /ctr\/more: .*\/models\/done names it, but it is not there/);
  });
});

describe('what goes wrong far away or here', () => {
  /** A model is there; whatever goes wrong then leaves it as it is. */
  async function withOldModel(
    options: MonitorOptions = {},
    dependencies: MonitorDependencies = {},
  ): Promise<Monitor> {
    const monitor = open(options, dependencies);
    publish({ 'model.onnx': 'old' });
    assert.equal(await monitor.look(), 'installed');
    return monitor;
  }

  function oldIsLeft(): void {
    assert.deepEqual(model(), { 'model.onnx': 'old' });
    assert.equal(stampMs(), time);
    assert.deepEqual(readdirSync(join(local, '_serving_monitor_tmp/ctr')), [], 'nothing is left behind');
  }

  it('a server that is gone, and comes back', async () => {
    const monitor = await withOldModel();
    publish({ 'model.onnx': 'new' });
    server.override = (_request, response) => {
      response.destroy();
      return true;
    };
    assert.equal(await monitor.look(), 'failed');
    oldIsLeft();
    assert.match(logged(), /SRV_REMOTE_UNAVAILABLE/);
    server.override = () => false;
    assert.equal(await monitor.look(), 'installed');
    assert.deepEqual(model(), { 'model.onnx': 'new' });
    assert.equal(monitor.counts.failuresInARow, 0);
  });

  it('a server that hangs, before its answer or in the middle of a file', async () => {
    const clock = new ManualClock();
    const monitor = await withOldModel({ timeoutS: 30 }, { clock });
    publish({ 'model.onnx': 'new' });
    for (const place of ['/models/done', '/models/ctr/model.onnx']) {
      let isHanging = false;
      server.override = (request, response) => {
        if (request.url !== place) return false;
        if (place.endsWith('onnx')) response.writeHead(200, { 'content-length': 100 }).write('x');
        isHanging = true;
        return true;
      };
      const look = monitor.look();
      await until('the server hangs', () => isHanging);
      let outcome: LookOutcome | undefined;
      void look.then((ended) => {
        outcome = ended;
      });
      await until('the time is up', async () => {
        await clock.advance(10_000);
        return outcome !== undefined;
      });
      assert.equal(outcome, 'failed');
      await until(
        'its attempt is cleared away',
        () => readdirSync(join(local, '_serving_monitor_tmp/ctr')).length === 0,
      );
      oldIsLeft();
    }
    assert.match(logged(), /done: nothing came for 30 s \(timeout\)\./);
  });

  it('a slow file that keeps coming, which is waited for', async () => {
    const clock = new ManualClock();
    let bytes = 0;
    const stamp = { text: 'done' };
    const slow = open(
      { timeoutS: 30 },
      {
        clock,
        onProgress: (now) => {
          bytes = now?.bytes ?? bytes;
        },
        openStore: () => ({
          label: 'slow',
          stampOf: async () => stamp,
          list: async () => undefined,
          close: async () => {},
          fetch: async (path, target, { onProgress, signal } = {}) => {
            if (path.endsWith('done')) {
              writeFileSync(target, 'done');
              return { kind: 'file', files: 1, bytes: 4 };
            }
            if (!path.endsWith('ctr')) throw new ServingError('SRV_REMOTE_NOT_FOUND', path);
            for (let at = 1; at <= 5; at++) {
              await clock.advance(25_000);
              assert.equal(signal?.aborted, false);
              onProgress?.({ files: 1, bytes: at });
            }
            writeFileSync(target, 'xxxxx');
            return { kind: 'file', files: 1, bytes: 5 };
          },
        }),
      },
    );
    assert.equal(await slow.look(), 'installed');
    assert.equal(bytes, 5);
  });

  it('half a file', async () => {
    const monitor = await withOldModel();
    publish({ 'model.onnx': 'new' });
    server.override = (request, response) => {
      if (request.url !== '/models/ctr/model.onnx') return false;
      response.writeHead(200, { 'content-length': 1000 });
      response.write('x'.repeat(400), () => response.destroy());
      return true;
    };
    assert.equal(await monitor.look(), 'failed');
    oldIsLeft();
  });

  it('a model that is replaced while it is fetched', async () => {
    const monitor = await withOldModel();
    publish({ 'a.onnx': 'new', 'b.onnx': 'new' });
    let isReplaced = false;
    server.override = (request) => {
      // The stamp has been taken; of the files that are fetched then, the second is of the next model.
      if (request.url === '/models/ctr/b.onnx' && request.headers['if-none-match'] && !isReplaced) {
        isReplaced = true;
        put({ 'ctr/a.onnx': 'newer', 'ctr/b.onnx': 'newer' });
      }
      return false;
    };
    const outcomes = [await monitor.look()];
    if (isReplaced) {
      assert.deepEqual(outcomes, ['changed']);
      oldIsLeft();
      assert.match(logged(), /SRV_REMOTE_CHANGED.*was replaced while the model was being fetched/);
      assert.equal(monitor.nextPauseMs, 10_000);
      assert.equal(await monitor.look(), 'installed');
    }
    assert.equal(isReplaced, true);
    assert.deepEqual(model(), { 'a.onnx': 'newer', 'b.onnx': 'newer' });
  });

  it('a done file that changes while the model is fetched', async () => {
    const monitor = await withOldModel();
    publish({ 'model.onnx': 'new' });
    let isReplaced = false;
    server.override = (request) => {
      if (request.url === '/models/ctr/model.onnx' && !isReplaced) {
        isReplaced = true;
        put({ done: 'again' });
      }
      return false;
    };
    assert.equal(await monitor.look(), 'changed');
    oldIsLeft();
    assert.equal(await monitor.look(), 'installed');
    assert.equal(monitor.counts.changed, 1);
  });

  it('a done file without a model, and a model without files', async () => {
    const monitor = await withOldModel();
    rmSync(join(remote, 'ctr'), { recursive: true });
    put({ done: 'new' });
    assert.equal(await monitor.look(), 'failed');
    assert.match(logged(), /\/models\/done is there, but the model .*\/models\/ctr is not\./);
    mkdirSync(join(remote, 'ctr'));
    assert.equal(await monitor.look(), 'failed');
    assert.match(logged(), /expected the files of a model, got none/);
    oldIsLeft();
  });

  it('a model with too many files or bytes', async () => {
    await withOldModel();
    publish({ a: 'x', b: 'y', c: 'z' });
    assert.equal(await open({ maxFiles: 2 }).look(), 'failed');
    assert.equal(await open({ maxBytes: 2 }).look(), 'failed');
    oldIsLeft();
  });

  it('a place that cannot be written to', async () => {
    publish({ 'model.onnx': 'old' });
    // Nobody may make a directory there.
    assert.equal(await open({ localPath: '/proc/onnx-serving' }).look(), 'failed');
    assert.match(logged(), /SRV_IO.*The directory \/proc\/onnx-serving cannot be made/);
  });

  it('another monitor that is at work on the same model', async () => {
    const first = open();
    const second = open();
    publish({ 'model.onnx': 'one' });
    let other: Promise<LookOutcome> | undefined;
    server.override = (request) => {
      if (request.url === '/models/ctr/model.onnx') other ??= second.look();
      return false;
    };
    assert.equal(await first.look(), 'installed');
    assert.equal(await other, 'failed');
    assert.match(logged(), /Another monitor is at work on/);
    assert.equal(await second.look(), 'unchanged');
  });
});

describe('the pauses of a monitor', () => {
  it('grow while it fails, up to a limit, and are the interval again afterwards', async () => {
    const clock = new ManualClock();
    const monitor = open({ intervalS: 10, maxPauseS: 60 }, { clock });
    server.override = (_request, response) => {
      response.writeHead(500).end();
      return true;
    };
    const stop = new AbortController();
    const running = monitor.run(stop.signal);
    const looks = (): number => monitor.counts.failed + monitor.counts.installed;
    for (const [index, pauseS] of [10, 20, 40, 60, 60].entries()) {
      await until(`look ${index + 1}`, () => looks() === index + 1 && clock.timers === 1);
      await clock.advance(pauseS * 1000 - 1);
      assert.equal(looks(), index + 1, `not before ${pauseS} s`);
      await clock.advance(1);
    }
    await until('look 6', () => looks() === 6 && clock.timers === 1);
    publish({ 'model.onnx': 'x' });
    server.override = () => false;
    await clock.advance(60_000);
    await until('it is installed', () => monitor.counts.installed === 1 && clock.timers === 1);
    assert.equal(monitor.nextPauseMs, 10_000);
    stop.abort();
    await running;
    assert.equal(clock.timers, 0);
  });

  it('end when it is woken', async () => {
    const clock = new ManualClock();
    const monitor = open({}, { clock });
    const stop = new AbortController();
    const running = monitor.run(stop.signal);
    await until('it pauses', () => monitor.counts.absent === 1 && clock.timers === 1);
    monitor.wake();
    await until('it pauses again', () => monitor.counts.absent === 2 && clock.timers === 1);
    stop.abort();
    await running;
    assert.equal(clock.timers, 0);
  });

  it('end at once when it is stopped, also in the middle of a fetch', async () => {
    const monitor = open();
    publish({ 'model.onnx': 'x' });
    const stop = new AbortController();
    server.override = (request) => {
      if (request.url !== '/models/ctr/model.onnx') return false;
      stop.abort();
      return true;
    };
    await monitor.run(stop.signal);
    assert.equal(monitor.counts.failed, 0);
    assert.equal(existsSync(join(local, 'ctr')), false);
  });
});

describe('secrets', () => {
  it('are in no line of the log, whatever a store says', async () => {
    const monitor = open(
      { type: 'ftp', ftpHost: 'ftp://reader@host', ftpPassword: 'top-secret', fsUgi: 'me,hush-hush' },
      {
        openStore: () => ({
          label: 'ftp://host',
          stampOf: async () => {
            throw new Error('530 top-secret is no password, nor is hush-hush');
          },
          list: async () => undefined,
          fetch: async () => ({ kind: 'file', files: 0, bytes: 0 }),
          close: async () => {},
        }),
      },
    );
    assert.equal(await monitor.look(), 'failed');
    assert.match(logged(), /530 \*\*\* is no password, nor is \*\*\*/);
    assert.doesNotMatch(logged(), /top-secret|hush-hush/);
  });
});
