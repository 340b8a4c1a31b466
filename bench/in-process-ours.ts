/**
 * 32 concurrent callers of one row each on an embedded runtime with one worker, for some seconds, and the lag of
 * the callers' event loop meanwhile. Arguments: model directory, cache directory, seconds.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { openRuntime } from '../src/runtime.js';
import { mlpAnswer, mlpTensors } from './mlp.js';
import type { InProcessFigures } from './scenarios/in-process.js';

const callers = 32;
const [path, cacheDir, seconds] = process.argv.slice(2);
const runtime = await openRuntime({
  models: [{ path: path!, name: 'mlp' }],
  threads: 1,
  cacheDir: cacheDir!,
});
const requests = mlpTensors(callers);

const { outputs } = await runtime.infer('mlp', requests[0]!);
const answer = Number(outputs.y!.data[0]);
const expected = mlpAnswer(requests[0]!.x!.data as Float32Array);

let rows = 0;
let isStopped = false;
const call = async (index: number): Promise<void> => {
  while (!isStopped) {
    await runtime.infer('mlp', requests[index]!);
    rows++;
  }
};
const running = Array.from({ length: callers }, (_, index) => call(index));
await sleep(1000);
const resolutionMs = 1;
const lag = monitorEventLoopDelay({ resolution: resolutionMs });
lag.enable();
const startedAt = performance.now();
const rowsBefore = rows;
await sleep(Number(seconds) * 1000);
const rowsPerSecond = ((rows - rowsBefore) * 1000) / (performance.now() - startedAt);
lag.disable();
isStopped = true;
await Promise.all(running);
await runtime.close();

const figures: InProcessFigures = {
  rowsPerSecond,
  // The monitor measures from one firing of its timer to the next, so its own interval is not lag.
  lagP99Ms: Math.max(0, lag.percentile(99) / 1e6 - resolutionMs),
  isRight: Math.abs(answer - expected) <= 1e-4 * Math.max(1, Math.abs(expected)),
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
