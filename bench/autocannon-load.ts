/**
 * One closed-loop round by autocannon in a process of its own, where wrk is missing. Its command line would read a
 * binary body as text. Arguments: URL, connections, seconds, a JSON file of bodies. The last line is the result.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { BodyFile, LoadFigures } from './wrk.js';

interface AutocannonOptions {
  readonly url: string;
  readonly connections: number;
  readonly duration: number;
  readonly requests: readonly {
    readonly method: 'POST';
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Buffer;
  }[];
}

interface AutocannonResult {
  readonly requests: { readonly total: number };
  readonly duration: number;
  readonly latency: { readonly p50: number; readonly p99: number };
  readonly errors: number;
  readonly non2xx: number;
}

// It has no typings.
const autocannon = createRequire(import.meta.url)('autocannon') as (
  options: AutocannonOptions,
) => Promise<AutocannonResult>;

const [url, connections, seconds, list] = process.argv.slice(2);
const bodies = JSON.parse(readFileSync(list!, 'utf8')) as BodyFile[];
const result = await autocannon({
  url: url!,
  connections: Number(connections),
  duration: Number(seconds),
  requests: bodies.map(({ file, headers }) => ({ method: 'POST', headers, body: readFileSync(file) })),
});
const figures: LoadFigures = {
  requests: result.requests.total,
  seconds: result.duration,
  p50Ms: result.latency.p50,
  p99Ms: result.latency.p99,
  failed: result.errors + result.non2xx,
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
