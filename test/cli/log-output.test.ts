import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openLog, prettyLine } from '../../src/cli/log-output.js';
import { resolveLogConfig } from '../../src/config/load.js';
import type { LogOptions } from '../../src/config/schema.js';

const root = mkdtempSync(join(tmpdir(), 'log-'));
after(() => rmSync(root, { recursive: true }));

function logTo(options: LogOptions): { lines: string[]; open: ReturnType<typeof openLog> } {
  const lines: string[] = [];
  const config = resolveLogConfig(options);
  return { lines, open: openLog(config, { write: (text) => lines.push(text) }) };
}

test('JSON lines carry level, time, message and fields', () => {
  const { lines, open } = logTo({ format: 'json', level: 'warn' });
  open.logger.info('not shown');
  open.logger.warn({ model: 'a' }, 'shown');
  assert.equal(lines.length, 1);
  const record = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  assert.equal(typeof record.time, 'number');
  delete record.time;
  assert.deepEqual(record, { level: 40, model: 'a', msg: 'shown' });
});

test('pretty lines are for people', () => {
  const { lines, open } = logTo({ format: 'pretty' });
  open.logger.error({ model: 'a', count: 2, err: new Error('broken') }, 'it failed');
  assert.match(
    lines.join(''),
    /^\d\d:\d\d:\d\d\.\d{3} ERROR it failed model=a count=2\n {2}Error: broken\n {2} +at /,
  );
});

test('a line that is no JSON passes unchanged', () => {
  assert.equal(prettyLine('plain\n'), 'plain\n');
});

test('log files are rotated by size and the oldest go', () => {
  const dir = join(root, 'rotated');
  const { lines, open } = logTo({ dir, maxFileBytes: 1024, maxFiles: 3, format: 'json' });
  for (let number = 0; number < 100; number++) open.logger.info({ number }, 'x'.repeat(100));
  open.close();
  assert.deepEqual(lines, []);
  assert.deepEqual(readdirSync(dir).sort(), ['onnx-serving.log', 'onnx-serving.log.1', 'onnx-serving.log.2']);
  const numbers = ['.2', '.1', ''].flatMap((suffix) => {
    const text = readFileSync(join(dir, `onnx-serving.log${suffix}`), 'utf8');
    assert.ok(text.length <= 1024);
    return text
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { number: number }).number);
  });
  assert.equal(numbers.at(-1), 99);
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => 100 - numbers.length + index),
  );
});

test('one log file is kept where only one is wanted, and an old one is continued', () => {
  const dir = join(root, 'single');
  const first = logTo({ dir, maxFileBytes: 1024, maxFiles: 1 });
  for (let number = 0; number < 50; number++) first.open.logger.info('x'.repeat(100));
  first.open.close();
  assert.deepEqual(readdirSync(dir), ['onnx-serving.log']);
  const before = readFileSync(join(dir, 'onnx-serving.log'), 'utf8');
  const second = logTo({ dir, maxFileBytes: 4096, maxFiles: 1 });
  second.open.logger.info('more');
  second.open.close();
  assert.ok(readFileSync(join(dir, 'onnx-serving.log'), 'utf8').startsWith(before));
});

test('a log directory that cannot be made is SRV_IO', () => {
  writeFileSync(join(root, 'file'), '');
  assert.throws(() => logTo({ dir: join(root, 'file', 'logs') }), { code: 'SRV_IO' });
});
