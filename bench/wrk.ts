import { execFile } from 'node:child_process';
import { access, constants, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { RequestBody } from '../src/loadtest/request-body.js';
import { runProgram } from './child-program.js';

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

/** A request body on disk and the headers it goes with. */
export interface BodyFile {
  readonly file: string;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Gives a generator that posts the bodies in turn: wrk where it is in PATH (about 14 us of CPU a request), else
 * autocannon (36 to 57 us).
 *
 * @param dir where bodies and scripts are written; the caller removes it
 */
export async function loadGenerator(
  url: string,
  bodies: readonly RequestBody[],
  dir: string,
): Promise<LoadGenerator> {
  const files = bodies.map(({ headers }, i): BodyFile => {
    // Both generators write the length themselves.
    const { 'content-length': _, ...sent } = headers;
    return { file: join(dir, `body-${i}`), headers: sent };
  });
  // One after the other: thousands of files must not be open at once.
  for (const [i, { bytes }] of bodies.entries()) await writeFile(files[i]!.file, bytes);
  if (!(await isInPath('wrk'))) {
    const list = join(dir, 'bodies.json');
    await writeFile(list, JSON.stringify(files));
    return {
      name: 'autocannon',
      run: (connections, seconds) =>
        runProgram(
          'autocannon-load',
          [url, String(connections), String(seconds), list],
          (seconds + 30) * 1000,
        ),
    };
  }
  const script = join(dir, 'post.lua');
  await writeFile(script, luaScript(files));
  return {
    name: 'wrk, 1 thread',
    async run(connections, seconds) {
      const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, url];
      const { stdout, stderr } = await run('wrk', args, { timeout: (seconds + 30) * 1000 });
      const line = stdout.trim().split('\n').at(-1)!;
      // wrk ends with 0 when its script cannot be read, and then never writes the line.
      if (!line.startsWith('{')) throw new Error(`wrk did not run its script ${script}: ${stderr || line}`);
      return JSON.parse(line) as LoadFigures;
    },
  };
}

/** Requests are formatted once in `init`: a script that builds strings in `request` costs as much as the server. */
function luaScript(bodies: readonly BodyFile[]): string {
  const entries = bodies.map(({ file, headers }) => {
    const fields = Object.entries(headers).map(
      ([name, value]) => `[${JSON.stringify(name)}]=${JSON.stringify(value)}`,
    );
    return `  { file = ${JSON.stringify(file)}, headers = {${fields.join(',')}} },`;
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

/** Whether a program is in PATH. */
export async function isInPath(name: string): Promise<boolean> {
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
