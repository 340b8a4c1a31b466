import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import {
  findAllModels,
  findModels,
  findRepositoryModels,
  type RepositoryEntry,
} from '../../src/repository/layout.js';
import { wantedVersions } from '../../src/repository/version-policy.js';

const root = mkdtempSync(join(tmpdir(), 'layout-'));
after(() => rmSync(root, { recursive: true }));

let count = 0;
/** Makes a directory with these files; a content of undefined makes an empty directory. */
function tree(files: Record<string, string | undefined>): string {
  const directory = join(root, `t${count++}`);
  mkdirSync(directory);
  for (const [path, content] of Object.entries(files)) {
    const full = join(directory, path);
    mkdirSync(content === undefined ? full : dirname(full), { recursive: true });
    if (content !== undefined) writeFileSync(full, content);
  }
  return directory;
}

function brief(entry: RepositoryEntry): unknown[] {
  return entry.error
    ? [entry.name, entry.version, entry.error.code]
    : [entry.name, entry.version, entry.origin, entry.wanted];
}

const onnx = 'bytes';

test('a bare file is named after itself, model.onnx after its directory', async () => {
  const at = tree({ 'net/model.onnx': onnx, 'net/other.onnx': onnx });
  const [model] = await findModels(join(at, 'net/model.onnx'));
  assert.deepEqual(model, {
    name: 'net',
    version: 1,
    modelFile: join(at, 'net/model.onnx'),
    directory: join(at, 'net'),
    settings: {},
    origin: 'file',
    wanted: true,
  });
  const [other] = await findModels(join(at, 'net/other.onnx'));
  assert.equal(other?.name, 'other');
  const [given] = await findModels(join(at, 'net/other.onnx'), { name: 'mine' });
  assert.equal(given?.name, 'mine');
});

test('a file inside a version directory is that version of the model above', async () => {
  const at = tree({ 'net/3/model.onnx': onnx, 'net/model.json': '{"cpu": true}' });
  const [entry] = await findModels(join(at, 'net/3/model.onnx'));
  assert.deepEqual(entry && brief(entry), ['net', 3, 'versions', true]);
  assert.deepEqual(entry?.error === undefined && entry?.settings, { cpu: true });
});

test('a directory is the model that it holds, whatever its only .onnx file is called', async () => {
  const at = tree({ 'a/model.onnx': onnx, 'a/extra.onnx': onnx, 'b/net.onnx': onnx });
  const [a] = await findModels(join(at, 'a'));
  assert.equal(a?.error === undefined && a?.modelFile, join(at, 'a/model.onnx'));
  const [b] = await findModels(join(at, 'b'));
  assert.deepEqual(b?.error === undefined && [b?.name, b?.modelFile], ['b', join(at, 'b/net.onnx')]);
});

test('a directory with several .onnx files and no model.onnx is refused with what to do', async () => {
  const at = tree({ 'a.onnx': onnx, 'b.onnx': onnx });
  await assert.rejects(findModels(at), { code: 'SRV_MODEL_NOT_FOUND', message: /holds 2 \.onnx files/ });
});

test('all versions are listed and the highest is wanted', async () => {
  const at = tree({
    'net/1/model.onnx': onnx,
    'net/10/model.onnx': onnx,
    'net/9/model.onnx': onnx,
    'net/007/model.onnx': onnx,
    'net/notes/x.txt': '',
  });
  assert.deepEqual((await findModels(join(at, 'net'))).map(brief), [
    ['net', 1, 'versions', false],
    ['net', 7, 'versions', false],
    ['net', 9, 'versions', false],
    ['net', 10, 'versions', true],
  ]);
});

test('a version without a model file is an error of that version, and the one below is wanted', async () => {
  const at = tree({ 'net/1/model.onnx': onnx, 'net/2': undefined });
  assert.deepEqual((await findModels(join(at, 'net'))).map(brief), [
    ['net', 1, 'versions', true],
    ['net', 2, 'SRV_MODEL_NOT_FOUND'],
  ]);
});

test('a directory with both a model and versions is refused', async () => {
  const at = tree({ 'net/model.onnx': onnx, 'net/1/model.onnx': onnx });
  await assert.rejects(findModels(join(at, 'net')), { code: 'SRV_BAD_CONFIG', message: /holds both/ });
});

test('model.json beside a model gives its settings and name', async () => {
  const at = tree({ 'net/1/model.onnx': onnx, 'net/model.json': '{"name": "ranker", "max_batch_size": 4}' });
  const [entry] = await findModels(join(at, 'net'));
  assert.equal(entry?.name, 'ranker');
  assert.deepEqual(entry?.error === undefined && entry?.settings, { name: 'ranker', maxBatchSize: 4 });
  const [given] = await findModels(join(at, 'net'), { name: 'mine' });
  assert.equal(given?.name, 'mine');
});

test('a model.json in a version directory is of that version, key by key, but for what is of all', async () => {
  const own = {
    max_batch_size: 2,
    warm_up_data_path: ['warm.jsonl', 'https://host/warm.bin'],
    name: 'x',
    labels: { a: 1 },
  };
  const at = tree({
    'net/model.json': '{"max_batch_size": 4, "weight": 2, "version_policy": "all"}',
    'net/1/model.onnx': onnx,
    'net/2/model.onnx': onnx,
    'net/2/model.json': JSON.stringify(own),
    'net/3/model.onnx': onnx,
    'net/3/model.json': '{"max_batch": 4}',
  });
  const [first, second, third] = await findModels(join(at, 'net'));
  assert.ok(first?.error === undefined && second?.error === undefined && first && second);
  assert.deepEqual(first.settings, { maxBatchSize: 4, weight: 2, versionPolicy: 'all' });
  const warmUpDataPath = [join(at, 'net/2/warm.jsonl'), 'https://host/warm.bin'];
  assert.deepEqual(second.settings, { ...first.settings, maxBatchSize: 2, warmUpDataPath });
  assert.equal(second.name, 'net');
  assert.equal(second.labels, undefined);
  const ignored = 'is ignored: it belongs beside the version directories';
  assert.deepEqual(second.notices, [
    `${join(at, 'net/2/model.json')}: name ${ignored}`,
    `${join(at, 'net/2/model.json')}: labels ${ignored}`,
  ]);
  assert.match(third!.error!.message, /net\/3\/model\.json: max_batch: unknown key/);
  const [given] = await findModels(join(at, 'net/2/model.onnx'));
  assert.deepEqual(given?.error === undefined && given?.settings, second.settings);
});

test('a bad model.json is refused with its file and key', async () => {
  const at = tree({ 'net/model.onnx': onnx, 'net/model.json': '{"max_batch": 4}' });
  await assert.rejects(findModels(join(at, 'net')), {
    code: 'SRV_BAD_CONFIG',
    message: /net\/model\.json: max_batch: unknown key; did you mean "max_batch_size"/,
  });
});

test('a Triton directory is read, and our model.json wins over it key by key', async () => {
  const config = 'name: "t" platform: "onnxruntime_onnx" max_batch_size: 8 version_policy { all {} }';
  const at = tree({
    'net/1/model.onnx': onnx,
    'net/2/model.onnx': onnx,
    'net/config.pbtxt': config,
    'net/model.json': '{"max_queue_delay_us": 3}',
  });
  const entries = await findModels(join(at, 'net'));
  assert.deepEqual(entries.map(brief), [
    ['t', 1, 'triton', true],
    ['t', 2, 'triton', true],
  ]);
  const [first] = entries;
  assert.ok(first && first.error === undefined);
  assert.deepEqual(first.settings, { maxBatchSize: 8, maxQueueDelayUs: 3 });
  assert.equal(first.tritonConfig?.json.max_batch_size, 8);
});

test('a Triton model file may have another name, or lie in a directory of its name', async () => {
  const named = tree({
    'net/1/net.onnx': onnx,
    'net/1/b.onnx': '',
    'net/config.pbtxt': 'default_model_filename: "net.onnx"',
  });
  const [a] = await findModels(join(named, 'net'));
  assert.equal(a?.error === undefined && a?.modelFile, join(named, 'net/1/net.onnx'));
  const nested = tree({ 'net/1/model.onnx/model.onnx': onnx, 'net/1/model.onnx/weights.bin': '' });
  const [b] = await findModels(join(nested, 'net'));
  assert.equal(b?.error === undefined && b?.modelFile, join(nested, 'net/1/model.onnx/model.onnx'));
});

test('a model with sequence batching is refused, because serving it without state is wrong', async () => {
  const at = tree({ 'net/1/model.onnx': onnx, 'net/config.pbtxt': 'sequence_batching { }' });
  await assert.rejects(findModels(join(at, 'net')), {
    code: 'SRV_MODEL_UNSUPPORTED',
    message: /sequence batching is not supported yet/,
  });
});

test('a Paddle Serving directory gives its aliases', async () => {
  const at = tree({
    'net/model.onnx': onnx,
    'net/serving_server_conf.prototxt':
      'feed_var { name: "x" alias_name: "words" } fetch_var { name: "y" alias_name: "price" }',
  });
  const [entry] = await findModels(join(at, 'net'));
  assert.ok(entry && entry.error === undefined);
  assert.equal(entry.origin, 'paddle');
  assert.deepEqual(entry.settings, { inputs: { words: 'x' }, outputs: { price: 'y' } });
});

test('a model of another framework is refused with its converter', async () => {
  const at = tree({ 'net/saved_model.pb': '', 'versions/1/saved_model.pb': '', 'm.pkl': '' });
  await assert.rejects(findModels(join(at, 'net')), { code: 'SRV_FOREIGN_FORMAT', message: /tf2onnx/ });
  await assert.rejects(findModels(join(at, 'm.pkl')), { code: 'SRV_FOREIGN_FORMAT', message: /skl2onnx/ });
  assert.deepEqual((await findModels(join(at, 'versions'))).map(brief), [
    ['versions', 1, 'SRV_FOREIGN_FORMAT'],
  ]);
});

test('a missing path, an empty directory and a file of another kind are refused', async () => {
  const at = tree({ 'notes.txt': 'x', empty: undefined });
  await assert.rejects(findModels(join(at, 'absent')), { code: 'SRV_IO' });
  await assert.rejects(findModels(join(at, 'empty')), { code: 'SRV_MODEL_NOT_FOUND' });
  await assert.rejects(findModels(join(at, 'notes.txt')), { code: 'SRV_MODEL_NOT_FOUND' });
});

test('a repository serves every sound child, and broken ones are entries with their error', async () => {
  const at = tree({
    'a/model.onnx': onnx,
    'b/1/model.onnx': onnx,
    'c.onnx': onnx,
    'bad/model.onnx': onnx,
    'bad/model.json': '{',
    'keras/net.h5': '',
    'licences/mit.txt': '',
    '.git/HEAD': '',
    'README.md': '',
  });
  symlinkSync(join(at, 'nowhere'), join(at, 'dangling'));
  assert.deepEqual((await findRepositoryModels(at)).map(brief), [
    ['a', 1, 'file', true],
    ['b', 1, 'versions', true],
    ['bad', undefined, 'SRV_BAD_CONFIG'],
    ['c', 1, 'file', true],
    ['keras', undefined, 'SRV_FOREIGN_FORMAT'],
    ['licences', undefined, 'SRV_MODEL_NOT_FOUND'],
  ]);
});

test('a child that is a link to a directory is a model', async () => {
  const elsewhere = tree({ 'model.onnx': onnx });
  const at = tree({});
  symlinkSync(elsewhere, join(at, 'linked'));
  assert.deepEqual((await findRepositoryModels(at)).map(brief), [['linked', 1, 'file', true]]);
});

test('a repository of a thousand models is read in order', async () => {
  const files = Object.fromEntries(
    Array.from({ length: 1000 }, (_, index) => [`m${String(index).padStart(4, '0')}/model.onnx`, onnx]),
  );
  const entries = await findRepositoryModels(tree(files));
  assert.equal(entries.length, 1000);
  assert.equal(entries[999]?.name, 'm0999');
});

test('a repository that is missing or a file is SRV_IO', async () => {
  const at = tree({ file: '' });
  await assert.rejects(findRepositoryModels(join(at, 'absent')), { code: 'SRV_IO' });
  await assert.rejects(findRepositoryModels(join(at, 'file')), { code: 'SRV_IO' });
});

test('an unreadable child does not stop the others', async () => {
  const at = tree({ 'a/model.onnx': onnx, spoilt: undefined });
  // Nobody can read through a link that leads to itself, not even root.
  symlinkSync('model.json', join(at, 'spoilt/model.json'));
  const entries = await findRepositoryModels(at);
  assert.deepEqual(entries.map(brief), [
    ['a', 1, 'file', true],
    ['spoilt', undefined, 'SRV_IO'],
  ]);
});

test('given models that cannot be found are entries with their error beside the sound ones', async () => {
  const at = tree({ 'a/model.onnx': onnx });
  const entries = await findAllModels({
    models: [
      { path: join(at, 'a') },
      { path: join(at, 'absent/model.onnx') },
      { path: join(at, 'b'), name: 'x' },
    ],
  });
  assert.deepEqual(entries.map(brief), [
    ['a', 1, 'file', true],
    ['absent', undefined, 'SRV_IO'],
    ['x', undefined, 'SRV_IO'],
  ]);
});

test('two models of one name are refused with both paths, also across models and repository', async () => {
  const at = tree({ 'one/net/model.onnx': onnx, 'two/net/model.onnx': onnx });
  const clash = { code: 'SRV_BAD_CONFIG', message: /"net": .*one\/net.* and .*two\/net/ };
  const one = { path: join(at, 'one/net') };
  await assert.rejects(findAllModels({ models: [one, { path: join(at, 'two/net') }] }), clash);
  await assert.rejects(findAllModels({ models: [one], modelRepository: join(at, 'two') }), clash);
  await assert.rejects(findAllModels({ models: [one, one] }), { code: 'SRV_BAD_CONFIG' });
  const renamed = await findAllModels({ models: [one, { path: join(at, 'two/net'), name: 'other' }] });
  assert.deepEqual(
    renamed.map(({ name }) => name),
    ['net', 'other'],
  );
});

test('a version policy picks among the versions that are there', () => {
  assert.deepEqual([...wantedVersions([1, 2, 3], undefined)], [3]);
  assert.deepEqual([...wantedVersions([1, 2, 3], { kind: 'latest', count: 2 })], [3, 2]);
  assert.deepEqual([...wantedVersions([1, 3], { kind: 'specific', versions: [1, 2] })], [1]);
  assert.deepEqual([...wantedVersions([], { kind: 'all' })], []);
});

test('001 is version 1, also as the directory of a given file', async () => {
  const at = tree({ 'net/001/model.onnx': onnx, 'net/00000000000000000000002/model.onnx': onnx });
  const entries = await findModels(join(at, 'net'));
  assert.deepEqual(entries.map(brief), [
    ['net', 1, 'versions', false],
    ['net', 2, 'versions', true],
  ]);
  const [first] = await findModels(join(at, 'net/001/model.onnx'));
  assert.deepEqual(first && brief(first), ['net', 1, 'versions', true]);
});

test('two directories of one version are an error that names both, and other versions are served', async () => {
  const at = tree({ 'net/1/model.onnx': onnx, 'net/2/model.onnx': onnx, 'net/002/model.onnx': onnx });
  const entries = await findModels(join(at, 'net'));
  assert.deepEqual(entries.map(brief), [
    ['net', 1, 'versions', true],
    ['net', 2, 'SRV_BAD_CONFIG'],
  ]);
  assert.match(entries[1]?.error?.message ?? '', /net\/002 and .*net\/2 mean the same version 2/);
});

test('a version beyond 2^53 is an error with its digits, and the others are served', async () => {
  const at = tree({ 'net/9007199254740991/model.onnx': onnx, 'net/9007199254740993/model.onnx': onnx });
  const entries = await findModels(join(at, 'net'));
  assert.deepEqual(entries.map(brief), [
    ['net', 9007199254740991, 'versions', true],
    ['net', undefined, 'SRV_BAD_CONFIG'],
  ]);
  assert.match(entries[1]?.error?.message ?? '', /net\/9007199254740993: version 9007199254740993 is above/);
});

test('model.json says the version policy and the labels, over config.pbtxt', async () => {
  const at = tree({
    'net/1/model.onnx': onnx,
    'net/2/model.onnx': onnx,
    'net/3/model.onnx': onnx,
    'net/config.pbtxt': 'version_policy { all { } }',
    'net/model.json': '{"version_policy": {"latest": 2}, "labels": {"stable": 2}}',
  });
  const entries = await findModels(join(at, 'net'));
  assert.deepEqual(entries.map(brief), [
    ['net', 1, 'triton', false],
    ['net', 2, 'triton', true],
    ['net', 3, 'triton', true],
  ]);
  const [first] = entries;
  assert.ok(first && first.error === undefined);
  assert.deepEqual(first.policy, { kind: 'latest', count: 2 });
  assert.deepEqual(first.labels, { stable: 2 });
});

test('a version that is asked for by number and is not there is an error of that version', async () => {
  const at = tree({ 'net/1/model.onnx': onnx, 'net/model.json': '{"version_policy": {"specific": [1, 4]}}' });
  const entries = await findModels(join(at, 'net'));
  assert.deepEqual(entries.map(brief), [
    ['net', 1, 'versions', true],
    ['net', 4, 'SRV_MODEL_NOT_FOUND'],
  ]);
  assert.match(
    entries[1]?.error?.message ?? '',
    /\(specific 1, 4\) wants version 4, which is not in .*net\./,
  );
});

test('a models.config gives places, names, policies and labels, which win over those of the directory', async () => {
  const at = tree({
    'a/1/model.onnx': onnx,
    'a/2/model.onnx': onnx,
    'a/model.json': '{"name": "mine", "version_policy": {"latest": 1}, "labels": {"old": 1}}',
    'b/model.onnx': onnx,
    'models.config': `model_config_list {
      config { name: "first" base_path: "a" model_platform: "tensorflow"
        model_version_policy { all { } } version_labels { key: "stable" value: 1 } }
      config { name: "second" base_path: "a" }
      config { name: "third" base_path: "absent" }
    }`,
  });
  const entries = await findAllModels({
    models: [{ path: join(at, 'b') }],
    modelConfigFile: join(at, 'models.config'),
  });
  assert.deepEqual(entries.map(brief), [
    ['b', 1, 'file', true],
    ['first', 1, 'versions', true],
    ['first', 2, 'versions', true],
    ['second', 1, 'versions', false],
    ['second', 2, 'versions', true],
    ['third', undefined, 'SRV_IO'],
  ]);
  const [, first, , second] = entries;
  assert.ok(first && second && first.error === undefined && second.error === undefined);
  assert.deepEqual([first.labels, second.labels], [{ stable: 1 }, { old: 1 }]);
  assert.match(first.notices?.join() ?? '', /models\.config:2: model_platform "tensorflow"/);
  assert.equal(second.notices, undefined);
});

test('addresses of a models.config have a place here where something fetches them, and say why nothing is there', async () => {
  const at = tree({
    'cache/a/3/model.onnx': onnx,
    'models.config': `model_config_list {
      config { name: "a" base_path: "s3://bucket/x" }
      config { name: "b" base_path: "s3://bucket/y" }
    }`,
  });
  const modelConfigFile = join(at, 'models.config');
  const remote = {
    placeOf: ({ name = '' }: { name?: string | undefined }) => join(at, 'cache', name),
    absenceOf: (directory: string) => (directory.endsWith('b') ? 's3://bucket/y is late' : undefined),
  };
  const entries = await findAllModels({ models: [], modelConfigFile, remote });
  assert.deepEqual(entries.map(brief), [
    ['a', 3, 'versions', true],
    ['b', undefined, 'SRV_MODEL_NOT_READY'],
  ]);
  assert.equal(entries[1]?.error?.message, 's3://bucket/y is late.');
  await assert.rejects(findAllModels({ models: [], modelConfigFile }), {
    code: 'SRV_BAD_CONFIG',
    message:
      /models\.config:2: base_path of config of "a" is an address, .*; .*:3: base_path of config of "b"/,
  });
});

test('a models.config that is wrong, missing or names a model that is there already stops everything', async () => {
  const at = tree({
    'a/model.onnx': onnx,
    'bad.config': 'model_config_list { config { name: "a" base_path: ',
    'same.config': 'model_config_list { config { name: "a" base_path: "a" } }',
  });
  const find = (file: string) =>
    findAllModels({ models: [{ path: join(at, 'a') }], modelConfigFile: join(at, file) });
  await assert.rejects(find('bad.config'), { code: 'SRV_BAD_CONFIG', message: /bad\.config:1:\d+: / });
  await assert.rejects(find('absent.config'), { code: 'SRV_IO' });
  await assert.rejects(find('same.config'), { code: 'SRV_BAD_CONFIG', message: /Two models are named "a"/ });
});

test('notices of a config.pbtxt are on every version of its model', async () => {
  const at = tree({
    'net/1/model.onnx': onnx,
    'net/2/model.onnx': onnx,
    'net/config.pbtxt': 'max_batch_size: 4\noptimization { priority: PRIORITY_MAX }',
  });
  for (const entry of await findModels(join(at, 'net'))) {
    assert.match(
      entry.error === undefined ? (entry.notices ?? []).join() : '',
      /config\.pbtxt:2: optimization is ignored/,
    );
  }
});
