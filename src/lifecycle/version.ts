/** The states of a version, in the order it lives through them; `failed` ends a load that did not succeed. */
export const versionStates = ['new', 'loading', 'ready', 'draining', 'unloaded', 'failed'] as const;

/** The state of a version. */
export type VersionState = (typeof versionStates)[number];
