import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ServedApp, type ServedRuntime, type ServeWorld, serve } from '../../src/cli/serve.js';
import type { TableModel } from '../../src/cli/table-text.js';
import type { Surroundings } from '../../src/config/load.js';
import type { RuntimeOptions } from '../../src/config/schema.js';
import { ServingError } from '../../src/errors.js';
import { until } from '../support/until.js';

const root = mkdtempSync(join(tmpdir(), 'serve-'));
after(() => rmSync(root, { recursive: true }));

const surroundings: Surroundings = {
  env: { ONNX_SERVING_LOG_FORMAT: 'pretty' },
  homeDir: '/nowhere',
  tempDir: '/tmp',
  usableCpus: 2,
  isTerminal: false,
};

const ready: TableModel = { name: 'net', version: 1, state: 'ready', devices: ['cpu'] };
const failed: TableModel = { name: 'bad', version: 1, state: 'failed', devices: [], reason: 'it is empty' };

/** A world whose signals, time and runtime the test plays. */
class FakeWorld implements ServeWorld {
  readonly surroundings = surroundings;
  readonly workingDir: string = root;
  bringsModels = false;
  readonly events: string[] = [];
  out = '';
  err = '';
  options: RuntimeOptions | undefined;
  signal: (name: string) => void = () => {};
  timeIsUp: () => void = () => {};
  changeFile: () => void = () => {};
  finishRequests: () => void = () => {};
  isListening: Promise<void>;
  isDraining: Promise<void>;
  #listening: () => void = () => {};
  #draining: () => void = () => {};
  readonly stdout = { write: (text: string) => (this.out += text) };
  readonly stderr = { write: (text: string) => (this.err += text) };

  readonly #models: readonly TableModel[];
  readonly #faults: { open?: Error; listen?: Error };

  constructor(models: readonly TableModel[] = [ready], faults: { open?: Error; listen?: Error } = {}) {
    this.#models = models;
    this.#faults = faults;
    this.isListening = new Promise((done) => {
      this.#listening = done;
    });
    this.isDraining = new Promise((done) => {
      this.#draining = done;
    });
  }

  onStopRequest(listener: (signal: string) => void): () => void {
    this.signal = listener;
    return () => this.events.push('unwatch');
  }

  onFileChange(file: string, listener: () => void): () => void {
    this.events.push(`watch ${file}`);
    this.changeFile = listener;
    return () => this.events.push('unwatch file');
  }

  pause(): Promise<void> {
    return new Promise((done) => {
      this.timeIsUp = done;
    });
  }

  async openRuntime(options: RuntimeOptions): Promise<ServedRuntime> {
    this.options = options;
    if (this.#faults.open) throw this.#faults.open;
    return {
      listModels: () => this.#models,
      bringsModels: this.bringsModels,
      configureTraffic: async (traffic) => void this.events.push(`traffic ${JSON.stringify(traffic)}`),
      drain: () => void this.events.push('not ready'),
      close: async ({ timeoutMs }) => void this.events.push(`runtime.close ${timeoutMs}`),
    };
  }

  async createServer(): Promise<ServedApp> {
    const requestsDone = new Promise<void>((done) => {
      this.finishRequests = done;
    });
    return {
      listen: async ({ host, port }) => {
        if (this.#faults.listen) throw this.#faults.listen;
        this.events.push(`listen ${host} ${port}`);
        setImmediate(this.#listening);
        return '';
      },
      close: async () => {
        this.events.push('app.close');
        this.#draining();
        if (!this.#faults.listen) await requestsDone;
      },
      server: {
        address: () => ({ address: '127.0.0.1', family: 'IPv4', port: 4321 }),
        closeAllConnections: () => {
          this.events.push('cut');
          this.finishRequests();
        },
      },
    };
  }
}

test('serving prints the table and the URL, drains at a signal, and ends in order', async () => {
  const world = new FakeWorld([ready, failed]);
  const ended = serve({ model: ['net.onnx'], drain_timeout_ms: '500' }, world);
  await world.isListening;
  assert.match(
    world.out,
    /^MODEL .*\nnet .*\nbad .*\nbad failed: it is empty\n\nListening on http:\/\/127\.0\.0\.1:4321\n$/,
  );
  assert.equal(world.err, '');
  world.signal('SIGTERM');
  await world.isDraining;
  assert.deepEqual(world.events, ['listen 127.0.0.1 9292', 'not ready', 'app.close']);
  world.finishRequests();
  assert.equal(await ended, 'drained');
  assert.deepEqual(world.events.slice(3), ['runtime.close 500', 'unwatch']);
  assert.match(world.err, /INFO {2}draining signal=SIGTERM/);
});

test('a drain delay keeps the server serving, not ready, until the time is up', async () => {
  const world = new FakeWorld([ready]);
  const ended = serve({ model: ['net.onnx'], drain_delay_ms: '9000' }, world);
  await world.isListening;
  world.signal('SIGTERM');
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(world.events.slice(1), ['not ready']);
  world.timeIsUp();
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(world.events.slice(1), ['not ready', 'app.close']);
  world.finishRequests();
  assert.equal(await ended, 'drained');
});

test('a second signal cuts connections but closes the runtime all the same', async () => {
  const world = new FakeWorld();
  const ended = serve({ model: ['net.onnx'] }, world);
  await world.isListening;
  world.signal('SIGINT');
  await world.isDraining;
  world.signal('SIGINT');
  assert.equal(await ended, 'cut-short');
  assert.deepEqual(world.events.slice(1, 4), ['not ready', 'app.close', 'cut']);
  assert.ok(world.events.includes('runtime.close 0'));
});

test('a drain that does not end in time is cut short', async () => {
  const world = new FakeWorld();
  const ended = serve({ model: ['net.onnx'], drain_timeout_ms: '7' }, world);
  await world.isListening;
  world.signal('SIGTERM');
  await world.isDraining;
  world.timeIsUp();
  assert.equal(await ended, 'cut-short');
  assert.match(world.err, /ERROR the drain did not end in 7 ms/);
});

test('a signal during the start is kept and drains at once after it', async () => {
  const world = new FakeWorld();
  const open = world.openRuntime.bind(world);
  world.openRuntime = (options) => {
    world.signal('SIGTERM');
    return open(options);
  };
  const ended = serve({ model: ['net.onnx'] }, world);
  await world.isDraining;
  world.finishRequests();
  assert.equal(await ended, 'drained');
});

test('without a model ./models is served', async () => {
  const world = new FakeWorld();
  const workingDir = join(root, 'with-models');
  mkdirSync(join(workingDir, 'models'), { recursive: true });
  const ended = serve({}, Object.assign(world, { workingDir }));
  await world.isListening;
  assert.equal(world.options?.modelRepository, join(workingDir, 'models'));
  world.signal('SIGTERM');
  world.finishRequests();
  await ended;
});

test('without a model and without ./models serving says what to do', async () => {
  const world = new FakeWorld();
  assert.equal(await serve({}, world), 'nothing-to-serve');
  assert.match(world.err, /onnx-serving serve --model /);
  assert.equal(world.options, undefined);
});

test('when no model could be loaded the reasons are shown and the port is not taken', async () => {
  const world = new FakeWorld([failed]);
  assert.equal(await serve({ model: ['bad.onnx'] }, world), 'nothing-to-serve');
  assert.match(world.err, /no model could be loaded[\s\S]*bad failed: it is empty/);
  assert.deepEqual(world.events, ['runtime.close 0', 'unwatch']);
});

test('where models are brought from elsewhere the server listens without one, and says that it is not ready', async () => {
  const world = new FakeWorld([failed]);
  world.bringsModels = true;
  const ended = serve({ model: ['https://host/bad.onnx'] }, world);
  await world.isListening;
  assert.match(world.out, /bad failed: it is empty/);
  assert.match(world.err, /WARN .*no model is ready yet: the server reports not ready until/);
  world.signal('SIGTERM');
  world.finishRequests();
  assert.equal(await ended, 'drained');
});

test('without a place what monitors bring is served, beside ./models where that is there', async () => {
  const file = join(root, 'monitors.yaml');
  const monitor = (name: string, path: string): string =>
    `  - { general_host: "http://h", remote_path: /, remote_model_name: m, remote_donefile_name: d, local_path: ${path}, local_model_name: ${name} }\n`;
  writeFileSync(file, `monitors:\n${monitor('a', 'models')}${monitor('b', 'elsewhere')}log_format: pretty\n`);
  const served = async (workingDir: string): Promise<RuntimeOptions | undefined> => {
    const world = Object.assign(new FakeWorld(), { workingDir });
    const ended = serve({ config: file }, world);
    await world.isListening;
    world.signal('SIGTERM');
    world.finishRequests();
    await ended;
    return world.options;
  };
  const first = await served(root);
  assert.deepEqual(first?.models, [{ path: join(root, 'models/a') }, { path: join(root, 'elsewhere/b') }]);
  assert.equal(first?.modelRepository, undefined);
  mkdirSync(join(root, 'models'));
  const next = await served(root);
  assert.deepEqual(next?.models, [{ path: join(root, 'elsewhere/b') }]);
  assert.equal(next?.modelRepository, join(root, 'models'));
  rmSync(join(root, 'models'), { recursive: true });
});

test('fetches of the start are shown where there is a meter', async () => {
  const shown: unknown[] = [];
  const world = Object.assign(new FakeWorld(), { fetchMeter: (now: unknown) => void shown.push(now) });
  const open = world.openRuntime.bind(world);
  const given: unknown[] = [];
  world.openRuntime = (options, deps?: { readonly onFetch?: unknown }) => {
    given.push(deps?.onFetch);
    return open(options);
  };
  const ended = serve({ model: ['https://host/net.onnx'] }, world);
  await world.isListening;
  world.signal('SIGTERM');
  world.finishRequests();
  await ended;
  assert.deepEqual(given, [world.fetchMeter]);
});

test('a given repository may start empty where loading by request is allowed', async () => {
  const world = new FakeWorld([]);
  const ended = serve({ model_repository: root }, world);
  await world.isListening;
  world.signal('SIGTERM');
  world.finishRequests();
  assert.equal(await ended, 'drained');
  const guarded = new FakeWorld([]);
  assert.equal(await serve({ model_repository: root, model_control: 'none' }, guarded), 'nothing-to-serve');
});

test('a repository that cannot be read is nothing to serve', async () => {
  const open = new ServingError('SRV_IO', 'The directory cannot be read.', { details: { path: '/absent' } });
  const world = new FakeWorld([], { open });
  assert.equal(await serve({ model_repository: '/absent' }, world), 'nothing-to-serve');
  const other = new FakeWorld([], { open: new ServingError('SRV_IO', 'The cache cannot be written.') });
  await assert.rejects(serve({ model_repository: '/absent' }, other), { code: 'SRV_IO' });
});

test('a models.config is a place of models: it may be empty, and one that cannot be read is nothing to serve', async () => {
  const world = new FakeWorld([]);
  const ended = serve({ model_config_file: '/m/models.config' }, world);
  await world.isListening;
  world.signal('SIGTERM');
  world.finishRequests();
  assert.equal(await ended, 'drained');
  const open = new ServingError('SRV_IO', 'cannot be read', { details: { path: '/m/models.config' } });
  const absent = new FakeWorld([], { open });
  assert.equal(await serve({ model_config_file: '/m/models.config' }, absent), 'nothing-to-serve');
  assert.match(absent.err, /Nothing to serve: cannot be read/);
});

test('a taken port is named and everything that was opened is closed', async () => {
  const world = new FakeWorld([ready], {
    listen: Object.assign(new Error('listen EADDRINUSE'), { code: 'EADDRINUSE' }),
  });
  await assert.rejects(serve({ model: ['net.onnx'], port: '80' }, world), {
    code: 'SRV_PORT_IN_USE',
    message: /Port 80 of 127\.0\.0\.1 is taken/,
  });
  assert.deepEqual(world.events, ['app.close', 'runtime.close 0', 'unwatch']);
});

test('a host that others can reach is served with a warning', async () => {
  const world = new FakeWorld();
  const ended = serve({ model: ['net.onnx'], host: '0.0.0.0' }, world);
  await world.isListening;
  world.signal('SIGTERM');
  world.finishRequests();
  await ended;
  assert.match(world.err, /WARN .*no TLS and no authentication: put it behind a proxy/);
  assert.equal(world.options?.modelControl, 'none');
});

test('bad settings stop the start before anything is opened', async () => {
  const world = new FakeWorld();
  await assert.rejects(serve({ port: 'http' }, world), { code: 'SRV_BAD_CONFIG' });
  assert.deepEqual(world.events, []);
});

test('traffic of a changed configuration file is taken over, and a file that cannot be meant is refused', async () => {
  const file = join(root, 'traffic.yaml');
  const write = (weight: number, more = ''): void =>
    writeFileSync(
      file,
      `traffic: { net: { variants: [{ tag: a, version: 1, weight: ${weight} }] } }\nlog_format: pretty\n${more}`,
    );
  write(1);
  const world = new FakeWorld();
  const ended = serve({ model: ['net.onnx'], config: file }, world);
  await world.isListening;
  await until('the file is watched', () => world.events.includes(`watch ${file}`));
  write(1, 'max_batch_size: 8\n');
  world.changeFile();
  write(2, 'trafic: {}\n');
  world.changeFile();
  await until('the refusal is logged', () => world.err.includes('did you mean "traffic"?'));
  assert.match(world.err, /ERROR .*the configuration file has changed, and traffic goes on as before: /);
  write(3);
  world.changeFile();
  const taken = 'traffic {"net":{"variants":[{"tag":"a","version":1,"weight":3}]}}';
  await until('the new weights are taken over', () => world.events.includes(taken));
  world.signal('SIGTERM');
  world.finishRequests();
  await ended;
  assert.deepEqual(
    world.events.filter((event) => event.startsWith('traffic') || event.endsWith('file')),
    [taken, 'unwatch file'],
  );
});

test('without a configuration file nothing is watched', async () => {
  const world = new FakeWorld();
  const ended = serve({ model: ['net.onnx'] }, world);
  await world.isListening;
  world.signal('SIGTERM');
  world.finishRequests();
  await ended;
  assert.ok(!world.events.some((event) => event.startsWith('watch')));
});
