import type { ModelSettings } from '../config/model-settings.js';
import { ServingError } from '../errors.js';
import type { Signature, TensorSpec } from '../tensor/tensor.js';

/**
 * A network's signature under the names that the settings give its inputs and outputs.
 *
 * @param label model and version, for messages
 * @throws SRV_BAD_CONFIG for a name of the graph that is not there
 */
export function withPublicNames(
  signature: Signature,
  settings: Pick<ModelSettings, 'inputs' | 'outputs'>,
  label: string,
): Signature {
  return {
    inputs: rename(signature.inputs, settings.inputs ?? {}, label, 'input'),
    outputs: rename(signature.outputs, settings.outputs ?? {}, label, 'output'),
  };
}

function rename(
  specs: readonly TensorSpec[],
  aliases: Readonly<Record<string, string>>,
  label: string,
  side: string,
): readonly TensorSpec[] {
  const publicNames = new Map(
    Object.entries(aliases).map(([publicName, graphName]) => [graphName, publicName]),
  );
  for (const graphName of publicNames.keys()) {
    if (specs.some((spec) => spec.name === graphName)) continue;
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `the settings of ${label} rename the ${side} '${graphName}', which the model does not have; it has ` +
        `[${specs.map((spec) => spec.name).join(', ')}]`,
    );
  }
  return specs.map((spec) => ({ ...spec, name: publicNames.get(spec.name) ?? spec.name }));
}
