import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Arrival } from '../../src/loadtest/load.js';
import type { LoadResult } from '../../src/loadtest/report.js';
import { program } from '../paths.js';
import type { VersionAnswers } from './checked-target.js';

/** What the generator found; failures of its warm-up count too. */
export interface CheckedLoadResult
  extends Pick<LoadResult, 'seconds' | 'requestsPerSecond' | 'latencyMs' | 'generator'> {
  readonly requests: Pick<LoadResult['requests'], 'succeeded' | 'failed' | 'failures'>;
  readonly versions: readonly VersionAnswers[];
  /** Some of the wrong answers, in words. */
  readonly examples: readonly string[];
}

/** A load that is being offered by another process. */
export interface CheckedLoad {
  /** Sends nothing more, waits for the answers and tells what came. */
  stop(): Promise<CheckedLoadResult>;
}

/** How the generator offers it. */
export interface CheckedLoadOptions {
  readonly url: string;
  readonly requestsFile: string;
  readonly ratePerSecond: number;
  readonly arrival: Arrival;
  readonly seed: number;
}

/** Starts the generator and waits until it measures. */
export async function startCheckedLoad(options: CheckedLoadOptions): Promise<CheckedLoad> {
  const { url, requestsFile, ratePerSecond, arrival, seed } = options;
  const args = [url, requestsFile, ratePerSecond, arrival, seed].map(String);
  const child = spawn(process.execPath, [program('reload/checked-load'), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const killOnExit = (): void => void child.kill('SIGKILL');
  process.once('exit', killOnExit);
  const ended = once(child, 'exit').finally(() => process.off('exit', killOnExit));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const nextLine = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`the load generator ended: ${await ended}`);
    return value;
  };
  await nextLine();
  return {
    async stop() {
      child.stdin.end();
      const result = JSON.parse(await nextLine()) as CheckedLoadResult;
      await ended;
      return result;
    },
  };
}

/** What of a load makes its figures worthless. */
export function wrongIn({ requests, examples }: CheckedLoadResult): string[] {
  if (requests.failed === 0) return [];
  return [[`${requests.failed} failed: ${JSON.stringify(requests.failures)}`, ...examples].join('; ')];
}
