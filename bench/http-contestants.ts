import { join } from 'node:path';
import type { HttpContestant } from './http-rounds.js';
import { mlpDir } from './model-files.js';
import { paths } from './paths.js';
import { ServeFailure, type ServerProcess, startContestant, startServe } from './server-process.js';

/** The servers that answer the same requests; the letters are those of the README. */
export const contestantNames = ['ours', 'naive', 'unbatched', 'json-only', 'unparsed'] as const;
export type ContestantName = (typeof contestantNames)[number];

const scripts: Readonly<Record<Exclude<ContestantName, 'ours'>, string>> = {
  naive: 'naive',
  unbatched: 'unbatched-piscina',
  'json-only': 'json-only',
  unparsed: 'unparsed',
};

/** Starts the product's server on the small network with one worker. */
export async function startOurs(name: string, args: readonly string[] = []): Promise<ServerProcess> {
  return startServe(name, [
    ...['--model', await mlpDir(), '--thread', '1', '--cache_dir', join(paths.cache, 'prepared')],
    ...args,
  ]);
}

async function startHttpContestant(name: ContestantName): Promise<HttpContestant> {
  const infers = name !== 'json-only' && name !== 'unparsed';
  if (name === 'ours') return { server: await startOurs(name), infers };
  const model = join(await mlpDir(), '1', 'model.onnx');
  return { server: await startContestant(name, scripts[name], [model]), infers };
}

/**
 * Starts contestants, hands them to `use` and stops them however that ends. When ours does not start the others go
 * on without it, so that they can be tried alone; its bars are then not measured.
 */
export async function withHttpContestants<Result>(
  starts: readonly (() => Promise<HttpContestant>)[],
  log: (line: string) => void,
  use: (contestants: readonly HttpContestant[]) => Promise<Result>,
): Promise<Result> {
  const started: HttpContestant[] = [];
  try {
    for (const start of starts) {
      try {
        started.push(await start());
      } catch (error) {
        if (!(error instanceof ServeFailure)) throw error;
        log(`without ours: ${error.message}`);
      }
    }
    return await use(started);
  } finally {
    await Promise.all(started.map(({ server }) => server.stop()));
  }
}

/** How to start contestants by name. */
export function startsOf(names: readonly ContestantName[]): (() => Promise<HttpContestant>)[] {
  return names.map((name) => () => startHttpContestant(name));
}
