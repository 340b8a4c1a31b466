import type { LoadMessage, RunMessage, RunResult } from './messages.js';
import { Predictor } from './predictor.js';

/**
 * Predictors on the main thread, for single requests to models that run in microseconds while nothing else goes
 * on: it saves the hop to a worker, and holds the event loop for the time of the run.
 */
export class MainInstance {
  readonly #predictors = new Map<number, Predictor>();
  #isBusy = false;
  readonly lostReason = undefined;
  readonly hasRoomAhead = false;

  get hasIdle(): boolean {
    return !this.#isBusy;
  }

  get busy(): number {
    return this.#isBusy ? 1 : 0;
  }

  /** A main thread is not lost. */
  markLost(): void {}

  async load(message: LoadMessage): Promise<void> {
    const twin = message.sessionOf === undefined ? undefined : this.#predictors.get(message.sessionOf);
    this.#predictors.set(message.versionId, await Predictor.open(message, twin));
  }

  async unload(versionId: number): Promise<void> {
    const predictor = this.#predictors.get(versionId);
    this.#predictors.delete(versionId);
    await predictor?.close();
  }

  async run(message: RunMessage): Promise<RunResult> {
    this.#isBusy = true;
    try {
      return await this.#predictors.get(message.versionId)!.run(message);
    } finally {
      this.#isBusy = false;
    }
  }
}
