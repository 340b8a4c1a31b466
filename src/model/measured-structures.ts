import { createHash } from 'node:crypto';
import type { OnnxSummary } from './onnx-file.js';
import type { PreparedForm } from './prepared-forms.js';
import type { PreparedModel, PrepareRequest } from './prepared-model.js';

/** Structures that are remembered; the one that was used longest ago is forgotten first. */
const maxStructures = 1_000;

/** Models that are made in a form before it is measured anew: a busy machine may have measured wrongly. */
const maxUses = 20;

interface Measured {
  readonly form: PreparedForm;
  uses: number;
}

/**
 * Which form models of a structure are fastest in. Weights do not decide that, so a model that was trained anew needs
 * no forms to be made for comparison only.
 */
export class MeasuredStructures {
  /** The one used last stands last. */
  readonly #structures = new Map<string, Measured>();

  /** The form that an earlier model of this structure was fastest in; undefined where it is to be measured. */
  take(structure: string): PreparedForm | undefined {
    const found = this.#structures.get(structure);
    this.#structures.delete(structure);
    if (!found || found.uses >= maxUses) return undefined;
    found.uses += 1;
    this.#structures.set(structure, found);
    return found.form;
  }

  /**
   * Remembers what was measured of a model itself. A form that could not be made of it may be to be had of the next,
   * and a model that is served from its own file says nothing about others.
   */
  note(structure: string, { form, measures }: Pick<PreparedModel, 'form' | 'measures'>): void {
    if (form === 'original' || measures.length === 0) return;
    if (measures.some(({ refused }) => refused !== undefined)) return;
    this.#structures.delete(structure);
    this.#structures.set(structure, { form, uses: 0 });
    if (this.#structures.size <= maxStructures) return;
    const [oldest] = this.#structures.keys();
    this.#structures.delete(oldest!);
  }

  /** The form could not be made of a later model. */
  forget(structure: string): void {
    this.#structures.delete(structure);
  }
}

/**
 * A digest of what decides how fast the forms of a model are: its values, constants and counts of operators without the
 * weights, and what the caller allows. Two models that it takes for one may be served slower than need be, never wrongly:
 * the form that is made is compared with its own original.
 */
export function structureOf(summary: OnnxSummary, request: PrepareRequest): string {
  const { inputs, outputs, constants, operators, opsets, irVersion } = summary;
  const parts = [
    ...[irVersion, opsets, operators, inputs, outputs],
    constants.map(({ elementType, shape, bytes }) => [elementType, shape, bytes]),
    request.prepacking ?? 'auto',
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
