/** The median; NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length % 2 === 1) return sorted[middle]!;
  return (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median of round-by-round ratios: neighbours in time share the machine's mood, medians of whole runs do not. */
export function medianRatio(over: readonly number[], under: readonly number[]): number {
  return median(over.map((value, i) => value / under[i]!));
}
