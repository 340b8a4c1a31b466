import type { VariantSettings } from '../config/traffic-settings.js';

/** What stands behind a variant or a shadow. */
export interface VariantTarget {
  readonly model: string;
  /** Absent, as the label: the newest that is ready. */
  readonly version: number | undefined;
  readonly label: string | undefined;
}

/** Finds the versions that targets mean. */
export interface VariantTargets {
  /** The number of the version that a target means now; undefined while it is not ready. */
  readyVersion(target: VariantTarget): number | undefined;
  /** Whether the model of a target is not loaded now, and a request for it tries to load it. */
  mayWake(target: VariantTarget): boolean;
  /** Why nothing that is known is meant, and what there is; undefined for a known version, ready or not. */
  problemWith(target: VariantTarget): string | undefined;
}

/** The target of a variant or shadow below a public name. */
export function targetOf(
  name: string,
  settings: Pick<VariantSettings, 'model' | 'version' | 'label'>,
): VariantTarget {
  return { model: settings.model ?? name, version: settings.version, label: settings.label };
}

/** A target in words: `ranker version 3`. */
export function targetText({ model, version, label }: VariantTarget): string {
  if (version !== undefined) return `${model} version ${version}`;
  return label === undefined ? model : `${model} label ${label}`;
}
