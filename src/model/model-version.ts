import type { Batcher } from '../batching/batcher.js';
import type { Clock } from '../batching/clock.js';
import type { JobRequest, JobResult, SubmittedJob } from '../batching/job.js';
import { messageOf, ServingError } from '../errors.js';
import type { InstanceGroup } from '../instance/instance-group.js';
import { LeaseCounter } from '../lifecycle/lease.js';
import type { Fingerprint } from '../lifecycle/policy.js';
import type { VersionState } from '../lifecycle/version.js';
import { ModelStats } from '../observe/model-stats.js';
import type { ModelEntry } from '../repository/layout.js';
import { policyJson } from '../repository/version-policy.js';
import type { InferCall } from '../server/service.js';
import type { EmbeddingPlan } from './embedding-plan.js';
import type { PreparedModel } from './prepared-model.js';
import { type QueueRules, waitLimitsOf } from './queue-rules.js';
import { checkInputs, checkOutputs, type SignatureRules } from './signature-check.js';
import { joinResults, splitRows } from './split-request.js';
import type { StageTables } from './stage-tables.js';
import type { Taken } from './taken-files.js';
import type { WarmUpReport } from './warm-up.js';

/** A version that can be run: everything that its load produced. */
export interface Served extends QueueRules {
  readonly prepared: PreparedModel;
  readonly rules: SignatureRules;
  /** Its gather stages; undefined without any. */
  readonly plan: EmbeddingPlan | undefined;
  /** The tables of its stages, open until it is unloaded. */
  readonly tables: StageTables;
  readonly batcher: Batcher;
  readonly groups: readonly InstanceGroup[];
  readonly maxBatchSize: number;
  readonly maxQueueDelayUs: number;
  readonly allowSplitRequest: boolean;
  /** Slowest instance's load, in ms. */
  readonly loadMs: number;
  /** What a session of it is opened from: versions with equal ones can share theirs. */
  readonly sessionKey: string;
  /** What its warm-up did; undefined where it is switched off. */
  readonly warmUp: WarmUpReport | undefined;
}

/** A version of a model, from its first mention to its end. */
export class ModelVersion {
  readonly entry: ModelEntry;
  /** Identity within this process; never reused. */
  readonly id: number;
  /** Differs from that of another version of its number where the content does. */
  readonly fingerprint: Fingerprint;
  readonly stats = new ModelStats();
  readonly leases = new LeaseCounter();
  readonly #clock: Clock;
  state: VersionState = 'new';
  /** Why it failed; undefined otherwise. */
  error: ServingError | undefined;
  /** Why its new content could not be loaded in its place; undefined while it is what ought to be served. */
  reloadError: ServingError | undefined;
  /** When a request last named it, by the runtime's clock; 0 for never. */
  lastUsedAt = 0;
  /** Whether it is not loaded, and the next request loads its model. */
  isDormant = false;
  /** Whether it is ready, and not given requests that name no version: it served before. */
  isKept = false;
  served: Served | undefined;
  /** Copies of files that are overwritten in place; undefined for others. */
  taken: Taken | undefined;
  #allOutputs: readonly number[] = [];

  constructor(
    entry: ModelEntry,
    id: number,
    clock: Clock,
    fingerprint: Fingerprint = { content: '', settings: '' },
  ) {
    this.entry = entry;
    this.id = id;
    this.fingerprint = fingerprint;
    this.#clock = clock;
  }

  get name(): string {
    return this.entry.name;
  }

  get version(): number {
    return this.entry.version;
  }

  /** Which versions of its model are wanted, in the JSON form of Triton's message. */
  get policyJson(): object {
    return policyJson(this.entry.policy);
  }

  /** Opens the version for requests. */
  publish(served: Served): void {
    this.served = served;
    this.#allOutputs = served.rules.signature.outputs.map((_, index) => index);
    this.state = 'ready';
  }

  /** Records why the version cannot be served. */
  fail(error: ServingError): void {
    this.error = error;
    this.state = 'failed';
  }

  /**
   * Checks and queues a request. The caller holds a lease until the result is there.
   *
   * @param arrivedAt when the request came, by the runtime's clock, where it has waited before: its deadline counts from then
   * @returns indices of the wanted outputs in the signature, and the outputs to come in that order
   * @throws at once what is wrong with the request: SRV_BAD_SIGNATURE, SRV_BAD_BAGS, SRV_BATCH_TOO_LARGE,
   * SRV_QUEUE_FULL, SRV_CANCELLED
   */
  infer(
    request: InferCall,
    arrivedAt = this.#clock.now(),
  ): { readonly fetch: readonly number[]; readonly result: Promise<JobResult> } {
    const served = this.served!;
    const { rules, plan, maxBatchSize } = served;
    const checked = checkInputs(rules, request.inputs);
    const fetch = request.outputs ? checkOutputs(rules, request.outputs) : this.#allOutputs;
    if (request.signal?.aborted) {
      throw new ServingError(
        'SRV_CANCELLED',
        `the request was withdrawn: ${messageOf(request.signal.reason)}`,
      );
    }
    const job: JobRequest = {
      inputs: plan ? plan.encode(checked.inputs) : checked.inputs,
      rows: checked.rows,
      bytes: checked.bytes,
      fetch,
      shapeKey: checked.shapeKey,
      length: checked.length,
      ...waitLimitsOf(served, request, arrivedAt),
      isAbandoned: request.isAbandoned,
      origin: request.origin,
      counted: request.variantStats?.of(this.stats),
    };
    if (!rules.canMerge || checked.rows <= maxBatchSize) {
      return { fetch, result: cancellable(served.batcher.submit(job), request.signal) };
    }
    if (!served.allowSplitRequest) {
      throw new ServingError(
        'SRV_BATCH_TOO_LARGE',
        `inference request batch-size must be <= ${maxBatchSize} for model ${rules.label}, got ${checked.rows} rows ` +
          '(allow_split_request is off)',
      );
    }
    return { fetch, result: this.#inferInParts(served, job, request.signal) };
  }

  /** Runs a request with more rows than a batch may have, part by part, and joins the results. */
  async #inferInParts(
    { batcher, maxBatchSize, rules, plan }: Served,
    whole: JobRequest,
    signal: AbortSignal | undefined,
  ): Promise<JobResult> {
    const submitted: SubmittedJob[] = [];
    try {
      for (const { inputs, rows } of splitRows(whole.inputs, whole.rows, maxBatchSize, plan?.ragged)) {
        const bytes = Math.ceil((whole.bytes * rows) / whole.rows);
        submitted.push(batcher.submit({ ...whole, inputs, rows, bytes }));
      }
      const results = await Promise.all(submitted.map((job) => cancellable(job, signal)));
      return joinResults(
        results,
        whole.fetch.map((index) => rules.signature.outputs[index]!.name),
      );
    } catch (error) {
      // The rest of a request that has failed is of no use to anybody.
      for (const job of submitted) {
        job.cancel();
        job.result.catch(() => undefined);
      }
      throw error;
    }
  }
}

function cancellable(job: SubmittedJob, signal: AbortSignal | undefined): Promise<JobResult> {
  if (!signal) return job.result;
  const onAbort = (): void => job.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  return job.result.finally(() => signal.removeEventListener('abort', onAbort));
}
