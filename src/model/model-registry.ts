import { labelProblem } from '../config/version-labels.js';
import { ServingError } from '../errors.js';
import type { BrokenEntry } from '../repository/layout.js';
import type { ModelVersion } from './model-version.js';
import { type KeptLabels, VersionLabels, type WaitingLabel } from './version-labels.js';

interface Model {
  /** By version number. */
  readonly versions: Map<number, ModelVersion>;
  /** Entries of the repository that are no models, with the reason. */
  broken: readonly BrokenEntry[];
  /** Ready versions that requests are given to, newest first; kept so that a request costs no search. */
  ready: readonly ModelVersion[];
  readonly labels: VersionLabels;
}

/** What a registry may be told. */
export interface ModelRegistryOptions {
  /** Whether configured labels may point to versions that are not ready. @default false */
  readonly allowUnavailableLabels?: boolean;
  /** The labels of an earlier process, by model. @default none */
  readonly keptLabels?: Readonly<Record<string, KeptLabels>>;
  /** Called with the labels of all models when some have changed. */
  readonly onLabels?: (labels: Readonly<Record<string, KeptLabels>>) => void;
}

/** All versions that are known, by name. */
export class ModelRegistry {
  readonly #models = new Map<string, Model>();
  readonly #options: ModelRegistryOptions;
  /** Labels of models that are not known yet. */
  readonly #keptLabels: Map<string, KeptLabels>;

  constructor(options: ModelRegistryOptions = {}) {
    this.#options = options;
    this.#keptLabels = new Map(Object.entries(options.keptLabels ?? {}));
  }

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
    const hadLabels = this.#models.get(name)?.labels.kept() !== undefined;
    this.#models.delete(name);
    if (hadLabels) this.#tellLabels();
  }

  /** To be called when versions of a model have become ready, or stopped to be. */
  refresh(name: string): void {
    const model = this.#models.get(name);
    if (!model) return;
    model.ready = [...model.versions.values()]
      .filter((version) => version.state === 'ready' && !version.isKept)
      .sort((a, b) => b.version - a.version);
    if (model.labels.settle(model.ready)) this.#tellLabels();
  }

  /**
   * Takes the labels that a model's configuration gives it. Each points to its version as soon as that is ready, or at
   * once where that is allowed. Only differences from the last call for the model count.
   */
  configureLabels(name: string, labels: Readonly<Record<string, number>>): void {
    const model = this.#model(name);
    const before = JSON.stringify(model.labels.kept());
    model.labels.configure(labels);
    if (this.#options.allowUnavailableLabels) model.labels.settleAll();
    else model.labels.settle(model.ready);
    if (JSON.stringify(model.labels.kept()) !== before) this.#tellLabels();
  }

  /** The versions of a model by label. */
  labelsOf(name: string): Readonly<Record<string, number>> {
    return this.#models.get(name)?.labels.all() ?? {};
  }

  /** Labels of a model's configuration whose version is not ready; until it is they are where they were. */
  waitingLabelsOf(name: string): readonly WaitingLabel[] {
    return this.#models.get(name)?.labels.waiting() ?? [];
  }

  /**
   * Points labels of a model to ready versions, and `null` to none; all of them, or none when one is refused.
   *
   * @throws SRV_MODEL_NOT_FOUND for an unknown model or version, SRV_MODEL_NOT_READY for a version that is not ready,
   * SRV_BAD_REQUEST for a text that can be no label
   */
  setLabels(name: string, changes: Readonly<Record<string, number | null>>): void {
    const model = this.#known(name);
    for (const [label, version] of Object.entries(changes)) {
      const problem = labelProblem(label);
      if (problem !== undefined) throw new ServingError('SRV_BAD_REQUEST', `labels of '${name}': ${problem}`);
      if (version !== null) this.find(name, version);
    }
    for (const [label, version] of Object.entries(changes)) model.labels.set(label, version);
    this.#tellLabels();
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

  /** The version that a label points to, ready or not; undefined where it points to none. */
  versionOfLabel(name: string, label: string): number | undefined {
    return this.#models.get(name)?.labels.versionOf(label);
  }

  /** Whether a request for this version would be answered. */
  isReady(name: string, number: number): boolean {
    return this.#models.get(name)?.versions.get(number)?.state === 'ready';
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
   * The version that a request means: the one of a number, or of a label, or else the newest that is ready.
   *
   * @throws SRV_MODEL_NOT_FOUND for an unknown name, number or label, SRV_MODEL_NOT_READY when it is known but not
   * ready, SRV_BAD_REQUEST for a number together with a label
   */
  find(name: string, number: number | undefined, label?: string): ModelVersion {
    const model = this.#known(name);
    if (label !== undefined) return findLabel(name, model, label, number);
    const version = number === undefined ? model.ready[0] : model.versions.get(number);
    if (version?.state === 'ready') return version;
    if (number !== undefined && !version && !model.broken.some((entry) => entry.version === number)) {
      throw new ServingError(
        'SRV_MODEL_NOT_FOUND',
        `Request for unknown model: '${name}' version ${number} is not found`,
      );
    }
    const what = number === undefined ? 'has no ready version' : `version ${number} is not at ready state`;
    throw notReady(name, what, model, version);
  }

  #tellLabels(): void {
    if (!this.#options.onLabels) return;
    const known = [...this.#models].flatMap(([name, { labels }]): [string, KeptLabels][] => {
      const kept = labels.kept();
      return kept ? [[name, kept]] : [];
    });
    this.#options.onLabels(Object.fromEntries([...this.#keptLabels, ...known]));
  }

  #known(name: string): Model {
    const model = this.#models.get(name);
    if (model) return model;
    throw new ServingError('SRV_MODEL_NOT_FOUND', `Request for unknown model: '${name}' is not found`);
  }

  #model(name: string): Model {
    let model = this.#models.get(name);
    if (!model) {
      const labels = new VersionLabels(this.#keptLabels.get(name));
      this.#keptLabels.delete(name);
      model = { versions: new Map(), broken: [], ready: [], labels };
      this.#models.set(name, model);
    }
    return model;
  }
}

function findLabel(name: string, model: Model, label: string, number: number | undefined): ModelVersion {
  if (number !== undefined) {
    throw new ServingError(
      'SRV_BAD_REQUEST',
      `a request to '${name}' names version ${number} and label '${label}': expected one of them`,
    );
  }
  const target = model.labels.versionOf(label);
  const version = target === undefined ? undefined : model.versions.get(target);
  if (version?.state === 'ready') return version;
  const wanted = target ?? model.labels.waitsFor(label);
  if (wanted === undefined) {
    const labels = Object.keys(model.labels.all());
    const has =
      labels.length === 0 ? 'no labels' : `the labels ${labels.map((one) => `'${one}'`).join(', ')}`;
    throw new ServingError(
      'SRV_MODEL_NOT_FOUND',
      `Request for unknown model: '${name}' label '${label}' is not found; the model has ${has}`,
    );
  }
  const what = `label '${label}' stands for version ${wanted}, which is not at ready state`;
  const known = model.versions.get(wanted);
  if (known) throw notReady(name, what, model, known);
  const reason = model.broken.find((entry) => entry.version === wanted)?.error.message ?? 'it is not loaded';
  throw new ServingError('SRV_MODEL_NOT_READY', `Request for unknown model: '${name}' ${what}: ${reason}`);
}

function notReady(name: string, what: string, model: Model, version: ModelVersion | undefined): ServingError {
  const known = version ? [version] : [...model.versions.values()];
  const reasons = [
    ...known.map((one) => one.error?.message ?? `version ${one.version} is ${one.state}`),
    ...model.broken.map((entry) => entry.error.message),
  ];
  if (reasons.length === 0) reasons.push('it was found just now and is being loaded');
  const code = known.some((one) => one.error?.code === 'SRV_MODEL_QUARANTINED')
    ? 'SRV_MODEL_QUARANTINED'
    : 'SRV_MODEL_NOT_READY';
  return new ServingError(code, `Request for unknown model: '${name}' ${what}: ${reasons.join('; ')}`);
}
