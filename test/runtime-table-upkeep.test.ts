/** What a runtime does by itself for the tables of its models: verifying, and folding deltas. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import type { RuntimeOptions } from '../src/config/schema.js';
import { type Logger, silentLogger } from '../src/observe/logger.js';
import type { Runtime } from '../src/runtime.js';
import { listVersions } from '../src/sparse/manifest.js';
import { VersionWork } from '../src/sparse/version-work.js';
import { tensor } from '../src/tensor/tensor.js';
import { concatModel, countedRows, makeTable, rowOf } from './support/embedding-models.js';
import { openWith, type ServedModel } from './support/served.js';
import { makeDirectory, removeDirectory } from './support/test-models.js';
import { until } from './support/until.js';

const dim = 2;
let root: string;
let sound: string;
let tables = 0;

before(async () => {
  root = makeDirectory('table-upkeep');
  sound = join(root, 'sound');
  await makeTable(sound, countedRows(10, dim));
});
after(() => removeDirectory(root));

/** A snapshot with some deltas on top, of which delta n gives key n a row of n + 100. */
async function chain(deltas: number, rows = 1000): Promise<string> {
  const table = join(root, `chain-${tables++}`);
  await makeTable(table, countedRows(rows, dim), { shardNum: 2 });
  for (let delta = 1; delta <= deltas; delta++)
    await makeTable(table, { [delta]: rowOf(delta + 100, dim) }, { mode: 'delta' });
  return table;
}

const shardOf = (table: string, version: number): string =>
  join(table, String(version), 'part-00001-of-00002.shard');

function flipBit(path: string): void {
  const bytes = readFileSync(path);
  bytes[4096 + 70] = bytes[4096 + 70]! ^ 1;
  writeFileSync(path, bytes);
}

function model(table: string, more: Readonly<Record<string, unknown>> = {}): ServedModel {
  return {
    model: concatModel(dim),
    settings: { embeddings: [{ table, ids: 'ids', target: 'rows', ...more }] },
  };
}

/** A log that keeps its lines. */
function recorded(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const take =
    (level: string) =>
    (...args: readonly unknown[]): void =>
      void lines.push(`${level} ${args.at(-1)}`);
  const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map((level) => [level, take(level)]);
  return {
    lines,
    logger: { ...Object.fromEntries(levels), child: () => silentLogger() } as unknown as Logger,
  };
}

async function open(
  t: TestContext,
  models: Readonly<Record<string, ServedModel>>,
  options: RuntimeOptions,
): Promise<{ readonly runtime: Runtime; readonly lines: readonly string[] }> {
  const log = recorded();
  const { runtime, close } = await openWith(
    models,
    { modelControl: 'explicit', threads: 1, ...options },
    { logger: log.logger },
  );
  t.after(close);
  return { runtime, lines: log.lines };
}

async function rowsOf(runtime: Runtime, name: string, id: number): Promise<number[]> {
  const { outputs } = await runtime.infer(name, {
    ids: tensor('INT64', [1], [id]),
    dense: tensor('FP32', [1, 2], [0, 0]),
  });
  return Array.from(outputs.y!.data as Float32Array).slice(0, dim);
}

const stateOf = (runtime: Runtime, name: string): string => {
  const { state, reason } = runtime.listModels().find((one) => one.name === name)!;
  return reason === undefined ? state : `${state}: ${reason}`;
};

const metric = async (runtime: Runtime, name: string, result: string): Promise<number> =>
  Number(
    new RegExp(`^onnx_serving_table_${name}_total{result="${result}"} (\\d+)$`, 'm').exec(
      await runtime.metrics(),
    )![1],
  );

test('tables are verified after the model is ready, and a damaged one ends its serving', async (t) => {
  const table = await chain(1);
  const path = shardOf(table, 1);
  const whole = readFileSync(path);
  flipBit(path);
  const { runtime, lines } = await open(
    t,
    { bad: model(table), good: model(sound) },
    { verifyTables: 'background' },
  );
  await until('the damage is found', () => stateOf(runtime, 'bad').startsWith('failed'));
  const reason = /part-00001-of-00002\.shard, byte 4096: the block of \d+ bytes has the checksum/;
  assert.match(stateOf(runtime, 'bad'), reason);
  await assert.rejects(rowsOf(runtime, 'bad', 1), { code: 'SRV_MODEL_NOT_READY', message: reason });
  await until(
    'the other table is verified',
    async () => (await metric(runtime, 'verifications', 'sound')) === 1,
  );
  assert.equal(await metric(runtime, 'verifications', 'corrupt'), 1);
  assert.deepEqual(await rowsOf(runtime, 'good', 3), rowOf(3, dim));
  assert.ok(
    lines.some((line) => /^error model bad version 1 is not served any more: .*byte 4096/.test(line)),
  );
  assert.ok(
    lines.some((line) => line === 'info table sound version 1 is sound'),
    lines.join('\n'),
  );

  writeFileSync(path, whole);
  await runtime.service.loadModel('bad');
  await until('it is verified', async () => (await metric(runtime, 'verifications', 'sound')) === 2);
  assert.deepEqual(await rowsOf(runtime, 'bad', 1), rowOf(101, dim));
});

test('requests that wait for a damaged table are answered with its fault', async (t) => {
  const table = await chain(0, 20_000);
  flipBit(shardOf(table, 1));
  const { runtime } = await open(t, { bad: model(table) }, { verifyTables: 'background' });
  const codes = new Set<string>();
  while (runtime.isReady) {
    const asked = Array.from({ length: 50 }, (_, id) => rowsOf(runtime, 'bad', id));
    for (const outcome of await Promise.allSettled(asked))
      codes.add(outcome.status === 'fulfilled' ? 'ok' : outcome.reason.code);
  }
  for (const code of codes)
    assert.ok(['ok', 'SRV_TABLE_CORRUPT', 'SRV_MODEL_NOT_READY'].includes(code), code);
  await assert.rejects(rowsOf(runtime, 'bad', 0), { code: 'SRV_MODEL_NOT_READY' });
});

test('with open, a model whose table is damaged never gets ready; without, nothing is read', async (t) => {
  const table = await chain(0);
  flipBit(shardOf(table, 1));
  const { runtime } = await open(t, { bad: model(table), good: model(sound) }, { verifyTables: 'open' });
  assert.match(stateOf(runtime, 'bad'), /^failed: .*byte 4096: the block/);
  assert.equal(stateOf(runtime, 'good'), 'ready');
  const { runtime: trusting } = await open(t, { bad: model(table) }, {});
  assert.equal(stateOf(trusting, 'bad'), 'ready');
  assert.equal(await metric(trusting, 'verifications', 'corrupt'), 0);
});

test('a chain is folded behind the served version, and the next load takes the snapshot', async (t) => {
  const table = await chain(2);
  const { runtime, lines } = await open(
    t,
    { m: model(table) },
    { compactTables: 2, verifyTables: 'background' },
  );
  assert.deepEqual(await rowsOf(runtime, 'm', 2), rowOf(102, dim));
  await until('it is folded', async () => (await metric(runtime, 'compactions', 'done')) === 1);
  assert.deepEqual(await listVersions(table), [1, 2, 3, 4]);
  const manifest = JSON.parse(readFileSync(join(table, '4/manifest.json'), 'utf8'));
  assert.deepEqual([manifest.kind, manifest.compacts], ['snapshot', 3]);
  assert.deepEqual(await rowsOf(runtime, 'm', 2), rowOf(102, dim));
  assert.ok(lines.some((line) => /^info table \S+ version 3 was folded into version 4/.test(line)));
  for (const version of ['1', '2', '3']) rmSync(join(table, version), { recursive: true });
  await runtime.service.loadModel('m');
  for (const [id, row] of [
    [1, 101],
    [2, 102],
    [3, 3],
  ] as const)
    assert.deepEqual(await rowsOf(runtime, 'm', id), rowOf(row, dim));
});

test('short chains, pinned versions and tables of others are left alone', async (t) => {
  const short = await chain(1);
  const pinned = await chain(2);
  const taken = await chain(2);
  await using _work = await VersionWork.open(taken, 4);
  const { runtime, lines } = await open(
    t,
    {
      a: model(short),
      b: model(pinned, { version: 3 }),
      c: model(taken),
      last: model(await chain(2)),
    },
    { compactTables: 2 },
  );
  await until('the last of them is folded', async () => (await metric(runtime, 'compactions', 'done')) === 1);
  assert.deepEqual(await listVersions(short), [1, 2]);
  assert.deepEqual(await listVersions(pinned), [1, 2, 3]);
  assert.deepEqual(await listVersions(taken), [1, 2, 3]);
  await until('the one that is taken was looked at', () =>
    lines.some((line) => /^info table .* is folded by another process: version 4 of/.test(line)),
  );
  assert.equal(await metric(runtime, 'compactions', 'failed'), 0);
});

test('a compaction that fails is told, counted, and leaves what is served as it is', async (t) => {
  const table = await chain(2);
  flipBit(shardOf(table, 1));
  const { runtime, lines } = await open(t, { m: model(table) }, { compactTables: 1 });
  await until('it has failed', async () => (await metric(runtime, 'compactions', 'failed')) === 1);
  assert.ok(lines.some((line) => /^warn table \S+ version 3 was not folded: .*byte 4096/.test(line)));
  assert.equal(stateOf(runtime, 'm'), 'ready');
  assert.deepEqual(await listVersions(table), [1, 2, 3]);
});

test('closing a runtime ends the work and waits for it: nothing half-made is left', async () => {
  const source = await chain(2, 200_000);
  for (let turns = 0; turns < 12; turns += 3) {
    const table = `${source}-${turns}`;
    cpSync(source, table, { recursive: true });
    const { runtime, close } = await openWith(
      { m: model(table), n: model(sound) },
      { compactTables: 1, verifyTables: 'background', threads: 1 },
    );
    const isUnderWay = (): boolean => readdirSync(table).some((name) => name.startsWith('.building-'));
    if (turns > 0) await until('it is folded', () => isUnderWay() || existsSync(join(table, '4')));
    for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    await runtime.close({ timeoutMs: 0 });
    assert.deepEqual(
      readdirSync(table).filter((name) => !['1', '2', '3', '4', 'rows.txt'].includes(name)),
      [],
    );
    await close();
  }
});
