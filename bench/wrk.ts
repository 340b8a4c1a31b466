import { execFile } from 'node:child_process';
import { access, constants, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { RequestBody } from '../src/loadtest/request-body.js';
import { paths } from './paths.js';

const run = promisify(execFile);

/** What a load generator counted in one go. */
export interface LoadFigures {
  /** Requests answered, whatever their status. */
  readonly requests: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers that are not 2xx, and connections that failed. */
  readonly failed: number;
}

/** A closed-loop load generator in a process of its own. */
export interface LoadGenerator {
  /** What it is, for the table. */
  readonly name: string;
  run(connections: number, seconds: number): Promise<LoadFigures>;
}

/**
 * Gives a generator that posts the bodies to a path: wrk where it is in PATH (about 14 us of CPU a request), else
 * autocannon (36 to 57 us, and the first body alone).
 *
 * @param dir where the bodies are written; the caller removes it
 */
export async function loadGenerator(
  url: string,
  bodies: readonly RequestBody[],
  dir: string,
): Promise<LoadGenerator> {
  const files = bodies.map((_, i) => join(dir, `body-${i}`));
  await Promise.all(bodies.map((body, i) => writeFile(files[i]!, body.bytes)));
  if (!(await isInPath('wrk'))) return autocannon(url, bodies[0]!, files[0]!);
  const script = join(dir, 'post.lua');
  await writeFile(script, luaScript(bodies, files));
  return {
    name: 'wrk, 1 thread',
    async run(connections, seconds) {
      const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url];
      const { stdout } = await run('wrk', args, { timeout: (seconds + 30) * 1000 });
      return JSON.parse(stdout.trim().split('\n').at(-1)!) as LoadFigures;
    },
  };
}

/** Requests are formatted once in `init`: a script that builds strings in `request` costs as much as the server. */
function luaScript(bodies: readonly RequestBody[], files: readonly string[]): string {
  const entries = bodies.map(({ headers }, i) => {
    // wrk writes the length itself.
    const fields = Object.entries(headers).filter(([name]) => name !== 'content-length');
    const table = fields
      .map(([name, value]) => `[${JSON.stringify(name)}]=${JSON.stringify(value)}`)
      .join(',');
    return `  { file = ${JSON.stringify(files[i])}, headers = {${table}} },`;
  });
  return `local bodies = {
${entries.join('\n')}
}
local requests = {}
local at = 0

function init()
  local host = wrk.headers["Host"]
  for i, body in ipairs(bodies) do
    local file = assert(io.open(body.file, "rb"))
    body.headers["Host"] = host
    requests[i] = wrk.format("POST", nil, body.headers, file:read("*a"))
    file:close()
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%.6f,"p50Ms":%.3f,"p99Ms":%.3f,"failed":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
`;
}

interface AutocannonReport {
  readonly requests: { readonly total: number };
  readonly duration: number;
  readonly latency: { readonly p50: number; readonly p99: number };
  readonly errors: number;
  readonly non2xx: number;
}

function autocannon(url: string, body: RequestBody, file: string): LoadGenerator {
  const script = join(paths.root, 'node_modules', 'autocannon', 'autocannon.js');
  const headers = Object.entries(body.headers)
    .filter(([name]) => name !== 'content-length')
    .flatMap(([name, value]) => ['-H', `${name}=${value}`]);
  return {
    name: 'autocannon',
    async run(connections, seconds) {
      const args = [script, '-m', 'POST', '-i', file, ...headers, '-c', String(connections)];
      const { stdout } = await run(
        process.execPath,
        [...args, '-d', String(seconds), '--json', '--no-progress', url],
        { timeout: (seconds + 30) * 1000, maxBuffer: 16 * 1024 * 1024 },
      );
      const report = JSON.parse(stdout) as AutocannonReport;
      return {
        requests: report.requests.total,
        seconds: report.duration,
        p50Ms: report.latency.p50,
        p99Ms: report.latency.p99,
        failed: report.errors + report.non2xx,
      };
    },
  };
}

async function isInPath(name: string): Promise<boolean> {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    try {
      await access(join(dir, name), constants.X_OK);
      return true;
    } catch {
      // Not in this directory.
    }
  }
  return false;
}
