/** Which of the measured forms of a model is served. Pure. */
import type { FormMeasure, ModelForm, Prepacking } from './prepared-model.js';

/**
 * Prepacked weights must be this much faster at the batch that will be used: they load in the time of a whole read
 * (0.5 s for 400 MB, against 3 ms) and take twice the disk.
 */
export const prepackedGain = 1.25;

/** A form that shares weights may add this part of them, and the fixed part, to each clone's private memory. */
export const privateShare = 0.02;
export const privateFixedBytes = 4 * 1024 * 1024;

/** The form to serve, and why. */
export interface FormChoice {
  readonly form: ModelForm;
  readonly reason: string;
}

/** Chooses among the forms that were measured. `weightBytes` is what sharing can save per clone. */
export function chooseForm(
  measures: readonly FormMeasure[],
  weightBytes: number,
  prepacking: Prepacking,
): FormChoice {
  const usable = measures.filter((measure) => measure.refused === undefined);
  const refused = measures.filter((measure) => measure.refused !== undefined);
  const shares = (measure: FormMeasure): boolean =>
    measure.privateBytes <= privateFixedBytes + privateShare * weightBytes;
  const plain = usable.find((measure) => measure.form === 'prepared');
  const packed = usable.find((measure) => measure.form === 'prepacked');
  const whyNot = refused.map((measure) => `${measure.form}: ${measure.refused}`).join('; ');
  if (packed && prepacking === 'on') {
    return { form: 'prepacked', reason: `prepacking is on; ${describe(packed)}` };
  }
  if (plain && packed && prepacking === 'auto' && shares(packed)) {
    const gain = plain.batchUs / packed.batchUs;
    const rows = `${packed.batchRows} row${packed.batchRows === 1 ? '' : 's'}`;
    if (gain >= prepackedGain) {
      return {
        form: 'prepacked',
        reason: `prepacked weights are ${gain.toFixed(2)}x faster at ${rows}; ${describe(packed)}`,
      };
    }
    return {
      form: 'prepared',
      reason: `prepacked weights are only ${gain.toFixed(2)}x as fast at ${rows}; ${describe(plain)}`,
    };
  }
  if (plain) return { form: 'prepared', reason: `${describe(plain)}${whyNot ? ` (${whyNot})` : ''}` };
  if (packed && prepacking === 'auto' && shares(packed)) {
    return { form: 'prepacked', reason: `${describe(packed)} (${whyNot})` };
  }
  return { form: 'original', reason: whyNot || 'no prepared form was measured' };
}

function describe(measure: FormMeasure): string {
  const mib = (measure.privateBytes / 2 ** 20).toFixed(1);
  return `a clone loads in ${measure.loadMs.toFixed(0)} ms and adds ${mib} MiB of private memory`;
}
