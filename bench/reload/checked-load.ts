/**
 * A load whose every answer is checked, in a process of its own. Arguments: URL, file of the requests, requests per
 * second, how they arrive, seed. Tells in a line when it begins to measure; ends when standard input does, with the
 * result as its last line.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arrival, OpenLoad } from '../../src/loadtest/load.js';
import { startOffer } from '../../src/loadtest/offer.js';
import { countRequests, summarise } from '../../src/loadtest/summarise.js';
import { LoadWindow, recordMs } from '../../src/loadtest/window.js';
import type { CheckedRequests } from './checked-requests.js';
import { CheckedTarget } from './checked-target.js';
import type { CheckedLoadResult } from './start-load.js';

const warmUpMs = 1500;
const maxInFlight = 10_000;

const [url, file, rate, arrival, seed] = process.argv.slice(2);
const target = new CheckedTarget(url!, JSON.parse(await readFile(file!, 'utf8')) as CheckedRequests);
const load: OpenLoad = {
  kind: 'open',
  ratePerSecond: Number(rate),
  arrival: arrival as Arrival,
  seed: Number(seed),
};
const warmUp = new LoadWindow();
let window = warmUp;
const sink = {
  answered: (latencyMs: number, failure: string | undefined) => window.record(latencyMs, failure),
  sentLate: (latenessMs: number) => recordMs(window.lateness, latenessMs),
};
const isOver = new Promise<void>((resolve) => process.stdin.resume().once('end', resolve));
const offer = startOffer(target, load, sink, maxInFlight);
await sleep(warmUpMs);
window = new LoadWindow();
process.stdout.write('{"measuring":true}\n');
await isOver;
window.close();
await offer.stop();
await target.close();
const { seconds, requestsPerSecond, latencyMs, generator } = summarise(load, [window], [window], target);
const { succeeded, failed, failures } = countRequests([warmUp, window]);
const result: CheckedLoadResult = {
  seconds,
  requestsPerSecond,
  latencyMs,
  generator,
  requests: { succeeded, failed, failures },
  versions: target.versions,
  examples: target.examples,
};
process.stdout.write(`${JSON.stringify(result)}\n`);
