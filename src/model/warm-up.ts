// Longer than most files: requests, batches and what becomes of their failures share the runs and the report of one warm-up.
/** Running a version on every instance before it is ready: recorded requests, then batches of every size. */
import { assemble, layOut, type TargetRoom } from '../batching/batch.js';
import type { Clock } from '../batching/clock.js';
import type { BatchPart } from '../batching/padding.js';
import { ReplyRoom } from '../batching/reply-room.js';
import { errorFromData, errorToData, ServingError } from '../errors.js';
import type { WarmUp, WarmUpRest, WarmUpRun } from '../instance/instance-group.js';
import type { RunResult } from '../instance/messages.js';
import type { Slot, SlotAllocator } from '../instance/slab.js';
import type { Signature } from '../tensor/tensor.js';
import { detailsOf, placeText, tensorsOf, type WarmUpRequest } from '../warmup/request.js';
import type { EmbeddingPlan } from './embedding-plan.js';
import { checkInputs, checkOutputs, type SignatureRules } from './signature-check.js';
import { splitRows } from './split-request.js';

/** A request that a warm-up has, and what becomes of the version when it fails. */
export interface PlannedRequest extends WarmUpRequest {
  /**
   * `declared`: any failure counts. `sampled` from traffic: a request that does not fit the signature is left out,
   * because the signature may have changed since. `generated`: no failure counts, because nobody ever sent it.
   */
  readonly origin: 'declared' | 'sampled' | 'generated';
}

/** What a warm-up works with. */
export interface VersionWarmUpOptions {
  /** Name and version, for messages. */
  readonly label: string;
  readonly versionId: number;
  /** Of the network, whose outputs the runs give. */
  readonly network: Signature;
  readonly rules: SignatureRules;
  /** The version's gather stages; undefined without any. */
  readonly plan: EmbeddingPlan | undefined;
  readonly targets: readonly TargetRoom[];
  readonly maxBatchSize: number;
  readonly allowSplitRequest: boolean;
  readonly slots: Pick<SlotAllocator, 'take' | 'give'>;
  readonly clock: Clock;
  readonly requests: readonly PlannedRequest[];
  /** Made-up requests, of which the first that the engine takes is run; used where there are no others. */
  readonly candidates: readonly PlannedRequest[];
  /** Rows of the batches to run, ascending; empty where rows do not merge. */
  readonly batchSizes: readonly number[];
  /** Of those that are run after them, as many as there is time for. */
  readonly furtherSizes: readonly number[];
  /** Versions that are being loaded now, this one included. */
  readonly loadingNow: () => number;
  /** How often each request is run, unless it says so itself. */
  readonly count: number;
  /** For each request, in ms; 0: no limit. Batches of other sizes may take as long together. */
  readonly timeoutMs: number;
  /** Whether a failure of a request is only told. */
  readonly ignoresFailures: boolean;
  /** Ends it between two runs. */
  readonly signal?: AbortSignal | undefined;
  /** Takes what is to be told of requests and batches that were left out or failed without harm. */
  readonly onNote: WarmUpNote;
}

/** Takes what is to be told. @default level 'warn' */
export type WarmUpNote = (note: string, level?: 'warn' | 'info') => void;

/** What the warm-up of a version did. */
export interface WarmUpReport {
  /** Requests that each instance runs, made-up ones included. */
  requests: number;
  /** Whether they were recorded or declared, and not made up. */
  readonly isRecorded: boolean;
  /** Batches that all instances ran so far, those of threads that replace dead ones included. */
  runs: number;
  /** Requests that failed or did not fit, and were passed over. */
  failed: number;
  /** What the slowest instance took, in ms. */
  ms: number;
}

/** A batch that is made of parts anew for every run. */
interface PlannedRun {
  readonly request: PlannedRequest;
  readonly parts: readonly BatchPart[];
  readonly fetch: readonly number[];
  readonly count: number;
  readonly shapeKey: string;
  readonly canMerge: boolean;
}

// Whatever a request does, these tell of the version or its device.
const fatalCodes: ReadonlySet<string> = new Set([
  'SRV_WORKER_DIED',
  'SRV_DEVICE_LOST',
  'SRV_MODEL_CORRUPT',
  'SRV_TABLE_CORRUPT',
  'SRV_INTERNAL',
  'SRV_SHUTTING_DOWN',
]);

const slotPauseMs = 1;

// Nobody asked for made-up requests: a model that takes long for one is not held up by many, nor by large batches of it.
const madeUpRequestsMs = 100;
const madeUpBatchesMs = 1000;

// A batch of every size is a comfort, which must not make loads long: least of all those behind others, which go from
// one instance to the next with what is left of the processor. Versions that load at the same time share it.
const furtherBatchesMs = 250;
const givingWayBatchesMs = 100;

/** The warm-up of one version, for each of its instances. */
export class VersionWarmUp {
  readonly report: WarmUpReport;
  readonly #options: VersionWarmUpOptions;
  readonly #runs: readonly PlannedRun[];
  readonly #candidates: readonly PlannedRun[];
  readonly #replyRoom: ReplyRoom;
  /** The candidate that the engine takes, once one was found. */
  #chosen: PlannedRun | undefined;
  #hasToldSizes = false;

  /**
   * Checks the requests against the version's signature, as those of callers are.
   *
   * @throws SRV_WARM_UP_FAILED when one does not fit
   */
  constructor(options: VersionWarmUpOptions) {
    this.#options = options;
    this.#replyRoom = new ReplyRoom(options.network);
    let failed = 0;
    this.#runs = options.requests.flatMap((request) => {
      try {
        return this.#planRuns(request);
      } catch (error) {
        const reason = failureOf(error, request, options.label);
        if (request.origin === 'declared' && !options.ignoresFailures) throw reason;
        failed += 1;
        options.onNote(`${reason.message}; it is left out`);
        return [];
      }
    });
    this.#candidates = this.#runs.length > 0 ? [] : options.candidates.flatMap((one) => this.#tryPlan(one));
    const requests = new Set(this.#runs.map(({ request }) => request)).size;
    this.report = { requests, isRecorded: requests > 0, runs: 0, failed, ms: 0 };
  }

  /** Batches that an instance runs before others may go between, at most. */
  get plannedRuns(): number {
    const requests = this.#runs.reduce((sum, { count }) => sum + count, 0);
    return requests + this.#options.batchSizes.length + (this.#candidates[0]?.count ?? 0);
  }

  /** Runs everything on one instance. */
  readonly warmUp: WarmUp = async (run, givesWay = false) => {
    const { clock, batchSizes, furtherSizes } = this.#options;
    const startedAt = clock.now();
    await this.#runRequests(run, givesWay);
    const hasRoom = batchSizes.length > 0 && (await this.#runBatchSizes(run));
    const tookMs = clock.now() - startedAt;
    this.report.ms = Math.max(this.report.ms, tookMs);
    return hasRoom && furtherSizes.length > 0 ? this.#furtherBatches(tookMs, givesWay) : undefined;
  };

  /** Runs the requests alone on the main thread, which takes no merged batches, and lets others in between. */
  readonly warmUpMain = async (run: WarmUpRun): Promise<void> => {
    await this.#runRequests(this.#atTurnEnds(run));
  };

  /** Lets what has come in meanwhile go before each run. */
  #atTurnEnds(run: WarmUpRun): WarmUpRun {
    const { clock } = this.#options;
    return async (message) => {
      await new Promise<void>((resolve) => clock.atTurnEnd(resolve));
      return run(message);
    };
  }

  async #runRequests(run: WarmUpRun, givesWay = false): Promise<void> {
    const { label, ignoresFailures, onNote, clock } = this.#options;
    const failing = new Set<PlannedRequest>();
    const startedAt = clock.now();
    const { runs, done } = await this.#chosenRuns(run);
    for (const planned of runs) {
      const { request } = planned;
      for (let time = done; time < planned.count && !failing.has(request); time++) {
        if (request.origin === 'generated' && clock.now() - startedAt >= madeUpRequestsMs) break;
        try {
          await this.#runOnce(run, planned.parts, planned.fetch, request, givesWay);
        } catch (error) {
          if (isFatal(error)) throw error;
          const reason = failureOf(error, request, label);
          if (!ignoresFailures && request.origin !== 'generated') throw reason;
          failing.add(request);
          this.report.failed += 1;
          onNote(reason.message);
        }
      }
    }
  }

  /** The runs of requests; where there are none, those of a made-up one, and how often it was run to find it. */
  async #chosenRuns(
    run: WarmUpRun,
  ): Promise<{ readonly runs: readonly PlannedRun[]; readonly done: number }> {
    if (this.#runs.length > 0 || this.#chosen) {
      return { runs: this.#chosen ? [this.#chosen] : this.#runs, done: 0 };
    }
    for (const candidate of this.#candidates) {
      try {
        await this.#runOnce(run, candidate.parts, candidate.fetch, candidate.request);
        this.#chosen ??= candidate;
        this.report.requests = 1;
        return { runs: [this.#chosen], done: 1 };
      } catch (error) {
        if (isFatal(error)) throw error;
      }
    }
    return { runs: [], done: 0 };
  }

  /** @returns whether all of them were run */
  async #runBatchSizes(run: WarmUpRun): Promise<boolean> {
    const { batchSizes, label, onNote } = this.#options;
    const limitMs = Math.min(this.#batchesMs, this.#chosen ? madeUpBatchesMs : Number.POSITIVE_INFINITY);
    const { isWhole, before, spentMs } = await this.#runBatches(run, batchSizes, limitMs);
    if (before !== undefined && !this.#chosen) {
      onNote(
        `the warm-up of ${label} ends before batches of ${before} rows: ${Math.round(spentMs)} ms were spent on smaller ones`,
      );
    }
    return isWhole;
  }

  /** @param tookMs what everything before took */
  #furtherBatches(tookMs: number, givesWay: boolean): WarmUpRest {
    const { furtherSizes, label, onNote, clock, loadingNow } = this.#options;
    return async (run) => {
      const ownMs = (givesWay ? givingWayBatchesMs : furtherBatchesMs) / loadingNow();
      const limitMs = Math.min(this.#batchesMs, ownMs);
      const startedAt = clock.now();
      const { before } = await this.#runBatches(this.#atTurnEnds(run), furtherSizes, limitMs);
      this.report.ms = Math.max(this.report.ms, tookMs + clock.now() - startedAt);
      if (before === undefined || this.#hasToldSizes) return;
      this.#hasToldSizes = true;
      const leftOut = furtherSizes.filter((size) => size >= before);
      onNote(
        `the warm-up of ${label} leaves out batches of ${rangesText(leftOut)} rows, which take more than ${Math.round(limitMs)} ms together ` +
          '(warm_up_batch_sizes all runs them)',
        'info',
      );
    };
  }

  /** How long batches of other sizes than the requests' may take together. */
  get #batchesMs(): number {
    return this.#options.timeoutMs || Number.POSITIVE_INFINITY;
  }

  /**
   * A batch of each size, of rows of the requests. Callers are never failed by a batch that is: it would be halved, so
   * it ends the others and is told.
   *
   * @param sizes ascending
   * @returns whether all were run, and the size that there was no time for where that is why
   */
  async #runBatches(
    run: WarmUpRun,
    sizes: readonly number[],
    limitMs: number,
  ): Promise<{ readonly isWhole: boolean; readonly before?: number; readonly spentMs: number }> {
    const { clock, label, onNote, plan } = this.#options;
    const startedAt = clock.now();
    const rows = mergeableRows(this.#chosen ? [this.#chosen] : this.#runs, sizes.at(-1) ?? 0, plan);
    if (!rows) return { isWhole: false, spentMs: 0 };
    let spentMs = 0;
    let lastMs = 0;
    for (const size of sizes) {
      if (spentMs + lastMs >= limitMs) return { isWhole: false, before: size, spentMs };
      const parts = Array.from({ length: size }, (_, row) => rows.parts[row % rows.parts.length]!);
      try {
        await this.#runOnce(run, parts, rows.fetch, rows.request);
      } catch (error) {
        if (isFatal(error)) throw error;
        onNote(
          `the warm-up of ${label} cannot run a batch of ${size} rows of ${placeText(rows.request.place)}: ${errorToData(error).message}`,
        );
        return { isWhole: false, spentMs };
      }
      lastMs = clock.now() - startedAt - spentMs;
      spentMs += lastMs;
    }
    return { isWhole: true, spentMs };
  }

  async #runOnce(
    run: WarmUpRun,
    parts: readonly BatchPart[],
    fetch: readonly number[],
    request: PlannedRequest,
    givesWay = false,
  ): Promise<void> {
    const { targets, slots, versionId } = this.#options;
    this.#requireOpen();
    const layout = layOut(parts, targets);
    const slot = await this.#takeSlot(layout.inputBytes + this.#replyRoom.bytes(layout.rows));
    try {
      const message = assemble(parts, layout, slot, versionId, fetch);
      const result = await this.#withinLimit(run(message), request).catch((error: unknown) => {
        const isLate = error instanceof ServingError && error.code === 'SRV_DEADLINE_EXCEEDED';
        if (!isLate || !givesWay) throw error;
        // It may have waited for others, with what they left of the processor.
        return this.#withinLimit(run({ ...message, lowPriority: false }), request);
      });
      this.report.runs += 1;
      this.#replyRoom.learn(result, layout.rows);
      const [failed] = result.failedRows ?? [];
      // Made-up ids are in no table.
      if (failed && request.origin !== 'generated') throw errorFromData(failed.error);
    } finally {
      slots.give(slot);
    }
  }

  /** A run cannot be ended, and its session must not be closed before its end: a late one is told, then awaited. */
  async #withinLimit(run: Promise<RunResult>, request: PlannedRequest): Promise<RunResult> {
    const { timeoutMs, clock, label, onNote } = this.#options;
    if (timeoutMs === 0) return run;
    let isLate = false;
    const timer = clock.setTimer(() => {
      isLate = true;
      onNote(
        `the warm-up of ${label} waits for ${placeText(request.place)}, which runs for ${timeoutMs} ms by now`,
      );
    }, timeoutMs);
    const startedAt = clock.now();
    try {
      const result = await run;
      const took = clock.now() - startedAt;
      if (!isLate && took <= timeoutMs) return result;
      throw new ServingError(
        'SRV_DEADLINE_EXCEEDED',
        `it ran for ${Math.round(took)} ms; the limit is ${timeoutMs} ms (warm_up_timeout_ms)`,
      );
    } finally {
      timer.cancel();
    }
  }

  async #takeSlot(bytes: number): Promise<Slot> {
    const { slots, clock } = this.#options;
    for (;;) {
      const slot = slots.take(bytes);
      if (slot) return slot;
      // Others run in all of the memory now.
      this.#requireOpen();
      await new Promise<void>((resolve) => void clock.setTimer(resolve, slotPauseMs));
    }
  }

  #requireOpen(): void {
    const { signal, label } = this.#options;
    if (signal?.aborted) {
      throw new ServingError('SRV_SHUTTING_DOWN', `the runtime was closed while ${label} was warmed up`);
    }
  }

  #tryPlan(request: PlannedRequest): readonly PlannedRun[] {
    try {
      return this.#planRuns(request);
    } catch {
      return [];
    }
  }

  /** The batches that a request is when it comes alone: one, or several where it has more rows than a batch. */
  #planRuns(request: PlannedRequest): readonly PlannedRun[] {
    const { rules, plan, maxBatchSize, allowSplitRequest, count } = this.#options;
    const checked = checkInputs(rules, tensorsOf(request.content, rules.signature));
    const fetch = request.outputs
      ? checkOutputs(rules, request.outputs)
      : rules.signature.outputs.map((_, index) => index);
    const inputs = plan ? plan.encode(checked.inputs) : checked.inputs;
    const { rows, shapeKey, length } = checked;
    const common = {
      request,
      fetch,
      count: request.count ?? count,
      shapeKey: `${shapeKey};${length}`,
      canMerge: rules.canMerge && rows > 0,
    };
    if (!rules.canMerge || rows <= maxBatchSize) return [{ ...common, parts: [{ inputs, rows }] }];
    if (!allowSplitRequest) {
      throw new ServingError(
        'SRV_BATCH_TOO_LARGE',
        `it has ${rows} rows, and a batch at most ${maxBatchSize} (allow_split_request is off)`,
      );
    }
    return splitRows(inputs, rows, maxBatchSize, plan?.ragged).map((part) => ({ ...common, parts: [part] }));
  }
}

/** Single rows that may share a batch: those of the shape that most requests have. */
function mergeableRows(
  runs: readonly PlannedRun[],
  wanted: number,
  plan: EmbeddingPlan | undefined,
):
  | {
      readonly parts: readonly BatchPart[];
      readonly fetch: readonly number[];
      readonly request: PlannedRequest;
    }
  | undefined {
  const byShape = new Map<string, PlannedRun[]>();
  for (const run of runs) {
    if (!run.canMerge) continue;
    const same = byShape.get(run.shapeKey) ?? [];
    byShape.set(run.shapeKey, same);
    same.push(run);
  }
  const [most] = [...byShape.values()].sort((a, b) => b.length - a.length);
  if (!most) return undefined;
  const parts: BatchPart[] = [];
  for (const part of most.flatMap((run) => run.parts)) {
    if (parts.length >= wanted) break;
    parts.push(...(part.rows === 1 ? [part] : splitRows(part.inputs, part.rows, 1, plan?.ragged)));
  }
  return { parts, fetch: most[0]!.fetch, request: most[0]!.request };
}

/** Ascending numbers in words: `3, 5 to 7`. */
function rangesText(numbers: readonly number[]): string {
  const ranges: { readonly from: number; to: number }[] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last && number === last.to + 1) last.to = number;
    else ranges.push({ from: number, to: number });
  }
  return ranges.map(({ from, to }) => (from === to ? `${from}` : `${from} to ${to}`)).join(', ');
}

function isFatal(error: unknown): boolean {
  return !(error instanceof ServingError) || fatalCodes.has(error.code);
}

function failureOf(error: unknown, request: PlannedRequest, label: string): ServingError {
  const { code, message } = errorToData(error);
  return new ServingError(
    'SRV_WARM_UP_FAILED',
    `the warm-up of ${label} failed at ${placeText(request.place)}: ${message}`,
    { details: { ...detailsOf(request.place), reason: code }, cause: error },
  );
}
