import type { GuardSettings } from '../config/traffic-settings.js';
import type { Outcomes } from './outcome-window.js';

/** What a guard decides by, with its defaults. */
export interface GuardLimits {
  readonly maxErrorRateMargin: number | undefined;
  readonly maxP99Ratio: number | undefined;
  readonly minRequests: number;
  readonly windowMs: number;
}

/** The limits of a guard as it was given. */
export function limitsOf(guard: GuardSettings): GuardLimits {
  return {
    maxErrorRateMargin: guard.max_error_rate_margin,
    maxP99Ratio: guard.max_p99_ratio,
    minRequests: guard.min_requests ?? 100,
    windowMs: (guard.window_s ?? 60) * 1000,
  };
}

/** What a guard found: too few requests to say, nothing wrong, or which limit is passed and by how much. */
export type Verdict =
  | { readonly is: 'unknown' }
  | { readonly is: 'sound' }
  | { readonly is: 'breach'; readonly limit: 'error_rate' | 'p99'; readonly text: string };

/**
 * Holds a variant against the control.
 *
 * @param control the control's outcomes; undefined as long as it has not had enough requests
 */
export function judge(limits: GuardLimits, control: Outcomes | undefined, variant: Outcomes): Verdict {
  if (!control || variant.requests < limits.minRequests) return { is: 'unknown' };
  const { maxErrorRateMargin, maxP99Ratio } = limits;
  const errorRate = variant.errors / variant.requests;
  const controlRate = control.errors / control.requests;
  if (maxErrorRateMargin !== undefined && errorRate > controlRate + maxErrorRateMargin) {
    return {
      is: 'breach',
      limit: 'error_rate',
      text:
        `${variant.errors} of its ${variant.requests} requests failed (${percent(errorRate)}), the control's rate is ` +
        `${percent(controlRate)}, and ${percent(maxErrorRateMargin)} more is allowed`,
    };
  }
  if (
    maxP99Ratio !== undefined &&
    variant.p99 !== undefined &&
    control.p99 !== undefined &&
    variant.p99 > control.p99 * maxP99Ratio
  ) {
    return {
      is: 'breach',
      limit: 'p99',
      text:
        `its p99 over ${variant.requests} requests is ${milliseconds(variant.p99)}, the control's is ` +
        `${milliseconds(control.p99)}, and ${maxP99Ratio} times that is allowed`,
    };
  }
  return { is: 'sound' };
}

function percent(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

function milliseconds(seconds: number): string {
  return `${Number((seconds * 1000).toPrecision(3))} ms`;
}
