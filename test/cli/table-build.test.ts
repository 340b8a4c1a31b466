import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { describeProgress } from '../../src/cli/build-meter.js';
import { listVersions } from '../../src/sparse/manifest.js';
import { openTable } from '../../src/sparse/table.js';
import { writeKeyValue } from '../sparse/row-files.js';
import { until } from '../support/until.js';
import { killed, killMidway, namesIn, workOf } from '../support/version-work.js';

const program = fileURLToPath(new URL('../../../bin/onnx-serving.js', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'table-build-'));
after(() => rmSync(root, { recursive: true }));

function run(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'table', 'build', ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { code: status, out: stdout, err: stderr };
}

/** A build that reads standard input, and therefore goes on until that ends. */
function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [program, 'table', 'build', '-', ...args], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  child.stdin!.write('1:1 1\n');
  return child;
}

const rows = writeKeyValue(join(root, 'rows.txt'), [
  [1n, [1, 2]],
  [2n, [3, 4]],
  [1n, [5, 6]],
]);

test('the summary tells what was built', () => {
  const table = join(root, 'summary');
  const base = run(
    rows,
    '--output',
    table,
    '--shard-num',
    '2',
    '--default_row',
    '0.5,1',
    '--memory_limit',
    '64m',
  );
  assert.equal(base.code, 0, base.err);
  assert.match(base.out, /^table +summary version 1, snapshot$/m);
  assert.match(base.out, /^rows +2 of f32 x 2$/m);
  assert.match(base.out, /^duplicates +1 rows/m);
  assert.match(base.out, /^shards +2$/m);
  assert.match(base.out, /^bytes +\d+$/m);
  assert.match(base.out, /^time +.* rows\/s$/m);
  const gone = join(root, 'gone.txt');
  writeFileSync(gone, '2\n');
  const delta = run('--output', table, '--mode', 'delta', '--delete_keys', gone);
  assert.equal(delta.code, 0, delta.err);
  assert.match(delta.out, /version 2, delta on version 1$/m);
  assert.match(delta.out, /^deletes +1$/m);
});

test('a version can be published with a version of a model', () => {
  const table = join(root, 'published');
  const built = run(rows, '--output', table, '--model', 'ranker', '--model-version', '7');
  assert.equal(built.code, 0, built.err);
  assert.match(built.out, /^model +ranker version 7$/m);
  const { model } = JSON.parse(readFileSync(join(table, '1/manifest.json'), 'utf8'));
  assert.deepEqual(model, { name: 'ranker', version: 7 });

  const refused = (message: RegExp, ...args: string[]): void => {
    const { code, err } = run(rows, '--output', join(root, 'unpublished'), ...args);
    assert.equal(code, 2, err);
    assert.match(err, message);
  };
  refused(/--model came without --model_version: a table is published with one version/, '--model', 'ranker');
  refused(/--model_version came without --model/, '--model_version', '7');
  for (const version of ['0', '-1', '1.5', 'new', ''])
    refused(/Expected a whole number from 1/, '--model', 'ranker', `--model_version=${version}`);
  refused(/the name of the model: expected a name without slashes/, '--model', 'a/b', '--model_version', '1');
  assert.equal(existsSync(join(root, 'unpublished')), false);
});

test('bad usage ends with 2, bad input with 1, and both say why', () => {
  const output = ['--output', join(root, 'bad')];
  for (const args of [
    [rows],
    [...output],
    [rows, ...output, '--dtype', 'f64'],
    [rows, ...output, '--shard_num', '0'],
    [rows, ...output, '--memory_limit', '1m'],
    [rows, ...output, '--default_row', '1,,2'],
    [rows, ...output, '--first_key', '18446744073709551616'],
    [rows, ...output, '--format', 'parquet'],
  ]) {
    const { code, err } = run(...args);
    assert.equal(code, 2, `${args}: ${err}`);
    assert.notEqual(err, '');
  }
  const wide = run(rows, ...output, '--dim', '3');
  assert.equal(wide.code, 1);
  assert.match(wide.err, /rows\.txt: the value of key 1 has 8 bytes, expected 12: 3 floats/);
  assert.deepEqual(existsSync(output[1]!) ? readdirSync(output[1]!) : [], []);
});

test('a build that is killed leaves the old version, and the next one clears up', async () => {
  const table = join(root, 'killed');
  assert.equal(run(rows, '--output', table).code, 0);
  const child = start('--output', table);
  await until('the build has begun', () => workOf(table, child) !== undefined);
  const second = run(rows, '--output', table);
  assert.equal(second.code, 1);
  assert.match(second.err, /version 2 of .* is being made by another process/);
  await killed(child);
  assert.notEqual(workOf(table, child), undefined);
  assert.deepEqual(await listVersions(table), [1]);
  const again = run(rows, '--output', table);
  assert.equal(again.code, 0, again.err);
  assert.deepEqual(readdirSync(table).sort(), ['1', '2']);
});

test('a build that is killed while it writes is not seen either', async () => {
  const table = join(root, 'killed-writing');
  assert.equal(run(rows, '--output', table).code, 0);
  const many = join(root, 'many.txt');
  const line = Array.from({ length: 16 }, (_, index) => index).join(' ');
  writeFileSync(many, Array.from({ length: 300_000 }, (_, key) => `${key}:${line}\n`).join(''));
  const start = (): ChildProcess =>
    spawn(process.execPath, [program, 'table', 'build', many, '--output', table, '--version', '2'], {
      stdio: 'ignore',
    });
  const hasShard = (work: string): boolean => namesIn(work).some((name) => name.endsWith('.shard'));
  for (let round = 0; round < 3; ++round) {
    await killMidway(table, 2, start, hasShard);
    assert.deepEqual(await listVersions(table), [1]);
    (await openTable(table, { verify: true })).close();
  }
});

test('an interrupted build ends in order and removes its work', async () => {
  const table = join(root, 'interrupted');
  const child = start('--output', table);
  await until('the build has begun', () => workOf(table, child) !== undefined);
  child.kill('SIGINT');
  // The thread that waits for standard input learns of it with the next rows.
  const stdin = child.stdin!.on('error', () => {});
  const manyRows = '2:1 1\n'.repeat(5000);
  await until('the build has ended', () => {
    if (!stdin.writableNeedDrain && !stdin.destroyed) stdin.write(manyRows);
    return child.exitCode !== null || child.signalCode !== null;
  });
  assert.equal(child.exitCode, 1);
  assert.deepEqual(readdirSync(table), []);
});

test('progress is told as a share, a rate and the time left', () => {
  const progress = {
    phase: 'reading',
    rowsRead: 2000,
    bytesRead: 250,
    bytesTotal: 1000,
    partitionsDone: 0,
    partitionsTotal: 0,
  } as const;
  assert.deepEqual(describeProgress(progress, 2000), {
    share: 0.125,
    phase: 'reading',
    rows: '2000 rows, 1000 rows/s',
    left: '14.0 s left',
  });
  const writing = { ...progress, phase: 'writing', partitionsDone: 3, partitionsTotal: 4 } as const;
  assert.equal(describeProgress(writing, 7000).share, 0.875);
  assert.equal(describeProgress(writing, 7000).left, '1.0 s left');
  assert.equal(describeProgress({ ...progress, bytesTotal: 0, bytesRead: 0 }, 5).left, 'time left unknown');
});
