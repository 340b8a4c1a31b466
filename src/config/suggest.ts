/**
 * The known name nearest to a misspelt one, or undefined where none is near enough to be meant.
 *
 * A beginning is near too: `max_batch` finds `max_batch_size`. Case, dashes and underscores do not count, so `max-batch-size` and `max_batch_size` find `maxBatchSize`.
 */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const wanted = bareForm(name);
  let nearest: string | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const edits = editDistance(wanted, bareForm(candidate));
    if (edits < fewest) {
      nearest = candidate;
      fewest = edits;
    }
  }
  if (fewest <= Math.max(1, Math.floor(wanted.length * 0.4))) return nearest;
  return wanted.length < 4 ? undefined : known.find((candidate) => bareForm(candidate).startsWith(wanted));
}

/** The end of a sentence about an unknown name: `; did you mean "port"?`, or nothing. */
export function didYouMean(name: string, known: readonly string[]): string {
  const nearest = nearestName(name, known);
  return nearest === undefined ? '' : `; did you mean "${nearest}"?`;
}

function bareForm(name: string): string {
  return name.replaceAll(/[-_]/g, '').toLowerCase();
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replace = last[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1);
      let edits = Math.min(replace, last[column]! + 1, current[column - 1]! + 1);
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        edits = Math.min(edits, beforeLast[column - 2]! + 1);
      }
      current.push(edits);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length]!;
}
