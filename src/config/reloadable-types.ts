/** What about a stamp file says that there is a new model. */
export const reloadableTypes = ['timestamp_ne', 'timestamp_gt', 'md5sum', 'revision', 'none'] as const;

/** One of `reloadableTypes`. */
export type ReloadableType = (typeof reloadableTypes)[number];
