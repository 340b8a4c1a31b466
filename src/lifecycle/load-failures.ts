import { type Fingerprint, isSameState } from './policy.js';
import { retryPauseMs } from './retry.js';

/** The part of a clock that retries need. */
export interface RetryClock {
  now(): number;
  setTimer(callback: () => void, ms: number): { cancel(): void };
}

/** A version whose load failed. */
export interface FailedVersion {
  readonly name: string;
  readonly version: number;
  readonly fingerprint: Fingerprint;
}

/** When a failed load is tried again. */
export interface NextTry {
  /** Failures in a row of this state of the version. */
  readonly failures: number;
  /** Infinity where it is not tried again before its state changes. */
  readonly pauseMs: number;
}

interface Failure {
  readonly fingerprint: Fingerprint;
  readonly failures: number;
  mayRetryAt: number;
  timer?: { cancel(): void };
}

/** The loads that failed, and the times at which they are tried again: pauses grow while they go on to fail. */
export class LoadFailures {
  readonly #clock: RetryClock;
  readonly #onDue: (name: string) => void;
  /** The last failure of each version, by model and number. */
  readonly #byName = new Map<string, Map<number, Failure>>();
  #isClosed = false;

  /** @param onDue called with the name of a model when one of its versions may be tried again */
  constructor(clock: RetryClock, onDue: (name: string) => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** Whether a version may be tried now: it did not fail in this state, or its pause is over. */
  mayTry({ name, version, fingerprint }: FailedVersion): boolean {
    const failure = this.#byName.get(name)?.get(version);
    if (!failure || !isSameState(failure.fingerprint, fingerprint)) return true;
    return failure.mayRetryAt <= this.#clock.now();
  }

  /** @param isLasting whether trying the same again is of no use */
  note({ name, version, fingerprint }: FailedVersion, isLasting: boolean): NextTry {
    const versions = this.#byName.get(name) ?? new Map<number, Failure>();
    this.#byName.set(name, versions);
    const before = versions.get(version);
    before?.timer?.cancel();
    const failures = before && isSameState(before.fingerprint, fingerprint) ? before.failures + 1 : 1;
    const pauseMs = isLasting || this.#isClosed ? Number.POSITIVE_INFINITY : retryPauseMs(failures);
    const mayRetryAt = this.#clock.now() + pauseMs;
    const failure: Failure = { fingerprint, failures, mayRetryAt };
    versions.set(version, failure);
    if (Number.isFinite(pauseMs)) {
      failure.timer = this.#clock.setTimer(() => {
        // A timer may end a moment before its time by the clock; there is no other one.
        failure.mayRetryAt = Number.NEGATIVE_INFINITY;
        this.#onDue(name);
      }, pauseMs);
    }
    return { failures, pauseMs };
  }

  /** A version was loaded. */
  clear(name: string, version: number): void {
    const versions = this.#byName.get(name);
    versions?.get(version)?.timer?.cancel();
    versions?.delete(version);
    if (versions?.size === 0) this.#byName.delete(name);
  }

  /** A model is not to be loaded any more. */
  forget(name: string): void {
    for (const version of [...(this.#byName.get(name)?.keys() ?? [])]) this.clear(name, version);
  }

  /** Nothing is due any more; idempotent. */
  close(): void {
    this.#isClosed = true;
    for (const versions of this.#byName.values()) for (const { timer } of versions.values()) timer?.cancel();
  }
}
