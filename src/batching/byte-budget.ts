/** Bytes that requests may hold until they are answered: of the whole runtime, or of one model within it. */
export class ByteBudget {
  readonly limit: number;
  readonly #whole: ByteBudget | undefined;
  #used = 0;

  /** @param whole what the bytes are a part of */
  constructor(limit: number, whole?: ByteBudget) {
    this.limit = limit;
    this.#whole = whole;
  }

  get used(): number {
    return this.#used;
  }

  /** Whether it is that of one model. */
  get isPart(): boolean {
    return this.#whole !== undefined;
  }

  /** Takes bytes, unless they are not left; then it gives the budget that lacks them: this one or the whole. */
  take(bytes: number): ByteBudget | undefined {
    if (this.#used + bytes > this.limit) return this;
    const full = this.#whole?.take(bytes);
    if (!full) this.#used += bytes;
    return full;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    this.#whole?.give(bytes);
  }
}
