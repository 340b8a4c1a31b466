import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { paths, program } from './paths.js';

/** A server in a process of its own. */
export interface ServerProcess {
  readonly name: string;
  readonly pid: number;
  readonly url: string;
  /** Time from its start until it was ready, ms. */
  readonly readyMs: number;
  /** Asks it to end and waits; kills it after ten seconds. */
  stop(): Promise<void>;
}

/** The product's own server did not get ready. */
export class ServeFailure extends Error {}

/**
 * Starts a contestant of `contestants/`, which tells its port in its first line.
 *
 * @param options.readyWithin ms until that line @default 20000
 */
export async function startContestant(
  name: string,
  script: string,
  args: readonly string[],
  options: { readonly nodeArgs?: readonly string[]; readonly readyWithin?: number } = {},
): Promise<ServerProcess> {
  const { nodeArgs = [], readyWithin = 20_000 } = options;
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...nodeArgs, program(`contestants/${script}`), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const output = collectOutput(child);
  const port = await new Promise<number>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`${name} told no port in ${readyWithin / 1000} s`)),
      readyWithin,
    );
    child.stdout.once('data', (line: Buffer) => {
      clearTimeout(timer);
      resolve((JSON.parse(line.toString()) as { port: number }).port);
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`${name} ended with ${code}: ${output()}`));
    });
  });
  return serverProcess(name, child, `http://127.0.0.1:${port}`, performance.now() - startedAt);
}

/**
 * Starts `onnx-serving serve` and waits until it is ready.
 *
 * @throws ServeFailure when it ends or does not get ready
 * @param options.readyWithin ms after which it is given up @default 120000
 * @param options.readyPath what has to answer 200 @default /v2/health/ready
 */
export async function startServe(
  name: string,
  args: readonly string[],
  options: { readonly readyWithin?: number; readonly readyPath?: string } = {},
): Promise<ServerProcess> {
  const port = await freePort();
  const startedAt = performance.now();
  const child = spawn(
    process.execPath,
    [paths.cli, 'serve', '--port', String(port), '--log_level', 'warn', ...args],
    // A setting from the environment would change what is measured.
    { stdio: ['ignore', 'pipe', 'pipe'], env: withoutOwnSettings() },
  );
  const output = collectOutput(child);
  const url = `http://127.0.0.1:${port}`;
  const giveUpAt = startedAt + (options.readyWithin ?? 120_000);
  while (!(await answersOk(url + (options.readyPath ?? '/v2/health/ready')))) {
    const hasEnded = child.exitCode !== null || child.signalCode !== null;
    if (hasEnded || performance.now() > giveUpAt) {
      child.kill('SIGKILL');
      throw new ServeFailure(
        `${name} ${hasEnded ? `ended with ${child.exitCode}` : 'did not get ready'}: ${output()}`,
      );
    }
    await sleep(20);
  }
  return serverProcess(name, child, url, performance.now() - startedAt);
}

function withoutOwnSettings(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('ONNX_SERVING_')));
}

function serverProcess(name: string, child: ChildProcess, url: string, readyMs: number): ServerProcess {
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const killOnExit = (): void => void child.kill('SIGKILL');
  process.once('exit', killOnExit);
  return {
    name,
    pid: child.pid!,
    url,
    readyMs,
    async stop() {
      process.off('exit', killOnExit);
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const timer = setTimeout(killOnExit, 10_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** The last of what a process wrote, for the message when it fails. */
function collectOutput(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-4000);
    });
  }
  return () => text;
}

async function answersOk(url: string): Promise<boolean> {
  try {
    const reply = await fetch(url, { signal: AbortSignal.timeout(2000) });
    await reply.arrayBuffer();
    return reply.status === 200;
  } catch {
    return false;
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}
