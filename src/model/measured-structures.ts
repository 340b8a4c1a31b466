import type { OnnxSummary } from './onnx-file.js';
import { PreparedCache } from './prepared-cache.js';
import type { PreparedForm } from './prepared-forms.js';
import type { FormMeasure, PreparedModel, PrepareRequest } from './prepared-model.js';

/** Structures that are remembered; the one that was used longest ago is forgotten first. */
const maxStructures = 1_000;

const earlier = 'as an earlier model of the same structure: ';

/** What models of one structure were measured to be best in. */
export interface MeasuredStructure {
  readonly form: PreparedForm;
  /** Why this form, for operators. */
  readonly formReason: string;
  readonly measures: readonly FormMeasure[];
}

/**
 * Which form models of a structure are fastest in. Weights do not decide that, so a model that was trained anew needs
 * no forms to be made for comparison only.
 */
export class MeasuredStructures {
  /** The one used last stands last. */
  readonly #structures = new Map<string, MeasuredStructure>();

  /** What was measured of an earlier model of this structure. */
  of(structure: string): MeasuredStructure | undefined {
    const found = this.#structures.get(structure);
    if (found) this.#use(structure, found);
    return found;
  }

  /**
   * Remembers what was measured. A form that could not be made of one model may be to be had of the next, and a model
   * that is served from its own file says nothing about others.
   */
  note(structure: string, model: Pick<PreparedModel, 'form' | 'formReason' | 'measures'>): void {
    const { form, measures } = model;
    if (form === 'original' || measures.some(({ refused }) => refused !== undefined)) return;
    const formReason = model.formReason.startsWith(earlier)
      ? model.formReason
      : `${earlier}${model.formReason}`;
    this.#use(structure, { form, formReason, measures });
  }

  #use(structure: string, measured: MeasuredStructure): void {
    this.#structures.delete(structure);
    this.#structures.set(structure, measured);
    if (this.#structures.size <= maxStructures) return;
    const [oldest] = this.#structures.keys();
    this.#structures.delete(oldest!);
  }
}

/**
 * A digest of what decides how fast the forms of a model are: its values, constants and operators without their
 * weights, and what the caller allows. Two models that it takes for one may be served slower than need be, never wrongly:
 * the form that is made is compared with its own original.
 */
export function structureOf(summary: OnnxSummary, request: PrepareRequest): string {
  const { inputs, outputs, constants, operators, opsets, irVersion } = summary;
  return PreparedCache.key([
    ...[irVersion, opsets, operators, inputs, outputs],
    constants.map(({ elementType, shape, bytes }) => [elementType, shape, bytes]),
    request.prepacking ?? 'auto',
  ]);
}
