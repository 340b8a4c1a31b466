/** The parent's side of the prepare process: a queue of models and the life of the child that takes them. */
import { type ChildProcess, fork } from 'node:child_process';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { errorFromData, messageOf, ServingError } from '../errors.js';
import type {
  ExcludedForm,
  PreparePhase,
  PrepareProcessOptions,
  PrepareReply,
  PrepareTask,
} from './prepare-messages.js';
import type { PreparedModel, PrepareRequest } from './prepared-model.js';

/** How models are prepared. */
export interface PreparerOptions {
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

interface Job {
  readonly id: number;
  readonly request: PrepareRequest;
  readonly resolve: (model: PreparedModel) => void;
  readonly reject: (error: ServingError) => void;
  /** Why the answer is no longer wanted. */
  withdrawn: ServingError | undefined;
  excluded: readonly ExcludedForm[];
  /** Whether it was begun anew once, because the process ended before it opened the model. */
  isSecondTry: boolean;
}

interface Child {
  readonly process: ChildProcess;
  /** The last lines that the engine printed for the job at hand. */
  lines: string[];
  phase: PreparePhase;
  /** Whether this side ended it, because the model took too long. */
  isTimedOut: boolean;
}

const keptLines = 20;
/** Weighs a tenth of a process of normal priority. */
const preparingNice = 10;
const defaultCacheMaxBytes = 20 * 2 ** 30;
const defaultModelTimeoutMs = 600_000;

/**
 * Prepares models, one after the other, in a process of its own that is started with the first model and started
 * again after one that crashed it. An idle process does not keep this one from ending.
 */
export class Preparer {
  readonly #options: PreparerOptions;
  readonly #waiting: Job[] = [];
  #child: Child | undefined;
  #current: Job | undefined;
  #timer: NodeJS.Timeout | undefined;
  #nextId = 1;
  #isClosed = false;

  constructor(options: PreparerOptions = {}) {
    this.#options = options;
  }

  /**
   * Prepares one model. A withdrawn one that is already being prepared is finished for the cache.
   *
   * @throws SRV_MODEL_INVALID, SRV_MODEL_UNSUPPORTED, SRV_MODEL_CRASHED, SRV_IO, SRV_CANCELLED, SRV_SHUTTING_DOWN
   */
  prepare(request: PrepareRequest, options: { readonly signal?: AbortSignal } = {}): Promise<PreparedModel> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(closedError());
      if (signal?.aborted) return reject(cancelledError(request));
      const withdraw = (): void => this.#withdraw(job, cancelledError(request));
      const settle = (finish: () => void): void => {
        signal?.removeEventListener('abort', withdraw);
        finish();
      };
      const job: Job = {
        id: this.#nextId++,
        request,
        resolve: (model) => settle(() => resolve(model)),
        reject: (error) => settle(() => reject(error)),
        withdrawn: undefined,
        excluded: [],
        isSecondTry: false,
      };
      signal?.addEventListener('abort', withdraw, { once: true });
      this.#waiting.push(job);
      this.#next();
    });
  }

  /** Ends the process, whatever it does, and rejects what is not prepared yet. Resolves once it has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const job of this.#waiting.splice(0)) job.reject(closedError());
    const child = this.#child?.process;
    if (!child) return;
    // Not 'exit': a process that could not be started never has it.
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
    setReferenced(child, true);
    child.kill('SIGKILL');
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #withdraw(job: Job, error: ServingError): void {
    const at = this.#waiting.indexOf(job);
    if (at >= 0) this.#waiting.splice(at, 1);
    job.withdrawn = error;
    job.reject(error);
  }

  #next(): void {
    if (this.#current) return;
    const job = this.#waiting.shift();
    if (!job) {
      if (this.#child) setReferenced(this.#child.process, false);
      return;
    }
    this.#current = job;
    this.#child ??= this.#start();
    this.#dispatch(job, this.#child);
  }

  #dispatch(job: Job, child: Child): void {
    child.lines = [];
    child.phase = 'reading';
    setReferenced(child.process, true);
    const timeoutMs = this.#options.modelTimeoutMs ?? defaultModelTimeoutMs;
    const timeout = (): void => {
      child.isTimedOut = true;
      child.process.kill('SIGKILL');
    };
    this.#timer = setTimeout(timeout, timeoutMs);
    const task: PrepareTask = { id: job.id, request: job.request, excluded: job.excluded };
    // A failing send means that the child is gone; its exit settles the job.
    child.process.send(task, () => {});
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
    const child: Child = { process: forked, lines: [], phase: 'reading', isTimedOut: false };
    for (const stream of [forked.stdout, forked.stderr]) this.#listen(child, stream!);
    forked.on('message', (reply: PrepareReply) => this.#onReply(child, reply));
    forked.on('error', (error) => child.lines.push(messageOf(error)));
    // 'close' comes behind 'exit', once the last words of the child have been read; a failed spawn has it alone.
    forked.on('close', (code, signal) => this.#onEnd(child, code, signal));
    return child;
  }

  #listen(child: Child, stream: Readable): void {
    createInterface({ input: stream }).on('line', (text) => {
      const line = stripVTControlCharacters(text);
      child.lines.push(line);
      if (child.lines.length > keptLines) child.lines.shift();
      this.#options.onEngineLine?.(line, this.#current?.request.path);
    });
  }

  #onReply(child: Child, reply: PrepareReply): void {
    if (child !== this.#child || reply.id !== this.#current?.id) return;
    if ('phase' in reply) {
      child.phase = reply.phase;
      return;
    }
    const job = this.#finish();
    if ('model' in reply) job.resolve(reply.model);
    else job.reject(errorFromData(reply.error));
    this.#next();
  }

  #finish(): Job {
    clearTimeout(this.#timer);
    const job = this.#current!;
    this.#current = undefined;
    return job;
  }

  #onEnd(child: Child, code: number | null, signal: NodeJS.Signals | null): void {
    if (child !== this.#child) return;
    this.#child = undefined;
    if (!this.#current) return;
    const job = this.#finish();
    const end = child.isTimedOut
      ? `it did not finish within ${this.#options.modelTimeoutMs ?? defaultModelTimeoutMs} ms`
      : signal
        ? `signal ${signal}`
        : `exit code ${code}`;
    const { phase } = child;
    if (this.#isClosed) job.reject(closedError());
    else if (job.withdrawn) job.reject(job.withdrawn);
    else if (phase === 'prepared' || phase === 'prepacked') {
      job.excluded = [...job.excluded, { form: phase, reason: `trying it ended the process: ${end}` }];
      this.#waiting.unshift(job);
    } else if (phase === 'reading' && !child.isTimedOut && !job.isSecondTry) {
      // The engine had not been handed the model yet: whatever ended the process, it was not this model.
      job.isSecondTry = true;
      this.#waiting.unshift(job);
    } else job.reject(crashError(job.request, child, end));
    if (!this.#isClosed) this.#next();
  }
}

function crashError(request: PrepareRequest, child: Child, end: string): ServingError {
  return new ServingError(
    'SRV_MODEL_CRASHED',
    `${request.path}: the prepare process ended while trying the model: ${end}`,
    { details: { path: request.path, end, output: child.lines } },
  );
}

function closedError(): ServingError {
  return new ServingError('SRV_SHUTTING_DOWN', 'the preparer is closed');
}

function cancelledError(request: PrepareRequest): ServingError {
  return new ServingError('SRV_CANCELLED', `${request.path}: preparing was withdrawn`);
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
