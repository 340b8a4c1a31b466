/** How the real command line starts, and how it refuses to. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { call, json, jsonInput } from '../support/http-call.js';
import { packageRoot, ServerProcess } from '../support/server-process.js';
import { makeDirectory, placeModel, removeDirectory, scaleModel } from '../support/test-models.js';

const ring = join(packageRoot, 'examples/ring');

/** A directory of the test's own, also its home: caches land in it. */
function directoryOf(t: TestContext): string {
  const directory = makeDirectory('e2e');
  t.after(() => removeDirectory(directory));
  return directory;
}

function start(
  t: TestContext,
  args: readonly string[],
  options: {
    readonly env?: Record<string, string>;
    readonly cwd?: string;
    readonly home?: string;
    readonly uid?: number;
  } = {},
): ServerProcess {
  const home = options.home ?? directoryOf(t);
  return new ServerProcess(t, ['serve', '--port', '0', '--thread', '1', ...args], {
    ...options,
    env: { HOME: home, XDG_CACHE_HOME: join(home, '.cache'), ...options.env },
  });
}

async function assertServes(url: string, model = 'ring'): Promise<void> {
  const [name, width] = model === 'ring' ? ['point', 2] : ['x', 4];
  const body = {
    inputs: [jsonInput(name as string, 'FP32', [1, width as number], Array(width as number).fill(0.5))],
  };
  const answer = await call(`${url}/v2/models/${model}/infer`, { body });
  assert.equal(answer.status, 200, answer.body.toString());
}

test('it starts, shows its models, answers, and ends in order on SIGTERM and on SIGINT', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const server = start(t, ['--model', ring]);
    const url = await server.listening();
    assert.match(server.out, /MODEL +VERSION +STATE[\s\S]*ring +1 +ready/);
    await assertServes(url);
    server.kill(signal);
    assert.equal(await server.ended, 0, server.text);
  }
});

test('npm start makes the table of the sample, and prints a curl that gets the answer that stands below it', async (t) => {
  const home = directoryOf(t);
  // A group of its own: npm, its shell and the server.
  const npm = spawn('npm', ['start', '--', '--port', '0', '--thread', '1'], {
    cwd: packageRoot,
    env: { ...process.env, HOME: home, XDG_CACHE_HOME: join(home, '.cache') },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let text = '';
  const ended = new Promise<void>((resolve) => npm.once('close', () => resolve()));
  t.after(async () => {
    if (npm.exitCode === null && npm.signalCode === null) process.kill(-npm.pid!, 'SIGTERM');
    await ended;
  });
  const printed = await new Promise<RegExpExecArray>((resolve, reject) => {
    const read = (part: Buffer): void => {
      text += part;
      const found = /^ {2}curl -s (\S+) -d '([^']+)'\n\nIt answers .* about (0\.\d\d)\.$/m.exec(text);
      if (found) resolve(found);
    };
    npm.stdout.on('data', read);
    npm.stderr.on('data', read);
    void ended.then(() => reject(new Error(`it ended before it printed a curl: ${text}`)));
  });
  assert.match(text, /^ctr +1 +ready +cpu +dense FP32\[\?,13\], ids INT64\[\?,26\] +ctr FP32\[\?,1\]/m);
  const [, url, body, about] = printed;
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const answer = await call(url!, { body: body!, headers });
  assert.equal(answer.status, 200, answer.body.toString());
  const { outputs } = json<{ outputs: { name: string; shape: number[]; data: number[] }[] }>(answer);
  assert.deepEqual(
    outputs.map(({ name, shape, data }) => [name, shape, data.map((value) => value.toFixed(2))]),
    [['ctr', [1, 1], [about]]],
  );
});

test('two --model are two independent models, named by their places or by --name', async (t) => {
  const directory = directoryOf(t);
  const scale = placeModel(directory, 'scale', scaleModel());
  const server = start(t, ['--model', ring, '--model', scale, '--name', 'ring', '--name', 'other']);
  const url = await server.listening();
  await assertServes(url);
  await assertServes(url, 'other');
  assert.equal((await call(`${url}/v2/models/scale/ready`)).status, 404);
});

test('without a place it serves ./models, and without that says what to do and exits 3', async (t) => {
  const directory = directoryOf(t);
  const empty = start(t, [], { cwd: directory });
  assert.equal(await empty.ended, 3);
  assert.match(empty.err, /Nothing to serve[\s\S]*--model/);
  placeModel(join(directory, 'models'), 'scale', scaleModel());
  const server = start(t, [], { cwd: directory });
  await assertServes(await server.listening(), 'scale');
});

test('a place that holds no model, or none that loads, exits 3 with the reason', async (t) => {
  const directory = directoryOf(t);
  const server = start(t, ['--model_repository', directory, '--model_control', 'none']);
  assert.equal(await server.ended, 3, server.text);
  const bad = join(directory, 'bad.onnx');
  writeFileSync(bad, 'this is no model');
  const failed = start(t, ['--model', bad]);
  assert.equal(await failed.ended, 3, failed.text);
  assert.match(failed.err, /no model could be loaded[\s\S]*bad/);
});

test('a taken port exits 1 and is named', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  const server = start(t, ['--model', ring, '--port', String(port)]);
  assert.equal(await server.ended, 1, server.text);
  assert.match(server.err, new RegExp(`Port ${port} of 127\\.0\\.0\\.1 is taken`));
});

test('a bad flag, value or file exits 2 with the nearest name', async (t) => {
  for (const [args, reason] of [
    [['--prot', '80'], /--port/],
    [['--port', 'http'], /port/],
    [['--gpu_ids', 'a,b'], /gpu_ids/],
    [['--config', '/no/such/file.yaml'], /cannot be read/],
    [['extra'], /too many arguments/],
  ] as const) {
    const server = start(t, ['--model', ring, ...args]);
    assert.equal(await server.ended, 2, `${args}: ${server.text}`);
    assert.match(server.err, reason);
  }
});

test('flag over environment over file, each of them seen to work', async (t) => {
  const directory = directoryOf(t);
  const config = join(directory, 'serving.yaml');
  writeFileSync(
    config,
    `model: ${ring}\nserver_name: from-file\nmax_body_size: 2kb\nmax_batch_size: 3\nlog_level: debug\n`,
  );
  const server = start(t, ['--config', config, '--server_name', 'from-flag'], {
    env: { ONNX_SERVING_SERVER_NAME: 'from-environment', ONNX_SERVING_MAX_BATCH_SIZE: '5' },
  });
  const url = await server.listening();
  assert.equal(json(await call(`${url}/v2`)).name, 'from-flag');
  assert.equal(json(await call(`${url}/v2/models/ring/config`)).max_batch_size, 5);
  assert.equal((await call(`${url}/v2/models/ring/infer`, { body: Buffer.alloc(3000) })).status, 413);
});

test('an unknown key in the file, and an unknown variable, stop the start', async (t) => {
  const directory = directoryOf(t);
  const config = join(directory, 'serving.yaml');
  writeFileSync(config, 'max_batchsize: 3\n');
  const server = start(t, ['--model', ring, '--config', config]);
  assert.equal(await server.ended, 2, server.text);
  assert.match(server.err, /max_batchsize.*max_batch_size/);
});

test('a missing GPU provider exits 2 and says what to install', async (t) => {
  const server = start(t, ['--model', ring, '--gpu_ids', '0', '--provider', 'cuda']);
  const code = await Promise.race([server.ended, server.listening().then(() => 'listens' as const)]);
  if (code === 'listens') return t.skip('this machine has the CUDA provider');
  assert.equal(code, 2, server.text);
  assert.match(server.err, /cuda:0 cannot be used[\s\S]*To install it: .*onnxruntime-node-install/);
});

test('--gpu_ids 0,1 with CPU sessions standing for cards shows and uses both', async (t) => {
  const server = start(t, ['--model', ring, '--gpu_ids', '0,1', '--provider', 'cpu']);
  const url = await server.listening();
  assert.match(server.out, /cpu:0.*cpu:1/);
  await assertServes(url);
});

test('a cache directory that cannot be written is told, and the models are served from their own files', async (t) => {
  const file = join(directoryOf(t), 'file');
  writeFileSync(file, '');
  const server = start(t, ['--model', ring, '--cache_dir', join(file, 'cache')]);
  await assertServes(await server.listening());
  assert.match(server.out, /ring .*original/);
  assert.match(server.err, /file\/cache/);
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});

test('an empty home directory is enough', async (t) => {
  const home = directoryOf(t);
  const server = start(t, ['--model', ring], { home });
  await assertServes(await server.listening());
  assert.ok(existsSync(join(home, '.cache', 'onnx-serving')));
});

test('a model directory that cannot be read fails alone', async (t) => {
  const locked: string[] = [];
  // Before the directory is removed, which only root can do otherwise.
  t.after(() => {
    for (const place of locked) chmodSync(place, 0o755);
  });
  const repository = directoryOf(t);
  const home = directoryOf(t);
  placeModel(repository, 'scale', scaleModel());
  const closed = placeModel(repository, 'closed', scaleModel());
  chmodSync(closed, 0);
  locked.push(closed);
  // Root reads every directory: it has somebody else serve.
  const isRoot = process.getuid?.() === 0;
  const nobody = 65_534;
  if (isRoot) for (const place of [repository, home, closed]) chownSync(place, nobody, nobody);
  const server = start(t, ['--model_repository', repository], { home, ...(isRoot ? { uid: nobody } : {}) });
  const url = await server.listening().catch((error: Error) => error);
  if (url instanceof Error && isRoot && /EACCES.*onnx-serving\.js|Cannot find module/.test(url.message)) {
    return t.skip('run as root from a place that nobody else may read');
  }
  assert.equal(typeof url, 'string', String(url));
  await assertServes(url as string, 'scale');
  assert.match(server.out, /closed +.*failed/);
  assert.match(server.text, /EACCES|permission denied/);
});

test('two servers share one cache directory, cold and at the same time', async (t) => {
  const home = directoryOf(t);
  const repository = directoryOf(t);
  for (let i = 0; i < 4; i++) placeModel(repository, `m${i}`, scaleModel(i));
  const servers = [0, 1].map(() => start(t, ['--model_repository', repository], { home }));
  const urls = await Promise.all(servers.map((server) => server.listening()));
  for (const url of urls) for (let i = 0; i < 4; i++) await assertServes(url, `m${i}`);
  const later = start(t, ['--model_repository', repository], { home });
  const url = await later.listening();
  for (let i = 0; i < 4; i++) await assertServes(url, `m${i}`);
});

test('--log_dir takes the log, in files that are rotated by size', async (t) => {
  const logs = join(directoryOf(t), 'logs');
  const server = start(t, [
    ...['--model', ring, '--log_dir', logs, '--log_level', 'debug'],
    ...['--log_max_file_bytes', '2kb', '--log_max_files', '3'],
  ]);
  const url = await server.listening();
  for (let i = 0; i < 60; i++)
    await call(`${url}/v2/models/nothing`, { headers: { 'x-request-id': `call-${i}` } });
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0);
  const files = readdirSync(logs).toSorted();
  assert.deepEqual(files, ['onnx-serving.log', 'onnx-serving.log.1', 'onnx-serving.log.2']);
  for (const file of files) assert.ok(statSync(join(logs, file)).size <= 2048, file);
  const lines = readFileSync(join(logs, 'onnx-serving.log.1'), 'utf8').trimEnd().split('\n');
  for (const line of lines) JSON.parse(line);
  assert.match(files.map((file) => readFileSync(join(logs, file), 'utf8')).join(''), /"requestId":"call-59"/);
  assert.ok(!server.err.includes('call-59'));
});

test('a log directory that cannot be made exits 1 and is named', async (t) => {
  const directory = directoryOf(t);
  mkdirSync(join(directory, 'a'));
  writeFileSync(join(directory, 'a', 'file'), '');
  const server = start(t, ['--model', ring, '--log_dir', join(directory, 'a', 'file', 'logs')]);
  assert.equal(await server.ended, 1, server.text);
  assert.match(server.err, /log directory .*file\/logs cannot be written/);
});
