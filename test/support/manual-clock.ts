import type { Clock } from '../../src/batching/clock.js';

/** A clock that stands still until a test moves it. Turn ends and microtasks are run by `settle`. */
export class ManualClock implements Clock {
  #now = 1000;
  #timers: { at: number; callback: () => void; isCancelled: boolean }[] = [];
  #turnEnd: (() => void)[] = [];

  now(): number {
    return this.#now;
  }

  setTimer(callback: () => void, ms: number): { cancel(): void } {
    const timer = { at: this.#now + ms, callback, isCancelled: false };
    this.#timers.push(timer);
    return {
      cancel: () => {
        timer.isCancelled = true;
      },
    };
  }

  atTurnEnd(callback: () => void): void {
    this.#turnEnd.push(callback);
  }

  soon(callback: () => void): void {
    this.#turnEnd.push(callback);
  }

  /** Timers that are set and not cancelled. */
  get timers(): number {
    return this.#timers.filter((timer) => !timer.isCancelled).length;
  }

  /** Moves the time on and calls back what has become due, in order. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const due = this.#timers
        .filter((timer) => !timer.isCancelled && timer.at <= end)
        .sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#now = Math.max(this.#now, due.at);
      due.callback();
      await this.settle();
    }
    this.#now = end;
    await this.settle();
  }

  /** Lets promises and planned callbacks run until nothing more happens. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 20; quiet++) {
      await Promise.resolve();
      const callbacks = this.#turnEnd.splice(0);
      for (const callback of callbacks) callback();
      if (callbacks.length > 0) quiet = 0;
    }
  }
}
