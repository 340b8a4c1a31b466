import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  checkMonitorOptions,
  monitorFromFile,
  monitorSettings,
  resolveMonitorConfig,
} from '../../src/config/monitor-settings.js';
import { ServingError } from '../../src/errors.js';

const enough = {
  generalHost: 'http://host',
  remotePath: '/models',
  remoteModelName: 'ctr',
  remoteDonefileName: 'done',
  localPath: '/srv',
  localModelName: 'ctr',
};

function problemsOf(options: unknown): readonly string[] {
  const checked = checkMonitorOptions(options);
  return 'problems' in checked ? checked.problems : [];
}

test("a monitor's options have the names and defaults that users of Paddle Serving's monitor know", () => {
  const defaults = Object.fromEntries(
    monitorSettings.map(({ outside, schema }) => [outside, schema.default]),
  );
  for (const [name, value] of Object.entries({
    type: 'general',
    remote_path: undefined,
    remote_model_name: undefined,
    remote_donefile_name: undefined,
    local_path: undefined,
    local_model_name: undefined,
    local_timestamp_file: 'fluid_time_file',
    local_tmp_path: '_serving_monitor_tmp',
    unpacked_filename: undefined,
    interval: 10,
    debug: false,
    general_host: undefined,
    ftp_host: undefined,
    ftp_port: 21,
    ftp_username: '',
    ftp_password: '',
    hadoop_bin: undefined,
    fs_name: '',
    fs_ugi: '',
  })) {
    assert.ok(Object.hasOwn(defaults, name), name);
    assert.equal(defaults[name], value, name);
  }
});

test('the options get their defaults, sizes may be text, and the result is frozen', () => {
  const config = resolveMonitorConfig({ ...enough, maxBytes: '64mb', unpackedFilename: undefined });
  assert.equal(config.maxBytes, 64 << 20);
  assert.equal(config.localTimestampFile, 'fluid_time_file');
  assert.ok(Object.isFrozen(config));
});

test('everything that is wrong is listed, with the name outside', () => {
  assert.throws(
    () => resolveMonitorConfig({}),
    (error) => {
      assert.ok(error instanceof ServingError);
      assert.equal(error.code, 'SRV_BAD_CONFIG');
      const missing = [
        'remote_path',
        'remote_model_name',
        'remote_donefile_name',
        'local_path',
        'local_model_name',
      ];
      for (const name of missing) assert.match(error.message, new RegExp(`${name}: missing`));
      return true;
    },
  );
  const problems = problemsOf({
    ...enough,
    type: 'gopher',
    localModelName: 'a/b',
    intervalS: 0,
    keepVersions: 1.5,
  });
  assert.deepEqual(problems, [
    'type: expected general, ftp, hdfs, afs or local, got "gopher"',
    'local_model_name: expected a name without slashes, got "a/b"',
    'keep_versions: expected an integer of at least 1, got 1.5',
    'interval: expected a number above 0, at most 2000000, got 0',
  ]);
  assert.deepEqual(problemsOf(7), ['expected an object with the options of a monitor']);
});

test('an unknown option names the nearest known one, as it is spelt there', () => {
  assert.deepEqual(problemsOf({ ...enough, remotePaht: 'x' }), [
    'remotePaht: unknown key; did you mean "remotePath"?',
  ]);
  assert.deepEqual(problemsOf({ ...enough, ftp_pasword: 'x' }), [
    'ftp_pasword: unknown key; did you mean "ftp_password"?',
  ]);
});

test('each type asks for what it needs', () => {
  const { generalHost: _, ...bare } = enough;
  assert.match(problemsOf(bare).join(), /^general_host: missing/);
  assert.match(problemsOf({ ...bare, type: 'ftp' }).join(), /^ftp_host: missing/);
  assert.match(problemsOf({ ...bare, type: 'afs' }).join(), /^hadoop_bin: missing/);
  assert.match(
    problemsOf({ ...bare, type: 'hdfs', fsName: 'hdfs://host:1' }).join(),
    /^fs_name: expected webhdfs/,
  );
  assert.match(
    problemsOf({ ...bare, type: 'local', remotePath: 'relative' }).join(),
    /^remote_path: expected an abs/,
  );
  for (const good of [
    { type: 'ftp', ftpHost: 'host' },
    { type: 'afs', hadoopBin: 'hadoop' },
    { type: 'hdfs', hadoopBin: 'hadoop', fsName: 'hdfs://host:1' },
    { type: 'hdfs', fsName: 'webhdfs://host:1' },
    { type: 'local' },
  ]) {
    assert.deepEqual(problemsOf({ ...bare, ...good }), [], good.type);
  }
  assert.match(
    problemsOf({ ...enough, remoteModelName: '../x' }).join(),
    /^remote_model_name: expected a name below/,
  );
});

test('a problem with a secret, or with an address, does not repeat it', () => {
  const problems = problemsOf({ ...enough, ftpPassword: 123456, fsUgi: ['hush'], generalHost: 98765 });
  assert.equal(problems.length, 3);
  assert.doesNotMatch(problems.join(), /123456|hush|98765/);
});

test('an entry of a file has the names outside, and paths relative to the file', () => {
  const entry = {
    general_host: 'http://host',
    remote_path: 'models',
    remote_model_name: 'ctr',
    remote_donefile_name: 'done',
    local_path: 'srv',
    local_model_name: 'ctr',
    interval: 3,
    unpacked_filename: null,
  };
  const config = resolveMonitorConfig(monitorFromFile(entry, '/etc/serving'));
  assert.equal(config.localPath, '/etc/serving/srv');
  assert.equal(config.remotePath, 'models');
  assert.equal(config.intervalS, 3);
  assert.deepEqual(problemsOf(monitorFromFile({ ...entry, remote_pth: 1 }, '/')), [
    'remote_pth: unknown key; did you mean "remote_path"?',
  ]);
  assert.deepEqual(problemsOf(monitorFromFile('text', '/')), [
    'expected an object with the options of a monitor',
  ]);
});
