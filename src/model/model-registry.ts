import { ServingError } from '../errors.js';
import type { BrokenEntry } from '../repository/layout.js';
import type { ModelVersion } from './model-version.js';

interface Model {
  /** By version number. */
  readonly versions: Map<number, ModelVersion>;
  /** Entries of the repository that are no models, with the reason. */
  broken: readonly BrokenEntry[];
  /** Ready versions that requests are given to, newest first; kept so that a request costs no search. */
  ready: readonly ModelVersion[];
}

/** All versions that are known, by name. */
export class ModelRegistry {
  readonly #models = new Map<string, Model>();

  /** Adds a version, in the place of one of the same number. */
  add(version: ModelVersion): void {
    this.#model(version.name).versions.set(version.version, version);
  }

  /** Forgets a version. */
  drop(version: ModelVersion): void {
    const versions = this.#models.get(version.name)?.versions;
    if (versions?.get(version.version) === version) versions.delete(version.version);
  }

  /** Replaces what is known to be broken under a name. */
  setBroken(name: string, broken: readonly BrokenEntry[]): void {
    this.#model(name).broken = broken;
  }

  /** Forgets a model. */
  remove(name: string): void {
    this.#models.delete(name);
  }

  /** To be called when versions of a model have become ready, or stopped to be. */
  refresh(name: string): void {
    const model = this.#models.get(name);
    if (!model) return;
    model.ready = [...model.versions.values()]
      .filter((version) => version.state === 'ready' && !version.isKept)
      .sort((a, b) => b.version - a.version);
  }

  has(name: string): boolean {
    return this.#models.has(name);
  }

  /** Every version, models in the order they were added. */
  versions(): readonly ModelVersion[] {
    return [...this.#models.values()].flatMap(({ versions }) => [...versions.values()]);
  }

  /** The versions of one model. */
  versionsOf(name: string): readonly ModelVersion[] {
    return [...(this.#models.get(name)?.versions.values() ?? [])];
  }

  /** Ready versions of a model, newest first. */
  readyVersions(name: string): readonly ModelVersion[] {
    return this.#models.get(name)?.ready ?? [];
  }

  /** Everything that is broken. */
  broken(): readonly BrokenEntry[] {
    return [...this.#models.values()].flatMap(({ broken }) => broken);
  }

  /** Whether any version is ready. */
  get hasReady(): boolean {
    for (const { ready } of this.#models.values()) if (ready.length > 0) return true;
    return false;
  }

  /**
   * The version that a request means.
   *
   * @throws SRV_MODEL_NOT_FOUND for an unknown name or number, SRV_MODEL_NOT_READY when it is known but not ready
   */
  find(name: string, number: number | undefined): ModelVersion {
    const model = this.#models.get(name);
    if (!model) {
      throw new ServingError('SRV_MODEL_NOT_FOUND', `Request for unknown model: '${name}' is not found`);
    }
    const version = number === undefined ? model.ready[0] : model.versions.get(number);
    if (version?.state === 'ready') return version;
    if (number !== undefined && !version && !model.broken.some((entry) => entry.version === number)) {
      throw new ServingError(
        'SRV_MODEL_NOT_FOUND',
        `Request for unknown model: '${name}' version ${number} is not found`,
      );
    }
    throw notReady(name, number, model, version);
  }

  #model(name: string): Model {
    let model = this.#models.get(name);
    if (!model) {
      model = { versions: new Map(), broken: [], ready: [] };
      this.#models.set(name, model);
    }
    return model;
  }
}

function notReady(
  name: string,
  number: number | undefined,
  model: Model,
  version: ModelVersion | undefined,
): ServingError {
  const known = version ? [version] : [...model.versions.values()];
  const reasons = [
    ...known.map((one) => one.error?.message ?? `version ${one.version} is ${one.state}`),
    ...model.broken.map((entry) => entry.error.message),
  ];
  const what = number === undefined ? 'has no ready version' : `version ${number} is not at ready state`;
  const code = known.some((one) => one.error?.code === 'SRV_MODEL_QUARANTINED')
    ? 'SRV_MODEL_QUARANTINED'
    : 'SRV_MODEL_NOT_READY';
  return new ServingError(code, `Request for unknown model: '${name}' ${what}: ${reasons.join('; ')}`);
}
