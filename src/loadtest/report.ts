import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { messageOf, ServingError } from '../errors.js';
import { ServerStages } from './server-statistics.js';

/** Version of the report's form; a reader refuses another one. */
export const reportSchemaVersion = 1;

const Latency = Type.Object(
  {
    mean: Type.Number(),
    p50: Type.Number(),
    p90: Type.Number(),
    p99: Type.Number(),
    p999: Type.Number(),
    max: Type.Number(),
  },
  { description: 'Milliseconds, successes only; zero when there was none.' },
);

const LoadSchema = Type.Union([
  Type.Object({ kind: Type.Literal('closed'), concurrency: Type.Integer() }),
  Type.Object({
    kind: Type.Literal('open'),
    ratePerSecond: Type.Number(),
    arrival: Type.Union([Type.Literal('fixed'), Type.Literal('poisson')]),
    seed: Type.Integer(),
  }),
]);

const LoadResultSchema = Type.Object({
  name: Type.String(),
  load: LoadSchema,
  isStable: Type.Boolean({ description: 'Whether three consecutive windows agreed.' }),
  windows: Type.Array(
    Type.Object({
      seconds: Type.Number(),
      requestsPerSecond: Type.Number(),
      p50Ms: Type.Number(),
      p99Ms: Type.Number(),
      failed: Type.Integer(),
    }),
    { description: 'Every window in order; the figures below are those of the last three.' },
  ),
  seconds: Type.Number(),
  requests: Type.Object({
    succeeded: Type.Integer(),
    failed: Type.Integer(),
    failures: Type.Record(Type.String(), Type.Integer(), { description: 'Failed requests by reason.' }),
    warmupFailed: Type.Integer(),
  }),
  requestsPerSecond: Type.Number({ description: 'Successes only.' }),
  rowsPerSecond: Type.Number(),
  latencyMs: Latency,
  generator: Type.Object({
    isLate: Type.Boolean({ description: 'An open loop did not send on time: its figures are in doubt.' }),
    isBusy: Type.Boolean({ description: 'The generator used most of a core: the figures may be its own.' }),
    cpuShare: Type.Number({
      description:
        'CPU of the generating process (in process: of the target too) over wall time; 1 is one core.',
    }),
    latenessMs: Type.Object({ p50: Type.Number(), p99: Type.Number(), max: Type.Number() }),
  }),
  stages: Type.Optional(ServerStages),
});

const LoadReportSchema = Type.Object({
  kind: Type.Literal('onnx-serving-bench'),
  schemaVersion: Type.Literal(reportSchemaVersion),
  startedAt: Type.String({ description: 'ISO 8601.' }),
  environment: Type.Object({
    node: Type.String(),
    platform: Type.String(),
    cpu: Type.String(),
    cores: Type.Integer(),
    memoryBytes: Type.Integer(),
  }),
  target: Type.String(),
  settings: Type.Object({
    windowMs: Type.Number(),
    warmupMs: Type.Number(),
    maxWindows: Type.Integer(),
    tolerance: Type.Number(),
    stabilityPercentile: Type.Union([Type.Literal(50), Type.Literal(99)]),
    rowsPerRequest: Type.Number(),
  }),
  labels: Type.Record(Type.String(), Type.String(), { description: 'What the caller wants to remember.' }),
  results: Type.Array(LoadResultSchema),
});

/** The figures of one load. */
export type LoadResult = Static<typeof LoadResultSchema>;
/** Everything one run of the harness found: plain JSON, written and read by `onnx-serving bench`. */
export type LoadReport = Static<typeof LoadReportSchema>;

/** Facts of the machine that generated the load. */
export function environmentFacts(): LoadReport['environment'] {
  return {
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
  };
}

/**
 * Reads a report that an earlier run wrote.
 *
 * @throws SRV_BAD_CONFIG when the file cannot be read, is no report, or has another schema version
 */
export async function readReport(path: string): Promise<LoadReport> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new ServingError('SRV_BAD_CONFIG', `${path}: cannot be read as a report: ${messageOf(cause)}`, {
      cause,
    });
  }
  const version = (parsed as { schemaVersion?: unknown } | null)?.schemaVersion;
  if (typeof version === 'number' && version !== reportSchemaVersion) {
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${path}: report has schema version ${version}; expected ${reportSchemaVersion}`,
    );
  }
  if (!Value.Check(LoadReportSchema, parsed)) {
    const [first] = Value.Errors(LoadReportSchema, parsed);
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${path}: not a report of onnx-serving bench: ${first?.instancePath || 'the file'} ${first?.message ?? ''}`,
    );
  }
  return parsed;
}
