import { ServingError } from '../errors.js';
import type { Load } from './load.js';
import type { BodyProtocol } from './request-body.js';
import type { StabilityPercentile } from './stability.js';

/** The flags of `onnx-serving bench` as they were written; absent ones are undefined. */
export interface BenchFlags {
  readonly url?: string;
  readonly inProcess?: boolean;
  readonly model?: string;
  readonly version?: string;
  readonly thread?: string;
  readonly protocol?: string;
  readonly concurrency?: string;
  readonly rate?: string;
  readonly arrival?: string;
  readonly duration?: string;
  readonly warmup?: string;
  readonly maxWindows?: string;
  readonly stability?: string;
  readonly rows?: string;
  readonly samples?: string;
  readonly input?: string;
  readonly shape?: readonly string[];
  readonly range?: readonly string[];
  readonly seed?: string;
  readonly timeout?: string;
  readonly json?: string;
  readonly html?: string;
}

/** What the flags ask for, as typed values. */
export interface BenchPlan {
  readonly model: string;
  /** Absent: in process. */
  readonly url: string | undefined;
  readonly version: string | undefined;
  readonly threads: number | undefined;
  readonly protocol: BodyProtocol;
  readonly loads: readonly Load[];
  readonly windowMs: number;
  readonly warmupMs: number;
  readonly maxWindows: number;
  readonly stabilityPercentile: StabilityPercentile;
  readonly rows: number;
  readonly samples: number;
  readonly input: string | undefined;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly ranges: Readonly<Record<string, readonly [number, number]>>;
  readonly seed: number;
  readonly timeoutMs: number;
}

/** Defaults of the flags, in the flags' own spelling, so that help and parser agree. */
export const benchDefaults = {
  protocol: 'json',
  concurrency: '1,8,64',
  arrival: 'fixed',
  duration: '5',
  warmup: '2',
  maxWindows: '10',
  stability: 'p50',
  rows: '1',
  samples: '32',
  seed: '1',
  timeout: '30000',
} as const;

/**
 * Turns flags into a plan.
 *
 * @throws SRV_BAD_CONFIG with every problem found, one a line
 */
export function benchPlan(flags: BenchFlags): BenchPlan {
  const problems: string[] = [];
  const refuse = (problem: string): undefined => void problems.push(problem);
  const number = (flag: string, text: string, lowest: number, isWhole: boolean): number => {
    const value = Number(text);
    if (
      text.trim() !== '' &&
      value >= lowest &&
      Number.isFinite(value) &&
      (!isWhole || Number.isInteger(value))
    ) {
      return value;
    }
    refuse(`--${flag} ${text}: expected ${isWhole ? 'a whole number' : 'a number'} of at least ${lowest}`);
    return lowest;
  };
  const choice = <Name extends string>(flag: string, text: string, names: readonly Name[]): Name => {
    const found = names.find((name) => name === text);
    if (!found) refuse(`--${flag} ${text}: expected ${names.join(' or ')}`);
    return found ?? (names[0] as Name);
  };

  const isInProcess = flags.inProcess ?? false;
  if (isInProcess === (flags.url !== undefined)) refuse('give either --url or --in_process');
  if (!flags.model) refuse(`--model is missing: the ${isInProcess ? 'path' : 'name'} of the model to load`);
  if (isInProcess && flags.protocol !== undefined) refuse('--protocol does not go with --in_process');
  if (!isInProcess && flags.thread !== undefined) refuse('--thread goes with --in_process alone');
  if (flags.rate === undefined && flags.arrival !== undefined) refuse('--arrival goes with --rate alone');
  if (flags.rate !== undefined && flags.concurrency !== undefined) {
    refuse('give either --concurrency (closed loop) or --rate (open loop)');
  }
  if (isInProcess && flags.version !== undefined) number('version', flags.version, 1, true);
  for (const flag of ['shape', 'range'] as const) {
    if (flags.input !== undefined && flags[flag]) refuse(`--${flag} does not go with --input`);
  }

  const seed = number('seed', flags.seed ?? benchDefaults.seed, 0, true);
  const arrival = choice('arrival', flags.arrival ?? benchDefaults.arrival, ['fixed', 'poisson']);
  const list = (flag: string, text: string, lowest: number, isWhole: boolean): number[] =>
    [...new Set(text.split(','))].map((part) => number(flag, part, lowest, isWhole));
  const loads: Load[] =
    flags.rate === undefined
      ? list('concurrency', flags.concurrency ?? benchDefaults.concurrency, 1, true).map((concurrency) => ({
          kind: 'closed',
          concurrency,
        }))
      : list('rate', flags.rate, 0.001, false).map((ratePerSecond) => ({
          kind: 'open',
          ratePerSecond,
          arrival,
          seed,
        }));
  const plan: BenchPlan = {
    model: flags.model ?? '',
    url: flags.url,
    version: flags.version,
    threads: flags.thread === undefined ? undefined : number('thread', flags.thread, 1, true),
    protocol: choice('protocol', flags.protocol ?? benchDefaults.protocol, ['json', 'binary']),
    loads,
    windowMs: number('duration', flags.duration ?? benchDefaults.duration, 0.05, false) * 1000,
    warmupMs: number('warmup', flags.warmup ?? benchDefaults.warmup, 0, false) * 1000,
    maxWindows: number('max_windows', flags.maxWindows ?? benchDefaults.maxWindows, 1, true),
    stabilityPercentile:
      choice('stability', flags.stability ?? benchDefaults.stability, ['p50', 'p99']) === 'p99' ? 99 : 50,
    rows: number('rows', flags.rows ?? benchDefaults.rows, 1, true),
    samples: number('samples', flags.samples ?? benchDefaults.samples, 1, true),
    input: flags.input,
    shapes: byInput('shape', flags.shape ?? [], refuse, (numbers) =>
      numbers.every((dim) => Number.isInteger(dim) && dim >= 0) ? numbers : undefined,
    ),
    ranges: byInput('range', flags.range ?? [], refuse, ([low, high, ...more]) =>
      low !== undefined && high !== undefined && low <= high && more.length === 0
        ? ([low, high] as const)
        : undefined,
    ),
    seed,
    timeoutMs: number('timeout', flags.timeout ?? benchDefaults.timeout, 1, true),
  };
  if (problems.length > 0) throw new ServingError('SRV_BAD_CONFIG', problems.join('\n'));
  return plan;
}

/** Reads `name:1,16`. The last colon parts, since names may hold colons. */
function byInput<Value>(
  flag: 'shape' | 'range',
  texts: readonly string[],
  refuse: (problem: string) => void,
  accept: (numbers: number[]) => Value | undefined,
): Record<string, Value> {
  const found: Record<string, Value> = {};
  for (const text of texts) {
    const colon = text.lastIndexOf(':');
    const parts = text.slice(colon + 1).split(',');
    const numbers = parts.map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
    const value = colon > 0 && !numbers.some(Number.isNaN) ? accept(numbers) : undefined;
    if (value === undefined) {
      refuse(`--${flag} ${text}: expected ${flag === 'shape' ? 'name:1,16' : 'name:lowest,highest'}`);
    } else {
      found[text.slice(0, colon)] = value;
    }
  }
  return found;
}
