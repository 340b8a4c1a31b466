import type { Clock } from '../batching/clock.js';
import { ServingError } from '../errors.js';

/** Options of an `IdleLimit`. */
export interface IdleLimitOptions {
  readonly clock: Clock;
  readonly ms: number;
  /** Who is waited for, for the message. */
  readonly label: string;
  /** Ends the work too. */
  readonly outer?: AbortSignal | undefined;
}

/** A signal that is aborted when nothing was heard for a while: `heard` says that something was. */
export class IdleLimit {
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  readonly #options: IdleLimitOptions;
  #heardAt: number;
  #timer: { cancel(): void };

  constructor(options: IdleLimitOptions) {
    this.#options = options;
    const { clock, ms, outer } = options;
    this.signal = outer ? AbortSignal.any([outer, this.#abort.signal]) : this.#abort.signal;
    this.#heardAt = clock.now();
    this.#timer = clock.setTimer(this.#onTimer, ms);
  }

  heard(): void {
    this.#heardAt = this.#options.clock.now();
  }

  close(): void {
    this.#timer.cancel();
  }

  readonly #onTimer = (): void => {
    const { clock, ms, label } = this.#options;
    const leftMs = this.#heardAt + ms - clock.now();
    if (leftMs > 0) {
      this.#timer = clock.setTimer(this.#onTimer, leftMs);
      return;
    }
    this.#abort.abort(
      new ServingError('SRV_REMOTE_UNAVAILABLE', `${label}: nothing came for ${ms / 1000} s (timeout).`),
    );
  };
}
