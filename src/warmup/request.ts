import { ServingError } from '../errors.js';
import type { NamedTensor } from '../server/service.js';
import type { Signature } from '../tensor/tensor.js';

/** Where a request of a warm-up comes from. */
export interface RequestPlace {
  /** The file or URL, or what made the request up. */
  readonly file: string;
  /** What is counted in it; absent where it holds a single request. */
  readonly unit?: 'line' | 'request' | 'record' | 'sample';
  /** Counted from 1. */
  readonly number?: number;
}

/** What a request sends: tensors, or a text that is the one element of the model's only input. */
export type RequestContent =
  | { readonly kind: 'tensors'; readonly inputs: readonly NamedTensor[] }
  | { readonly kind: 'text'; readonly text: string };

/** A request that a version runs before it is ready. */
export interface WarmUpRequest {
  readonly place: RequestPlace;
  readonly content: RequestContent;
  /** Names of the outputs that it asks for; absent: all. */
  readonly outputs?: readonly string[] | undefined;
  /** How often it is run, where its declaration says so; absent: `warm_up_count`. */
  readonly count?: number;
}

/** Requests of one or several files, and the rows of the batches that traffic was seen to make. */
export interface WarmUpRequests {
  readonly requests: readonly WarmUpRequest[];
  /** Empty where nothing tells. */
  readonly batchSizes: readonly number[];
}

/** A place in words: `warm.jsonl line 3`. */
export function placeText({ file, unit, number }: RequestPlace): string {
  return unit === undefined ? file : `${file} ${unit} ${number}`;
}

/**
 * The tensors of a request, for a model of that signature.
 *
 * @throws SRV_BAD_SIGNATURE when it is a text, and the model does not take one BYTES element
 */
export function tensorsOf(content: RequestContent, signature: Signature): readonly NamedTensor[] {
  if (content.kind === 'tensors') return content.inputs;
  const [spec, more] = signature.inputs;
  const shape = spec?.shape.map(Math.abs);
  if (!spec || !shape || more || spec.datatype !== 'BYTES' || shape.some((size) => size !== 1)) {
    const inputs = signature.inputs.map((input) => `${input.name} ${input.datatype} [${input.shape}]`);
    throw new ServingError(
      'SRV_BAD_SIGNATURE',
      `a line of text is the only input of a model, one BYTES element; this model takes [${inputs.join(', ')}]`,
    );
  }
  return [{ name: spec.name, tensor: { datatype: 'BYTES', shape, data: [content.text] } }];
}

/** The error of a file that cannot be read as requests. */
export function badFile(place: RequestPlace, what: string): ServingError {
  return new ServingError('SRV_BAD_WARM_UP_FILE', `${placeText(place)}: ${what}`, {
    details: detailsOf(place),
  });
}

/** A place as details of an error. */
export function detailsOf({ file, unit, number }: RequestPlace): Readonly<Record<string, string | number>> {
  return unit === undefined || number === undefined ? { file } : { file, [unit]: number };
}
