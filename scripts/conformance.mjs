#!/usr/bin/env node
/**
 * Runs the conformance cases against the real server: every case in JSON, binary and mixed form, with the metadata.
 *
 * The cases lie beside the checkout and are not part of it; where they are missing this says so and ends with 0.
 * Exits with 1 when any case fails, or when a model that cannot be served is not refused in order.
 *
 *     node scripts/conformance.mjs [--shared DIR] [--only REGEX]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values } = parseArgs({ options: { shared: { type: 'string' }, only: { type: 'string' } } });
const shared = resolve(values.shared ?? join(root, '..', 'shared'));
const runner = join(shared, 'tools', 'oip-conformance');
const sets = ['conformance/onnx', 'conformance/wire', 'models'].map((name) => join(shared, name));
const refusedSet = join(shared, 'conformance', 'refused');

if (!existsSync(runner)) {
  console.log(`Conformance is NOT checked: ${runner} is not there.`);
  process.exit(0);
}

const scratch = mkdtempSync(join(tmpdir(), 'onnx-serving-conformance-'));
const children = new Set();
let isFailed = false;
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

// The runner wants the engine beside it; a copy finds the one that is tested.
const runnerCopy = join(scratch, 'runner');
cpSync(runner, runnerCopy, { recursive: true, filter: (path) => !path.includes('node_modules') });
symlinkSync(join(root, 'node_modules'), join(runnerCopy, 'node_modules'));

for (const cases of sets) {
  if (!existsSync(cases)) {
    console.log(`NOT checked: ${cases} is not there.`);
    continue;
  }
  console.log(`== ${cases}`);
  await withServer(cases, async (url) => {
    const args = ['oip', '--cases', cases, '--url', url, '--metadata', '--mode', 'all'];
    if (values.only) args.push('--only', values.only);
    const child = start([join(runnerCopy, 'runner.mjs'), ...args], 'inherit');
    const [code] = await once(child, 'close');
    if (code !== 0) fail(`${cases}: the runner ended with ${code}`);
  });
}
if (existsSync(refusedSet)) await checkRefused();
else console.log(`NOT checked: ${refusedSet} is not there.`);
process.exitCode = isFailed ? 1 : 0;

function fail(text) {
  isFailed = true;
  console.log(`FAILED: ${text}`);
}

function start(args, stdio) {
  const child = spawn(process.execPath, args, { stdio: ['ignore', stdio, stdio] });
  children.add(child);
  child.once('close', () => children.delete(child));
  return child;
}

/** Serves a directory of models on a free port while `use` runs; the server must then end in order. */
async function withServer(repository, use) {
  const server = start(
    [
      ...[join(root, 'bin', 'onnx-serving.js'), 'serve', '--model_repository', repository, '--port', '0'],
      ...['--model_control', 'explicit', '--cache_dir', join(scratch, 'cache'), '--log_level', 'error'],
    ],
    'pipe',
  );
  let text = '';
  let log = '';
  server.stdout.on('data', (chunk) => {
    text += chunk;
  });
  server.stderr.on('data', (chunk) => {
    log += chunk;
  });
  const ended = once(server, 'close');
  while (server.exitCode === null && !/Listening on \S+\n/.test(text)) {
    await Promise.race([once(server.stdout, 'data'), ended]);
  }
  const url = /Listening on (\S+)/.exec(text)?.[1];
  if (!url) {
    fail(`the server of ${repository} ended with ${server.exitCode}:\n${text}${log}`);
    return;
  }
  await use(url);
  if (server.exitCode === null) server.kill('SIGTERM');
  const [code, signal] = await ended;
  if (code !== 0) fail(`the server of ${repository} ended with ${code ?? signal}:\n${log.slice(-4000)}`);
}

/** Loads each model that cannot be served beside one that can: it must be refused with a reason, the other go on. */
async function checkRefused() {
  console.log(`== ${refusedSet}`);
  const repository = join(scratch, 'refused');
  mkdirSync(repository);
  cpSync(join(root, 'examples', 'ring'), join(repository, 'ring'), { recursive: true });
  const names = readdirSync(refusedSet).filter((name) => existsSync(join(refusedSet, name, 'model.onnx')));
  await withServer(repository, async (url) => {
    await serves(url, 'before any');
    for (const name of names) {
      cpSync(join(refusedSet, name), join(repository, name), { recursive: true });
      const answer = await fetch(`${url}/v2/repository/models/${name}/load`, { method: 'POST' });
      const { error } = await answer.json().catch(() => ({}));
      if (answer.ok || !error) fail(`${name} was not refused with a reason: ${answer.status} ${error}`);
      else console.log(`refused ${name}: ${answer.status} ${error.slice(0, 160)}`);
      await serves(url, `after ${name}`);
    }
    const index = await (await fetch(`${url}/v2/repository/index`, { method: 'POST' })).json();
    for (const name of names) {
      const entry = index.find((one) => one.name === name);
      if (entry?.state !== 'UNAVAILABLE' || !entry.reason)
        fail(`${name} in the index: ${JSON.stringify(entry)}`);
    }
  });
  // The same at a start.
  await withServer(repository, async (url) => serves(url, 'after a start among them'));
  console.log(`${names.length} models refused`);
}

async function serves(url, when) {
  const body = JSON.stringify({
    inputs: [{ name: 'point', datatype: 'FP32', shape: [1, 2], data: [0.6, 0] }],
  });
  const answer = await fetch(`${url}/v2/models/ring/infer`, { method: 'POST', body });
  const reply = await answer.json();
  if (!(reply.outputs?.[0]?.data?.[0] > 0.9))
    fail(`${when}: the good model answers ${JSON.stringify(reply)}`);
}
