import { commonLength, type PaddedInput } from '../batching/padding.js';
import { ServingError } from '../errors.js';
import type { NamedTensor } from '../server/service.js';
import { type Signature, type Tensor, type TensorSpec, tensorBytes } from '../tensor/tensor.js';

/** What requests to a version are checked against. */
export interface SignatureRules {
  /** Name and version, for messages. */
  readonly label: string;
  readonly signature: Signature;
  /** Names whose rank the model does not tell: any shape goes. */
  readonly anyRank: ReadonlySet<string>;
  /** Whether rows may merge, so that all inputs must agree in their first dimension to be counted in rows. */
  readonly canMerge: boolean;
  /** Inputs that are padded within a batch. */
  readonly padding: readonly PaddedInput[];
  /** Positions of free dimensions other than the first and the padded ones, as pairs of input and axis. */
  readonly freeAxes: readonly (readonly [input: number, axis: number])[];
  /** Inputs that have no row for each row of the request: ragged ids and their weights. */
  readonly ragged: ReadonlySet<number>;
}

/** Inputs in the signature's order, and what the queue wants to know of them. */
export interface CheckedInputs {
  readonly inputs: readonly Tensor[];
  /** Rows; 1 where rows do not merge; 0 where this request can only run alone. */
  readonly rows: number;
  readonly bytes: number;
  readonly shapeKey: string;
  /** Length of the padded axes; 0 where none are. */
  readonly length: number;
}

/** The free axes of a signature that are not padded, for `SignatureRules`. */
export function freeAxesOf(
  signature: Signature,
  padding: readonly PaddedInput[],
): readonly (readonly [number, number])[] {
  const isPadded = (input: number, axis: number): boolean =>
    padding.some((padded) => padded.input === input && padded.axes.includes(axis));
  return signature.inputs.flatMap((spec, input) =>
    spec.shape.flatMap((dim, axis) =>
      dim === -1 && axis > 0 && !isPadded(input, axis) ? [[input, axis] as const] : [],
    ),
  );
}

/**
 * Puts the tensors of a request in the signature's order.
 *
 * @throws SRV_BAD_SIGNATURE for a missing or unknown name, or a datatype, rank or dimension that does not fit
 */
export function checkInputs(rules: SignatureRules, sent: readonly NamedTensor[]): CheckedInputs {
  const specs = rules.signature.inputs;
  const inputs: Tensor[] = [];
  let bytes = 0;
  for (let i = 0; i < specs.length; i++) {
    const spec = specs[i]!;
    // Most callers keep the model's order.
    const named = sent[i]?.name === spec.name ? sent[i] : sent.find(({ name }) => name === spec.name);
    if (!named) throw missing(rules, sent, spec);
    const { tensor } = named;
    checkTensor(rules, spec, tensor);
    bytes += tensorBytes(tensor);
    inputs.push(tensor);
  }
  if (sent.length !== specs.length) throw unknownOrRepeated(rules, sent);
  const length = rules.padding.length === 0 ? 0 : commonLength(inputs, rules.padding);
  const isAlone = rules.padding.length > 0 && length === 0;
  return {
    inputs,
    rows: isAlone ? 0 : rowsOf(rules, inputs),
    bytes,
    shapeKey: shapeKeyOf(rules, inputs),
    length,
  };
}

/**
 * Indices of the wanted outputs.
 *
 * @throws SRV_BAD_SIGNATURE for a name that the model does not give
 */
export function checkOutputs(rules: SignatureRules, wanted: readonly string[]): readonly number[] {
  const indices = wanted.map((name) => {
    const index = rules.signature.outputs.findIndex((spec) => spec.name === name);
    if (index >= 0) return index;
    throw new ServingError(
      'SRV_BAD_SIGNATURE',
      `unexpected inference output '${name}' for model ${rules.label}; it gives ${listNames(rules.signature.outputs)}`,
    );
  });
  if (new Set(indices).size === indices.length) return indices;
  throw new ServingError(
    'SRV_BAD_SIGNATURE',
    `an output of model ${rules.label} is asked for twice: ${wanted}`,
  );
}

function checkTensor(rules: SignatureRules, spec: TensorSpec, tensor: Tensor): void {
  if (tensor.datatype !== spec.datatype) {
    throw new ServingError(
      'SRV_BAD_SIGNATURE',
      `inference input '${spec.name}' of model ${rules.label} has datatype ${tensor.datatype}; expected ${spec.datatype}`,
    );
  }
  const { shape } = tensor;
  const expected = spec.shape;
  let isFitting = shape.length === expected.length;
  for (let i = 0; isFitting && i < shape.length; i++) {
    isFitting = expected[i] === -1 || expected[i] === shape[i];
  }
  if (!isFitting && !rules.anyRank.has(spec.name)) {
    throw new ServingError(
      'SRV_BAD_SIGNATURE',
      `unexpected shape for input '${spec.name}' of model ${rules.label}: expected [${expected}], got [${shape}]`,
    );
  }
}

function rowsOf(rules: SignatureRules, inputs: readonly Tensor[]): number {
  if (!rules.canMerge) return 1;
  if (rules.ragged.size === 0) {
    const rows = inputs[0]!.shape[0]!;
    return inputs.every((tensor) => tensor.shape[0] === rows) ? rows : 0;
  }
  const regular = inputs.filter((_, index) => !rules.ragged.has(index));
  const rows = regular[0]!.shape[0]!;
  return regular.every((tensor) => tensor.shape[0] === rows) ? rows : 0;
}

function shapeKeyOf(rules: SignatureRules, inputs: readonly Tensor[]): string {
  if (rules.freeAxes.length === 0) return '';
  return rules.freeAxes.map(([input, axis]) => inputs[input]!.shape[axis]).join();
}

function missing(rules: SignatureRules, sent: readonly NamedTensor[], spec: TensorSpec): ServingError {
  if (sent.length >= rules.signature.inputs.length) return unknownOrRepeated(rules, sent);
  return new ServingError(
    'SRV_BAD_SIGNATURE',
    `expected ${rules.signature.inputs.length} inputs but got ${sent.length} inputs for model ${rules.label}: ` +
      `'${spec.name}' is missing; got ${listNames(sent)}, expected ${listNames(rules.signature.inputs)}`,
  );
}

function unknownOrRepeated(rules: SignatureRules, sent: readonly NamedTensor[]): ServingError {
  const known = new Set(rules.signature.inputs.map((spec) => spec.name));
  const unknown = sent.find(({ name }) => !known.has(name))?.name;
  const what = unknown === undefined ? 'an input is sent twice' : `unexpected inference input '${unknown}'`;
  return new ServingError(
    'SRV_BAD_SIGNATURE',
    `${what} for model ${rules.label}; got ${listNames(sent)}, expected ${listNames(rules.signature.inputs)}`,
  );
}

function listNames(specs: readonly { readonly name: string }[]): string {
  return `[${specs.map((spec) => spec.name).join(', ')}]`;
}
