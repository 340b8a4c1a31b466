import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { PublishOptions } from '../../src/config/publish-settings.js';
import { ServingError } from '../../src/errors.js';
import { FileTarget } from '../../src/publish/file-target.js';
import { Publisher } from '../../src/publish/publisher.js';
import { ManualClock } from '../support/manual-clock.js';
import {
  makeDirectory,
  placeModel,
  placeVersion,
  removeDirectory,
  scaleModel,
} from '../support/test-models.js';
import { until } from '../support/until.js';
import { placeExternalModel } from './external-model.js';
import { targetContract } from './target-contract.js';
import { filesOf, targets } from './targets.js';

const root = makeDirectory('publish');
after(() => removeDirectory(root));

let made = 0;
const newPlace = (): string => join(root, String(++made));

function failsWith(code: string, ...texts: string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ServingError, String(error));
    assert.equal(error.code, code, error.message);
    for (const text of texts) assert.ok(error.message.includes(text), `${text}: ${error.message}`);
    return true;
  };
}

for (const [kind, start] of Object.entries(targets)) targetContract(kind, start);

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
    const { publisher } = publishing(join(empty, 'none'));
    await assert.rejects(publisher.publish(), failsWith('SRV_MODEL_NOT_FOUND', 'none'));
    assert.equal(await publisher.look(), 'failed', 'who goes on looking there is told');
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

  test('a target that falls silent is given up, whatever it was to clean up', async () => {
    const directory = placeModel(newPlace(), 'house', scaleModel(1));
    const silence = new Promise<never>(() => {});
    const asked: string[] = [];
    let isClosed = false;
    class SilentTarget extends FileTarget {
      override writeDirectory(): Promise<void> {
        asked.push('write');
        return silence;
      }
      override removeLock(): Promise<void> {
        asked.push('remove the lock');
        return silence;
      }
      override async close(): Promise<void> {
        isClosed = true;
      }
    }
    const clock = new ManualClock();
    const options = { to: 'file', remotePath: newPlace(), pack: 'none', timeoutS: 30 } as const;
    const publisher = new Publisher(directory, options, { clock, openTarget: () => new SilentTarget() });
    isClosed = false;
    const outcome = assert.rejects(
      publisher.publish(),
      failsWith('SRV_REMOTE_UNAVAILABLE', 'nothing came for 30 s'),
    );
    await until('the target is asked', () => asked.length > 0);
    await clock.advance(30_000);
    await clock.advance(4_000);
    assert.equal(isClosed, false);
    await clock.advance(1_000);
    await outcome;
    assert.equal(isClosed, true);
  });

  test('an address that is none is told before anything is looked at', () => {
    for (const [options, what] of [
      [{ to: 'ftp', ftpHost: 'ftp://files/models' }, 'remote_path'],
      [{ to: 'ftp', ftpHost: 'ftp://me:100%@files' }, '%25'],
      [{ to: 'http', generalHost: 'http://me:100%secret@files' }, '%25'],
      [{ to: 'http', generalHost: 'http://' }, 'http://host:port/path'],
      [{ to: 'hdfs', fsName: 'webhdfs://me:100%@files' }, '%25'],
    ] as const) {
      assert.throws(
        () => new Publisher(newPlace(), { remotePath: '/models', ...options }),
        (error) => failsWith('SRV_BAD_CONFIG', what)(error) && !String(error).includes('100%'),
        JSON.stringify(options),
      );
    }
  });

  test('a place where no directory can be made is refused', {
    skip: process.platform !== 'linux',
  }, async () => {
    const directory = placeModel(newPlace(), 'house', scaleModel(1));
    const { publisher } = publishing(directory, { remotePath: '/proc/none/models' });
    await assert.rejects(publisher.publish(), failsWith('SRV_IO', '/proc/none/models'));
  });

  test('equal files give equal archives', async () => {
    const line = async (): Promise<string> => {
      const directory = placeModel(newPlace(), 'same', scaleModel(3));
      return (await publishing(directory, { pack: 'tar.gz' }).publisher.publish()).digestLine;
    };
    assert.equal(await line(), await line());
  });
});
