/** Which versions of a model ought to be served, out of those that are there. */

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

/** Why a text cannot be a label of a version; undefined where it can. A number would be taken for a version. */
export function labelProblem(label: string): string | undefined {
  if (label === '') return 'a label is empty';
  if (label.length > 255) return 'a label has more than 255 characters';
  if (/^\d+$/.test(label)) return `the label "${label}" is a number, which means a version`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[/\\\x00-\x1f]/.test(label)) return `the label "${label}" has a slash or a control character`;
  return undefined;
}
