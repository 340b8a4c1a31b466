/** A question of the bench and what came out of it. */
export interface Scenario {
  readonly name: string;
  /** One sentence: what is asked. */
  readonly question: string;
  /** The bars, asked for even when the run fails, so that no line goes missing from the table. */
  readonly bars: readonly BarSpec[];
  run(options: ScenarioOptions): Promise<ScenarioResult>;
}

/** How long and how often a scenario measures. */
export interface ScenarioOptions {
  readonly rounds: number;
  readonly roundSeconds: number;
  /** Rows of the sparse tables; those with rows of 64 floats have a quarter. */
  readonly tableRows: number;
  /** Takes a line about what is happening now. */
  readonly log: (line: string) => void;
}

/** A figure with the limit it must keep and the one it would like to. */
export interface BarSpec {
  readonly name: string;
  readonly unit: 'x' | 'ms' | 's' | 'MB' | '%' | 'B' | 'M/s';
  readonly limit: { readonly atMost: number } | { readonly atLeast: number };
  /** Absent where there is nothing beyond the limit to aim at. */
  readonly aim?: number;
}

/** What a scenario found. */
export interface ScenarioResult {
  /** Measured values by the name of their bar; a bar without one was not measured. */
  readonly measured: Readonly<Record<string, number>>;
  /** Bars that do not apply to what was found; the notes say why. @default none */
  readonly exempt?: readonly string[];
  /** Why nothing was measured, and what to do about it: a contestant that is not installed. @default measured */
  readonly skipped?: string;
  /** Why the figures do not count: failed requests, wrong answers. Empty when they do. */
  readonly invalid: readonly string[];
  /** What a reader of the table ought to know: generator, forms, counts. */
  readonly notes: readonly string[];
  /** Every figure behind the bars, for the JSON file. */
  readonly figures: unknown;
}

/** The result of a scenario that cannot run here. */
export function skipped(why: string): ScenarioResult {
  return { measured: {}, skipped: why, invalid: [], notes: [], figures: { skipped: why } };
}
