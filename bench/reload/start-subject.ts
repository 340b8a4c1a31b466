import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { scratchDir } from '../paths.js';
import { type ServerProcess, startServe } from '../server-process.js';
import type { Publisher } from './publisher.js';
import type { ReloadSubject } from './subjects.js';

/** A server with the first version of a model, and what publishes the next ones. */
export interface StartedSubject {
  readonly server: ServerProcess;
  readonly publisher: Publisher;
  /** For files of this go. */
  readonly dir: string;
}

/**
 * Publishes the first version of a model in a new repository, starts a server on it, hands both to `use` and cleans
 * up however that ends.
 */
export async function withSubject<Result>(
  subject: ReloadSubject,
  start: (repository: string, dir: string) => Promise<ServerProcess>,
  use: (started: StartedSubject) => Promise<Result>,
): Promise<Result> {
  const dir = await scratchDir('reload');
  try {
    const repository = join(dir, 'repository');
    await mkdir(repository);
    const publisher = await subject.publisherIn(repository);
    await publisher.stage(1);
    await publisher.publish();
    const server = await start(repository, dir);
    try {
      return await use({ server, publisher, dir });
    } finally {
      await server.stop();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Starts the product's server on a repository. Its cache is new: a version that comes was never seen before. */
export function startOnRepository(
  name: string,
  args: readonly string[],
): (repository: string, dir: string) => Promise<ServerProcess> {
  return (repository, dir) =>
    startServe(name, ['--model_repository', repository, '--cache_dir', join(dir, 'prepared'), ...args]);
}
