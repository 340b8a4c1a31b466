import type { Clock } from '../batching/clock.js';
import type { SplitSettings } from '../config/traffic-settings.js';
import { type ErrorCode, errorToData, messageOf, ServingError } from '../errors.js';
import type { StateStore } from '../lifecycle/state-file.js';
import type { Logger } from '../observe/logger.js';
import type { SplitMetrics } from '../observe/traffic-metrics.js';
import type {
  InferAnswer,
  InferCall,
  InferenceService,
  ModelStatus,
  ModelView,
  SampledTraffic,
  TrafficControl,
  TrafficStatus,
} from '../server/service.js';
import { ShadowLane } from './shadow-lane.js';
import { type Choice, Split } from './split.js';
import { readChange } from './traffic-change.js';
import { readSaved, statePart } from './traffic-state.js';
import type { Variant } from './variant.js';
import { VariantAnswer, withVariant } from './variant-answer.js';
import { targetOf, type VariantTargets } from './variant-target.js';

/** The models below, which a runtime can drain. */
export interface SplitService extends InferenceService {
  drain(): void;
}

/** What the service works with. */
export interface TrafficServiceOptions {
  /** What answers in the end. */
  readonly models: SplitService;
  /** By public name. */
  readonly traffic: Readonly<Record<string, SplitSettings>>;
  readonly targets: VariantTargets;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where changes are kept. */
  readonly state: StateStore;
  /** Whether requests may change traffic. */
  readonly modelControl: 'none' | 'explicit';
  /** Whether an instance is idle and nothing waits for it. */
  readonly hasRoom: () => boolean;
  /** From 0 to 1, 1 not included. @default Math.random */
  readonly random?: () => number;
}

interface PublicName {
  readonly split: Split;
  readonly shadows: readonly ShadowLane[];
}

/**
 * The models with public names among them: a request to one goes to a variant, others pass by.
 *
 * A request that names a version or a label passes too: it has chosen.
 */
export class TrafficService implements SplitService {
  readonly #options: TrafficServiceOptions;
  readonly #models: SplitService;
  readonly #names = new Map<string, PublicName>();
  /** What an embedder may change at any time, and front ends only with model control. */
  readonly control: TrafficControl;
  readonly traffic: TrafficControl;
  #tickTimer: { cancel(): void } | undefined;
  #isClosed = false;

  constructor(options: TrafficServiceOptions) {
    this.#options = options;
    this.#models = options.models;
    for (const [name, settings] of Object.entries(options.traffic)) this.#open(name, settings);
    this.control = {
      list: () => [...this.#names.values()].map(statusOf),
      get: (name) => statusOf(this.#require(name)),
      set: (name, change) => this.#set(name, change),
    };
    this.traffic = { ...this.control, set: (name, change) => this.#setByRequest(name, change) };
  }

  /**
   * Checks what variants stand for, takes over what was kept, and begins to watch. To be called when the models are
   * loaded.
   *
   * @throws SRV_BAD_CONFIG when a variant or shadow stands for nothing that is known
   */
  start(): void {
    this.#requireTargets(this.#options.traffic);
    if (this.#names.size === 0) return;
    try {
      this.#restore();
    } catch (error) {
      this.#options.logger.error(`traffic begins as it is configured: ${messageOf(error)}`);
    }
    this.#planTick();
  }

  /**
   * Takes another configuration over: all of it, or nothing. A public name that is configured as before keeps what was
   * changed while serving; one whose weights or steps alone differ keeps its counts.
   *
   * @param traffic valid, by public name
   * @throws SRV_BAD_CONFIG when a variant or shadow stands for nothing that is known
   */
  configure(traffic: Readonly<Record<string, SplitSettings>>): void {
    this.#requireTargets(traffic);
    for (const [name, { split, shadows }] of this.#names) {
      const settings = Object.hasOwn(traffic, name) ? traffic[name] : undefined;
      if (settings && split.configure(settings)) continue;
      for (const lane of shadows) lane.close();
      this.#names.delete(name);
    }
    for (const [name, settings] of Object.entries(traffic)) {
      if (!this.#names.has(name)) this.#open(name, settings);
    }
    this.#tickTimer?.cancel();
    this.#tickTimer = undefined;
    this.#planTick();
    this.#save();
  }

  /** Takes no more copies and changes nothing by itself any more. */
  close(): void {
    this.#isClosed = true;
    this.#tickTimer?.cancel();
    this.#tickTimer = undefined;
    for (const { shadows } of this.#names.values()) for (const lane of shadows) lane.close();
  }

  get isReady(): boolean {
    return this.#models.isReady;
  }

  drain(): void {
    this.#models.drain();
  }

  infer(call: InferCall): Promise<InferAnswer> {
    const name = this.#names.get(call.model);
    if (!name || call.version !== undefined || call.label !== undefined) return this.#models.infer(call);
    return this.#inferVariant(name, call);
  }

  /** Every model, and after them the public names that are no models. */
  listModels(): readonly ModelStatus[] {
    const models = this.#models.listModels();
    if (this.#names.size === 0) return models;
    const known = new Set(models.map(({ name }) => name));
    return [
      ...models,
      ...[...this.#names.values()].flatMap(({ split }) =>
        known.has(split.name) ? [] : asModel(split, models),
      ),
    ];
  }

  model(name: string, version?: number, label?: string): ModelView {
    const split = version === undefined && label === undefined ? this.#names.get(name)?.split : undefined;
    if (!split) return this.#models.model(name, version, label);
    const choice = split.representative();
    const { target } = choice.variant;
    const view = this.#models.model(target.model, choice.version);
    return {
      ...view,
      name,
      readyVersions: target.model === name ? view.readyVersions : [],
      variants: split.ready(),
    };
  }

  loadModel(name: string, config?: string): Promise<void> {
    return this.#models.loadModel(name, config);
  }

  sampleTraffic(...args: Parameters<InferenceService['sampleTraffic']>): Promise<SampledTraffic> {
    return this.#models.sampleTraffic(...args);
  }

  labels(name: string): Readonly<Record<string, number>> {
    return this.#models.labels(name);
  }

  setLabels(name: string, changes: Readonly<Record<string, number | null>>): void {
    this.#models.setLabels(name, changes);
  }

  readModelsConfig(): Promise<void> {
    return this.#models.readModelsConfig();
  }

  rollbackModel(name: string): Promise<number> {
    return this.#models.rollbackModel(name);
  }

  unloadModel(name: string): Promise<void> {
    return this.#models.unloadModel(name);
  }

  recordRefusal(model: string, version: number | undefined, protocol: string, code: ErrorCode): void {
    this.#models.recordRefusal(model, version, protocol, code);
  }

  metrics(): Promise<string> {
    return this.#models.metrics();
  }

  /** The numbers of all public names at the time of a scrape. */
  collect(): readonly SplitMetrics[] {
    return [...this.#names.values()].map(({ split, shadows }) => ({
      name: split.name,
      unkeyed: split.unkeyed,
      stepsTaken: split.rollout.stepsTaken,
      rollbacks: split.rollout.rollbacks,
      variants: split.variants.map((variant) => ({
        tag: variant.tag,
        model: variant.target.model,
        version: this.#options.targets.readyVersion(variant.target),
        weight: variant.weight,
        outcomes: variant.outcomes,
        seconds: variant.seconds,
        notReady: variant.notReady,
        stats: variant.stats,
      })),
      shadows,
    }));
  }

  async #inferVariant(name: PublicName, call: InferCall): Promise<InferAnswer> {
    let choice: Choice;
    try {
      choice = name.split.choose(call.routing);
    } catch (error) {
      this.#models.recordRefusal('', undefined, call.protocol, errorToData(error).code);
      throw error;
    }
    const tried = new Set<Variant>();
    for (;;) {
      let countRefusal: (() => void) | undefined;
      const deferRefusal = (count: () => void): void => {
        countRefusal = count;
      };
      try {
        return await this.#inferChoice(name, choice.isWaking ? { ...call, deferRefusal } : call, choice);
      } catch (error) {
        tried.add(choice.variant);
        const { code } = errorToData(error);
        // Nobody waits for another answer.
        const isOver = code === 'SRV_DEADLINE_EXCEEDED' || code === 'SRV_CANCELLED';
        const other = isOver ? undefined : this.#instead(choice, name.split, call);
        if (!other || tried.has(other.variant)) {
          countRefusal?.();
          throw withVariant(error, choice.variant.tag);
        }
        choice = other;
      }
    }
  }

  async #inferChoice(
    { split, shadows }: PublicName,
    call: InferCall,
    { variant, version, label, isWaking }: Choice,
  ): Promise<InferAnswer> {
    const { clock } = this.#options;
    // What another variant took before is no latency of this one.
    const startedAt = clock.now();
    const { target, stats } = variant;
    let answer: InferAnswer;
    try {
      answer = await this.#models.infer({
        ...call,
        model: target.model,
        version,
        label,
        variantStats: stats,
      });
    } catch (error) {
      variant.recordFailure(clock.now(), errorToData(error).code);
      throw error;
    }
    const now = clock.now();
    const seconds = (now - startedAt) / 1000;
    variant.recordAnswer(now, seconds, isWaking);
    for (const lane of shadows) lane.offer(call, answer.outputs, seconds);
    return new VariantAnswer(answer, split.name, variant.tag);
  }

  /** Who answers in the place of a variant whose model could not be loaded for the request; undefined for nobody. */
  #instead({ variant, isWaking }: Choice, split: Split, call: InferCall): Choice | undefined {
    if (!isWaking || this.#options.targets.readyVersion(variant.target) !== undefined) return undefined;
    try {
      return split.choose(call.routing);
    } catch {
      return undefined;
    }
  }

  async #setByRequest(name: string, change: unknown): Promise<TrafficStatus> {
    if (this.#options.modelControl !== 'explicit') {
      throw new ServingError(
        'SRV_MODEL_CONTROL_OFF',
        'changing traffic by request is off; start the server with --model_control explicit',
      );
    }
    return await this.#set(name, change);
  }

  async #set(name: string, change: unknown): Promise<TrafficStatus> {
    const found = this.#require(name);
    const { split } = found;
    const checked = readChange(split, change);
    split.change(checked);
    this.#options.logger.info({ model: name, ...checked }, `traffic of ${name} was changed`);
    this.#save();
    return statusOf(found);
  }

  #require(name: string): PublicName {
    const found = this.#names.get(name);
    if (found) return found;
    const names = [...this.#names.keys()];
    throw new ServingError(
      'SRV_TRAFFIC_NOT_FOUND',
      `no traffic is split under '${name}'; the public names are ${names.length === 0 ? 'none' : names.join(', ')}`,
    );
  }

  #open(name: string, settings: SplitSettings): void {
    const { clock, targets, logger, hasRoom, random = Math.random } = this.#options;
    const infer = (call: InferCall): Promise<InferAnswer> => this.#models.infer(call);
    this.#names.set(name, {
      split: new Split(name, settings, { targets, clock, logger, random }),
      shadows: (settings.shadow ?? []).map(
        (shadow) => new ShadowLane(name, shadow, { infer, targets, clock, hasRoom, random }),
      ),
    });
  }

  #requireTargets(traffic: Readonly<Record<string, SplitSettings>>): void {
    const problems = Object.entries(traffic).flatMap(([name, { variants, shadow = [] }]) =>
      Object.entries({ variants, shadow }).flatMap(([list, items]) =>
        items.flatMap((item, index) => {
          const problem = this.#options.targets.problemWith(targetOf(name, item));
          return problem === undefined ? [] : [`traffic.${name}.${list}[${index}]: ${problem}`];
        }),
      ),
    );
    if (problems.length === 0) return;
    throw new ServingError('SRV_BAD_CONFIG', `Bad configuration: ${problems.join('; ')}`, {
      details: { problems },
    });
  }

  #restore(): void {
    const saved = readSaved(this.#options.state.get(statePart));
    for (const [name, one] of Object.entries(saved)) {
      const split = this.#names.get(name)?.split;
      if (!split) continue;
      if (one.declared === split.declared) {
        split.restore(one);
        this.#options.logger.info(
          { model: name, weights: one.weights },
          `traffic of ${name} goes on as it was`,
        );
      } else {
        this.#options.logger.warn(
          { model: name },
          `the configuration of ${name} has changed: its weights hold, not those that were kept`,
        );
      }
    }
  }

  #save(): void {
    const splits = [...this.#names.values()].map(({ split }) => [split.name, split.save()] as const);
    this.#options.state.set(statePart, Object.fromEntries(splits));
  }

  #planTick(): void {
    if (this.#isClosed) return;
    const periods = [...this.#names.values()].flatMap(({ split }) => split.tickMs ?? []);
    if (periods.length === 0) return;
    this.#tickTimer = this.#options.clock.setTimer(
      () => {
        this.#tick();
        this.#planTick();
      },
      Math.min(...periods),
    );
  }

  #tick(): void {
    let hasChanged = false;
    for (const { split } of this.#names.values()) if (split.rollout.tick()) hasChanged = true;
    if (hasChanged) this.#save();
  }
}

function statusOf({ split, shadows }: PublicName): TrafficStatus {
  return { ...split.status(), shadow: shadows.map((lane) => lane.status()) };
}

/** A public name as a model: that of the control, or of the first ready variant in its place, under its own name. */
function asModel(split: Split, models: readonly ModelStatus[]): readonly ModelStatus[] {
  const variants = split.ready();
  const { tag, target } = split.control;
  const shown = variants.find((variant) => variant.tag === tag) ?? variants[0];
  const behind = models.find(({ name, version }) =>
    shown ? name === shown.model && version === shown.version : name === target.model,
  );
  return behind ? [{ ...behind, name: split.name, variants }] : [];
}
