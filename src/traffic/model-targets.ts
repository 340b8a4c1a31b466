import { didYouMean } from '../config/suggest.js';
import type { ModelRegistry } from '../model/model-registry.js';
import type { VariantTarget, VariantTargets } from './variant-target.js';

const shownNames = 20;

/** Targets among the models of a runtime. */
export class ModelTargets implements VariantTargets {
  readonly #registry: ModelRegistry;
  readonly #mayWake: (model: string) => boolean;

  /** @param mayWake whether the next request for a model tries to load it */
  constructor(registry: ModelRegistry, mayWake: (model: string) => boolean) {
    this.#registry = registry;
    this.#mayWake = mayWake;
  }

  readyVersion({ model, version, label }: VariantTarget): number | undefined {
    if (label === undefined && version === undefined) return this.#registry.readyVersions(model)[0]?.version;
    const wanted = label === undefined ? version : this.#registry.versionOfLabel(model, label);
    return wanted !== undefined && this.#registry.isReady(model, wanted) ? wanted : undefined;
  }

  mayWake({ model }: VariantTarget): boolean {
    return this.#mayWake(model);
  }

  problemWith({ model, version, label }: VariantTarget): string | undefined {
    const registry = this.#registry;
    if (!registry.has(model)) {
      const names = [
        ...new Set([
          ...registry.versions().map(({ name }) => name),
          ...registry.broken().map(({ name }) => name),
        ]),
      ];
      return `there is no model "${model}"; there are ${listed(names)}${didYouMean(model, names)}`;
    }
    if (version !== undefined) {
      const versions = [
        ...registry.versionsOf(model).map((one) => one.version),
        ...registry
          .broken()
          .flatMap((one) => (one.name === model && one.version !== undefined ? [one.version] : [])),
      ];
      if (versions.includes(version)) return undefined;
      return `model "${model}" has no version ${version} that is to be served; there are ${listed(versions.map(String))}`;
    }
    if (label !== undefined) {
      const waiting = registry.waitingLabelsOf(model).map((one) => one.label);
      const labels = [...new Set([...Object.keys(registry.labelsOf(model)), ...waiting])];
      if (labels.includes(label)) return undefined;
      return `model "${model}" has no label "${label}"; there are ${listed(labels)}${didYouMean(label, labels)}`;
    }
    return undefined;
  }
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const shown = names.slice(0, shownNames).join(', ');
  return names.length > shownNames ? `${shown} and ${names.length - shownNames} more` : shown;
}
