/**
 * A lock at a target, held by one publisher at a time and given up by one that ended.
 *
 * Machines need not agree on the time: a lock is dead when its text has not changed for as long as its holder promised
 * to renew it, measured by the clock of who waits.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Clock } from '../batching/clock.js';
import { ServingError } from '../errors.js';
import { pause } from '../monitor/pause.js';
import { throwIfAborted } from '../remote/abort.js';
import type { PublishTarget } from './publish-target.js';

/** Options of `lockTarget`. */
export interface TargetLockOptions {
  readonly clock: Clock;
  /** Without a sign of life for so long a lock is dead; its holder renews it three times as often. */
  readonly leaseMs: number;
  /** How long to wait for another publisher. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** A lock that is held. */
export interface TargetLock {
  /** False where the target has no locks: then only the order of writing protects readers. */
  readonly isExclusive: boolean;
  /** Ends the work when another publisher took the lock over. */
  readonly signal: AbortSignal;
  /** Asks the target whether the lock is still this one. @throws SRV_PUBLISH_CONFLICT when it is not */
  confirm(): Promise<void>;
  /** Gives it back, if it is still this one. */
  release(): Promise<void>;
}

const pollMs = 500;

/**
 * Takes the lock at `path`.
 *
 * @throws SRV_PUBLISH_CONFLICT when another publisher holds it for longer than `waitMs`
 */
export async function lockTarget(
  target: PublishTarget,
  path: string,
  options: TargetLockOptions,
): Promise<TargetLock> {
  const { clock, leaseMs, waitMs, signal } = options;
  const id = `${hostname()}:${process.pid}:${randomBytes(6).toString('hex')}`;
  const endsAt = clock.now() + waitMs;
  let seen: string | undefined;
  let seenAt = clock.now();
  for (;;) {
    throwIfAborted(signal);
    const outcome = await target.createLock(path, `${id} 0`, { signal });
    if (outcome !== 'exists') return new HeldLock(target, path, id, outcome === 'created', options);
    // Between its making and its writing a lock may have no text.
    const text = (await target.readLock(path, { signal })) ?? '';
    if (text !== seen) {
      seen = text;
      seenAt = clock.now();
    } else if (clock.now() - seenAt >= leaseMs) {
      // Its holder ended. Read once more: another one who waits may have been faster.
      if (((await target.readLock(path, { signal })) ?? '') === seen)
        await target.removeLock(path, { signal });
      seen = undefined;
      continue;
    }
    if (clock.now() >= endsAt) {
      throw new ServingError(
        'SRV_PUBLISH_CONFLICT',
        `${target.label}${path}: ${text.split(' ')[0] || 'another publisher'} is publishing there; waited ${waitMs / 1000} s (lock_wait).`,
      );
    }
    await pause(clock, Math.min(pollMs, leaseMs / 3), signal);
  }
}

class HeldLock implements TargetLock {
  readonly signal: AbortSignal;
  readonly #lost = new AbortController();
  #timer: { cancel(): void } | undefined;
  #beats = 0;
  #renewal: Promise<void> = Promise.resolve();

  readonly isExclusive: boolean;
  readonly #target: PublishTarget;
  readonly #path: string;
  readonly #id: string;
  readonly #options: TargetLockOptions;

  constructor(
    target: PublishTarget,
    path: string,
    id: string,
    isExclusive: boolean,
    options: TargetLockOptions,
  ) {
    this.#target = target;
    this.#path = path;
    this.#id = id;
    this.isExclusive = isExclusive;
    this.#options = options;
    const { signal } = options;
    this.signal = signal ? AbortSignal.any([signal, this.#lost.signal]) : this.#lost.signal;
    if (isExclusive) this.#setTimer();
  }

  async confirm(): Promise<void> {
    // While it is being written it may read as nobody's.
    await this.#renewal;
    throwIfAborted(this.signal);
    if (!this.isExclusive || (await this.#isOwn())) return;
    throw this.#conflict();
  }

  async release(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#renewal;
    if (!this.isExclusive || this.#lost.signal.aborted) return;
    if (await this.#isOwn()) await this.#target.removeLock(this.#path);
  }

  #setTimer(): void {
    const { clock, leaseMs } = this.#options;
    this.#timer = clock.setTimer(() => {
      this.#renewal = this.#renew();
    }, leaseMs / 3);
  }

  async #renew(): Promise<void> {
    try {
      if (!(await this.#isOwn())) {
        this.#lost.abort(this.#conflict());
        return;
      }
      this.#beats += 1;
      await this.#target.writeLock(this.#path, `${this.#id} ${this.#beats}`);
    } catch (error) {
      // The target may be back before the lease ends; before the done file is written it is asked again.
      if (!(error instanceof ServingError)) throw error;
    }
    if (this.#timer) this.#setTimer();
  }

  async #isOwn(): Promise<boolean> {
    return (await this.#target.readLock(this.#path))?.split(' ')[0] === this.#id;
  }

  #conflict(): ServingError {
    return new ServingError(
      'SRV_PUBLISH_CONFLICT',
      `${this.#target.label}${this.#path}: another publisher took over, because this one did not renew its lock in time (lease).`,
    );
  }
}
