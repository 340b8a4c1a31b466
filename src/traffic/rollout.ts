import type { Clock } from '../batching/clock.js';
import type { TrafficStep } from '../config/traffic-settings.js';
import type { Logger } from '../observe/logger.js';
import type { RollbackStatus, TrafficStatus } from '../server/service.js';
import { type GuardLimits, judge, type Verdict } from './guard.js';
import type { Outcomes } from './outcome-window.js';
import type { SavedSplit } from './traffic-state.js';
import type { Variant } from './variant.js';

/** What a rollout works with. */
export interface RolloutOptions {
  /** The public name. */
  readonly name: string;
  readonly variants: readonly Variant[];
  readonly control: Variant;
  /** Absent: nothing is judged, and there are no steps. */
  readonly limits: GuardLimits | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How the weights of a public name change by themselves: up by steps, and back when a variant fails. */
export class Rollout {
  /** Steps that were taken and variants that were taken out, since the start; these by `<tag> <limit>`. */
  stepsTaken = 0;
  readonly rollbacks = new Map<string, number>();
  readonly #options: RolloutOptions;
  #phase: TrafficStatus['phase'] = 'steady';
  #steps: readonly TrafficStep[] = [];
  #step = 0;
  #stepSince = 0;
  #requestsBeforeStep = 0;
  #rollback: RollbackStatus | null = null;
  /** What the control did when it last had enough requests: at 100 % for the other it has none. */
  #baseline: Outcomes | undefined;

  constructor(options: RolloutOptions) {
    this.#options = options;
  }

  /** Begins with the first of these steps, or ends those that are under way. Lifts a rollback. */
  begin(steps: readonly TrafficStep[]): void {
    this.#rollback = null;
    this.#baseline = undefined;
    this.#steps = steps;
    this.#phase = steps.length > 0 ? 'stepping' : 'steady';
    if (steps.length > 0) this.#enterStep(0, this.#options.clock.now());
  }

  /** Judges the variants and takes the next step. Tells whether anything has changed. */
  tick(): boolean {
    const { limits, control, variants, clock } = this.#options;
    if (!limits) return false;
    const now = clock.now();
    const outcomes = control.window.outcomes(now);
    if (outcomes.requests >= limits.minRequests) this.#baseline = outcomes;
    let hasChanged = false;
    for (const variant of variants) {
      if (variant === control || variant.weight === 0) continue;
      const verdict = judge(limits, this.#baseline, variant.window.outcomes(now));
      if (verdict.is === 'breach') this.#rollBack(variant, verdict);
      else if (verdict.is === 'unknown' || !this.#mayStep(variant, now, limits)) continue;
      else this.#takeStep(now);
      hasChanged = true;
    }
    return hasChanged;
  }

  save(): Pick<SavedSplit, 'phase' | 'steps' | 'step' | 'rollback'> {
    return { phase: this.#phase, steps: this.#steps, step: this.#step, rollback: this.#rollback };
  }

  /** The step that held begins anew: how much of it had passed is not known. */
  restore({ phase, steps, step, rollback }: SavedSplit): void {
    this.#phase = phase;
    this.#steps = steps;
    this.#step = step;
    this.#rollback = rollback;
    this.#stepSince = this.#options.clock.now();
  }

  status(): Pick<TrafficStatus, 'phase' | 'steps' | 'step' | 'rollback'> {
    const step = this.#steps.length > 0 ? this.#step + 1 : null;
    return { phase: this.#phase, steps: this.#steps, step, rollback: this.#rollback };
  }

  #enterStep(step: number, now: number): void {
    const { weight } = this.#steps[step]!;
    const candidate = this.#candidate();
    this.#step = step;
    this.#stepSince = now;
    this.#requestsBeforeStep = candidate.requests;
    candidate.weight = weight;
    this.#options.control.weight = 100 - weight;
  }

  /** The one variant that steps are about. */
  #candidate(): Variant {
    const { variants, control } = this.#options;
    return variants.find((variant) => variant !== control)!;
  }

  #mayStep(variant: Variant, now: number, { minRequests }: GuardLimits): boolean {
    if (this.#phase !== 'stepping') return false;
    const hasHeld = now - this.#stepSince >= this.#steps[this.#step]!.hold_s * 1000;
    return hasHeld && variant.requests - this.#requestsBeforeStep >= minRequests;
  }

  #takeStep(now: number): void {
    const { name, logger } = this.#options;
    if (this.#step === this.#steps.length - 1) {
      this.#phase = 'done';
      logger.info({ model: name }, `all steps of ${name} are done`);
      return;
    }
    this.#enterStep(this.#step + 1, now);
    this.stepsTaken += 1;
    const { tag, weight } = this.#candidate();
    logger.info(
      { model: name, variant: tag, weight },
      `step ${this.#step + 1} of ${this.#steps.length} of ${name}: ${tag} gets ${weight} %`,
    );
  }

  /** Gives the variant's share to the control. */
  #rollBack(variant: Variant, { limit, text }: Extract<Verdict, { is: 'breach' }>): void {
    const { name, control, logger } = this.#options;
    control.weight += variant.weight;
    variant.weight = 0;
    this.#phase = 'rolled_back';
    this.#rollback = { variant: variant.tag, limit, reason: text, at: new Date().toISOString() };
    const key = `${variant.tag} ${limit}`;
    this.rollbacks.set(key, (this.rollbacks.get(key) ?? 0) + 1);
    logger.error(
      { model: name, variant: variant.tag, limit },
      `variant ${variant.tag} of ${name} was taken out: ${text}`,
    );
  }
}
