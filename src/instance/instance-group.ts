import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { Piscina, queueOptionsSymbol } from 'piscina';
import { errorFromData, messageOf, ServingError } from '../errors.js';
import type { Device, LoadMessage, LoadResult, Reply, RunMessage, RunResult } from './messages.js';

/** One worker thread of a device. Its index is stable; the thread behind it changes when it dies. */
interface InstanceState {
  readonly index: number;
  /** Piscina's id of the thread; undefined while a replacement starts. */
  workerId: number | undefined;
  isBusy: boolean;
  /** Tasks that were handed to the thread and are not answered: at most 2, and 2 only of batches. */
  tasks: number;
  /** Whether what it is busy with are batches. */
  isRunning: boolean;
  /** Loads and unloads that wait for the thread, oldest first. They go before batches. */
  readonly controls: (() => void)[];
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
 * The instances of one device: a Piscina pool whose every task is addressed to one thread.
 *
 * The pool never queues: a task is handed over when its thread is free, or runs a single batch, and the balancer
 * throws when the thread is gone. (A queued task that no thread takes would block every later one.)
 */
export class InstanceGroup {
  readonly device: Device;
  readonly cardId: number | undefined;
  readonly size: number;
  readonly #pool: Piscina;
  readonly #instances: InstanceState[];
  readonly #events: InstanceGroupEvents;
  readonly #wanted = new Map<number, LoadMessage>();
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
    this.#pool = new Piscina({
      filename: options.workerFile ?? ownWorkerFile,
      minThreads: options.size,
      maxThreads: options.size,
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
    const threads = this.#pool.threads;
    this.#instances = Array.from({ length: options.size }, (_, index) => ({
      index,
      workerId: threads[index]!.threadId,
      isBusy: false,
      tasks: 0,
      isRunning: false,
      controls: [],
      busyMs: 0,
      busySince: 0,
    }));
    this.#idle.push(...this.#instances);
    this.#pool.on('workerCreate', (worker: { id: number }) => this.#adopt(worker.id));
    this.#pool.on('workerDestroy', (worker: { id: number }) =>
      this.#loseWorker(worker.id, 'the thread ended'),
    );
    this.#pool.on('error', () => {
      // The thread's end is handled by workerDestroy; without a listener the event would end the process.
    });
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
   * Opens a version on every instance, one after the other per instance, and keeps it for replacements.
   *
   * @returns the load time of each instance, in ms
   * @throws the first instance's error; the version is then closed everywhere again
   */
  async load(message: LoadMessage): Promise<readonly number[]> {
    this.#wanted.set(message.versionId, message);
    const results = await Promise.allSettled(
      this.#instances.map((instance) => this.#control<LoadResult>(instance, 'load', message)),
    );
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) {
      await this.unload(message.versionId);
      throw failed.reason;
    }
    return results.map((result) => (result as PromiseFulfilledResult<LoadResult>).value.loadMs);
  }

  /** Closes a version on every instance. */
  async unload(versionId: number): Promise<void> {
    this.#wanted.delete(versionId);
    await Promise.allSettled(
      this.#instances.map((instance) => this.#control<null>(instance, 'unload', { versionId })),
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
    return this.#task<RunResult>(instance, 'run', message);
  }

  /** Waits for what runs, then ends the threads. Nothing may be given to the group any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Ending a thread within the engine's run aborts the process, and the pool's own close does not wait.
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight);
    await this.#pool.destroy();
  }

  async #control<T>(instance: InstanceState, name: 'load' | 'unload', message: object): Promise<T> {
    if (instance.isBusy || instance.workerId === undefined) {
      await new Promise<void>((resolve) => instance.controls.push(resolve));
    } else {
      this.#idle.splice(this.#idle.indexOf(instance), 1);
    }
    return this.#task<T>(instance, name, message);
  }

  /** Hands a task to the thread of an instance. The thread takes its tasks one after the other. */
  #task<T>(instance: InstanceState, name: string, message: object): Promise<T> {
    const isFirst = instance.tasks === 0;
    instance.tasks += 1;
    if (isFirst) {
      instance.isBusy = true;
      instance.busySince = performance.now();
    }
    const workerId = instance.workerId;
    const task = (
      this.#pool.run({ ...message, [queueOptionsSymbol]: { workerId } }, { name }) as Promise<Reply<T>>
    )
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
            // Both tasks of a thread are rejected in one go, so the first still counts here.
            { details: { started: isFirst || instance.tasks === 1 } },
          );
        },
      )
      .finally(() => {
        this.#inFlight.delete(task);
        instance.tasks -= 1;
        if (instance.tasks > 0) {
          if (!this.#isClosed) this.#events.onIdle(this);
          return;
        }
        instance.busyMs += performance.now() - instance.busySince;
        instance.isBusy = false;
        instance.isRunning = false;
        this.#release(instance);
      });
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
    this.#idle.push(instance);
    if (!this.#isClosed) this.#events.onIdle(this);
  }

  #loseWorker(workerId: number, reason: string): void {
    if (this.#isClosed) return;
    // A thread that ended by itself has lost its number by now: it is the one that the pool lacks.
    const alive = new Set(this.#pool.threads.map(({ threadId }) => threadId));
    const instance = this.#instances.find(
      ({ workerId: own }) => own !== undefined && (own === workerId || !alive.has(own)),
    );
    if (!instance) return;
    instance.workerId = undefined;
    const at = this.#idle.indexOf(instance);
    if (at >= 0) this.#idle.splice(at, 1);
    this.#events.onInstanceLost(this, instance.index, reason);
  }

  /** Gives a new thread to the instance that lost its own, and loads what the group holds. */
  #adopt(workerId: number): void {
    if (this.#isClosed || this.#instances.some((instance) => instance.workerId === workerId)) return;
    const instance = this.#instances.find((candidate) => candidate.workerId === undefined);
    if (!instance) return;
    instance.workerId = workerId;
    // Busy until it has loaded: a load or unload that comes meanwhile waits its turn.
    instance.isBusy = true;
    instance.busySince = performance.now();
    // The pool counts the thread among its own only when this event is over.
    queueMicrotask(() => void this.#reload(instance));
  }

  async #reload(instance: InstanceState): Promise<void> {
    const failures: string[] = [];
    const ownThread = instance.workerId;
    for (const message of [...this.#wanted.values()]) {
      if (instance.workerId !== ownThread) return;
      try {
        await this.#reloadOne(instance, message);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    if (instance.workerId !== ownThread) return;
    instance.busyMs += performance.now() - instance.busySince;
    instance.isBusy = false;
    this.#events.onInstanceReplaced(this, instance.index, failures);
    this.#release(instance);
  }

  /** A load that keeps the instance out of the idle list, unlike `#task`. */
  async #reloadOne(instance: InstanceState, message: LoadMessage): Promise<void> {
    const task = this.#pool.run(
      { ...message, [queueOptionsSymbol]: { workerId: instance.workerId } },
      { name: 'load' },
    ) as Promise<Reply<LoadResult>>;
    this.#inFlight.add(task);
    try {
      const reply = await task;
      if ('error' in reply) throw errorFromData(reply.error);
    } finally {
      this.#inFlight.delete(task);
    }
  }
}

function hasRoomAhead(instance: InstanceState): boolean {
  return (
    instance.isRunning &&
    instance.tasks === 1 &&
    instance.controls.length === 0 &&
    instance.workerId !== undefined
  );
}
