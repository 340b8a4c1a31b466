/**
 * One open-loop round in a process of its own: Poisson arrivals, latency from the intended start.
 * Arguments: URL, requests per second, seconds, seed. The last line is the result as JSON.
 */
import { openHttpTarget } from '../src/loadtest/http-target.js';
import { runLoadTest } from '../src/loadtest/run-load-test.js';
import { mlpBodies } from './mlp.js';

const [url, rate, seconds, seed] = process.argv.slice(2);
const target = await openHttpTarget({
  url: url!,
  model: 'mlp',
  bodies: mlpBodies('json'),
  rowsPerRequest: 1,
});
const report = await runLoadTest({
  target,
  loads: [{ kind: 'open', ratePerSecond: Number(rate), arrival: 'poisson', seed: Number(seed) }],
  windowMs: Number(seconds) * 1000,
  warmupMs: 1000,
  maxWindows: 1,
});
await target.close();
process.stdout.write(`${JSON.stringify(report.results[0])}\n`);
