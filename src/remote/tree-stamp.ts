import { createHash } from 'node:crypto';
import { joinRemote } from './fetch-tree.js';
import type { RemoteEntry, RemoteStamp } from './remote-store.js';

/** Files that a stamp of a directory looks at; one with more is not a model. */
const maxEntries = 100_000;

/**
 * The stamp of a directory: a digest over the names below it and the stamp of each file.
 *
 * @param stampOfFile asked where the listing has no stamp of its own
 * @param onAnswer called for each entry
 */
export async function treeStamp(
  path: string,
  list: (path: string) => Promise<readonly RemoteEntry[] | undefined>,
  stampOfFile: (path: string) => Promise<RemoteStamp | undefined>,
  onAnswer?: () => void,
): Promise<RemoteStamp | undefined> {
  const entries = await list(path);
  if (entries === undefined) return undefined;
  const hash = createHash('sha256');
  let left = maxEntries;
  const walk = async (from: string, found: readonly RemoteEntry[]): Promise<void> => {
    for (const entry of found.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      if (left-- <= 0) return;
      const below = joinRemote(from, entry.name);
      if (entry.isDirectory) {
        hash.update(`${JSON.stringify(below)} directory\n`);
        await walk(below, (await list(below)) ?? []);
        continue;
      }
      onAnswer?.();
      const stamp = entry.stamp ?? (await stampOfFile(below))?.text ?? '';
      hash.update(`${JSON.stringify(below)} ${entry.bytes ?? ''} ${stamp}\n`);
    }
  };
  await walk(path, entries);
  return { text: `tree ${hash.digest('hex')}` };
}
