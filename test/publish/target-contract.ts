/** What every target must do, seen from the monitor's end. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { PublishOptions } from '../../src/config/publish-settings.js';
import { Monitor } from '../../src/monitor/monitor.js';
import type { PublishTarget } from '../../src/publish/publish-target.js';
import { Publisher, type PublisherDependencies } from '../../src/publish/publisher.js';
import { ManualClock } from '../support/manual-clock.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';
import { filesOf, openTestTarget, type TestTarget } from './targets.js';

/** Tests of one kind of target. */
export function targetContract(kind: string, start: (directory: string) => Promise<TestTarget>): void {
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
