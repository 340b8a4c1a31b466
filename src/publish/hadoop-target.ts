/** HDFS, and what else a `hadoop` program writes, to publish to: `hadoop fs -put`, `-mv`, `-cat`, `-rm`. */
import { type HadoopOptions, HadoopProgram, type HadoopRun } from '../remote/hadoop-program.js';
import type { HttpBody } from '../remote/http-client.js';
import { type Moves, replaceDirectory, takePlace, underHiddenName } from './hidden-name.js';
import {
  type DirectoryFile,
  type LockOutcome,
  maxSmallBytes,
  type PublishTarget,
  parentOf,
  type TargetOptions,
  textUpload,
  type Upload,
} from './publish-target.js';

/** A file system behind a `hadoop` program. Each call starts it, some of them several times. */
export class HadoopTarget implements PublishTarget {
  readonly label: string;
  readonly #program: HadoopProgram;
  readonly #moves: Moves;

  constructor(options: HadoopOptions) {
    this.#program = new HadoopProgram(options);
    this.label = this.#program.label;
    this.#moves = {
      rename: async (from, to, signal) =>
        (await this.#run(['-mv', from, to], to, { signal, mayMiss: true, mayExist: true })) !== undefined,
      remove: async (path, signal) => {
        await this.#run(['-rm', '-r', '-f', '-skipTrash', path], path, { signal });
      },
    };
  }

  async write(path: string, { body }: Upload, { signal }: TargetOptions = {}): Promise<void> {
    await underHiddenName(path, this.#moves.remove, async (hidden) => {
      await this.#put(body, hidden, signal);
      await takePlace(hidden, path, this.#moves, { label: this.label, signal });
    });
  }

  async writeDirectory(
    path: string,
    files: readonly DirectoryFile[],
    { signal }: TargetOptions = {},
  ): Promise<void> {
    const fill = async (staged: string): Promise<void> => {
      for (const file of files) await this.#put(file.body, `${staged}/${file.path}`, signal);
    };
    await replaceDirectory(path, fill, this.#moves, { label: this.label, signal });
  }

  read(path: string, { signal }: TargetOptions = {}): Promise<Buffer | undefined> {
    return this.#run(['-cat', path], path, { signal, mayMiss: true, maxBytes: maxSmallBytes });
  }

  /** A rename takes no name away. */
  async createLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<LockOutcome> {
    let outcome: LockOutcome = 'created';
    await underHiddenName(path, this.#moves.remove, async (hidden) => {
      await this.#put(textUpload(text).body, hidden, signal);
      if (await this.#run(['-mv', hidden, path], path, { signal, mayExist: true })) return;
      outcome = 'exists';
      await this.#moves.remove(hidden, signal);
    });
    return outcome;
  }

  async readLock(path: string, options: TargetOptions = {}): Promise<string | undefined> {
    return (await this.read(path, options))?.toString();
  }

  async writeLock(path: string, text: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#run(['-put', '-f', '-', path], path, { signal, body: textUpload(text).body });
  }

  async removeLock(path: string, { signal }: TargetOptions = {}): Promise<void> {
    await this.#moves.remove(path, signal);
  }

  async close(): Promise<void> {
    this.#program.close();
  }

  async #put(body: HttpBody, path: string, signal: AbortSignal | undefined): Promise<void> {
    const put = (mayMiss: boolean): Promise<Buffer | undefined> =>
      this.#run(['-put', '-', path], path, { signal, body, mayMiss });
    // The program takes seconds to start: the directory is made only where it is missing.
    if (await put(true)) return;
    const parent = parentOf(path);
    await this.#run(['-mkdir', '-p', parent === '' ? '/' : parent], path, { signal });
    await put(false);
  }

  #run(args: readonly string[], path: string, run: HadoopRun): Promise<Buffer | undefined> {
    return this.#program.run(args, path, run);
  }
}
