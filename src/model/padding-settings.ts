import type { PaddedInput } from '../batching/padding.js';
import type { ModelSettings } from '../config/model-settings.js';
import { ServingError } from '../errors.js';
import type { Signature } from '../tensor/tensor.js';

/**
 * The padding that the settings ask for, checked against the signature.
 *
 * @param stageInputs indices of the inputs that hold ids
 * @param label model and version, for messages
 * @throws SRV_BAD_CONFIG for an input that is not there, holds ids, or cannot be padded so
 */
export function paddedInputs(
  signature: Signature,
  stageInputs: ReadonlySet<number>,
  settings: NonNullable<ModelSettings['padding']>,
  label: string,
): readonly PaddedInput[] {
  return Object.entries(settings).map(([name, { axes, value }]) => {
    const input = signature.inputs.findIndex((spec) => spec.name === name);
    const spec = signature.inputs[input];
    if (!spec) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `the settings of ${label} pad the input '${name}', which the model does not have; it has ` +
          `[${signature.inputs.map((one) => one.name).join(', ')}]`,
      );
    }
    if (stageInputs.has(input)) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `the settings of ${label} pad the input '${name}', which holds ids: ragged ids need no padding (lengths, offsets)`,
      );
    }
    const fixed = axes.find((axis) => spec.shape[axis] !== -1);
    if (fixed !== undefined) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `the settings of ${label} pad axis ${fixed} of input '${name}', which is not free: its shape is [${spec.shape}]`,
      );
    }
    const isText = spec.datatype === 'BYTES';
    const filler = value ?? (isText ? '' : 0);
    if ((typeof filler === 'string') !== isText) {
      throw new ServingError(
        'SRV_BAD_CONFIG',
        `the settings of ${label} pad input '${name}' of ${spec.datatype} with ${JSON.stringify(filler)}`,
      );
    }
    return { input, axes, value: filler };
  });
}
