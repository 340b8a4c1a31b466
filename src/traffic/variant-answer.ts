import { ServingError } from '../errors.js';
import type { InferAnswer, NamedTensor } from '../server/service.js';

/** An answer under the public name, with the variant that gave it. */
export class VariantAnswer implements InferAnswer {
  readonly model: string;
  readonly variant: string;
  readonly #answer: InferAnswer;

  constructor(answer: InferAnswer, model: string, variant: string) {
    this.#answer = answer;
    this.model = model;
    this.variant = variant;
  }

  get version(): number {
    return this.#answer.version;
  }

  get outputs(): readonly NamedTensor[] {
    return this.#answer.outputs;
  }

  recordEncode(seconds: number): void {
    this.#answer.recordEncode(seconds);
  }
}

/** The error of a variant, which tells whose failure it was. */
export function withVariant(error: unknown, variant: string): unknown {
  if (!(error instanceof ServingError)) return error;
  return new ServingError(error.code, error.message, {
    details: { ...error.details, variant },
    cause: error,
  });
}
