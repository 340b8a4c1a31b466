/**
 * A model of house prices that is trained anew every few seconds, published, fetched and served, while requests go on.
 * Prints a line for each second: requests, failures, the version that answered, and how far its prices are off.
 *
 *   node dist/examples/hot-reload/watch.js [--every 3] [--rate 100] [--versions N] [--directory DIR]
 *
 * --versions ends it once N versions have answered; otherwise Ctrl-C does. The exit code is 1 when a request failed.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { drawSale, randomNumbers } from './houses.js';
import { type Program, startProgram } from './programs.js';

const { values: flags } = parseArgs({
  options: {
    every: { type: 'string', default: '3' },
    rate: { type: 'string', default: '100' },
    versions: { type: 'string' },
    directory: { type: 'string' },
  },
});
const wantedVersions = Number(flags.versions ?? Number.POSITIVE_INFINITY);
const place = flags.directory ?? mkdtempSync(join(tmpdir(), 'hot-reload-'));
const [trained, store, models] = ['trained/house', 'store', 'models'].map((name) => join(place, name)) as [
  string,
  string,
  string,
];
for (const directory of [store, join(models, 'house')]) mkdirSync(directory, { recursive: true });

let day = 0;
const program = 'bin/onnx-serving.js';
const trainer = startProgram(
  ['dist/examples/hot-reload/train.js', trained, '--every', flags.every],
  (line) => {
    day = Number(/^day (\d+)/.exec(line)?.[1] ?? day);
  },
);
const publisher = startProgram([
  ...[program, 'publish', trained, '--to', 'file', '--remote_path', store],
  ...['--watch', '--ready_file', 'READY', '--interval', '0.2'],
]);
const monitor = startProgram([
  ...[program, 'monitor', '--type', 'local', '--remote_path', store, '--interval', '0.2'],
  ...['--remote_model_name', 'house.tar.gz', '--remote_donefile_name', 'house.done'],
  ...['--local_path', models, '--local_model_name', 'house', '--layout', 'versions'],
]);
const programs: Program[] = [trainer, publisher, monitor];

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());

interface Second {
  requests: number;
  failures: number;
  off: number;
  readonly versions: Set<string>;
}
const newSecond = (): Second => ({ requests: 0, failures: 0, off: 0, versions: new Set() });
let second = newSecond();
const total = { requests: 0, failures: 0, versions: new Set<string>() };

try {
  process.stdout.write(`Everything lies in ${place}. Waiting for the first model ...\n`);
  const stopped = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(new Error('stopped before the first model')));
  });
  // A program that ends is told at once.
  const others = [publisher, trainer].map((one) => one.said(/^\0$/));
  await Promise.race([monitor.said(/version 1 is in place/), stopped, ...others]);
  stopped.catch(() => undefined);
  const server = startProgram([program, 'serve', '--model', join(models, 'house'), '--port', '0']);
  programs.push(server);
  const url = `${await server.said(/Listening on (http:\S+)/)}/v2/models/house/infer`;
  process.stdout.write(`Serving at ${url}\n\n  s  requests  failures  version  mean error\n`);
  await sendRequests(url);
} finally {
  await Promise.all(programs.map((one) => one.close()));
  if (flags.directory === undefined) rmSync(place, { recursive: true, force: true });
}
process.stdout.write(
  `\n${total.requests} requests, ${total.failures} failures, ${total.versions.size} versions answered\n`,
);
process.exitCode = total.failures === 0 ? 0 : 1;

/** Sends requests at the rate, whether or not the ones before were answered, and prints each second. */
async function sendRequests(url: string): Promise<void> {
  const random = randomNumbers(2);
  const under = new Set<Promise<void>>();
  const startedAt = performance.now();
  let seconds = 0;
  let sent = 0;
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const elapsedS = (performance.now() - startedAt) / 1000;
      for (; sent < elapsedS * Number(flags.rate); sent++) {
        const request = ask(url, random).finally(() => under.delete(request));
        under.add(request);
      }
      while (elapsedS >= seconds + 1) printSecond(++seconds);
      if (!stop.signal.aborted && total.versions.size < wantedVersions) return;
      clearInterval(timer);
      resolve();
    }, 10);
  });
  await Promise.all(under);
  if (second.requests > 0) printSecond(seconds + 1);
}

async function ask(url: string, random: () => number): Promise<void> {
  const { house, price } = drawSale(random, day);
  const body = { inputs: [{ name: 'houses', datatype: 'FP32', shape: [1, house.length], data: house }] };
  let version = '';
  let off = 0;
  try {
    const reply = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
    if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`);
    const answer = (await reply.json()) as { model_version: string; outputs: { data: number[] }[] };
    version = answer.model_version;
    off = Math.abs(answer.outputs[0]!.data[0]! / price - 1);
  } catch (error) {
    second.failures += 1;
    total.failures += 1;
    process.stdout.write(`a request failed: ${error instanceof Error ? error.message : String(error)}\n`);
  }
  second.requests += 1;
  total.requests += 1;
  if (version === '') return;
  second.off += off;
  second.versions.add(version);
  total.versions.add(version);
}

function printSecond(number: number): void {
  const { requests, failures, versions, off } = second;
  const error = requests > failures ? `${((100 * off) / (requests - failures)).toFixed(1)} %` : '-';
  const cells = [String(number).padStart(3), String(requests).padStart(8), String(failures).padStart(8)];
  process.stdout.write(
    `${cells.join('  ')}  ${[...versions].join(', ').padStart(7)}  ${error.padStart(10)}\n`,
  );
  second = newSecond();
}
