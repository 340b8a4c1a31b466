import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { floats, header, record, syncEscape } from '../support/sequence-file.js';

const program = fileURLToPath(new URL('../../../bin/onnx-serving.js', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'seqfile-cli-'));
after(() => rmSync(root, { recursive: true }));

function seqfile(
  args: readonly string[],
  input?: string | Buffer,
): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'seqfile', ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    cwd: root,
    env: { PATH: process.env.PATH },
    ...(input === undefined ? {} : { input }),
  });
  return { code: status, out: stdout, err: stderr };
}

test('make, cat and stat agree, from files and from standard input', () => {
  const lines = '0:1 -2.5\n18446744073709551615:NaN\n42:\n';
  writeFileSync(join(root, 'rows.txt'), lines);
  assert.deepEqual(seqfile(['make', 'rows.txt', '-o', 'rows.seq']), {
    code: 0,
    out: 'rows.seq: 3 records, 156 bytes\n',
    err: '',
  });
  assert.deepEqual(seqfile(['cat', 'rows.seq']), { code: 0, out: lines, err: '' });
  assert.equal(seqfile(['make', '-', '--output', 'piped.seq'], lines).code, 0);
  const piped = readFileSync(join(root, 'piped.seq'));
  assert.equal(seqfile(['cat', '-'], piped).out, lines);
  assert.equal(seqfile(['cat', 'piped.seq', '-n', '1', '--skip', '1']).out, '18446744073709551615:NaN\n');
  assert.equal(
    seqfile(['cat', 'piped.seq', '--inner-lengths', 'no', '--values', 'hex', '--rows=1']).out,
    '0:0000803f000020c0\n',
  );
  const { code, out } = seqfile(['stat', 'rows.seq']);
  assert.equal(code, 0);
  assert.match(out, /^records +3$/m);
  assert.match(out, /^smallest key +0$/m);
  assert.match(out, /^largest key +18446744073709551615$/m);
  assert.match(out, /^mean value +4 bytes$/m);
  assert.match(out, /^inner lengths +no$/m);
});

test('a damaged file prints what comes before and ends with 1', () => {
  writeFileSync(
    join(root, 'cut.seq'),
    Buffer.concat([header(), record(1n, floats(1)), syncEscape, record(2n, floats(2))]).subarray(0, -1),
  );
  const printed = seqfile(['cat', 'cut.seq']);
  assert.deepEqual([printed.code, printed.out], [1, '1:1\n']);
  assert.match(
    printed.err,
    /^cut\.seq, byte 136: the file ends within a record: expected 20 bytes from here, found 19 bytes\n$/,
  );
  const counted = seqfile(['stat', 'cut.seq']);
  assert.equal(counted.code, 1);
  assert.match(counted.out, /^records +1$/m);
  assert.match(counted.err, /byte 136/);
  assert.match(
    seqfile(['make', '-', '-o', 'bad.seq'], '1:1\nbad\n').err,
    /^standard input, line 2, byte 4: expected key:value/,
  );
});

test('bad usage ends with 2', () => {
  for (const args of [
    [],
    ['cat'],
    ['cat', 'a', '-n', '-1'],
    ['cat', 'a', '-n', '1.5'],
    ['cat', 'a', '--values', 'octal'],
    ['cat', 'a', '--inner_lengths', 'maybe'],
    ['make', 'a'],
    ['make', 'a', '-o', '-'],
    ['make', 'a', '-o', 'b', '--values', 'auto'],
  ]) {
    const { code, err } = seqfile(args);
    assert.equal(code, 2, `${args.join(' ')}: ${err}`);
  }
  assert.equal(seqfile(['cat', 'missing.seq']).code, 1);
});

test('cat ends in order when its reader goes away', { timeout: 60_000 }, async () => {
  const rows = Array.from({ length: 100_000 }, (_, key) => record(BigInt(key), floats(key, 0.5)));
  writeFileSync(join(root, 'long.seq'), Buffer.concat([header(), ...rows]));
  const child = spawn(process.execPath, [program, 'seqfile', 'cat', 'long.seq'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let err = '';
  child.stderr.on('data', (text) => {
    err += text;
  });
  await once(child.stdout, 'data');
  child.stdout.destroy();
  const [code, signal] = await once(child, 'close');
  assert.deepEqual([code, signal, err], [0, null, '']);
  const shell = spawnSync(
    'sh',
    ['-c', `"$1" "$2" seqfile cat long.seq | head -n 2; echo end`, 'sh', process.execPath, program],
    { cwd: root, encoding: 'utf8' },
  );
  assert.deepEqual([shell.stdout, shell.stderr], ['0:0 0.5\n1:1 0.5\nend\n', '']);
  const whole = spawnSync(
    'sh',
    ['-c', `"$1" "$2" seqfile cat long.seq | tail -n 1`, 'sh', process.execPath, program],
    { cwd: root, encoding: 'utf8' },
  );
  assert.equal(whole.stdout, '99999:99999 0.5\n');
});
