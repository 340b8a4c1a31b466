import { findProblems, formatPath, isKeyed } from '../config/problems.js';
import { didYouMean } from '../config/suggest.js';
import { stepsSchema, type TrafficStep } from '../config/traffic-settings.js';
import { ServingError } from '../errors.js';
import type { TrafficChange } from '../server/service.js';
import type { Split } from './split.js';

const keys = ['weights', 'steps'];

/**
 * Checks a change of a split, as it came.
 *
 * @throws SRV_BAD_REQUEST that lists every problem
 */
export function readChange(split: Split, value: unknown): TrafficChange {
  const problems: string[] = [];
  const what = isKeyed(value) ? value : {};
  for (const key of Object.keys(what)) {
    if (!keys.includes(key)) problems.push(`${key}: unknown key${didYouMean(key, keys)}`);
  }
  const { weights, steps } = what;
  if ((weights === undefined) === (steps === undefined)) {
    problems.push('expected an object with weights of all variants, or with steps');
  }
  if (weights !== undefined) problems.push(...weightProblems(split, weights));
  if (steps !== undefined) problems.push(...stepProblems(split, steps));
  if (problems.length > 0) {
    throw new ServingError('SRV_BAD_REQUEST', `traffic of '${split.name}': ${problems.join('; ')}`, {
      details: { problems },
    });
  }
  return weights === undefined
    ? { steps: structuredClone(steps as TrafficStep[]) }
    : { weights: { ...(weights as Record<string, number>) } };
}

function weightProblems({ variants }: Split, weights: unknown): string[] {
  if (!isKeyed(weights)) return [`weights: expected an object of a number for each variant`];
  const tags = variants.map(({ tag }) => tag);
  const problems: string[] = [];
  for (const [tag, weight] of Object.entries(weights)) {
    if (!tags.includes(tag)) problems.push(`weights.${tag}: no variant has this tag${didYouMean(tag, tags)}`);
    else if (typeof weight !== 'number' || !Number.isFinite(weight) || weight < 0) {
      problems.push(`weights.${tag}: expected a number of at least 0, got ${JSON.stringify(weight)}`);
    }
  }
  for (const tag of tags) if (!Object.hasOwn(weights, tag)) problems.push(`weights.${tag}: missing`);
  if (problems.length === 0 && Object.values(weights).every((weight) => weight === 0)) {
    problems.push('weights: all are 0; expected at least one above 0');
  }
  return problems;
}

function stepProblems({ settings, variants }: Split, steps: unknown): string[] {
  const problems = findProblems(stepsSchema, steps).map(
    ({ path, text }) => `${formatPath(['steps', ...path])}: ${text}`,
  );
  if (!settings.guard || variants.length !== 2) {
    problems.push('steps: need a guard, and exactly one variant beside its control');
  }
  return problems;
}
