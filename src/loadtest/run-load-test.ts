import { setTimeout as sleep } from 'node:timers/promises';
import { ServingError } from '../errors.js';
import { type Load, loadName } from './load.js';
import { startOffer } from './offer.js';
import { environmentFacts, type LoadReport, type LoadResult, reportSchemaVersion } from './report.js';
import { type ModelStatistics, stagesBetween } from './server-statistics.js';
import { isStable, type StabilityPercentile, stableWindows } from './stability.js';
import { countRequests, summarise } from './summarise.js';
import type { LoadTarget } from './target.js';
import { LoadWindow, recordMs } from './window.js';

/** Where a run stands, for a progress bar. */
export interface LoadProgress {
  readonly load: string;
  /** Number of the load, from 0. */
  readonly loadIndex: number;
  readonly loadCount: number;
  /** Windows measured so far for this load; 0 while it warms up. */
  readonly windowsDone: number;
  readonly maxWindows: number;
  /** Successes per second of the last window; absent while warming up. */
  readonly requestsPerSecond?: number;
}

/** What to measure and for how long. */
export interface LoadTestOptions {
  /** What the load is offered to. Stays open: the caller closes it. */
  readonly target: LoadTarget;
  /** Loads, measured one after the other. */
  readonly loads: readonly Load[];
  /** Length of one window. @default 5000 */
  readonly windowMs?: number;
  /** Load before the first window of each load, not counted. @default 2000 */
  readonly warmupMs?: number;
  /** Windows after which a load that is not stable is given up, and said to be unstable. @default 10 */
  readonly maxWindows?: number;
  /** How far a window may lie from the mean of three. @default 0.1 */
  readonly tolerance?: number;
  /** Latency percentile of the stability rule. @default 50 */
  readonly stabilityPercentile?: StabilityPercentile;
  /** Bound on the unanswered requests of an open loop. @default 10000 */
  readonly maxInFlight?: number;
  /** Kept in the report as it is. @default {} */
  readonly labels?: Readonly<Record<string, string>>;
  /** Ends the run early, with an error. */
  readonly signal?: AbortSignal;
  /** Told after the warm-up and after each window. */
  readonly onProgress?: (progress: LoadProgress) => void;
}

type Settings = LoadReport['settings'] & { readonly maxInFlight: number };

/**
 * Measures a target under each load. A load is warmed up, then measured in windows until three consecutive ones
 * agree or `maxWindows` have passed; its figures are those of the last three windows, and say whether they agreed.
 *
 * @throws SRV_CANCELLED when the signal ended the run
 */
export async function runLoadTest(options: LoadTestOptions): Promise<LoadReport> {
  const { target, loads } = options;
  const settings: Settings = {
    windowMs: options.windowMs ?? 5000,
    warmupMs: options.warmupMs ?? 2000,
    maxWindows: options.maxWindows ?? 10,
    tolerance: options.tolerance ?? 0.1,
    stabilityPercentile: options.stabilityPercentile ?? 50,
    maxInFlight: options.maxInFlight ?? 10_000,
    rowsPerRequest: target.rowsPerRequest,
  };
  const startedAt = new Date().toISOString();
  const results: LoadResult[] = [];
  for (const [loadIndex, load] of loads.entries()) {
    const tell = (windowsDone: number, requestsPerSecond?: number): void =>
      options.onProgress?.({
        load: loadName(load),
        loadIndex,
        loadCount: loads.length,
        windowsDone,
        maxWindows: settings.maxWindows,
        ...(requestsPerSecond === undefined ? {} : { requestsPerSecond }),
      });
    results.push(await measureLoad(target, load, settings, tell, options.signal));
  }
  const { maxInFlight: _, ...reported } = settings;
  return {
    kind: 'onnx-serving-bench',
    schemaVersion: reportSchemaVersion,
    startedAt,
    environment: environmentFacts(),
    target: target.description,
    settings: reported,
    labels: { ...options.labels },
    results,
  };
}

async function measureLoad(
  target: LoadTarget,
  load: Load,
  settings: Settings,
  tell: (windowsDone: number, requestsPerSecond?: number) => void,
  signal: AbortSignal | undefined,
): Promise<LoadResult> {
  const warmup = new LoadWindow();
  const windows: LoadWindow[] = [];
  // Counters at the ends of the windows; asked for without waiting, so that the load has no gap.
  const statistics: Promise<ModelStatistics | undefined>[] = [];
  let current = warmup;
  const sink = {
    answered: (latencyMs: number, failure: string | undefined) => current.record(latencyMs, failure),
    sentLate: (latenessMs: number) => recordMs(current.lateness, latenessMs),
  };
  const isEnough = (): boolean =>
    windows.length >= settings.maxWindows || isStable(windows.map(figures), settings.tolerance);
  const figures = (window: LoadWindow): { throughput: number; latencyMs: number } => ({
    throughput: window.throughput,
    latencyMs: window.latency.getValueAtPercentile(settings.stabilityPercentile) / 1000,
  });

  tell(0);
  const offer = startOffer(target, load, sink, settings.maxInFlight);
  try {
    await pause(settings.warmupMs, signal);
    statistics.push(target.statistics());
    do {
      current = new LoadWindow();
      await pause(settings.windowMs, signal);
      current.close();
      statistics.push(target.statistics());
      windows.push(current);
      tell(windows.length, current.throughput);
    } while (!isEnough());
  } finally {
    await offer.stop();
  }
  const isSteady = isStable(windows.map(figures), settings.tolerance);
  const counters = await Promise.all(statistics);
  const kept = windows.slice(-stableWindows);
  const before = counters.at(-1 - kept.length);
  const after = counters.at(-1);
  const stages = before && after ? stagesBetween(before, after) : undefined;
  return {
    ...summarise(load, windows, kept, target),
    isStable: isSteady,
    requests: { ...countRequests(kept), warmupFailed: warmup.failed },
    ...(stages ? { stages } : {}),
  };
}

async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(ms, undefined, signal ? { signal } : {});
  } catch (cause) {
    throw new ServingError('SRV_CANCELLED', 'the load test was ended before it was done', { cause });
  }
}
