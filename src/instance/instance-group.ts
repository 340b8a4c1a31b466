// Longer than most files: whatever a thread does, dies of or is exchanged for, goes through the same turns and lists.
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { Piscina, queueOptionsSymbol } from 'piscina';
import { errorFromData, messageOf, ServingError } from '../errors.js';
import type { Device, LoadMessage, LoadResult, Reply, RunMessage, RunResult } from './messages.js';
import { atLowPriority } from './thread-priority.js';

/** Runs a batch on the instance that is warmed up. */
export type WarmUpRun = (message: RunMessage) => Promise<RunResult>;

/**
 * Runs batches on one instance before it takes those of callers. A rejection fails the load.
 *
 * @returns what is left to do; undefined when that is nothing
 */
export type WarmUp = (
  run: WarmUpRun,
  /** Whether runs get what others leave of the processor, unless their message says otherwise. */
  givesWay?: boolean,
) => Promise<WarmUpRest | undefined>;

/** Batches of a warm-up between which those of callers may go: no instance has to stand still for all of them. */
export type WarmUpRest = (run: WarmUpRun) => Promise<void>;

/** How a version comes into a group. */
export interface LoadOptions {
  /** Called for each instance once its predictor is open; for the thread that replaces a dead one, too. */
  readonly warmUp?: WarmUp | undefined;
  /**
   * `inPlace`: every instance loads it, and runs nothing meanwhile. `behind`: a spare thread loads it with
   * everything else that the group holds, takes the place of one instance, whose thread is the next spare, and so
   * on: no instance stands still.
   *
   * @default 'inPlace'
   */
  readonly how?: 'inPlace' | 'behind';
}

/** A version that the group holds. */
interface Wanted {
  readonly message: LoadMessage;
  readonly warmUp: WarmUp | undefined;
}

/** A place for a thread. Its index is stable; the thread in it changes when it dies, and with a spare. */
interface InstanceState {
  /** The spare's is the group's size. */
  readonly index: number;
  pool: Piscina;
  /** Piscina's id of the thread; undefined while a replacement starts. */
  workerId: number | undefined;
  /** Ids of the versions that the thread has loaded. */
  loaded: Set<number>;
  isBusy: boolean;
  /** Tasks that were handed to the thread and are not answered: at most 2, and 2 only of batches. */
  tasks: number;
  /** Whether what it is busy with are batches. */
  isRunning: boolean;
  /** Loads and unloads that wait for the thread, oldest first. They go before batches. */
  readonly controls: (() => void)[];
  /** Counts what it was busy with. */
  turn: number;
  busyMs: number;
  busySince: number;
}

/** What a group tells its owner. Called on the main thread, never from within a call into the group. */
export interface InstanceGroupEvents {
  /** An instance has nothing to do, or room for the next batch. */
  onIdle(group: InstanceGroup): void;
  /** The thread of an instance ended. The pool starts another. */
  onInstanceLost(group: InstanceGroup, index: number, reason: string): void;
  /** A replacement thread has loaded every version that the group holds, or the reasons why some failed. */
  onInstanceReplaced(group: InstanceGroup, index: number, failures: readonly string[]): void;
}

/** How a group is made. */
export interface InstanceGroupOptions {
  readonly device: Device;
  /** Number of the card in the configuration; absent for the CPU group. */
  readonly cardId?: number | undefined;
  /** Number of instances, at least 1. */
  readonly size: number;
  readonly events: InstanceGroupEvents;
  /** Module of the worker's tasks. @default the worker of this package */
  readonly workerFile?: string;
}

const ownWorkerFile = fileURLToPath(new URL('./worker.js', import.meta.url));

/**
 * The instances of one device: a Piscina pool whose every task is addressed to one thread, and one of a single thread
 * for the spare.
 *
 * A pool never queues: a task is handed over when its thread is free, or runs a single batch, and the balancer
 * throws when the thread is gone. (A queued task that no thread takes would block every later one.)
 */
export class InstanceGroup {
  readonly device: Device;
  readonly cardId: number | undefined;
  readonly size: number;
  readonly #workerFile: string;
  readonly #instances: InstanceState[];
  /** Loads versions behind the others; there is none before the first is loaded so. */
  #spare: InstanceState | undefined;
  /** The last load behind the others: they go one after the other. */
  #loadingBehind: Promise<unknown> = Promise.resolve();
  readonly #events: InstanceGroupEvents;
  readonly #wanted = new Map<number, Wanted>();
  readonly #idle: InstanceState[] = [];
  readonly #inFlight = new Set<Promise<unknown>>();
  readonly #openedAt = performance.now();
  #lostReason: string | undefined;
  #isClosed = false;

  constructor(options: InstanceGroupOptions) {
    this.device = options.device;
    this.cardId = options.cardId;
    this.size = options.size;
    this.#events = options.events;
    this.#workerFile = options.workerFile ?? ownWorkerFile;
    const pool = this.#openPool(options.size);
    const threads = pool.threads;
    this.#instances = Array.from({ length: options.size }, (_, index) =>
      stateOf(index, pool, threads[index]!.threadId),
    );
    this.#idle.push(...this.#instances);
  }

  #openPool(threads: number): Piscina {
    const pool = new Piscina({
      filename: this.#workerFile,
      minThreads: threads,
      maxThreads: threads,
      atomics: 'sync',
      recordTiming: false,
      workerHistogram: false,
      loadBalancer: (task, workers) => {
        const wanted = (task as never as Record<symbol, { workerId: number }>)[queueOptionsSymbol]?.workerId;
        const worker = workers.find((candidate) => candidate.id === wanted);
        if (!worker)
          throw new ServingError('SRV_WORKER_DIED', `no thread ${wanted} in the pool of ${this.device.name}`);
        return worker;
      },
    });
    pool.on('workerCreate', (worker: { id: number }) => this.#adopt(pool, worker.id));
    pool.on('workerDestroy', (worker: { id: number }) => this.#loseWorker(worker.id, 'the thread ended'));
    pool.on('error', () => {
      // The thread's end is handled by workerDestroy; without a listener the event would end the process.
    });
    return pool;
  }

  /** Whether an instance is free to run a batch now. */
  get hasIdle(): boolean {
    return this.#idle.length > 0 && this.#lostReason === undefined;
  }

  /**
   * Whether an instance that runs one batch could take the next one already: it then goes on without the time that
   * the answer and the next message take between threads.
   */
  get hasRoomAhead(): boolean {
    return this.#lostReason === undefined && this.#instances.some(hasRoomAhead);
  }

  /** Why the device cannot be used any more; undefined while it can. */
  get lostReason(): string | undefined {
    return this.#lostReason;
  }

  /** Instances that run or load something now. */
  get busy(): number {
    return this.#instances.reduce((sum, instance) => sum + (instance.isBusy ? 1 : 0), 0);
  }

  /** Milliseconds that all instances were busy, and that they existed, since the group was opened. */
  get usage(): { readonly busyMs: number; readonly totalMs: number } {
    const now = performance.now();
    const busyMs = this.#instances.reduce(
      (sum, instance) => sum + instance.busyMs + (instance.isBusy ? now - instance.busySince : 0),
      0,
    );
    return { busyMs, totalMs: (now - this.#openedAt) * this.size };
  }

  /** Stops giving batches to this device, for good. The versions of other devices go on. */
  markLost(reason: string): void {
    this.#lostReason ??= reason;
  }

  /**
   * Opens a version on every instance, and keeps it for replacements.
   *
   * @returns the load time of each instance, in ms, warming up included
   * @throws the first instance's error; the version is then closed everywhere again
   */
  async load(message: LoadMessage, options: LoadOptions = {}): Promise<readonly number[]> {
    const { warmUp, how = 'inPlace' } = options;
    const wanted = { message, warmUp };
    try {
      return await (how === 'inPlace' ? this.#loadInPlace(wanted) : this.#loadBehind(wanted));
    } catch (error) {
      await this.unload(message.versionId);
      throw error;
    }
  }

  /** Closes a version on every instance. */
  async unload(versionId: number): Promise<void> {
    this.#wanted.delete(versionId);
    await Promise.allSettled(
      this.#places().map((instance) =>
        this.#exclusively(instance, async () => {
          instance.loaded.delete(versionId);
          await this.#send<null>(instance, 'unload', { versionId });
        }),
      ),
    );
  }

  /**
   * Runs a batch on an idle instance, else behind the batch of a busy one; one of them must exist (`hasIdle`,
   * `hasRoomAhead`).
   *
   * @throws what the predictor threw, or SRV_WORKER_DIED when the thread ended; its details say `started: false`
   * when the batch had not begun
   */
  async run(message: RunMessage): Promise<RunResult> {
    const instance = this.#idle.pop() ?? this.#instances.find(hasRoomAhead);
    if (!instance) throw new ServingError('SRV_INTERNAL', `no idle instance on ${this.device.name}`);
    instance.isRunning = true;
    return this.#run(instance, message);
  }

  /** Waits for what runs, then ends the threads. Nothing may be given to the group any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Ending a thread within the engine's run aborts the process, and the pool's own close does not wait.
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight);
    await Promise.all([...new Set(this.#places().map(({ pool }) => pool))].map((pool) => pool.destroy()));
  }

  #places(): readonly InstanceState[] {
    return this.#spare ? [...this.#instances, this.#spare] : this.#instances;
  }

  async #loadInPlace(wanted: Wanted): Promise<readonly number[]> {
    this.#wanted.set(wanted.message.versionId, wanted);
    const results = await Promise.allSettled(
      this.#places().map((instance) => this.#openBetween(instance, wanted)),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return results.slice(0, this.size).map((result) => (result as PromiseFulfilledResult<number>).value);
  }

  #loadBehind(wanted: Wanted): Promise<readonly number[]> {
    const load = async (): Promise<readonly number[]> => {
      const spare = await this.#openSpare();
      this.#wanted.set(wanted.message.versionId, wanted);
      const loadTimes: number[] = [];
      for (const instance of this.#instances) {
        const startedAt = performance.now();
        do {
          // A version whose files are gone serves on where it is open, and no spare can stand in for it.
          if (!(await this.#exclusively(spare, () => this.#openAll(spare, wanted)))) {
            return this.#loadInPlace(wanted);
          }
          loadTimes[instance.index] ??= performance.now() - startedAt;
        } while (!(await this.#changePlaces(instance, spare)));
      }
      // A card has no memory for what may be needed at the next load.
      if (this.cardId !== undefined) await this.#exclusively(spare, () => this.#closeAll(spare));
      return loadTimes;
    };
    const loaded = this.#loadingBehind.then(load, load);
    this.#loadingBehind = loaded.catch(() => undefined);
    return loaded;
  }

  async #openSpare(): Promise<InstanceState> {
    // It has no thread until its pool says so; what the group holds is loaded then. A thread begins with the priority of
    // the one that makes it, and has its own after its first load.
    if (!this.#spare) {
      await atLowPriority(async () => {
        this.#spare = stateOf(this.size, this.#openPool(1), undefined);
      });
    }
    const spare = this.#spare!;
    await this.#exclusively(spare, async () => undefined);
    return spare;
  }

  /**
   * Gives the spare's thread to an instance and takes the instance's.
   *
   * @returns false, and nothing is done, when the spare lacks a version that came meanwhile
   */
  #changePlaces(instance: InstanceState, spare: InstanceState): Promise<boolean> {
    // The spare first: what it waits for may take long, and the instance is not to wait with it.
    return this.#exclusively(spare, () =>
      this.#exclusively(instance, async () => {
        for (const versionId of this.#wanted.keys()) if (!spare.loaded.has(versionId)) return false;
        const { pool, workerId, loaded } = instance;
        Object.assign(instance, { pool: spare.pool, workerId: spare.workerId, loaded: spare.loaded });
        Object.assign(spare, { pool, workerId, loaded });
        return true;
      }),
    );
  }

  /** Does something with an instance that runs no batch and nothing else of this kind meanwhile. */
  async #exclusively<T>(instance: InstanceState, work: () => Promise<T>): Promise<T> {
    if (instance.isBusy || instance.workerId === undefined) {
      await new Promise<void>((resolve) => instance.controls.push(resolve));
    } else {
      const at = this.#idle.indexOf(instance);
      if (at >= 0) this.#idle.splice(at, 1);
    }
    const turn = beginTurn(instance);
    try {
      return await work();
    } finally {
      // Else the thread died and the one that came has its own turn.
      if (instance.turn === turn) this.#endTurn(instance);
    }
  }

  #endTurn(instance: InstanceState): void {
    instance.busyMs += performance.now() - instance.busySince;
    instance.isBusy = false;
    instance.isRunning = false;
    this.#release(instance);
  }

  /**
   * Opens all versions of the group that the spare, which is held, lacks, with what others leave of the processor.
   *
   * @returns false when it cannot open another one than `wanted`
   * @throws what opening `wanted` threw
   */
  async #openAll(spare: InstanceState, wanted: Wanted): Promise<boolean> {
    for (const { message, warmUp } of [...this.#wanted.values()]) {
      if (spare.loaded.has(message.versionId)) continue;
      try {
        await this.#openWhole(spare, { message: { ...message, lowPriority: true }, warmUp });
      } catch (error) {
        if (message === wanted.message) throw error;
        return false;
      }
    }
    return true;
  }

  async #closeAll(spare: InstanceState): Promise<void> {
    for (const versionId of [...spare.loaded]) {
      spare.loaded.delete(versionId);
      await this.#send<null>(spare, 'unload', { versionId });
    }
  }

  /** Opens a version on an instance that serves others: their batches go between the last ones of the warm-up. @returns ms */
  async #openBetween(instance: InstanceState, wanted: Wanted): Promise<number> {
    const { ms, rest } = await this.#exclusively(instance, () => this.#open(instance, wanted));
    const startedAt = performance.now();
    await rest?.((batch) => this.#exclusively(instance, () => this.#send<RunResult>(instance, 'run', batch)));
    return ms + performance.now() - startedAt;
  }

  /** Opens a version on an instance that is held. */
  async #openWhole(instance: InstanceState, wanted: Wanted): Promise<void> {
    const { lowPriority = false } = wanted.message;
    const { rest } = await this.#open(instance, wanted);
    await rest?.((batch) => this.#send<RunResult>(instance, 'run', { lowPriority, ...batch }));
  }

  async #open(
    instance: InstanceState,
    { message, warmUp }: Wanted,
  ): Promise<{ readonly ms: number; readonly rest: WarmUpRest | undefined }> {
    const { loadMs } = await this.#send<LoadResult>(instance, 'load', message);
    const startedAt = performance.now();
    const { lowPriority = false } = message;
    const rest = await warmUp?.(
      (batch) => this.#send<RunResult>(instance, 'run', { lowPriority, ...batch }),
      lowPriority,
    );
    instance.loaded.add(message.versionId);
    return { ms: loadMs + performance.now() - startedAt, rest };
  }

  /** Hands a batch to the thread of an instance. The thread takes its tasks one after the other. */
  async #run(instance: InstanceState, message: RunMessage): Promise<RunResult> {
    const isFirst = instance.tasks === 0;
    instance.tasks += 1;
    if (isFirst) beginTurn(instance);
    try {
      return await this.#send<RunResult>(instance, 'run', message);
    } catch (error) {
      if (!(error instanceof ServingError) || error.code !== 'SRV_WORKER_DIED') throw error;
      // Both tasks of a thread are rejected in one go, so the first still counts here.
      const started = isFirst || instance.tasks === 1;
      throw new ServingError(error.code, error.message, { details: { started } });
    } finally {
      instance.tasks -= 1;
      if (instance.tasks === 0) this.#endTurn(instance);
      else if (!this.#isClosed) this.#events.onIdle(this);
    }
  }

  /** Sends a task to the thread of an instance, whatever it does. */
  #send<T>(instance: InstanceState, name: 'load' | 'unload' | 'run', message: object): Promise<T> {
    const { pool, workerId } = instance;
    const task = (pool.run({ ...message, [queueOptionsSymbol]: { workerId } }, { name }) as Promise<Reply<T>>)
      .then(
        (reply) => {
          if ('error' in reply) throw errorFromData(reply.error);
          return reply.ok;
        },
        (error: unknown) => {
          if (error instanceof ServingError) throw error;
          throw new ServingError(
            'SRV_WORKER_DIED',
            `an instance of ${this.device.name} ended: ${messageOf(error)}`,
          );
        },
      )
      .finally(() => this.#inFlight.delete(task));
    this.#inFlight.add(task);
    return task;
  }

  #release(instance: InstanceState): void {
    if (instance.workerId === undefined) return;
    const next = instance.controls.shift();
    if (next) {
      instance.isBusy = true;
      next();
      return;
    }
    if (instance === this.#spare) return;
    this.#idle.push(instance);
    if (!this.#isClosed) this.#events.onIdle(this);
  }

  #loseWorker(workerId: number, reason: string): void {
    if (this.#isClosed) return;
    // A thread that ended by itself has lost its number by now: it is the one that its pool lacks.
    const isAlive = ({ pool, workerId: own }: InstanceState): boolean =>
      pool.threads.some(({ threadId }) => threadId === own);
    const instance = this.#places().find(
      (place) => place.workerId !== undefined && (place.workerId === workerId || !isAlive(place)),
    );
    if (!instance) return;
    instance.workerId = undefined;
    instance.loaded = new Set();
    const at = this.#idle.indexOf(instance);
    if (at >= 0) this.#idle.splice(at, 1);
    if (instance !== this.#spare) this.#events.onInstanceLost(this, instance.index, reason);
  }

  /** Gives a new thread to the instance that lost its own, and loads what the group holds. */
  #adopt(pool: Piscina, workerId: number): void {
    const places = this.#places();
    if (this.#isClosed || places.some((instance) => instance.workerId === workerId)) return;
    const instance = places.find((place) => place.workerId === undefined && place.pool === pool);
    if (!instance) return;
    instance.workerId = workerId;
    instance.loaded = new Set();
    // Busy until it has loaded: a load or unload that comes meanwhile waits its turn.
    const turn = beginTurn(instance);
    // The pool counts the thread among its own only when this event is over.
    queueMicrotask(() => void this.#reload(instance, turn));
  }

  async #reload(instance: InstanceState, turn: number): Promise<void> {
    const failures: string[] = [];
    for (const wanted of [...this.#wanted.values()]) {
      if (instance.turn !== turn || instance.workerId === undefined) return;
      try {
        await this.#openWhole(instance, wanted);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    if (instance.turn !== turn || instance.workerId === undefined) return;
    if (instance !== this.#spare) this.#events.onInstanceReplaced(this, instance.index, failures);
    this.#endTurn(instance);
  }
}

function stateOf(index: number, pool: Piscina, workerId: number | undefined): InstanceState {
  return {
    index,
    pool,
    workerId,
    loaded: new Set(),
    isBusy: false,
    tasks: 0,
    isRunning: false,
    controls: [],
    turn: 0,
    busyMs: 0,
    busySince: 0,
  };
}

function beginTurn(instance: InstanceState): number {
  instance.isBusy = true;
  instance.busySince = performance.now();
  instance.turn += 1;
  return instance.turn;
}

function hasRoomAhead(instance: InstanceState): boolean {
  return (
    instance.isRunning &&
    instance.tasks === 1 &&
    instance.controls.length === 0 &&
    instance.workerId !== undefined
  );
}
