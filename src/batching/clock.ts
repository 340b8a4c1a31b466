/** Time as the batching code sees it, so that tests can hold it in their hands. */
export interface Clock {
  /** Milliseconds, monotonic, with fractions. */
  now(): number;
  /** Calls back once after `ms`; the timer does not keep the process alive. */
  setTimer(callback: () => void, ms: number): { cancel(): void };
  /** Calls back once all input of this turn of the event loop has been read. */
  atTurnEnd(callback: () => void): void;
  /** Calls back once the code that runs now, and what it has already queued, is done. */
  soon(callback: () => void): void;
}

/** The real clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer: (callback, ms) => {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  atTurnEnd: (callback) => {
    setImmediate(callback);
  },
  soon: queueMicrotask,
};
