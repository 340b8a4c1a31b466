import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  isLoopback,
  loadServeConfig,
  resolveLogConfig,
  resolveRuntimeConfig,
  resolveServerConfig,
  type Surroundings,
} from '../../src/config/load.js';
import type { RuntimeOptions, ServeConfig } from '../../src/config/schema.js';
import { type FlagTexts, parseByteSize } from '../../src/config/sources.js';
import { ServingError } from '../../src/errors.js';

const directory = mkdtempSync(join(tmpdir(), 'config-'));
after(() => rmSync(directory, { recursive: true }));

const bare: Surroundings = {
  env: {},
  homeDir: '/home/someone',
  tempDir: '/tmp',
  usableCpus: 4,
  isTerminal: false,
};

function load(
  sources: { flags?: FlagTexts; env?: Record<string, string>; file?: string; fileName?: string } = {},
): ServeConfig {
  const flags: Record<string, string | readonly string[]> = { ...sources.flags };
  if (sources.file !== undefined) {
    flags.config = join(directory, sources.fileName ?? 'config.yaml');
    writeFileSync(flags.config, sources.file);
  }
  return loadServeConfig({ flags, surroundings: { ...bare, env: sources.env ?? {} } });
}

function problemsOf(run: () => unknown): readonly string[] {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ServingError, String(error));
    assert.equal(error.code, 'SRV_BAD_CONFIG');
    for (const problem of (error.details?.problems ?? []) as string[]) {
      assert.ok(error.message.includes(problem), `the message lacks "${problem}"`);
    }
    return (error.details?.problems ?? [error.message]) as string[];
  }
  assert.fail('expected SRV_BAD_CONFIG');
}

/** A value that the types refuse, as a JavaScript caller may give it. */
const untyped = (options: unknown): RuntimeOptions => options as RuntimeOptions;

test('an embedder without options gets every default', () => {
  const config = resolveRuntimeConfig({}, bare);
  assert.deepEqual(config, {
    models: [],
    monitors: [],
    modelConfigFilePollWaitSeconds: 0,
    fileSystemPollWaitSeconds: 1,
    reloadableType: 'timestamp_ne',
    reloadIntervalS: 10,
    reload: 'availability_first',
    loadModels: 'at_start',
    keepPrevious: 0,
    allowVersionLabelsForUnavailableModels: false,
    modelControl: 'none',
    cacheDir: '/home/someone/.cache/onnx-serving',
    cacheBytes: 20 * 2 ** 30,
    prepareTimeoutMs: 600_000,
    verifyTables: 'off',
    compactTables: 0,
    traffic: {},
    threads: 3,
    intraOpThreads: 1,
    gpuIds: [],
    provider: 'cuda',
    predictorsPerCard: 1,
    cpuGroup: true,
    idlePath: 'off',
    maxBatchSize: 64,
    maxQueueDelayUs: 0,
    allowSplitRequest: true,
    maxQueueSize: 1024,
    maxQueueBytes: 256 * 2 ** 20,
    maxSlabBytes: 2 ** 30,
    requestTimeoutMs: 30_000,
    drainDelayMs: 0,
    drainTimeoutMs: 30_000,
    warmUpCount: 5,
    warmUpTimeoutMs: 10_000,
    warmUpFailure: 'fail',
    warmUpBatchSizes: 'auto',
    warmUpDownloadTimeoutMs: 30_000,
    recordWarmup: 0,
    recordWarmupBytes: 16 * 2 ** 20,
    recordWarmupIntervalMs: 60_000,
  });
  assert.deepEqual(resolveServerConfig({}, bare), {
    host: '127.0.0.1',
    port: 9292,
    serverName: 'onnx-serving',
    maxBodySize: 64 * 2 ** 20,
    maxInflightBytes: 512 * 2 ** 20,
    headerTimeoutMs: 10_000,
    bodyTimeoutMs: 30_000,
    keepAliveTimeoutMs: 72_000,
    maxConnections: 0,
  });
  assert.deepEqual(resolveLogConfig({}, bare), {
    level: 'info',
    format: 'json',
    maxFileBytes: 50 * 2 ** 20,
    maxFiles: 5,
  });
});

test('an explicit undefined does not erase a default', () => {
  const config = resolveRuntimeConfig(
    { maxBatchSize: undefined, threads: undefined, gpuIds: undefined },
    bare,
  );
  assert.equal(config.maxBatchSize, 64);
  assert.equal(config.threads, 3);
  assert.equal(config.cpuGroup, true);
  const named = resolveRuntimeConfig({ models: [{ path: 'a.onnx', name: undefined }] }, bare);
  assert.deepEqual(named.models, [{ path: 'a.onnx' }]);
});

test('a resolved configuration is frozen and is not the caller’s object', () => {
  const models = [{ path: 'a.onnx' }];
  const config = resolveRuntimeConfig({ models }, bare);
  assert.ok(Object.isFrozen(config) && Object.isFrozen(config.models) && Object.isFrozen(config.models[0]));
  models.push({ path: 'b.onnx' });
  assert.equal(config.models.length, 1);
  const served = load();
  assert.ok(Object.isFrozen(served) && Object.isFrozen(served.server));
});

test('all problems of the options are listed at once', () => {
  const problems = problemsOf(() =>
    resolveRuntimeConfig(
      untyped({
        threads: 0,
        maxBatchSize: '64',
        provider: 'cudaa',
        gpuIds: [-1, 1.5],
        models: [{ nam: 'x' }],
      }),
      bare,
    ),
  );
  assert.deepEqual(problems, [
    'models[0].nam: unknown key; did you mean "name"?',
    'models[0].path: missing: expected a non-empty string',
    'threads: expected an integer from 1 to 1024, got 0',
    'gpuIds[0]: expected an integer of at least 0, got -1',
    'gpuIds[1]: expected an integer of at least 0, got 1.5',
    'provider: expected cuda, tensorrt, webgpu or cpu, got "cudaa"',
    'maxBatchSize: expected an integer from 1 to 65536, got "64"',
  ]);
});

test('an unknown option names the nearest known one, or the part it belongs to', () => {
  assert.deepEqual(
    problemsOf(() => resolveRuntimeConfig(untyped({ max_batch_size: 3, port: 1 }), bare)),
    [
      'max_batch_size: unknown key; did you mean "maxBatchSize"?',
      'port: unknown key; it belongs to the server settings',
    ],
  );
});

test('options that are no object are refused', () => {
  problemsOf(() => resolveRuntimeConfig(untyped('models'), bare));
  problemsOf(() => resolveRuntimeConfig(untyped([]), bare));
  problemsOf(() => resolveRuntimeConfig(untyped(null), bare));
});

test('a function among the options is a problem, not a crash', () => {
  assert.equal(problemsOf(() => resolveRuntimeConfig(untyped({ models: () => [] }), bare)).length, 1);
});

test('repeated cards are refused', () => {
  assert.deepEqual(
    problemsOf(() => resolveRuntimeConfig({ gpuIds: [0, 0] }, bare)),
    ['gpuIds: expected a list without repetitions, got [0,0]'],
  );
});

test('a model’s name may not hold a slash', () => {
  assert.equal(
    problemsOf(() => resolveRuntimeConfig({ models: [{ path: 'a', name: '../b' }] }, bare)).length,
    1,
  );
  assert.equal(
    problemsOf(() => resolveRuntimeConfig({ models: [{ path: 'a', name: '..' }] }, bare)).length,
    1,
  );
});

test('cards turn the CPU group off unless it is asked for', () => {
  assert.equal(resolveRuntimeConfig({ gpuIds: [0, 1] }, bare).cpuGroup, false);
  assert.equal(resolveRuntimeConfig({ gpuIds: [0], cpuGroup: true }, bare).cpuGroup, true);
  assert.deepEqual(
    problemsOf(() => resolveRuntimeConfig({ cpuGroup: false }, bare)),
    ['cpuGroup: false leaves nothing to run on, because no card is given'],
  );
});

test('byte sizes are integers or text in powers of 1024', () => {
  assert.equal(resolveServerConfig({ maxBodySize: '64mb' }, bare).maxBodySize, 64 * 2 ** 20);
  assert.equal(resolveRuntimeConfig({ cacheBytes: '1.5 GiB' }, bare).cacheBytes, 1.5 * 2 ** 30);
  assert.equal(parseByteSize('12'), 12);
  assert.equal(parseByteSize('2k'), 2048);
  for (const text of ['', 'mb', '64 monkeys', '-1mb', '0.3', '1e3', '99999999tb']) {
    assert.equal(parseByteSize(text), undefined, text);
  }
  assert.deepEqual(
    problemsOf(() => resolveServerConfig({ maxBodySize: 'much' }, bare)),
    ['maxBodySize: expected an integer of at least 1024, got "much"'],
  );
});

test('the cache goes under XDG_CACHE_HOME, the home, or the temporary directory', () => {
  const at = (changes: Partial<Surroundings>): string =>
    resolveRuntimeConfig({}, { ...bare, ...changes }).cacheDir;
  assert.equal(at({ env: { XDG_CACHE_HOME: '/var/cache' } }), '/var/cache/onnx-serving');
  assert.equal(at({}), '/home/someone/.cache/onnx-serving');
  assert.equal(at({ homeDir: '' }), '/tmp/onnx-serving');
  assert.equal(at({ homeDir: '/' }), '/tmp/onnx-serving');
});

test('one usable CPU still gives one thread', () => {
  assert.equal(resolveRuntimeConfig({}, { ...bare, usableCpus: 1 }).threads, 1);
});

test('the log is pretty on a terminal, but not in files', () => {
  const terminal = { ...bare, isTerminal: true };
  assert.equal(resolveLogConfig({}, terminal).format, 'pretty');
  assert.equal(resolveLogConfig({ dir: 'logs' }, terminal).format, 'json');
});

test('a flag wins over the environment, the environment over the file, the file over the default', () => {
  const file = 'port: 1\nhost: 10.0.0.1\nserver_name: from-file\n';
  const env = { ONNX_SERVING_PORT: '2', ONNX_SERVING_HOST: '10.0.0.2' };
  const { server } = load({ file, env, flags: { port: '3' } });
  assert.equal(server.port, 3);
  assert.equal(server.host, '10.0.0.2');
  assert.equal(server.serverName, 'from-file');
  assert.equal(server.maxConnections, 0);
});

test('every kind of setting can be given as text', () => {
  const { runtime, server, log } = load({
    flags: {
      thread: '2',
      gpu_ids: '0,1',
      provider: 'cpu',
      cpu_group: 'true',
      allow_split_request: 'false',
      max_body_size: '1mb',
      log_level: 'warn',
      model_repository: 'repo',
    },
  });
  assert.equal(runtime.threads, 2);
  assert.deepEqual(runtime.gpuIds, [0, 1]);
  assert.equal(runtime.cpuGroup, true);
  assert.equal(runtime.allowSplitRequest, false);
  assert.equal(runtime.modelRepository, 'repo');
  assert.equal(server.maxBodySize, 2 ** 20);
  assert.equal(log.level, 'warn');
});

test('empty gpu_ids mean the CPU, also over a file', () => {
  assert.deepEqual(load({ file: 'gpu_ids: [0]', flags: { gpu_ids: '' } }).runtime.gpuIds, []);
  assert.deepEqual(load({ file: 'gpu_ids: 0,1' }).runtime.gpuIds, [0, 1]);
  assert.deepEqual(load({ file: 'gpu_ids: 1' }).runtime.gpuIds, [1]);
});

test('texts that are not of the setting’s type are listed with the place they came from', () => {
  const problems = problemsOf(() =>
    load({
      flags: { port: 'http', gpu_ids: '0,x', allow_split_request: 'yes' },
      env: { ONNX_SERVING_THREAD: '2.5' },
      file: 'max_batch_size: "8"\n',
    }),
  );
  assert.deepEqual(problems.toSorted(), [
    '--allow_split_request: expected true or false, got "yes"',
    '--gpu_ids[1]: expected an integer of at least 0, got "x"',
    '--port: expected an integer from 0 to 65535, got "http"',
    'ONNX_SERVING_THREAD: expected an integer from 1 to 1024, got "2.5"',
    `max_batch_size in ${join(directory, 'config.yaml')}: expected an integer from 1 to 65536, got "8"`,
  ]);
});

test('an unknown key of a file and an unknown variable name the nearest known one', () => {
  const problems = problemsOf(() => load({ file: 'max_batchsize: 8\n', env: { ONNX_SERVING_PROT: '1' } }));
  assert.deepEqual(problems, [
    `max_batchsize in ${join(directory, 'config.yaml')}: unknown key; did you mean "max_batch_size"?`,
    'ONNX_SERVING_PROT: unknown environment variable; did you mean "ONNX_SERVING_PORT"?',
  ]);
});

test('variables that Kubernetes sets for a service called onnx-serving are not taken for settings', () => {
  const env = {
    ONNX_SERVING_PORT: 'tcp://10.96.0.7:80',
    ONNX_SERVING_SERVICE_HOST: '10.96.0.7',
    ONNX_SERVING_SERVICE_PORT: '80',
    ONNX_SERVING_SERVICE_PORT_HTTP: '80',
    ONNX_SERVING_PORT_80_TCP: 'tcp://10.96.0.7:80',
    ONNX_SERVING_PORT_80_TCP_ADDR: '10.96.0.7',
  };
  assert.equal(load({ env }).server.port, 9292);
});

test('an empty variable is an unset one', () => {
  assert.equal(load({ env: { ONNX_SERVING_PORT: '', ONNX_SERVING_LOG_DIR: '' } }).server.port, 9292);
});

test('the file may be JSON, may be named by the environment, and may be empty', () => {
  assert.equal(load({ file: '{"port": 5}', fileName: 'config.json' }).server.port, 5);
  const file = join(directory, 'config.json');
  assert.equal(load({ env: { ONNX_SERVING_CONFIG: file } }).server.port, 5);
  assert.equal(load({ file: '# nothing\n' }).server.port, 9292);
});

test('a file that is missing, no YAML, or no map is refused', () => {
  problemsOf(() => load({ flags: { config: join(directory, 'absent.yaml') } }));
  problemsOf(() => load({ file: 'port: [1\n' }));
  problemsOf(() => load({ file: '- port\n' }));
});

test('paths in a file are relative to it, those of flags to the working directory', () => {
  const file = 'cache_dir: cache\nlog_dir: /var/log\nmodels:\n  - path: a\n    name: first\n  - b.onnx\n';
  const { runtime, log } = load({ file });
  assert.equal(runtime.cacheDir, join(directory, 'cache'));
  assert.equal(log.dir, '/var/log');
  assert.deepEqual(runtime.models, [
    { path: join(directory, 'a'), name: 'first' },
    { path: join(directory, 'b.onnx') },
  ]);
  assert.equal(load({ flags: { cache_dir: 'cache' } }).runtime.cacheDir, 'cache');
});

test('repeated models are paired with their names in order, in each source', () => {
  const flags = { model: ['a', 'b'], name: ['x', 'y'] };
  const expected = [
    { path: 'a', name: 'x' },
    { path: 'b', name: 'y' },
  ];
  assert.deepEqual(load({ flags, file: 'models: [other]' }).runtime.models, expected);
  const env = { ONNX_SERVING_MODEL: 'a, b', ONNX_SERVING_NAME: 'x,y' };
  assert.deepEqual(load({ env }).runtime.models, expected);
  assert.deepEqual(load({ file: 'model: [a]\nname: x\n' }).runtime.models, [
    { path: join(directory, 'a'), name: 'x' },
  ]);
});

test('names that do not pair with models are refused', () => {
  assert.deepEqual(
    problemsOf(() => load({ flags: { model: ['a', 'b'], name: ['x'] } })),
    ['--name: given 1 times for 2 models'],
  );
  assert.deepEqual(
    problemsOf(() => load({ flags: { name: ['x'] } })),
    ['--name: given without --model'],
  );
  assert.equal(problemsOf(() => load({ file: 'model: a\nmodels: [b]\n' })).length, 1);
});

test('serving switches the idle path on, and loading by request on loopback only', () => {
  assert.equal(load().runtime.idlePath, 'auto');
  assert.equal(load({ flags: { idle_path: 'off' } }).runtime.idlePath, 'off');
  assert.equal(load().runtime.modelControl, 'explicit');
  assert.equal(load({ flags: { host: '0.0.0.0' } }).runtime.modelControl, 'none');
  assert.equal(
    load({ flags: { host: '0.0.0.0', model_control: 'explicit' } }).runtime.modelControl,
    'explicit',
  );
});

test('loopback hosts are told from others', () => {
  for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) assert.ok(isLoopback(host), host);
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example.com', '', undefined]) {
    assert.ok(!isLoopback(host), String(host));
  }
});

test('MODEL_CONFIG_FILE stands for the usual variable, which wins over it, as a flag does', () => {
  const fileOf = (sources: Parameters<typeof load>[0]): string | undefined =>
    load(sources).runtime.modelConfigFile;
  const other = { MODEL_CONFIG_FILE: '/a/models.config' };
  assert.equal(fileOf({ env: other }), '/a/models.config');
  assert.equal(fileOf({ env: { MODEL_CONFIG_FILE: '' } }), undefined);
  assert.equal(fileOf({ env: { ...other, ONNX_SERVING_MODEL_CONFIG_FILE: '/b' } }), '/b');
  assert.equal(fileOf({ env: { ...other, ONNX_SERVING_MODEL_CONFIG_FILE: '' } }), '/a/models.config');
  assert.equal(fileOf({ env: other, flags: { model_config_file: '/c' } }), '/c');
  assert.equal(fileOf({ file: 'model_config_file: models.config' }), join(directory, 'models.config'));
});

test('poll intervals that are no whole numbers of seconds are refused under their names', () => {
  const problems = problemsOf(() =>
    load({ flags: { file_system_poll_wait_seconds: '-1', model_config_file_poll_wait_seconds: '0.5' } }),
  );
  assert.match(problems.join(), /--file_system_poll_wait_seconds: expected an integer from 0 to \d+, got -1/);
  assert.match(problems.join(), /--model_config_file_poll_wait_seconds: expected an integer .*, got "0.5"/);
});

test('a path of a file is relative to it, a URL in its place is left as it is', () => {
  const placeOf = (place: string): string | undefined =>
    load({ file: `warm_up_data_path: ${place}\n` }).runtime.warmUpDataPath;
  assert.equal(placeOf('warm/{model}'), join(directory, 'warm/{model}'));
  assert.equal(placeOf('https://host/{model}.jsonl?a=b'), 'https://host/{model}.jsonl?a=b');
});
