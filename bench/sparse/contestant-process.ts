import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A program that answers each line on its standard input with a line of JSON: contestants that take turns. */
export interface ContestantProcess {
  readonly pid: number;
  /** What its first line told. */
  readonly ready: unknown;
  /**
   * Sends a command and waits for its answer.
   *
   * @throws when the program ends, or does not answer in five minutes
   */
  ask<Answer>(command: string): Promise<Answer>;
  stop(): Promise<void>;
}

/** What contestants in process answer to `gather BATCH THREADS SECONDS`. */
export interface GatherFigures {
  readonly keysPerSecond: number;
  readonly nsPerBatch: number;
  /** Of CPU time of all its threads. */
  readonly keysPerCpuSecond: number;
}

/** Those in C++ count their page faults too. */
export interface FaultFigures extends GatherFigures {
  readonly keys: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
}

/** What contestants answer to `check`. */
export interface CheckedRows {
  readonly checked: number;
  readonly wrong: number;
}

const answerWithinMs = 300_000;

/**
 * Starts a contestant and waits for its first line, which it writes when its rows are there.
 *
 * @param readyWithin ms @default 600000
 * @throws when it ends before, with what it wrote to standard error
 */
export async function startProcess(
  file: string,
  args: readonly string[],
  options: { readonly readyWithin?: number } = {},
): Promise<ContestantProcess> {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const killOnExit = (): void => void child.kill('SIGKILL');
  process.once('exit', killOnExit);
  const answers = answersOf(child, `${file} ${args[0] ?? ''}`);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const stop = async (): Promise<void> => {
    process.off('exit', killOnExit);
    child.stdin.end();
    const timer = setTimeout(killOnExit, 10_000);
    await ended;
    clearTimeout(timer);
  };
  try {
    const ready = await answers(options.readyWithin ?? 600_000);
    return {
      pid: child.pid!,
      ready,
      async ask<Answer>(command: string): Promise<Answer> {
        child.stdin.write(`${command}\n`);
        return (await answers(answerWithinMs)) as Answer;
      },
      stop,
    };
  } catch (error) {
    killOnExit();
    process.off('exit', killOnExit);
    throw error;
  }
}

/** Gives a function that waits for the next line. */
function answersOf(child: ChildProcess, name: string): (withinMs: number) => Promise<unknown> {
  let errors = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-4000);
  });
  const failed = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) =>
      reject(new Error(`${name} ended with ${code ?? signal}: ${errors}`)),
    );
  });
  // Whoever waits gets it; a contestant that was stopped ends while nobody does.
  failed.catch(() => undefined);
  // A stream that is written to after its reader went fails too; the end of the process says why.
  child.stdin!.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return async (withinMs) => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${name} did not answer in ${withinMs / 1000} s: ${errors}`)),
        withinMs,
      );
    });
    try {
      const line = await Promise.race([lines.next(), failed, late]);
      if (line.done) return await failed;
      return JSON.parse(line.value);
    } finally {
      clearTimeout(timer);
    }
  };
}
