import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { Command } from 'commander';
import { registerBench } from '../../src/cli/bench.js';
import type { LoadReport } from '../../src/loadtest/report.js';
import { startFakeServer } from './fake-oip-server.js';

const folder = await mkdtemp(join(tmpdir(), 'loadtest-'));
after(() => rm(folder, { recursive: true }));
afterEach(() => {
  process.exitCode = 0;
});

async function bench(...argv: string[]): Promise<string> {
  let text = '';
  const program = new Command().name('onnx-serving').version('9.9.9').exitOverride();
  registerBench(program, (more) => {
    text += more;
  });
  await program.parseAsync(['bench', ...argv], { from: 'user' });
  return text;
}

const brief = ['--duration', '0.05', '--warmup', '0.01', '--max-windows', '3'];

test('bad flags are refused all at once, each by name', async () => {
  await assert.rejects(
    bench('--concurrency', '0,x', '--protocol', 'xml', '--duration', '-1', '--shape', 'x', '--rows', '1.5'),
    (error: { code?: string; message: string }) => {
      assert.equal(error.code, 'SRV_BAD_CONFIG');
      for (const expected of [
        /either --url or --in_process/,
        /--model is missing/,
        /--concurrency 0: /,
        /--concurrency x: /,
        /--protocol xml: expected json or binary/,
        /--duration -1: /,
        /--shape x: expected name:1,16/,
        /--rows 1\.5: expected a whole number/,
      ]) {
        assert.match(error.message, expected);
      }
      return true;
    },
  );
});

test('flags that contradict each other are refused', async () => {
  const url = ['--url', 'http://127.0.0.1:1', '--model', 'm'];
  await assert.rejects(bench(...url, '--in_process'), /either --url or --in_process/);
  await assert.rejects(bench('--in_process', '--model', 'nowhere'), { code: 'SRV_MODEL_NOT_FOUND' });
  await assert.rejects(bench(...url, '--rate', '5', '--concurrency', '1'), /either --concurrency/);
  await assert.rejects(bench(...url, '--arrival', 'poisson'), /--arrival goes with --rate/);
  await assert.rejects(bench('--url', 'nowhere', '--model', 'm'), /--url nowhere: not a URL/);
});

test('a run writes text, JSON and a page that loads nothing', async () => {
  const server = await startFakeServer();
  try {
    const json = join(folder, 'report.json');
    const html = join(folder, 'report.html');
    const text = await bench(
      ...['--url', server.url, '--model', 'm', '--concurrency', '1,2', '--json', json, '--html', html],
      ...brief,
    );
    assert.match(text, /concurrency 1 /);
    assert.match(text, /inside the server/);
    const report = JSON.parse(await readFile(json, 'utf8')) as LoadReport;
    assert.equal(report.schemaVersion, 1);
    assert.equal(report.results.length, 2);
    assert.equal(report.environment.node, process.version);
    const page = await readFile(html, 'utf8');
    assert.match(page, /<svg/);
    assert.match(page, /by stage/);
    assert.doesNotMatch(page, /<script|https?:\/\/(?!127\.0\.0\.1)/);
    assert.match(server.seen[0]!.body.toString(), /"shape":\[1,4\],"data":\[/);
  } finally {
    await server.close();
  }
});

test('recorded requests are sent as they are, and a bad line is named', async () => {
  const server = await startFakeServer();
  try {
    const input = join(folder, 'recorded.jsonl');
    const line = '{"id":"7","inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[[0.5]]}]}';
    await writeFile(input, `${line}\n\n`);
    await bench('--url', server.url, '--model', 'm', '--input', input, '--concurrency', '1', ...brief);
    assert.equal(server.seen[0]!.body.toString(), line);
    await writeFile(input, `${line}\n{"inputs":1}\n`);
    await assert.rejects(
      bench('--url', server.url, '--model', 'm', '--input', input),
      /recorded\.jsonl, line 2: no "inputs" list/,
    );
  } finally {
    await server.close();
  }
});

test('a run in which nothing succeeded ends with exit code 1', async () => {
  const server = await startFakeServer((index) => ({ status: index === 0 ? 200 : 503 }));
  try {
    const text = await bench('--url', server.url, '--model', 'm', '--rate', '100', ...brief);
    assert.match(text, /x http 503/);
    assert.equal(process.exitCode, 1);
  } finally {
    await server.close();
  }
});

test('--version after bench is the version of the model', async () => {
  const server = await startFakeServer();
  try {
    await assert.rejects(bench('--url', server.url, '--model', 'm', '--version', '3'), {
      code: 'SRV_MODEL_NOT_FOUND',
      message: /models\/m\/versions\/3/,
    });
  } finally {
    await server.close();
  }
});

test('compare exits with 1 only when the given limit is exceeded', async () => {
  const server = await startFakeServer();
  const [first, second] = [join(folder, 'a.json'), join(folder, 'b.json')];
  try {
    await bench('--url', server.url, '--model', 'm', '--concurrency', '1', '--json', first, ...brief);
  } finally {
    await server.close();
  }
  const report = JSON.parse(await readFile(first, 'utf8')) as LoadReport;
  const slower = report.results.map((result) => ({
    ...result,
    requestsPerSecond: result.requestsPerSecond / 2,
  }));
  await writeFile(second, JSON.stringify({ ...report, results: slower }));
  assert.match(await bench('compare', first, second), /0\.500x/);
  assert.notEqual(process.exitCode, 1);
  assert.match(await bench('compare', first, second, '--max-regression', '0.1'), /throughput/);
  assert.equal(process.exitCode, 1);
  await assert.rejects(bench('compare', first, second, '--max_regression', 'much'), /--max_regression much/);
});

test('compare refuses a file that is no report or of another schema version', async () => {
  const path = join(folder, 'other.json');
  await writeFile(path, '{"schemaVersion":99}');
  await assert.rejects(bench('compare', path, path), /schema version 99; expected 1/);
  await writeFile(path, '{"results":[]}');
  await assert.rejects(bench('compare', path, path), /not a report of onnx-serving bench/);
  await assert.rejects(bench('compare', join(folder, 'none.json'), path), /cannot be read/);
});
