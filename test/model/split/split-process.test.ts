import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, statSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { SplitReport } from '../../../src/model/split/split-model.js';
import { temporaryDirectory, writeModel } from '../model-fixtures.js';
import { embeddingModel, factor, split } from './split-fixtures.js';

const script = fileURLToPath(new URL('./split-in-child.js', import.meta.url));
const MiB = 1024 * 1024;

function start(t: TestContext, ...args: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, ['--max-old-space-size=200', script, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

/** A model whose table of `rows` x 16 lies in a file of holes, but for a few rows. */
function writeLargeModel(directory: string, rows: number): string {
  const tableBytes = rows * 64;
  const path = join(directory, 'weights.bin');
  const file = openSync(path, 'w');
  for (const row of [0, 1, rows >> 1, rows - 1]) {
    writeSync(
      file,
      Float32Array.from({ length: 16 }, (_, at) => row + at / 16),
      0,
      64,
      row * 64,
    );
  }
  writeSync(
    file,
    Float32Array.from({ length: 256 }, (_, at) => Math.sin(at)),
    0,
    1024,
    tableBytes,
  );
  closeSync(file);
  truncateSync(path, tableBytes + 1024);
  const at = (name: string, shape: readonly number[], offset: number, length: number) => ({
    name,
    datatype: 'FP32' as const,
    shape,
    external: { location: 'weights.bin', offset, length },
  });
  return writeModel(directory, {
    ...embeddingModel({
      nodes: [
        { op: 'Gather', inputs: ['table', 'ids'], outputs: ['rows'] },
        { op: 'MatMul', inputs: ['rows', 'w'], outputs: ['y'] },
      ],
    }),
    initializers: [at('table', [rows, 16], 0, tableBytes), at('w', [16, 16], tableBytes, 1024), factor],
  });
}

interface Memory {
  /** What a process holds for itself, and all that it has resident, the pages of mapped files included; kB. */
  anonymous: number;
  resident: number;
}

/** Largest memory of a process and its children until it ends. */
async function watchMemory(pid: number, ended: Promise<unknown>): Promise<{ own: Memory; children: Memory }> {
  const own = { anonymous: 0, resident: 0 };
  const children = { anonymous: 0, resident: 0 };
  let isOver = false;
  void ended.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      try {
        const status = readFileSync(`/proc/${name}/status`, 'latin1');
        const field = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
        const into = Number(name) === pid ? own : field('PPid') === pid ? children : undefined;
        if (!into) continue;
        into.anonymous = Math.max(into.anonymous, field('RssAnon'));
        into.resident = Math.max(into.resident, field('VmHWM'));
      } catch {
        // The process has ended meanwhile.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return { own, children };
}

test('a table much larger than the memory is split, rows streamed from external data', {
  skip: process.platform !== 'linux' && 'memory is read from /proc',
}, async (t) => {
  const directory = temporaryDirectory(t);
  const rows = 9_830_400;
  const modelFile = writeLargeModel(directory, rows);
  const out = join(directory, 'out');
  const child = start(t, modelFile, out);
  const ended = once(child, 'close');
  const [memory, output, [code]] = await Promise.all([
    watchMemory(child.pid!, ended),
    text(child.stdout!),
    ended as Promise<[number]>,
  ]);
  assert.equal(code, 0);
  const report = JSON.parse(output) as SplitReport;
  t.diagnostic(`memory in kB: ${JSON.stringify(memory)}`);
  // What the table builder may take, and what Node does. Mapped pages of the table, which the kernel takes back at
  // will, are resident beside it.
  assert.ok(memory.own.anonymous < 700 * 1024, `the process had ${memory.own.anonymous} kB of its own`);
  assert.ok(memory.children.anonymous < 250 * 1024, `the engine had ${memory.children.anonymous} kB`);
  assert.ok('proof' in report.proof);
  assert.equal(report.proof.proof.comparison, 'exact');
  assert.ok(report.bytes.before > 600 * MiB);
  assert.ok(report.bytes.after < 4096);
  assert.deepEqual(readdirSync(out).sort(), ['model.json', 'model.onnx', 'model.onnx.data', 'tables']);
  const manifest = JSON.parse(readFileSync(join(out, 'tables/table/1/manifest.json'), 'utf8'));
  assert.equal(manifest.rows, rows);
  assert.equal(statSync(join(out, 'model.onnx.data')).size, 1024);
});

test('a split that is killed leaves no directory, and the next one cleans up behind it', async (t) => {
  const directory = temporaryDirectory(t);
  const modelFile = writeLargeModel(directory, 20_000);
  const out = join(directory, 'out');
  const child = start(t, modelFile, out, 'hang');
  const ended = once(child, 'close');
  await Promise.race([
    once(child.stdout!, 'data'),
    ended.then(([code]) => Promise.reject(new Error(`it ended with ${code} before the rows were written`))),
  ]);
  child.kill('SIGKILL');
  await ended;
  const left = readdirSync(directory).filter((name) => name.includes('split'));
  assert.equal(left.length, 1, 'only the working directory is left');
  assert.ok(!readdirSync(directory).includes('out'));
  await split(t, embeddingModel(), { modelFile, directory: out, minBytes: MiB });
  assert.deepEqual(readdirSync(directory).sort(), ['model.onnx', 'out', 'weights.bin']);
});
