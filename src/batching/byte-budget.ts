/** Bytes that waiting requests may hold: of the whole runtime, or of one model within it. */
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

  /** Takes bytes if they are left. */
  tryTake(bytes: number): boolean {
    if (this.#used + bytes > this.limit || this.#whole?.tryTake(bytes) === false) return false;
    this.#used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    this.#whole?.give(bytes);
  }
}
