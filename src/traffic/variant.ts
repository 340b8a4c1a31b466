import type { VariantSettings } from '../config/traffic-settings.js';
import { Histogram, latencyBounds } from '../observe/histogram.js';
import { VariantStats } from '../observe/variant-stats.js';
import { OutcomeWindow } from './outcome-window.js';
import { hashText } from './sticky-key.js';
import { targetOf, type VariantTarget } from './variant-target.js';

/** What says nothing about a variant: the caller went away, or the server ends. */
const innocentCodes: ReadonlySet<string> = new Set(['SRV_CANCELLED', 'SRV_SHUTTING_DOWN']);

/** A weighted choice behind a public name, and what has become of the requests that it got. */
export class Variant {
  readonly tag: string;
  readonly target: VariantTarget;
  /** Hash of its tag under its public name, so that two names with equal tags part their keys differently. */
  readonly hash: number;
  weight: number;
  /** Requests by outcome: `ok` or an error code. */
  readonly outcomes = new Map<string, number>();
  /** Of the requests that were answered. */
  readonly seconds = new Histogram(latencyBounds);
  readonly window: OutcomeWindow;
  /** Its part in the numbers of the versions that it meant. */
  readonly stats = new VariantStats();
  /** Requests that a guard counts, and those of them that failed. */
  requests = 0;
  errors = 0;
  /** Requests meant for it while it was not ready. */
  notReady = 0;

  /** @param name the public name */
  constructor(name: string, settings: VariantSettings, windowMs: number) {
    this.tag = settings.tag;
    this.target = targetOf(name, settings);
    this.hash = hashText(`${name}\n${settings.tag}`);
    this.weight = settings.weight;
    this.window = new OutcomeWindow(windowMs);
  }

  /** @param wasWaking whether it waited for its model to be loaded, for which no variant is judged */
  recordAnswer(now: number, seconds: number, wasWaking = false): void {
    this.outcomes.set('ok', (this.outcomes.get('ok') ?? 0) + 1);
    this.seconds.record(seconds);
    if (wasWaking) return;
    this.requests += 1;
    this.window.record(now, seconds);
  }

  recordFailure(now: number, code: string): void {
    this.outcomes.set(code, (this.outcomes.get(code) ?? 0) + 1);
    if (innocentCodes.has(code)) return;
    this.requests += 1;
    this.errors += 1;
    this.window.record(now, undefined);
  }
}
