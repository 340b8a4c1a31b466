import type { VersionState } from './version.js';

/** What tells one state of a version from another. */
export interface Fingerprint {
  /** Differs where the files of the version do. */
  readonly content: string;
  /** Differs where the tables that it works with have another newest version. @default it has none */
  readonly tables?: string;
  /** Differs where its settings do. */
  readonly settings: string;
  /** Whether a stamp decides, and not the files themselves. */
  readonly isOfStamp?: true;
}

/** A version that ought to be served. */
export interface AnnouncedVersion {
  readonly version: number;
  readonly fingerprint: Fingerprint;
}

/** A version that is held, in whatever state. */
export interface HeldVersion {
  readonly version: number;
  readonly fingerprint: Fingerprint;
  readonly state: VersionState;
}

/** What is known beside the versions themselves. */
export interface LoadRules {
  /** Load also what is held as it ought to be. */
  readonly isForced: boolean;
  /** What was rolled back from, see `isRejected`: it is not loaded again by itself. */
  readonly rejected: ReadonlySet<string>;
  /** Whether a version that failed may be tried now. */
  readonly mayRetry: (announced: AnnouncedVersion) => boolean;
}

/** Whether two fingerprints are of one state. */
export function isSameState(a: Fingerprint, b: Fingerprint): boolean {
  return a.content === b.content && a.settings === b.settings && a.tables === b.tables;
}

/** What a rollback rejects: the content, whatever its tables become, or its tables where they are all that differs. */
export function rejectionOf(left: Fingerprint, target: Fingerprint): string {
  return left.content === target.content ? withTables(left) : left.content;
}

/** Whether a state was rolled back from. */
export function isRejected(fingerprint: Fingerprint, rejected: ReadonlySet<string>): boolean {
  return rejected.has(fingerprint.content) || rejected.has(withTables(fingerprint));
}

/** A state that is wanted again. */
export function acceptAgain(fingerprint: Fingerprint, rejected: Set<string>): void {
  rejected.delete(fingerprint.content);
  rejected.delete(withTables(fingerprint));
}

function withTables({ content, tables = '' }: Fingerprint): string {
  return `${content} with ${tables}`;
}

/** The announced versions that have to be loaded now. */
export function versionsToLoad<Announced extends AnnouncedVersion>(
  announced: readonly Announced[],
  held: readonly HeldVersion[],
  { isForced, rejected, mayRetry }: LoadRules,
): readonly Announced[] {
  if (isForced) return announced;
  return announced.filter((one) => {
    if (isRejected(one.fingerprint, rejected)) return false;
    const same = held.find((other) => isSameVersion(one, other));
    return same?.state !== 'ready' && mayRetry(one);
  });
}

/**
 * The held versions that are served and need not be any more, the one that served last first.
 *
 * Nothing goes as long as nothing that ought to be served is: a failure leaves what was there. What was removed
 * everywhere goes.
 *
 * @param announced undefined where the model itself is gone
 */
export function obsoleteVersions<Held extends HeldVersion>(
  announced: readonly AnnouncedVersion[] | undefined,
  held: readonly Held[],
  rejected: ReadonlySet<string>,
): readonly Held[] {
  const ready = held.filter(({ state }) => state === 'ready');
  if (announced === undefined) return ready;
  const isWanted = (one: HeldVersion): boolean =>
    !isRejected(one.fingerprint, rejected) && announced.some((other) => isSameVersion(one, other));
  return ready.some(isWanted) ? ready.filter((one) => !isWanted(one)) : [];
}

/** The held versions that may go before `toLoad` are loaded: all but those that are announced as they are. */
export function staleVersions<Held extends HeldVersion>(
  announced: readonly AnnouncedVersion[],
  toLoad: readonly AnnouncedVersion[],
  held: readonly Held[],
): readonly Held[] {
  const staying = announced.filter((one) => !toLoad.includes(one));
  return held.filter((version) => !staying.some((one) => isSameVersion(one, version)));
}

/** Whether two are one version in one state. */
export function isSameVersion(a: AnnouncedVersion, b: AnnouncedVersion): boolean {
  return a.version === b.version && isSameState(a.fingerprint, b.fingerprint);
}
