/** Which versions of a model ought to be served, out of those that are there. */
import type { ModelSettings } from '../config/model-settings.js';

/** Which versions are wanted. */
export type VersionPolicy =
  | { readonly kind: 'latest'; readonly count: number }
  | { readonly kind: 'all' }
  | { readonly kind: 'specific'; readonly versions: readonly number[] };

/** The highest version alone: what is wanted where nothing is said. */
export const newestOnly: VersionPolicy = { kind: 'latest', count: 1 };

/** The versions that a policy wants of those that are there; without a policy the highest. */
export function wantedVersions(present: readonly number[], policy: VersionPolicy = newestOnly): Set<number> {
  const descending = [...present].sort((a, b) => b - a);
  switch (policy.kind) {
    case 'all':
      return new Set(descending);
    case 'specific':
      return new Set(descending.filter((version) => policy.versions.includes(version)));
    case 'latest':
      return new Set(descending.slice(0, policy.count));
    default:
      return policy satisfies never;
  }
}

/** What `version_policy` of a model.json means; undefined where it is absent. */
export function policyOfSettings({ versionPolicy }: ModelSettings): VersionPolicy | undefined {
  if (versionPolicy === undefined) return undefined;
  if (versionPolicy === 'all') return { kind: 'all' };
  return 'latest' in versionPolicy
    ? { kind: 'latest', count: versionPolicy.latest }
    : { kind: 'specific', versions: versionPolicy.specific };
}

/** A policy in words, for messages: `latest 2`, `specific 1, 4`. */
export function policyText(policy: VersionPolicy): string {
  switch (policy.kind) {
    case 'all':
      return 'all';
    case 'specific':
      return `specific ${policy.versions.join(', ')}`;
    case 'latest':
      return `latest ${policy.count}`;
    default:
      return policy satisfies never;
  }
}

/** A policy in the JSON form of TF Serving's and Triton's messages. */
export function policyJson(policy: VersionPolicy = newestOnly): object {
  switch (policy.kind) {
    case 'all':
      return { all: {} };
    case 'specific':
      return { specific: { versions: policy.versions } };
    case 'latest':
      return { latest: { num_versions: policy.count } };
    default:
      return policy satisfies never;
  }
}

/** Why a number cannot be a version; undefined where it can. */
export function versionProblem(version: number | bigint): string | undefined {
  if (typeof version === 'number' && !Number.isInteger(version)) {
    return `expected a version, an integer of at least 0, got ${version}`;
  }
  if (version < 0) return `expected a version, an integer of at least 0, got ${version}`;
  return version > Number.MAX_SAFE_INTEGER
    ? `version ${version} is above ${Number.MAX_SAFE_INTEGER}, the largest that can be served`
    : undefined;
}
