import type { Batcher } from './batcher.js';
import type { Clock } from './clock.js';
import type { Job } from './job.js';
import type { Runner } from './runner.js';

/**
 * Decides which version's batch a free instance takes.
 *
 * Only versions with work are looked at, the one that has used the least compute time for its weight first. An
 * instance takes what waits at the end of the turn in which it arrived: taking it at once gives batches of 1 and
 * 31 in turn where 32 callers wait.
 */
export class Scheduler {
  readonly #clock: Clock;
  #ready: Batcher[] = [];
  /** When the next flush comes; one that is sooner takes the place of a later one. */
  #planned: 'soon' | 'atTurnEnd' | undefined;
  #sweepAt = Number.POSITIVE_INFINITY;
  #sweepTimer: { cancel(): void } | undefined;
  #runningBatches = 0;
  #virtualNow = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether nothing waits for an instance. */
  get isDrained(): boolean {
    return this.#ready.every((batcher) => batcher.queueSize === 0);
  }

  /** Forgets a version that has no more work. */
  remove(batcher: Batcher): void {
    this.#ready = this.#ready.filter((other) => other !== batcher);
    batcher.isListed = false;
  }

  /** A job has come in. */
  announce(batcher: Batcher, job: Job): void {
    this.#list(batcher);
    if (job.deadlineAt < this.#sweepAt) this.#armSweep(job.deadlineAt);
    this.#plan(job.origin === 'process' ? 'soon' : 'atTurnEnd');
  }

  /** A version's work may be taken now: its delay is over, or a batch has come back to it. */
  wake(batcher: Batcher): void {
    this.#list(batcher);
    this.#plan('soon');
  }

  /** An instance is free. */
  onIdle(): void {
    if (this.#ready.length > 0) this.#plan('atTurnEnd');
  }

  /** A batch was given to a runner. */
  batchStarted(): void {
    this.#runningBatches += 1;
  }

  /** A batch came back. */
  batchEnded(): void {
    this.#runningBatches -= 1;
    this.onIdle();
  }

  #list(batcher: Batcher): void {
    if (batcher.isListed) return;
    batcher.isListed = true;
    // A version that was idle starts at the others' level: it may not save up its share.
    batcher.virtualTime = Math.max(batcher.virtualTime, this.#virtualNow);
    this.#ready.push(batcher);
  }

  #plan(when: 'soon' | 'atTurnEnd'): void {
    if (this.#planned === 'soon' || this.#planned === when) return;
    this.#planned = when;
    this.#clock[when](() => {
      if (this.#planned !== when) return;
      this.#planned = undefined;
      this.#flush();
    });
  }

  #flush(): void {
    const blocked = new Set<Batcher>();
    for (;;) {
      this.#dropEmpty();
      const next = this.#next(blocked);
      if (!next) return;
      const { batcher, runner } = next;
      this.#virtualNow = Math.max(this.#virtualNow, batcher.virtualTime);
      if (!batcher.dispatch(runner)) blocked.add(batcher);
    }
  }

  #dropEmpty(): void {
    for (let i = this.#ready.length - 1; i >= 0; i--) {
      const batcher = this.#ready[i]!;
      if (batcher.queueSize > 0) continue;
      batcher.isListed = false;
      this.#ready.splice(i, 1);
    }
  }

  #next(blocked: ReadonlySet<Batcher>): { batcher: Batcher; runner: Runner } | undefined {
    let best: { batcher: Batcher; runner: Runner } | undefined;
    for (const batcher of this.#ready) {
      if (best && batcher.virtualTime >= best.batcher.virtualTime) continue;
      if (blocked.has(batcher) || !batcher.hasWork) continue;
      const runner = this.#runnerFor(batcher);
      if (runner) best = { batcher, runner };
    }
    return best;
  }

  #runnerFor(batcher: Batcher): Runner | undefined {
    const { idleRunner, runners } = batcher.options;
    if (idleRunner?.hasIdle && this.#isQuiet(batcher)) return idleRunner;
    let best: Runner | undefined;
    for (const runner of runners) {
      if (runner.hasIdle && (!best || runner.busy < best.busy)) best = runner;
    }
    // Only a version that is alone: what is given ahead cannot be overtaken by another version's turn.
    if (best || this.#ready.length > 1 || !batcher.wantsRoomAhead) return best;
    return runners.find((runner) => runner.hasRoomAhead);
  }

  /** Whether this version's only job is all that goes on in the runtime. */
  #isQuiet(batcher: Batcher): boolean {
    return this.#runningBatches === 0 && this.#ready.length === 1 && batcher.queueSize === 1;
  }

  #armSweep(at: number): void {
    this.#sweepTimer?.cancel();
    this.#sweepAt = at;
    const wait = Math.min(Math.max(0, at - this.#clock.now()) + 0.5, 2 ** 31 - 1);
    this.#sweepTimer = this.#clock.setTimer(() => this.#sweep(), wait);
  }

  #sweep(): void {
    this.#sweepAt = Number.POSITIVE_INFINITY;
    const now = this.#clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const batcher of this.#ready) next = Math.min(next, batcher.sweep(now));
    if (next < this.#sweepAt) this.#armSweep(next);
  }

  /** Stops watching deadlines. */
  close(): void {
    this.#sweepTimer?.cancel();
    this.#sweepTimer = undefined;
  }
}
