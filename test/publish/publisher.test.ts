import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PublishOptions } from '../../src/config/publish-settings.js';
import { ServingError } from '../../src/errors.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { FileTarget } from '../../src/publish/file-target.js';
import type { PublishTarget } from '../../src/publish/publish-target.js';
import { Publisher, type PublisherDependencies } from '../../src/publish/publisher.js';
import { ManualClock } from '../support/manual-clock.js';
import {
  makeDirectory,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
} from '../support/test-models.js';
import { placeExternalModel } from './external-model.js';
import { filesOf, openTestTarget, type TestTarget, targets } from './targets.js';

const root = makeDirectory('publish');
after(() => removeDirectory(root));

let made = 0;
const newPlace = (): string => join(root, String(++made));

/** A model that has a file in a directory, and one with an odd name, beside it. */
function oddModel(factor: number): string {
  const directory = placeModel(newPlace(), 'house', scaleModel(factor), { batching: 'off' });
  mkdirSync(join(directory, 'notes'));
  writeFileSync(join(directory, 'notes', "a b+ü'()&#%41.txt"), `factor ${factor}`);
  writeFileSync(join(directory, 'fluid_time_file'), '');
  writeFileSync(join(directory, '.hidden'), '');
  return directory;
}

function failsWith(code: string, ...texts: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ServingError, String(error));
    assert.equal(error.code, code, error.message);
    for (const text of texts) assert.ok(error.message.includes(text), `${text}: ${error.message}`);
    return true;
  };
}

for (const [kind, start] of Object.entries(targets)) {
  describe(`published to ${kind}`, () => {
    let target: TestTarget;
    before(async () => {
      target = await start(newPlace());
    });
    after(() => target.close());

    const publisher = (
      directory: string,
      options: PublishOptions = {},
      dependencies: PublisherDependencies = {},
    ): Publisher =>
      new Publisher(
        directory,
        { ...target.publish, ...options },
        { openTarget: target.openTarget, ...dependencies },
      );

    /** What a monitor makes of it. */
    async function fetched(name: string, options: object = {}): Promise<Record<string, string>> {
      const localPath = newPlace();
      const monitor = new Monitor(
        {
          ...target.monitor,
          remoteModelName: name,
          remoteDonefileName: 'house.done',
          localPath,
          localModelName: 'model',
          ...options,
        },
        target.openStore ? { openStore: target.openStore } : {},
      );
      assert.equal(await monitor.look(), 'installed');
      assert.equal(await monitor.look(), 'unchanged');
      return filesOf(join(localPath, 'model'));
    }

    for (const pack of ['tar.gz', 'tar'] as const) {
      test(`a model packed as ${pack} is what the monitor installs`, async () => {
        const directory = oddModel(3);
        const { version } = await publisher(directory, { pack }).publish();
        assert.equal(version, undefined);
        const { fluid_time_file: _, '.hidden': __, ...expected } = filesOf(directory);
        assert.deepEqual(await fetched(`house.${pack}`, { unpackedFilename: 'house' }), expected);
        assert.deepEqual(await fetched(`house.${pack}`), expected);
      });
    }

    if (kind !== 'a web server that takes PUT alone') {
      test('a directory as it is; files that vanished from it vanish there', async () => {
        const directory = oddModel(4);
        await publisher(directory, { pack: 'none' }).publish();
        const { '.hidden': _, ...expected } = filesOf(directory);
        const { SHA256SUMS: sums, ...first } = await fetched('house');
        assert.deepEqual(first, expected);
        assert.equal(sums!.split('\n').length - 1, Object.keys(expected).length);
        rmSync(join(directory, 'notes'), { recursive: true });
        writeFileSync(join(directory, 'new.txt'), 'new');
        await publisher(directory, { pack: 'none' }).publish();
        assert.deepEqual(Object.keys(await fetched('house')).toSorted(), [
          'SHA256SUMS',
          'model.json',
          'model.onnx',
          'new.txt',
        ]);
      });
    }

    test('the done file has the digest of the archive, and is written last', async () => {
      const directory = placeModel(newPlace(), 'order', scaleModel(5));
      const written: string[] = [];
      const noting = (): PublishTarget => {
        const inner = openTestTarget(target);
        const noted = Object.create(inner) as PublishTarget;
        noted.write = (path, ...rest) => {
          written.push(path.slice(path.lastIndexOf('/') + 1));
          return inner.write(path, ...rest);
        };
        noted.writeDirectory = (...args) => inner.writeDirectory(...args);
        for (const name of ['read', 'createLock', 'readLock', 'writeLock', 'removeLock', 'close'] as const) {
          noted[name] = inner[name].bind(inner) as never;
        }
        return noted;
      };
      const now = (): Date => new Date('2026-01-02T03:04:05.000Z');
      const one = publisher(directory, {}, { openTarget: noting, now });
      const { digestLine } = await one.publish();
      assert.deepEqual(written, ['order.tar.gz', 'order.tar.gz.sha256', 'order.done']);
      const opened = openTestTarget(target);
      try {
        const path = `${'/'}${target.publish.remotePath!.replace(/^\/+/, '')}`;
        const done = (await opened.read(`${path}/order.done`))!.toString();
        assert.match(
          done,
          /^[0-9a-f]{64} {2}order\.tar\.gz\n# \d+ bytes, published 2026-01-02T03:04:05\.000Z\n$/,
        );
        assert.equal(done.split('\n')[0], digestLine);
        assert.equal((await opened.read(`${path}/order.tar.gz.sha256`))!.toString(), `${digestLine}\n`);
        assert.equal(await opened.readLock(`${path}/.order.tar.gz.publishing`), undefined);
      } finally {
        await opened.close();
      }
    });

    test('a look publishes what is new, and leaves alone what is at the target', async () => {
      const clock = new ManualClock();
      const directory = placeModel(newPlace(), 'look', scaleModel(6));
      const options = { settleS: 5 };
      const one = publisher(directory, options, { clock });
      assert.equal(await one.look(), 'waiting');
      await clock.advance(5000);
      assert.equal(await one.look(), 'published');
      assert.equal(await one.look(), 'unchanged');
      // One that starts anew knows by the done file.
      const other = publisher(directory, options, { clock });
      assert.equal(await other.look(), 'waiting');
      await clock.advance(5000);
      assert.equal(await other.look(), 'unchanged');
      placeModel(join(directory, '..'), 'look', scaleModel(7));
      assert.equal(await other.look(), 'waiting');
      await clock.advance(5000);
      assert.equal(await other.look(), 'published');
      assert.deepEqual(other.counts, { published: 1, unchanged: 1, waiting: 2, failed: 0 });
    });

    test('publishers that race leave a model that its digests fit', async (context) => {
      if (!target.locks) {
        // Without locks nothing is promised; a monitor refuses what does not fit, as its own tests show.
        context.diagnostic('this target has no locks');
      }
      const racers = [11, 12, 13, 14].map((factor) =>
        publisher(placeModel(newPlace(), 'house', scaleModel(factor)), { lockWaitS: 60 }),
      );
      if (target.locks) await Promise.all(racers.map((racer) => racer.publish()));
      else for (const racer of racers) await racer.publish();
      assert.ok((await fetched('house.tar.gz'))['model.onnx']);
    });
  });
}

describe('what is published', () => {
  const publishing = (
    directory: string,
    options: PublishOptions = {},
  ): { publisher: Publisher; place: string } => {
    const place = newPlace();
    return {
      place,
      publisher: new Publisher(directory, { to: 'file', remotePath: place, pack: 'none', ...options }),
    };
  };

  test('of version directories the newest one, with the settings beside', async () => {
    const models = newPlace();
    for (const version of [9, 10]) placeVersion(models, 'house', version, scaleModel(version));
    const directory = join(models, 'house');
    writeFileSync(join(directory, 'model.json'), '{}');
    const { publisher, place } = publishing(directory);
    assert.equal((await publisher.publish()).version, 10);
    assert.deepEqual(Object.keys(filesOf(join(place, 'house'))), [
      '10/model.onnx',
      'SHA256SUMS',
      'model.json',
    ]);
    assert.match(
      readFileSync(join(place, 'house.done'), 'utf8'),
      /^[0-9a-f]{64} {2}house\/SHA256SUMS\n# version 10, /,
    );
  });

  test('of a model file that file, with its weights', async () => {
    const directory = newPlace();
    mkdirSync(directory, { recursive: true });
    const file = placeExternalModel(directory);
    writeFileSync(join(directory, 'other.txt'), '');
    const { publisher, place } = publishing(file);
    await publisher.publish();
    assert.deepEqual(Object.keys(filesOf(join(place, 'big'))), ['SHA256SUMS', 'big.onnx', 'big.weights']);
  });

  test('nothing of a directory without a model, of another framework, or that is not there', async () => {
    const empty = newPlace();
    mkdirSync(empty, { recursive: true });
    await assert.rejects(publishing(empty).publisher.publish(), failsWith('SRV_MODEL_NOT_FOUND', empty));
    await assert.rejects(publishing(join(empty, 'none')).publisher.publish(), failsWith('SRV_IO', 'none'));
    writeFileSync(join(empty, 'saved_model.pb'), 'x');
    await assert.rejects(publishing(empty).publisher.publish(), failsWith('SRV_FOREIGN_FORMAT'));
  });

  test('nothing of a model that ends too early, or whose newest version is none yet', async () => {
    const cut = placeModel(newPlace(), 'cut', scaleModel());
    const bytes = readFileSync(join(cut, 'model.onnx'));
    writeFileSync(join(cut, 'model.onnx'), bytes.subarray(0, -9));
    await assert.rejects(
      publishing(cut).publisher.publish(),
      failsWith('SRV_NOT_PUBLISHABLE', 'cut/model.onnx'),
    );
    const models = newPlace();
    placeVersion(models, 'house', 1, scaleModel());
    mkdirSync(join(models, 'house', '2'));
    const { publisher } = publishing(join(models, 'house'));
    await assert.rejects(publisher.publish(), failsWith('SRV_NOT_PUBLISHABLE', 'version 2 is not complete'));
    assert.equal(await publisher.look(), 'waiting');
  });

  test('nothing of names that stores do not take', async () => {
    const directory = placeModel(newPlace(), 'odd', scaleModel());
    writeFileSync(join(directory, 'line\nbreak'), '');
    await assert.rejects(
      publishing(directory).publisher.publish(),
      failsWith('SRV_NOT_PUBLISHABLE', '"line\\nbreak"'),
    );
  });

  test('with a ready file only what is older than it', async () => {
    const directory = placeModel(newPlace(), 'ready', scaleModel());
    const { publisher, place } = publishing(directory, { readyFile: 'READY' });
    assert.equal(await publisher.look(), 'waiting');
    const { mtimeMs } = statSync(join(directory, 'model.onnx'));
    const touch = (name: string, ms: number): void => {
      writeFileSync(join(directory, name), name === 'READY' ? '' : readFileSync(join(directory, name)));
      utimesSync(join(directory, name), ms / 1000, ms / 1000);
    };
    touch('READY', mtimeMs - 10_000);
    assert.equal(await publisher.look(), 'waiting');
    touch('READY', mtimeMs + 10_000);
    assert.equal(await publisher.look(), 'published');
    assert.equal(await publisher.look(), 'unchanged');
    assert.deepEqual(Object.keys(filesOf(join(place, 'ready'))), ['SHA256SUMS', 'model.onnx']);
    touch('model.onnx', mtimeMs + 20_000);
    assert.equal(await publisher.look(), 'waiting');
  });

  test('a failure leaves the done file as it was, pauses grow, and it is tried again', async () => {
    const directory = placeModel(newPlace(), 'house', scaleModel(1));
    const { publisher, place } = publishing(directory, { settleS: 0.001, intervalS: 1, maxPauseS: 3 });
    await publisher.publish();
    const done = readFileSync(join(place, 'house.done'), 'utf8');
    placeModel(join(directory, '..'), 'house', scaleModel(2));
    let isFull = true;
    class FullTarget extends FileTarget {
      override async writeDirectory(...args: Parameters<FileTarget['writeDirectory']>): Promise<void> {
        if (isFull) throw new ServingError('SRV_IO', 'no space left on device');
        await super.writeDirectory(...args);
      }
    }
    const clock = new ManualClock();
    const options = {
      to: 'file',
      remotePath: place,
      pack: 'none',
      settleS: 1,
      intervalS: 1,
      maxPauseS: 3,
    } as const;
    const other = new Publisher(directory, options, { clock, openTarget: () => new FullTarget() });
    assert.equal(await other.look(), 'waiting');
    await clock.advance(1000);
    const pauses: number[] = [];
    for (let tries = 0; tries < 4; tries++) {
      assert.equal(await other.look(), 'failed');
      pauses.push(other.nextPauseMs);
    }
    assert.deepEqual(pauses, [1000, 2000, 3000, 3000]);
    assert.equal(readFileSync(join(place, 'house.done'), 'utf8'), done);
    isFull = false;
    assert.equal(await other.look(), 'published');
    assert.notEqual(readFileSync(join(place, 'house.done'), 'utf8'), done);
    assert.equal(other.nextPauseMs, 1000);
  });

  test('equal files give equal archives', async () => {
    const line = async (): Promise<string> => {
      const directory = placeModel(newPlace(), 'same', scaleModel(3));
      return (await publishing(directory, { pack: 'tar.gz' }).publisher.publish()).digestLine;
    };
    assert.equal(await line(), await line());
  });
});
