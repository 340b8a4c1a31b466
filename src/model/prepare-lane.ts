/** One prepare process at a time: it takes a model, and is started again after one that crashed it. */
import { type ChildProcess, fork } from 'node:child_process';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { messageOf } from '../errors.js';
import type { PreparePhase, PrepareProcessOptions, PrepareReply, PrepareTask } from './prepare-messages.js';

/** How prepare processes are started. */
export interface PrepareLaneOptions {
  /** Where prepared forms and verdicts are kept; absent: nowhere, and every model is served from its own file. */
  readonly cacheDirectory?: string;
  /** Bytes that the cache may take. @default 20 GiB */
  readonly cacheMaxBytes?: number;
  /** Time that one model may take, ms; then the process is ended and the model refused. @default 600000 */
  readonly modelTimeoutMs?: number;
  /** Takes each line that the engine prints, with the model that was being prepared. */
  readonly onEngineLine?: (line: string, path: string | undefined) => void;
  /** The compiled body of the process; for tests. */
  readonly processFile?: string;
}

/** How a process ended that had a model at hand. */
export interface PrepareEnd {
  /** What it was doing. */
  readonly phase: PreparePhase;
  /** In words. */
  readonly end: string;
  /** Whether it was ended because the model took too long. */
  readonly isTimedOut: boolean;
  /** The last lines that the engine printed for the model. */
  readonly output: readonly string[];
}

/** What came of a model: its prepared form, why it is refused, or that its process ended. */
export type PrepareOutcome = Exclude<PrepareReply, { phase: PreparePhase }> | PrepareEnd;

/** A model that a process has at hand. */
interface Run {
  readonly task: PrepareTask;
  readonly finish: (outcome: PrepareOutcome) => void;
  /** The last lines that the engine printed for it. */
  readonly output: string[];
  phase: PreparePhase;
  isTimedOut: boolean;
}

interface Child {
  readonly process: ChildProcess;
  readonly hasEnded: Promise<void>;
  run: Run | undefined;
}

const keptLines = 20;
/** Weighs a tenth of a process of normal priority. */
const preparingNice = 10;
const defaultCacheMaxBytes = 20 * 2 ** 30;
const defaultModelTimeoutMs = 600_000;

/** Takes models one after the other. An idle process does not keep this one from ending. */
export class PrepareLane {
  readonly #options: PrepareLaneOptions;
  #child: Child | undefined;
  /** Settled when every process that was closed has ended. */
  #closed: Promise<unknown> = Promise.resolve();

  constructor(options: PrepareLaneOptions) {
    this.#options = options;
  }

  /** Has a model prepared; one at a time. Starts the process where there is none. */
  async prepare(task: PrepareTask): Promise<PrepareOutcome> {
    this.#child ??= this.#start();
    const child = this.#child;
    const timeout = (): void => {
      child.run!.isTimedOut = true;
      child.process.kill('SIGKILL');
    };
    const timer = setTimeout(timeout, this.#options.modelTimeoutMs ?? defaultModelTimeoutMs);
    setReferenced(child.process, true);
    const outcome = await new Promise<PrepareOutcome>((finish) => {
      child.run = { task, finish, output: [], phase: 'reading', isTimedOut: false };
      // A failing send means that the child is gone; its end settles the run.
      child.process.send(task, () => {});
    });
    clearTimeout(timer);
    return outcome;
  }

  /** Ends the process, whatever it does. Resolves once it has ended; the next model starts another one. */
  async close(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child) {
      this.#closed = Promise.all([this.#closed, child.hasEnded]);
      setReferenced(child.process, true);
      child.process.kill('SIGKILL');
    }
    await this.#closed;
  }

  #start(): Child {
    const file = this.#options.processFile ?? fileURLToPath(new URL('./prepare-process.js', import.meta.url));
    const { cacheDirectory, cacheMaxBytes = defaultCacheMaxBytes } = this.#options;
    const options: PrepareProcessOptions = {
      cacheMaxBytes,
      ...(cacheDirectory === undefined ? {} : { cacheDirectory }),
    };
    const forked = fork(file, [JSON.stringify(options)], {
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      execArgv: [],
      // Large blocks are mapped one by one and given back when freed: a clone's private memory would otherwise hide
      // in what an earlier session left in the heap.
      env: { ...process.env, MALLOC_MMAP_THRESHOLD_: '262144' },
    });
    giveWay(forked);
    // 'close' comes behind 'exit', once the last words of the child have been read; a failed spawn has it alone.
    const hasEnded = new Promise<void>((resolve) => {
      forked.on('close', (code, signal) => {
        this.#onEnd(child, signal ? `signal ${signal}` : `exit code ${code}`);
        resolve();
      });
    });
    const child: Child = { process: forked, hasEnded, run: undefined };
    for (const stream of [forked.stdout, forked.stderr]) this.#listen(child, stream!);
    forked.on('message', (reply: PrepareReply) => onReply(child, reply));
    forked.on('error', (error) => child.run?.output.push(messageOf(error)));
    return child;
  }

  #listen(child: Child, stream: Readable): void {
    createInterface({ input: stream }).on('line', (text) => {
      const line = stripVTControlCharacters(text);
      const { run } = child;
      run?.output.push(line);
      if (run && run.output.length > keptLines) run.output.shift();
      this.#options.onEngineLine?.(line, run?.task.request.path);
    });
  }

  #onEnd(child: Child, how: string): void {
    if (this.#child === child) this.#child = undefined;
    const { run } = child;
    if (!run) return;
    child.run = undefined;
    const { phase, isTimedOut, output } = run;
    const end = isTimedOut
      ? `it did not finish within ${this.#options.modelTimeoutMs ?? defaultModelTimeoutMs} ms`
      : how;
    run.finish({ phase, end, isTimedOut, output });
  }
}

function onReply(child: Child, reply: PrepareReply): void {
  const { run } = child;
  if (reply.id !== run?.task.id) return;
  if ('phase' in reply) {
    run.phase = reply.phase;
    return;
  }
  child.run = undefined;
  setReferenced(child.process, false);
  run.finish(reply);
}

function setReferenced(child: ChildProcess, isReferenced: boolean): void {
  const action = isReferenced ? 'ref' : 'unref';
  child[action]();
  child.channel?.[action]();
  // Pipes are sockets, which the typings of a child's streams do not tell.
  for (const stream of [child.stdout, child.stderr]) (stream as unknown as Socket)[action]();
}

/**
 * A model that is prepared beside serving gets what requests leave of the processor. On Linux this is the priority of the
 * first thread; those that it starts have it from there, so it is set before there are any.
 */
function giveWay({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) setPriority(pid, preparingNice);
  } catch {
    // It has ended, which its exit tells, or may not be slowed down, which costs others and not the model.
  }
}
