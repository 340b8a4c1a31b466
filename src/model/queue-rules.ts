import type { ModelSettings, QueuePolicy, TimeoutAction } from '../config/model-settings.js';
import type { RuntimeConfig } from '../config/schema.js';
import type { InferCall } from '../server/service.js';

/** Priority of a request where neither it nor its model's settings name one. 1 is the most urgent; each level is worth a second of waiting. */
export const defaultPriority = 5;

/** How long requests of a version may wait, and how many. */
export interface QueueRules {
  /** Requests that may wait. */
  readonly maxQueueSize: number;
  /** Requests of a priority that may wait, for some priorities. */
  readonly maxQueueSizes: ReadonlyMap<number, number> | undefined;
  /** Default of how long a request may wait, in ms; 0 for ever. */
  readonly requestTimeoutMs: number;
  /** Priority of a request that names none, or one above `priorityLevels`. */
  readonly defaultPriority: number;
  readonly priorityLevels: number;
  /** How long a request of a priority may wait in place of `requestTimeoutMs`, for some priorities. */
  readonly timeoutsMs: ReadonlyMap<number, number> | undefined;
  /** What becomes of a request that has waited for that long without having named a timeout itself. */
  readonly timeoutAction: TimeoutAction;
  /** The same in place of `timeoutAction`, for some priorities. */
  readonly timeoutActions: ReadonlyMap<number, TimeoutAction> | undefined;
}

/** The server's part in the rules of every model. */
export type QueueDefaults = Pick<RuntimeConfig, 'maxQueueSize' | 'requestTimeoutMs'>;

/** When a request has waited for too long, by the clock of its arrival; infinity for never. */
export interface WaitLimits {
  readonly priority: number;
  /** It is refused from then on. */
  readonly deadlineAt: number;
  /** It lets others go first from then on. */
  readonly delayAt: number;
}

/** What the settings of a model say, else the server. */
export function queueRulesOf(settings: ModelSettings, defaults: QueueDefaults): QueueRules {
  return {
    maxQueueSize: settings.maxQueueSize ?? defaults.maxQueueSize,
    maxQueueSizes: byPriority(settings, 'max_queue_size'),
    requestTimeoutMs: settings.requestTimeoutMs ?? defaults.requestTimeoutMs,
    defaultPriority: settings.defaultPriority ?? defaultPriority,
    priorityLevels: settings.priorityLevels ?? Number.POSITIVE_INFINITY,
    timeoutsMs: byPriority(settings, 'request_timeout_ms'),
    timeoutAction: settings.timeoutAction ?? 'reject',
    timeoutActions: byPriority(settings, 'timeout_action'),
  };
}

/** How long a request may wait that arrived at `arrivedAt`. */
export function waitLimitsOf(
  rules: QueueRules,
  request: Pick<InferCall, 'priority' | 'timeoutMs'>,
  arrivedAt: number,
): WaitLimits {
  const priority = priorityOf(request.priority, rules);
  const own = request.timeoutMs || undefined;
  const timeoutMs = own ?? rules.timeoutsMs?.get(priority) ?? rules.requestTimeoutMs;
  const timeoutAt = timeoutMs > 0 ? arrivedAt + timeoutMs : Number.POSITIVE_INFINITY;
  const action = own ? 'reject' : (rules.timeoutActions?.get(priority) ?? rules.timeoutAction);
  return {
    priority,
    deadlineAt: action === 'delay' ? Number.POSITIVE_INFINITY : timeoutAt,
    delayAt: action === 'delay' ? timeoutAt : Number.POSITIVE_INFINITY,
  };
}

function priorityOf(wanted: number | undefined, { defaultPriority, priorityLevels }: QueueRules): number {
  return wanted && wanted <= priorityLevels ? wanted : defaultPriority;
}

function byPriority<Key extends keyof QueuePolicy>(
  { queuePolicies = {} }: ModelSettings,
  key: Key,
): ReadonlyMap<number, NonNullable<QueuePolicy[Key]>> | undefined {
  const values = Object.entries(queuePolicies).flatMap(
    ([priority, policy]): [number, NonNullable<QueuePolicy[Key]>][] => {
      const value = policy[key];
      return value === undefined ? [] : [[Number(priority), value]];
    },
  );
  return values.length === 0 ? undefined : new Map(values);
}
