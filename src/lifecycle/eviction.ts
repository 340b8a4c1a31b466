/** A model that is loaded. */
export interface LoadedModel {
  readonly name: string;
  readonly bytes: number;
  readonly lastUsedAt: number;
  /** Whether it is busy, pinned or just loaded. */
  readonly stays: boolean;
}

/** What has to go, and what is left then. */
export interface Eviction {
  /** Names, the one used longest ago first. */
  readonly names: readonly string[];
  readonly bytesLeft: number;
}

/** Chooses the models used longest ago until the others have no more than `limitBytes`, or all others stay. */
export function chooseEvictions(models: readonly LoadedModel[], limitBytes: number): Eviction {
  let bytesLeft = models.reduce((sum, { bytes }) => sum + bytes, 0);
  const names: string[] = [];
  for (const { name, bytes, stays } of models.toSorted((a, b) => a.lastUsedAt - b.lastUsedAt)) {
    if (bytesLeft <= limitBytes) break;
    if (stays) continue;
    bytesLeft -= bytes;
    names.push(name);
  }
  return { names, bytesLeft };
}
