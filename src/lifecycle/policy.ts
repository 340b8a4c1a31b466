import type { VersionState } from './version.js';

/** A version that ought to be served. */
export interface AnnouncedVersion {
  readonly version: number;
  /** Differs where the content of the version does. */
  readonly fingerprint: string;
}

/** A version that is held, in whatever state. */
export interface HeldVersion {
  readonly version: number;
  readonly fingerprint: string;
  readonly state: VersionState;
}

/** What is known beside the versions themselves. */
export interface LoadRules {
  /** Load also what is held as it ought to be. */
  readonly isForced: boolean;
  /** Contents that were rolled back from: they are not loaded again by themselves. */
  readonly rejected: ReadonlySet<string>;
  /** Whether a content that failed may be tried now. */
  readonly mayRetry: (fingerprint: string) => boolean;
}

/** The announced versions that have to be loaded now. */
export function versionsToLoad<Announced extends AnnouncedVersion>(
  announced: readonly Announced[],
  held: readonly HeldVersion[],
  { isForced, rejected, mayRetry }: LoadRules,
): readonly Announced[] {
  if (isForced) return announced;
  return announced.filter(({ version, fingerprint }) => {
    if (rejected.has(fingerprint)) return false;
    const same = held.find((other) => other.version === version && other.fingerprint === fingerprint);
    return same?.state !== 'ready' && mayRetry(fingerprint);
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
    announced.some(
      (other) =>
        other.version === one.version &&
        other.fingerprint === one.fingerprint &&
        !rejected.has(one.fingerprint),
    );
  return ready.some(isWanted) ? ready.filter((one) => !isWanted(one)) : [];
}
