import Type from 'typebox';
import { findProblems, formatPath } from '../config/problems.js';
import { stepsSchema, type TrafficStep } from '../config/traffic-settings.js';
import type { RollbackStatus, TrafficStatus } from '../server/service.js';

/** The name of what is kept of traffic in the state of the runtime. */
export const statePart = 'traffic';

const savedSplitSchema = Type.Object({
  declared: Type.String(),
  weights: Type.Record(Type.String(), Type.Number({ minimum: 0 })),
  phase: Type.Enum(['steady', 'stepping', 'done', 'rolled_back']),
  steps: stepsSchema,
  step: Type.Integer({ minimum: 0 }),
  rollback: Type.Union([
    Type.Null(),
    Type.Object({
      variant: Type.String(),
      limit: Type.Enum(['error_rate', 'p99']),
      reason: Type.String(),
      at: Type.String(),
    }),
  ]),
});

const savedSchema = Type.Record(Type.String(), savedSplitSchema);

/** What is kept of a public name. */
export interface SavedSplit {
  /** Digest of its configuration; under another one the rest is void. */
  readonly declared: string;
  /** By tag. */
  readonly weights: Readonly<Record<string, number>>;
  readonly phase: TrafficStatus['phase'];
  readonly steps: readonly TrafficStep[];
  /** Which step held, from 0. */
  readonly step: number;
  readonly rollback: RollbackStatus | null;
}

/** What is kept of all public names, by name. */
export type SavedTraffic = Readonly<Record<string, SavedSplit>>;

/**
 * What was kept, checked: a file may have been written by hand, or by another version.
 *
 * @throws Error that says what is wrong with it
 */
export function readSaved(value: unknown): SavedTraffic {
  if (value === undefined) return {};
  const [problem] = findProblems(savedSchema, value);
  if (problem) throw new Error(`${formatPath([statePart, ...problem.path])}: ${problem.text}`);
  const saved = value as SavedTraffic;
  for (const [name, { weights, steps, step }] of Object.entries(saved)) {
    const where = formatPath([statePart, name]);
    if (!Object.values(weights).some((weight) => weight > 0)) {
      throw new Error(`${where}.weights: expected one above 0`);
    }
    if (step > 0 && step >= steps.length) throw new Error(`${where}.step: there is no step ${step}`);
  }
  return saved;
}
