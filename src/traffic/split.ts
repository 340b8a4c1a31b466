import { createHash } from 'node:crypto';
import type { Clock } from '../batching/clock.js';
import type { SplitSettings } from '../config/traffic-settings.js';
import { ServingError } from '../errors.js';
import type { Logger } from '../observe/logger.js';
import type { RequestRouting, TrafficChange, TrafficStatus, VariantRef } from '../server/service.js';
import { chooseByChance, chooseByKey } from './choose-variant.js';
import { limitsOf } from './guard.js';
import { Rollout } from './rollout.js';
import { hashText } from './sticky-key.js';
import type { SavedSplit } from './traffic-state.js';
import { Variant } from './variant.js';
import { targetText, type VariantTargets } from './variant-target.js';

/** What a split works with. */
export interface SplitOptions {
  readonly targets: VariantTargets;
  readonly clock: Clock;
  readonly logger: Logger;
  /** From 0 to 1, 1 not included. */
  readonly random: () => number;
}

/** A variant that takes a request, and what the request asks of the variant's model. */
export interface Choice {
  readonly variant: Variant;
  /** The version that the variant means now; of a model that the request loads, what its target says. */
  readonly version: number | undefined;
  readonly label: string | undefined;
  /** Whether the request waits until its model is loaded. */
  readonly isWaking: boolean;
}

/** How far back `recent` of the status goes where no guard says more. */
const defaultWindowMs = 60_000;

/** One public name and its variants. Shadows are beside it, see `ShadowLane`. */
export class Split {
  readonly name: string;
  readonly variants: readonly Variant[];
  /** Stands for the others: in metadata, and for the guard. */
  readonly control: Variant;
  /** How often its rollout wants to be looked at, in ms; undefined without a guard. */
  readonly tickMs: number | undefined;
  readonly rollout: Rollout;
  /** Requests whose key was missing where one is looked for. */
  unkeyed = 0;
  readonly #options: SplitOptions;
  #settings: SplitSettings;

  constructor(name: string, settings: SplitSettings, options: SplitOptions) {
    const { guard, steps } = settings;
    const limits = guard && limitsOf(guard);
    const windowMs = limits?.windowMs ?? defaultWindowMs;
    const { clock, logger } = options;
    this.name = name;
    this.#settings = settings;
    this.#options = options;
    this.tickMs = limits && Math.min(1000, windowMs / 10);
    this.variants = settings.variants.map((variant) => new Variant(name, variant, windowMs));
    this.control = this.variants.find(({ tag }) => tag === guard?.control) ?? this.variants[0]!;
    const { variants, control } = this;
    this.rollout = new Rollout({ name, variants, control, limits, clock, logger });
    if (steps) this.rollout.begin(steps);
  }

  /** Its configuration. */
  get settings(): SplitSettings {
    return this.#settings;
  }

  /** Names the content of its configuration: what was saved of another one is void. */
  get declared(): string {
    return createHash('sha256').update(JSON.stringify(this.#settings)).digest('hex');
  }

  /**
   * Picks the variant of a request, and another one where that is not ready.
   *
   * @throws SRV_MODEL_NOT_READY when no variant with a weight is ready
   */
  choose(routing: RequestRouting | undefined): Choice {
    const key = this.#keyOf(routing);
    const wanted = this.#pick(this.variants, key)!;
    const choice = this.#choiceOf(wanted);
    if (choice) return choice;
    wanted.notReady += 1;
    const variant = this.#pick(
      this.variants.filter((one) => this.#choiceOf(one)),
      key,
    );
    if (variant) return this.#choiceOf(variant)!;
    throw this.#notReady(this.variants.filter(({ weight }) => weight > 0));
  }

  /**
   * The control, or the first variant that is ready in its place.
   *
   * @throws SRV_MODEL_NOT_READY when none is
   */
  representative(): Choice {
    for (const variant of [this.control, ...this.variants]) {
      const version = this.#options.targets.readyVersion(variant.target);
      if (version !== undefined) return { variant, version, label: undefined, isWaking: false };
    }
    throw this.#notReady(this.variants);
  }

  /** The variants that are ready. */
  ready(): readonly VariantRef[] {
    return this.variants.flatMap(({ tag, target }) => {
      const version = this.#options.targets.readyVersion(target);
      return version === undefined ? [] : [{ tag, model: target.model, version }];
    });
  }

  /** Takes a checked change over. What was known of the variants' recent past is forgotten. */
  change(change: TrafficChange): void {
    for (const { window } of this.variants) window.clear();
    if (change.weights) {
      for (const variant of this.variants) variant.weight = change.weights[variant.tag]!;
    }
    this.rollout.begin(change.steps ?? []);
  }

  /**
   * Takes another configuration over, if weights and steps are all that it changes.
   *
   * @returns false when more is different: then it takes a new split
   */
  configure(settings: SplitSettings): boolean {
    if (shapeOf(settings) !== shapeOf(this.#settings)) return false;
    if (JSON.stringify(settings) === JSON.stringify(this.#settings)) return true;
    this.#settings = settings;
    this.change(
      settings.steps
        ? { steps: settings.steps }
        : { weights: Object.fromEntries(settings.variants.map(({ tag, weight }) => [tag, weight])) },
    );
    return true;
  }

  /** What is kept over a restart. */
  save(): SavedSplit {
    return {
      declared: this.declared,
      weights: Object.fromEntries(this.variants.map(({ tag, weight }) => [tag, weight])),
      ...this.rollout.save(),
    };
  }

  /** Takes over what was kept of the same configuration. */
  restore(saved: SavedSplit): void {
    for (const variant of this.variants) variant.weight = saved.weights[variant.tag] ?? variant.weight;
    this.rollout.restore(saved);
  }

  /** Everything but the shadows. */
  status(): Omit<TrafficStatus, 'shadow'> {
    const now = this.#options.clock.now();
    const total = this.variants.reduce((sum, { weight }) => sum + weight, 0);
    const { sticky, guard } = this.#settings;
    return {
      name: this.name,
      control: this.control.tag,
      variants: this.variants.map((variant) => {
        const { model, label } = variant.target;
        const { requests, errors, p50, p99 } = variant.window.outcomes(now);
        return {
          tag: variant.tag,
          model,
          version: this.#options.targets.readyVersion(variant.target) ?? null,
          ...(label === undefined ? {} : { label }),
          weight: variant.weight,
          share: variant.weight / total,
          requests: variant.requests,
          errors: variant.errors,
          not_ready: variant.notReady,
          recent: { requests, errors, p50_ms: milliseconds(p50), p99_ms: milliseconds(p99) },
        };
      }),
      sticky: sticky ?? null,
      guard: guard ?? null,
      ...this.rollout.status(),
    };
  }

  /** Undefined while a variant is not ready. One whose model a request loads is: else it would never be loaded. */
  #choiceOf(variant: Variant): Choice | undefined {
    const { target } = variant;
    const version = this.#options.targets.readyVersion(target);
    if (version !== undefined) return { variant, version, label: undefined, isWaking: false };
    if (!this.#options.targets.mayWake(target)) return undefined;
    return { variant, version: target.version, label: target.label, isWaking: true };
  }

  #notReady(variants: readonly Variant[]): ServingError {
    const names = variants.map(({ tag, target }) => `${tag} (${targetText(target)})`).join(', ');
    return new ServingError(
      'SRV_MODEL_NOT_READY',
      `Request for unknown model: '${this.name}' has no ready variant among ${names}`,
    );
  }

  #pick(variants: readonly Variant[], key: number | undefined): Variant | undefined {
    return key === undefined ? chooseByChance(variants, this.#options.random) : chooseByKey(variants, key);
  }

  /** The hash of the request's key; undefined where chance decides. */
  #keyOf(routing: RequestRouting | undefined): number | undefined {
    const { sticky } = this.#settings;
    if (!sticky) return undefined;
    const key = routing && readKey(sticky, routing);
    if (key !== undefined && key !== '') return hashText(key);
    this.unkeyed += 1;
    return undefined;
  }
}

function readKey(sticky: NonNullable<SplitSettings['sticky']>, routing: RequestRouting): string | undefined {
  switch (sticky.by) {
    case 'id':
      return routing.id;
    case 'header':
      return routing.header(sticky.name!);
    case 'parameter': {
      const value = routing.parameter(sticky.name!);
      return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
        ? String(value)
        : undefined;
    }
    default:
      return sticky.by satisfies never;
  }
}

/** All of a configuration but weights and steps. */
function shapeOf({ steps: _, variants, ...rest }: SplitSettings): string {
  return JSON.stringify({ ...rest, variants: variants.map((variant) => ({ ...variant, weight: 0 })) });
}

function milliseconds(seconds: number | undefined): number | null {
  return seconds === undefined ? null : Number((seconds * 1000).toPrecision(3));
}
