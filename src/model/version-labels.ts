import { isKeyed } from '../config/problems.js';
import type { ModelVersion } from './model-version.js';

/** A label that is configured for a version which is not ready yet. */
export interface WaitingLabel {
  readonly label: string;
  readonly version: number;
}

/** The labels of a model as plain data, so that they outlive the process. Versions by label. */
export interface KeptLabels {
  readonly versions: Readonly<Record<string, number>>;
  /** What the configuration said when they were so. */
  readonly configured: Readonly<Record<string, number>>;
  readonly waiting: Readonly<Record<string, number>>;
}

/** The labels of models in any JSON value; what has another form is left out. */
export function readKeptLabels(value: unknown): Record<string, KeptLabels> {
  if (!isKeyed(value)) return {};
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, kept]): [string, KeptLabels][] =>
      isKeyed(kept) && [kept.versions, kept.configured, kept.waiting].every(isVersions)
        ? [[name, kept as unknown as KeptLabels]]
        : [],
    ),
  );
}

function isVersions(value: unknown): boolean {
  return isKeyed(value) && Object.values(value).every((version) => Number.isSafeInteger(version));
}

/**
 * The labels of one model. A label points to the version that it was given, also when that version is not ready any
 * more: a caller who asks for `stable` must not be answered by another version than the one that somebody chose.
 */
export class VersionLabels {
  readonly #versions: Map<string, number> = new Map();
  /** What the configuration said last, and what of it waits for a version to be ready. */
  #configured: Readonly<Record<string, number>> = {};
  readonly #waiting: Map<string, number> = new Map();

  constructor(kept?: KeptLabels) {
    if (!kept) return;
    this.#versions = new Map(Object.entries(kept.versions));
    this.#configured = kept.configured;
    this.#waiting = new Map(Object.entries(kept.waiting));
  }

  /** Them as plain data; undefined where there is nothing to keep. */
  kept(): KeptLabels | undefined {
    const kept = {
      versions: this.all(),
      configured: this.#configured,
      waiting: Object.fromEntries(this.#waiting),
    };
    return Object.values(kept).some((labels) => Object.keys(labels).length > 0) ? kept : undefined;
  }

  /** The version of a label; undefined where it points to none. */
  versionOf(label: string): number | undefined {
    return this.#versions.get(label);
  }

  /** The version that a label waits for; undefined where it does not. */
  waitsFor(label: string): number | undefined {
    return this.#waiting.get(label);
  }

  /** Versions by label, labels in order. */
  all(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#versions].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  waiting(): readonly WaitingLabel[] {
    return [...this.#waiting].map(([label, version]) => ({ label, version }));
  }

  /** Points a label to a version, or to none. */
  set(label: string, version: number | null): void {
    this.#waiting.delete(label);
    if (version === null) this.#versions.delete(label);
    else this.#versions.set(label, version);
  }

  /**
   * Takes what the configuration says. Only what it says differently from the last time counts, so that a label which
   * was moved by request stays where it is while the configuration is read again and again.
   */
  configure(labels: Readonly<Record<string, number>>): void {
    for (const [label, version] of Object.entries(labels)) {
      if (this.#configured[label] !== version) this.#waiting.set(label, version);
    }
    for (const [label, version] of Object.entries(this.#configured)) {
      if (Object.hasOwn(labels, label)) continue;
      this.#waiting.delete(label);
      if (this.#versions.get(label) === version) this.#versions.delete(label);
    }
    this.#configured = labels;
  }

  /** Moves the labels that wait for one of these versions; returns whether there was one. */
  settle(ready: readonly ModelVersion[]): boolean {
    let isMoved = false;
    for (const [label, version] of this.#waiting) {
      if (!ready.some((one) => one.version === version)) continue;
      this.set(label, version);
      isMoved = true;
    }
    return isMoved;
  }

  /** Moves all labels that wait, whether their version is ready or not. */
  settleAll(): void {
    for (const [label, version] of this.#waiting) this.set(label, version);
  }
}
