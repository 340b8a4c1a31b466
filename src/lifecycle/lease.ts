/**
 * Counts who holds a version. A version is unloaded only when nobody does.
 */
export class LeaseCounter {
  #count = 0;
  readonly #onFree: (() => void)[] = [];

  /** Holds now. */
  get count(): number {
    return this.#count;
  }

  lease(): void {
    this.#count += 1;
  }

  release(): void {
    this.#count -= 1;
    if (this.#count > 0) return;
    for (const resolve of this.#onFree.splice(0)) resolve();
  }

  /** Resolves when nobody holds it; at once when nobody does. */
  async whenFree(): Promise<void> {
    while (this.#count > 0) await new Promise<void>((resolve) => this.#onFree.push(resolve));
  }
}
