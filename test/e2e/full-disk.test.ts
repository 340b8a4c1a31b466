/** Disks that are full, real ones: what served goes on, the reason is told, no half file stays, and room is used. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pino } from 'pino';
import type { RuntimeOptions } from '../../src/config/schema.js';
import type { ServingError } from '../../src/errors.js';
import { CrashMemory } from '../../src/instance/crash-journal.js';
import { StateFile } from '../../src/lifecycle/state-file.js';
import { type OnnxModel, writeOnnxModel } from '../../src/model/onnx-writer.js';
import { Monitor } from '../../src/monitor/monitor.js';
import type { Logger } from '../../src/observe/logger.js';
import { Publisher } from '../../src/publish/publisher.js';
import type { ModelStatus } from '../../src/server/service.js';
import { tensor } from '../../src/tensor/tensor.js';
import { filesOf } from '../publish/targets.js';
import { serveFiles } from '../support/file-server.js';
import { type OpenedRuntime, openWith, type ServedModel } from '../support/served.js';
import { mountSmallDisk, type SmallDisk, withSmallDisks } from '../support/small-disk.js';
import { floats, makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';
import { until } from '../support/until.js';

/** `y = factor * x` in a file of nearly a megabyte, whose constants are too small for a prepared form. */
function longModel(factor: number): OnnxModel {
  const model = scaleModel(factor);
  return {
    ...model,
    initializers: [...model.initializers!, floats('unused', [230_000], Array(230_000).fill(1))],
  };
}

/** Two megabytes of weights that a prepared form shares. */
function heavyModel(): OnnxModel {
  return {
    nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['batch', 512] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['batch', 1024] }],
    initializers: [
      { name: 'w', datatype: 'FP32', shape: [512, 1024], data: new Float32Array(2 ** 19).fill(1) },
    ],
  };
}

/** A log that can be read. */
function listen(): { readonly logger: Logger; text(): string } {
  const lines: string[] = [];
  return {
    logger: pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) }),
    text: () => lines.join(''),
  };
}

interface Opened extends OpenedRuntime {
  text(): string;
  factor(model: string): Promise<number>;
  statusOf(model: string): ModelStatus;
}

/** A runtime whose cache is on a disk. */
async function open(
  t: TestContext,
  disk: SmallDisk,
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions = {},
): Promise<Opened> {
  const { logger, text } = listen();
  const opened = await openWith(models, { cacheDir: join(disk.path, 'cache'), ...options }, { logger });
  t.after(opened.close);
  return {
    ...opened,
    text,
    factor: async (model) => {
      const { outputs } = await opened.runtime.infer(model, { x: tensor('FP32', [1, 4], [1, 1, 1, 1]) });
      return Number(outputs.y!.data[0]);
    },
    statusOf: (model) => opened.runtime.listModels().find(({ name }) => name === model)!,
  };
}

/** Paths on a disk that fit. */
function pathsOn({ path }: SmallDisk, pattern: RegExp): string[] {
  return readdirSync(path, { recursive: true })
    .map(String)
    .filter((one) => pattern.test(one));
}

function scratch(t: TestContext): string {
  const directory = makeDirectory('full-disk');
  t.after(() => removeDirectory(directory));
  return directory;
}

withSmallDisks(import.meta.url, () => {
  test('a start on a full disk serves models from their own files, and a load makes the form once there is room', async (t) => {
    const disk = mountSmallDisk(t, 12);
    disk.fill();
    const models = { small: scaleModel(7), heavy: heavyModel() };
    const { runtime, factor, statusOf, text } = await open(t, disk, models);
    assert.equal(await factor('small'), 7);
    const { state, form, formReason } = statusOf('heavy');
    assert.deepEqual([state, form], ['ready', 'original']);
    assert.equal(
      formReason,
      `the disk of ${disk.path}/cache has 0 bytes free, and the weights of a form have 2097152`,
    );
    assert.match(text(), /native crashes will not be remembered over restarts: .*No space left on device/);
    assert.deepEqual(pathsOn(disk, /work\.|prepared-|\.tmp|\.lock/), []);
    disk.makeRoom();
    await runtime.load('heavy');
    assert.notEqual(statusOf('heavy').form, 'original', statusOf('heavy').formReason);
  });

  test('a disk that fills up while a form is written keeps nothing of it, and no verdict that would outlast it', async (t) => {
    const disk = mountSmallDisk(t, 12);
    const model = heavyModel();
    // A constant of less than a megabyte lies in the form's other file, for which there is no room.
    const heavy: OnnxModel = {
      ...model,
      nodes: [...model.nodes, { op: 'Identity', inputs: ['bias'], outputs: ['z'] }],
      outputs: [...model.outputs, { name: 'z', datatype: 'FP32', shape: [200, 1024] }],
      initializers: [...model.initializers!, floats('bias', [200, 1024], Array(204_800).fill(1))],
    };
    const { runtime, statusOf } = await open(t, disk, {
      heavy: { model: heavy, settings: { prepare: 'off' } },
    });
    disk.fill(2 ** 21 + 2 ** 18);
    const load = () => runtime.load('heavy', { config: { prepare: 'auto', prepacking: 'off' } });
    await load();
    assert.equal(statusOf('heavy').form, 'original');
    assert.match(
      statusOf('heavy').formReason!,
      /it could not be written: .*; the disk of .*cache has \d+ bytes free/,
    );
    assert.deepEqual(pathsOn(disk, /work\.|\.d$|\.tmp|\.lock/), []);
    disk.makeRoom();
    await load();
    assert.equal(statusOf('heavy').form, 'prepared', statusOf('heavy').formReason);
  });

  test('files that cannot be copied or fetched leave what served before, and come when there is room', async (t) => {
    const disk = mountSmallDisk(t, 12);
    const remote = scratch(t);
    const server = await serveFiles(remote);
    t.after(server.close);
    const publish = (model: OnnxModel): void =>
      writeFileSync(join(remote, 'fetched.onnx'), writeOnnxModel(model));
    publish(scaleModel(1));
    const { repository, factor, statusOf, text } = await open(
      t,
      disk,
      { copied: scaleModel(1) },
      { models: [{ path: `${server.address}/fetched.onnx` }], reloadIntervalS: 1 },
    );
    const served = async (): Promise<number[]> => Promise.all(['copied', 'fetched'].map(factor));
    assert.deepEqual(await served(), [1, 1]);
    disk.fill();
    const file = join(repository, 'copied/model.onnx');
    writeFileSync(file, writeOnnxModel(longModel(2)));
    writeFileSync(join(repository, 'copied/fluid_time_file'), '');
    publish(longModel(2));
    await until('the copy has failed', () => statusOf('copied').reason !== undefined);
    const { state, reason } = statusOf('copied');
    assert.equal(state, 'ready');
    assert.match(
      reason!,
      /its new content is not served: .*copied\/model\.onnx cannot be taken over: ENOSPC/,
    );
    assert.ok(reason!.includes(join(disk.path, 'cache/taken')), reason);
    const place = join(disk.path, 'cache/remote').replaceAll('/', '\\/');
    const failed = new RegExp(`"SRV_IO".*the model was not fetched: .*${place}.*ENOSPC`);
    await until('the fetch has failed', () => failed.test(text()));
    assert.deepEqual(await served(), [1, 1]);
    await until('both have cleared up', () => pathsOn(disk, /\.work-|attempt-|\.lock/).length === 0);
    disk.makeRoom();
    await until('the copy is served', async () => (await factor('copied')) === 2);
    await until('what was fetched is served', async () => (await factor('fetched')) === 2);
  });

  for (const localTmpPath of ['within it', 'on another disk']) {
    /** A monitor whose model lies on a disk, and its publisher. */
    const openMonitor = async (t: TestContext, disk: SmallDisk) => {
      const remote = scratch(t);
      const server = await serveFiles(remote);
      t.after(server.close);
      const { logger, text } = listen();
      const monitor = new Monitor(
        {
          generalHost: server.address,
          remotePath: '/',
          remoteModelName: 'ctr',
          remoteDonefileName: 'done',
          localPath: disk.path,
          localModelName: 'ctr',
          ...(localTmpPath === 'within it' ? {} : { localTmpPath: scratch(t) }),
        },
        { logger },
      );
      const publish = (name: string, content: string | Buffer): void => {
        mkdirSync(join(remote, 'ctr'), { recursive: true });
        writeFileSync(join(remote, 'ctr/model.onnx'), content);
        writeFileSync(join(remote, 'done'), name);
      };
      return { monitor, text, publish };
    };

    test(`a monitor of a full disk keeps the model of before, with its files in work ${localTmpPath}`, async (t) => {
      const disk = mountSmallDisk(t, 1);
      const { monitor, text, publish } = await openMonitor(t, disk);
      publish('1', 'old');
      assert.equal(await monitor.look(), 'installed');
      const before = pathsOn(disk, /./).toSorted();
      publish('2', Buffer.alloc(2 << 20));
      assert.equal(await monitor.look(), 'failed');
      assert.match(text(), /"code":"SRV_IO".*ENOSPC/);
      assert.ok(text().includes(disk.path));
      assert.deepEqual(pathsOn(disk, /./).toSorted(), before);
      publish('3', 'new');
      disk.fill();
      assert.equal(await monitor.look(), 'failed', 'not one byte is free');
      assert.doesNotMatch(text(), /SRV_INTERNAL/);
      assert.deepEqual(pathsOn(disk, /^(?!ballast)/).toSorted(), before);
      assert.equal(readFileSync(join(disk.path, 'ctr/model.onnx'), 'utf8'), 'old');
      disk.makeRoom();
      assert.equal(await monitor.look(), 'installed');
      assert.equal(readFileSync(join(disk.path, 'ctr/model.onnx'), 'utf8'), 'new');
    });

    test(`a sample of traffic that a disk has no room for twice is given up for the new model, with files in work ${localTmpPath}`, async (t) => {
      const disk = mountSmallDisk(t, 1);
      const { monitor, text, publish } = await openMonitor(t, disk);
      publish('1', 'old');
      assert.equal(await monitor.look(), 'installed');
      const before = pathsOn(disk, /./).toSorted();
      mkdirSync(join(disk.path, 'ctr/.warmup'));
      writeFileSync(join(disk.path, 'ctr/.warmup/ctr.recorded.bin'), Buffer.alloc(600_000));
      publish('2', 'new');
      assert.equal(await monitor.look(), 'installed');
      assert.match(
        text(),
        /"the sample of traffic beside the model is lost: .*\.warmup cannot be copied: ENOSPC/,
      );
      assert.deepEqual(pathsOn(disk, /./).toSorted(), before);
      assert.equal(readFileSync(join(disk.path, 'ctr/model.onnx'), 'utf8'), 'new');
    });
  }

  for (const pack of ['none', 'tar.gz'] as const) {
    test(`a publication to a full disk leaves the one before, packed: ${pack}`, async (t) => {
      const disk = mountSmallDisk(t, 1);
      const model = placeModel(scratch(t), 'house', scaleModel(1));
      const publisher = new Publisher(model, { to: 'file', remotePath: disk.path, pack });
      await publisher.publish();
      const before = filesOf(disk.path);
      // Bytes that no packing makes fewer.
      writeFileSync(join(model, 'notes'), randomBytes(2 << 20));
      await assert.rejects(publisher.publish(), (error: ServingError) => {
        assert.equal(error.code, 'SRV_IO');
        assert.match(error.message, /cannot be written: ENOSPC/);
        return error.message.includes(disk.path);
      });
      assert.deepEqual(filesOf(disk.path), before);
      disk.fill();
      await assert.rejects(publisher.publish(), { code: 'SRV_IO' });
      disk.makeRoom();
      assert.deepEqual(filesOf(disk.path), before);
      writeFileSync(join(model, 'notes'), 'fewer');
      await publisher.publish();
      assert.notDeepEqual(filesOf(disk.path), before);
    });
  }

  test('a version that finds no room to be packed is not published, and the error names the place', async (t) => {
    const disk = mountSmallDisk(t, 1);
    const model = placeModel(scratch(t), 'house', scaleModel(1));
    writeFileSync(join(model, 'notes'), randomBytes(2 << 20));
    const store = join(scratch(t), 'store');
    const { TMPDIR } = process.env;
    process.env.TMPDIR = disk.path;
    t.after(() => {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
    });
    await assert.rejects(
      new Publisher(model, { to: 'file', remotePath: store }).publish(),
      (error: ServingError) => error.code === 'SRV_IO' && error.message.includes(`packed at ${disk.path}`),
    );
    assert.deepEqual(readdirSync(disk.path), []);
    assert.equal(existsSync(store), false);
  });

  test('what is kept over a restart is what was before, until there is room for more', (t) => {
    const disk = mountSmallDisk(t, 1);
    const { logger, text } = listen();
    const path = join(disk.path, 'state.json');
    const state = new StateFile(path, logger);
    state.set('part', 'before');
    disk.fill();
    state.set('part', 'now');
    assert.match(text(), /the state is not kept over a restart: .*state\.json: ENOSPC/);
    assert.deepEqual(readdirSync(disk.path).toSorted(), ['ballast', 'state.json']);
    assert.equal(new StateFile(path, logger).get('part'), 'before');
    disk.makeRoom();
    state.set('part', 'later');
    assert.equal(new StateFile(path, logger).get('part'), 'later');
  });

  test('a model is loaded although the crash journal has no room for its name', (t) => {
    const disk = mountSmallDisk(t, 1);
    const memory = new CrashMemory({ directory: disk.path, identity: 'me', isAlive: () => true });
    assert.equal(memory.open(), undefined);
    t.after(() => memory.close());
    const model = (id: number) => ({ id, digest: 'd'.repeat(40), name: 'm'.repeat(200), version: 1 });
    disk.fill();
    const reasons: string[] = [];
    // There is room for a few names in the block that the file has already.
    for (let id = 1; reasons.length === 0 && id < 1000; id++) {
      const noted = memory.remember(model(id), (said) => reasons.push(said));
      assert.equal(noted, reasons.length === 0 ? id : 0);
    }
    assert.match(reasons[0]!, /it will not be known should it end the process: .*me\.models: ENOSPC/);
    disk.makeRoom();
    assert.equal(memory.remember(model(7000)), 7000);
    assert.match(readFileSync(join(disk.path, 'me.models'), 'utf8'), /\n\{"id":7000,.*\}\n$/);
  });
});
