import Type, { type Static } from 'typebox';
import Value from 'typebox/value';

const Duration = Type.Object({ count: Type.Number(), ns: Type.Number() });

const StatisticsReply = Type.Object({
  model_stats: Type.Array(
    Type.Object({
      inference_count: Type.Number(),
      execution_count: Type.Number(),
      inference_stats: Type.Object({
        success: Duration,
        fail: Duration,
        queue: Duration,
        compute_input: Duration,
        compute_infer: Duration,
        compute_output: Duration,
      }),
    }),
  ),
});

const stages = ['queue', 'compute_input', 'compute_infer', 'compute_output'] as const;
type Stage = (typeof stages)[number];

/** Counters of a model since the server started, summed over its versions; times in ns. */
export interface ModelStatistics {
  readonly inferenceCount: number;
  readonly executionCount: number;
  readonly successCount: number;
  readonly successNs: number;
  readonly failCount: number;
  readonly stageNs: Readonly<Record<Stage, number>>;
}

/** Where a request's time went inside the server, as means over the requests of a span. */
export const ServerStages = Type.Object({
  succeeded: Type.Number({ description: 'Requests the server counts as answered.' }),
  failed: Type.Number({ description: 'Requests the server counts as failed.' }),
  meanBatchRows: Type.Number({ description: 'Rows per execution of the model.' }),
  queueUs: Type.Number(),
  inputUs: Type.Number({ description: 'Preparing and merging inputs.' }),
  inferUs: Type.Number({ description: 'Running the model.' }),
  outputUs: Type.Number({ description: 'Splitting and writing outputs.' }),
  totalUs: Type.Number({ description: 'Whole time inside the server.' }),
});
export type ServerStages = Static<typeof ServerStages>;

/** Reads a Triton statistics reply, or gives undefined when the body is something else. */
export function parseStatistics(body: unknown): ModelStatistics | undefined {
  if (!Value.Check(StatisticsReply, body) || body.model_stats.length === 0) return undefined;
  const total = {
    inferenceCount: 0,
    executionCount: 0,
    successCount: 0,
    successNs: 0,
    failCount: 0,
    stageNs: { queue: 0, compute_input: 0, compute_infer: 0, compute_output: 0 },
  };
  for (const version of body.model_stats) {
    total.inferenceCount += version.inference_count;
    total.executionCount += version.execution_count;
    total.successCount += version.inference_stats.success.count;
    total.successNs += version.inference_stats.success.ns;
    total.failCount += version.inference_stats.fail.count;
    for (const stage of stages) total.stageNs[stage] += version.inference_stats[stage].ns;
  }
  return total;
}

/**
 * The stages of a span from the counters at its two ends. Undefined when the server answered nothing in it, or
 * when its counters went back because it was restarted.
 */
export function stagesBetween(before: ModelStatistics, after: ModelStatistics): ServerStages | undefined {
  const succeeded = after.successCount - before.successCount;
  if (succeeded <= 0) return undefined;
  const executions = after.executionCount - before.executionCount;
  const meanUs = (ns: number): number => ns / succeeded / 1000;
  const stageUs = (stage: Stage): number => meanUs(after.stageNs[stage] - before.stageNs[stage]);
  return {
    succeeded,
    failed: after.failCount - before.failCount,
    meanBatchRows: executions > 0 ? (after.inferenceCount - before.inferenceCount) / executions : 0,
    queueUs: stageUs('queue'),
    inputUs: stageUs('compute_input'),
    inferUs: stageUs('compute_infer'),
    outputUs: stageUs('compute_output'),
    totalUs: meanUs(after.successNs - before.successNs),
  };
}
