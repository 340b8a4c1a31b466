/** `table info`, `get`, `verify`, `compact` and `diff` as people call them. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type BuildTableOptions, buildTable } from '../../src/sparse/builder.js';
import { listVersions } from '../../src/sparse/manifest.js';
import { openTable } from '../../src/sparse/table.js';
import { type TestRow, writeKeyValue } from '../sparse/row-files.js';
import { until } from '../support/until.js';
import { killMidway, namesIn } from '../support/version-work.js';

const program = fileURLToPath(new URL('../../../bin/onnx-serving.js', import.meta.url));
const tableModule = fileURLToPath(new URL('../../src/sparse/table.js', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'table-tools-'));
after(() => rmSync(root, { recursive: true }));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(...args: readonly string[]): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'table', ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { code: status, out: stdout, err: stderr };
}

/** Runs a command that must end well; its output. */
function good(...args: readonly string[]): string {
  const { code, out, err } = run(...args);
  assert.equal(code, 0, err);
  return out;
}

function refused(code: number, message: RegExp, ...args: readonly string[]): void {
  const ended = run(...args);
  assert.equal(ended.code, code, `${args}: ${ended.out}${ended.err}`);
  assert.match(ended.err, message, args.join(' '));
  assert.equal(ended.out, '');
}

let files = 0;
async function build(
  name: string,
  rows: readonly TestRow[],
  options: Partial<BuildTableOptions> = {},
): Promise<string> {
  const output = join(root, name);
  const inputs = [writeKeyValue(join(root, `rows-${files++}.txt`), rows)];
  await buildTable({ threads: 1, ...options, output, inputs });
  return output;
}

const gone = join(root, 'gone.txt');
writeFileSync(gone, '2\n');
const table = await build(
  'items',
  [
    [1n, [0.1, -0.5]],
    [2n, [3, 4]],
    [2n ** 64n - 1n, [16777216, 1e-7]],
  ],
  { shardNum: 2, defaultRow: [0, 0], model: { name: 'ranker', version: 3 } },
);
await build('items', [[5n, [5, 5]]], { mode: 'delta', deleteKeys: gone });
writeFileSync(join(root, 'text.txt'), '1:one\n2:two words\n');
const text = join(root, 'text');
await buildTable({ output: text, inputs: [join(root, 'text.txt')], dtype: 'bytes' });

test('info tells what a version is made of', () => {
  const out = good('info', table);
  assert.match(out, /^table +items version 2$/m);
  assert.match(out, new RegExp(`^directory +${table}/2$`, 'm'));
  assert.match(out, /^rows +3 of f32 x 2$/m);
  assert.match(out, /^shards +2$/m);
  assert.match(out, /^bytes +\d+, [\d.]+ a row$/m);
  assert.match(out, /^default row +yes$/m);
  // The delta names no model: it belongs to that of the rows it changes.
  assert.match(out, /^model +ranker version 3$/m);
  assert.match(out, /^VERSION +KIND +ROWS +DELETES +CREATED$/m);
  assert.match(out, /^1 +snapshot +3 +0 +20/m);
  assert.match(out, /^2 +delta on 1 +1 +1 +20/m);
  assert.equal(good('info', join(table, '2')), out);
  assert.match(good('info', table, '--version', '1'), /^rows +3 of f32 x 2$/m);
  assert.match(good('info', text), /^rows +2 of bytes$/m);
});

test('info --json prints the manifests, snapshot first', () => {
  const manifests = JSON.parse(good('info', table, '--json'));
  assert.deepEqual(
    manifests,
    ['1', '2'].map((version) => JSON.parse(readFileSync(join(table, version, 'manifest.json'), 'utf8'))),
  );
});

test('get prints rows that read back equal, and ends with 1 when a key is missing', () => {
  assert.equal(
    good('get', table, '1', '5', '18446744073709551615'),
    '1:0.1 -0.5\n5:5 5\n18446744073709551615:16777216 1e-7\n',
  );
  const some = run('get', table, '2', '1', '77');
  assert.deepEqual([some.code, some.out, some.err], [1, '2: missing\n1:0.1 -0.5\n77: missing\n', '']);
  assert.equal(good('get', table, '2', '--version', '1'), '2:3 4\n');
  assert.equal(good('get', text, '2'), '2:two words\n');
  assert.equal(good('get', text, '2', '--values', 'hex'), '2:74776f20776f726473\n');
});

test('get keeps signs of zeros, NaN and infinities', async () => {
  const input = join(root, 'odd.txt');
  writeFileSync(input, '1:-0 NaN -inf\n');
  await buildTable({ output: join(root, 'signs'), inputs: [input] });
  assert.equal(good('get', join(root, 'signs'), '1'), '1:-0 NaN -Infinity\n');
});

test('get tells every float32 from the next with nine digits at most', async () => {
  const bits = Uint32Array.from({ length: 200 }, (_, index) => Math.imul(index + 1, 2654435761) >>> 0);
  const row = Array.from(new Float32Array(bits.buffer)).filter(Number.isFinite);
  const odd = await build('odd', [[1n, row]]);
  const printed = good('get', odd, '1').trim().slice(2).split(' ');
  assert.deepEqual(
    printed.map((value) => Math.fround(Number(value))),
    row,
  );
  for (const value of printed)
    assert.ok(value.replace(/e.*|[-.]/g, '').replace(/^0+|0+$/g, '').length <= 9, value);
});

test('verify reads every file and finds what was flipped', async () => {
  assert.match(
    good('verify', table),
    /(ok \S+part-0000\d-of-00002\.shard \d+ bytes\n){4}items version 2: \d+ bytes are sound, /,
  );
  assert.match(good('verify', table, '--version', '1'), /^items version 1: /m);
  const bad = await build('bad', [[1n, [1, 2]]]);
  const path = join(bad, '1', 'part-00000-of-00001.shard');
  const bytes = readFileSync(path);
  bytes[5000] = bytes[5000]! ^ 4;
  writeFileSync(path, bytes);
  refused(1, /part-00000-of-00001\.shard, byte 4096: the block of \d+ bytes has the checksum/, 'verify', bad);
  refused(1, /checksum/, 'compact', await withDelta(bad));
});

async function withDelta(path: string): Promise<string> {
  await build(path.slice(root.length + 1), [[9n, [9, 9]]], { mode: 'delta' });
  return path;
}

test('compact folds deltas; diff sees no difference, and verify none either', async () => {
  const folded = await withDelta(await build('folded', [[1n, [1, 1]]]));
  assert.match(
    good('compact', folded),
    new RegExp(`^version 3: 2 rows, as version 2 has them; in ${folded}/3\n$`),
  );
  const same = good('diff', join(folded, '2'), folded);
  assert.match(same, /^from +folded version 2\nto +folded version 3\nadded +0\nchanged +0\nremoved +0\n$/);
  good('verify', folded);
  refused(2, /folded version 3 is a snapshot already: there is nothing to fold/, 'compact', folded);
  refused(2, /version 2 .* would hide the newer version 3/, 'compact', folded, '--version', '2');
});

test('diff counts, and with -o writes the delta that turns A into B', async () => {
  const a = await build('a', [
    [1n, [1, 1]],
    [2n, [2, 2]],
  ]);
  const b = await build('b', [
    [2n, [3, 3]],
    [4n, [4, 4]],
  ]);
  assert.match(good('diff', a, b), /^added +1\nchanged +1\nremoved +1\n$/m);
  assert.deepEqual(await listVersions(a), [1]);
  const wrote = good('diff', a, b, '-o', a, '--memory_limit', '64m');
  assert.equal(wrote, `version 2: a delta on version 1 with 2 rows and 1 deletes; in ${a}/2\n`);
  assert.match(good('diff', a, b), /^added +0\nchanged +0\nremoved +0\n$/m);
  assert.equal(good('get', a, '2', '4'), '2:3 3\n4:4 4\n');
  refused(
    1,
    /version 1 in \S+ is not the one in \S+: its digest is \w{64}, expected \w{64}/,
    'diff',
    join(a, '1'),
    b,
    '-o',
    b,
  );
  const wide = await build('wide', [[1n, [1, 2, 3]]]);
  refused(1, /table a version 2 has dim 2, wide version 1 has 3/, 'diff', a, wide);
});

test('bad usage ends with 2, what is not there with 1, and both say what was expected', () => {
  const key = /argument 'key'.*Expected a key from 0 to 18446744073709551615/;
  for (const bad of ['abc', '18446744073709551616', '1.5', '', '0x10'])
    refused(2, key, 'get', table, '1', bad);
  refused(2, key, 'get', table, '-1');
  refused(2, /missing required argument 'key'/, 'get', table);
  refused(2, /missing required argument 'table'/, 'info');
  refused(2, /missing required argument 'b'/, 'diff', table);
  refused(2, /'--version <n>'.*Expected a whole number of at least 1/, 'info', table, '--version', '0');
  refused(2, /'--values <form>'.*Allowed choices are text, hex/, 'get', text, '1', '--values', 'octal');
  refused(2, /'--memory_limit <size>'/, 'compact', table, '--memory_limit', 'much');
  refused(2, /too many arguments/, 'verify', table, table);
  refused(2, /unknown option '--deep'/, 'verify', table, '--deep');
  refused(2, /unknown command 'inspect'/, 'inspect', table);
  refused(1, /there is no table at \S+nowhere/, 'info', join(root, 'nowhere'));
  refused(1, /there is no version 9/, 'get', table, '1', '--version', '9');
  refused(1, /gone\.txt/, 'verify', gone);
  refused(1, /holds no version of a table/, 'diff', root, table);
});

/** Rows enough for a compaction that takes a while. */
async function large(name: string): Promise<string> {
  const path = join(root, name);
  const row = Array.from({ length: 16 }, (_, index) => index).join(' ');
  const input = join(root, `${name}.txt`);
  writeFileSync(input, Array.from({ length: 200_000 }, (_, key) => `${key}:${row}\n`).join(''));
  await buildTable({ output: path, inputs: [input] });
  writeFileSync(input, Array.from({ length: 2000 }, (_, key) => `${key * 100}:${row} \n`).join(''));
  await buildTable({ output: path, inputs: [input], mode: 'delta' });
  return path;
}

test('a compaction that is killed leaves the old version, and the next one clears up', async () => {
  const path = await large('killed');
  const start = (): ChildProcess =>
    spawn(process.execPath, [program, 'table', 'compact', path], { stdio: 'ignore' });
  const hasShard = (work: string): boolean => namesIn(work).some((name) => name.endsWith('.shard'));
  for (const isFar of [() => true, hasShard]) {
    await killMidway(path, 3, start, isFar);
    assert.deepEqual(await listVersions(path), [1, 2]);
    for (const version of [1, 2]) (await openTable(path, { version, verify: true })).close();
  }
  good('compact', path);
  assert.deepEqual(readdirSync(path).sort(), ['1', '2', '3']);
  assert.match(good('diff', join(path, '2'), path), /^added +0\nchanged +0\nremoved +0\n$/m);
});

const gatherProgram = `
  const { openTable } = await import(process.argv[1]);
  const keys = BigUint64Array.from({ length: 1000 }, (_, index) => BigInt(index * 199));
  const table = await openTable(process.argv[2]);
  const first = table.gather(keys).rows;
  process.stdout.write('ready\\n');
  let turns = 0;
  let stop = false;
  process.stdin.on('data', () => { stop = true; });
  while (!stop) {
    const { rows, missing } = table.gather(keys);
    if (missing > 0 || Buffer.compare(Buffer.from(rows.buffer), Buffer.from(first.buffer)) !== 0) throw new Error('other rows');
    turns += 1;
    await new Promise((resolve) => setImmediate(resolve));
  }
  const newest = await openTable(process.argv[2]);
  const again = newest.gather(keys).rows;
  const isSame = Buffer.compare(Buffer.from(again.buffer), Buffer.from(first.buffer)) === 0;
  process.stdout.write(JSON.stringify({ turns, isSame, version: newest.version }));
  process.exit(0);
`;

test('another process goes on gathering while a table is compacted', async () => {
  const path = await large('busy');
  const child = spawn(process.execPath, ['--input-type=module', '--eval', gatherProgram, tableModule, path], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  after(() => child.kill('SIGKILL'));
  let out = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  await until('it gathers', () => out.startsWith('ready\n'));
  good('compact', path);
  child.stdin.end('stop');
  const [code] = await once(child, 'close');
  assert.equal(code, 0, out);
  const { turns, isSame, version } = JSON.parse(out.slice('ready\n'.length));
  assert.ok(turns > 0);
  assert.deepEqual([isSame, version], [true, 3]);
});
