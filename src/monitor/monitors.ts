import { systemClock } from '../batching/clock.js';
import type { MonitorConfig } from '../config/monitor-settings.js';
import { endedBy } from '../remote/abort.js';
import type { FetchProgress } from '../remote/remote-store.js';
import { IdleLimit } from './idle-limit.js';
import { Monitor, type MonitorDependencies } from './monitor.js';
import type { ChooseVersions } from './remote-versions.js';
import { shownOptions } from './shown-options.js';

/** What a monitor has done, as it is shown. */
export interface MonitorFigures {
  /** The name of the model that it brings. */
  readonly monitor: string;
  /** Looks by how they ended. */
  readonly looks: Readonly<Record<string, number>>;
  readonly bytes: number;
  readonly failuresInARow: number;
}

/** What the monitors of a server work with. */
export interface MonitorsOptions extends Pick<MonitorDependencies, 'logger' | 'clock' | 'openStore'> {
  /** What all of them together are fetching; undefined when that has ended. */
  readonly onProgress?: (progress: FetchProgress | undefined) => void;
  /** Called when it becomes known why there is no model in a directory yet. */
  readonly onAbsence?: (directory: string) => void;
}

/** More than the usual interval, because some models have to be seen twice. */
const startSilenceMs = 20_000;

interface Running {
  readonly monitor: Monitor;
  readonly stop: AbortController;
  readonly first: Promise<void>;
  readonly ended: Promise<void>;
}

/** The monitors of a server: they run beside serving until it ends, or their models are not asked for any more. */
export class Monitors {
  readonly #options: MonitorsOptions;
  readonly #stop = new AbortController();
  /** By the directory of the model that each brings. */
  readonly #running = new Map<string, Running>();
  readonly #ending = new Map<string, Promise<void>>();
  readonly #progress = new Map<Monitor, FetchProgress>();
  #starting: IdleLimit | undefined;

  constructor(options: MonitorsOptions) {
    this.#options = options;
  }

  /**
   * Makes a monitor, which does nothing before it is begun.
   *
   * @param chooseVersions as in `MonitorDependencies`
   * @throws SRV_BAD_CONFIG when its address is none
   */
  make(config: MonitorConfig, chooseVersions?: ChooseVersions): Monitor {
    const { logger, clock, openStore, onAbsence } = this.#options;
    const monitor: Monitor = new Monitor(config, {
      ...(logger ? { logger } : {}),
      ...(clock ? { clock } : {}),
      ...(openStore ? { openStore } : {}),
      ...(chooseVersions ? { chooseVersions } : {}),
      onProgress: (progress) => this.#onProgress(monitor, progress),
      onHeard: () => this.heard(),
      onAbsence: () => onAbsence?.(monitor.target),
    });
    return monitor;
  }

  /** Begins a monitor. Its first look comes when that of a monitor of before at the same place has ended. */
  begin(monitor: Monitor): void {
    const { target } = monitor;
    if (this.#stop.signal.aborted || this.#running.has(target)) return;
    const options = Object.fromEntries(shownOptions(monitor.config));
    this.#options.logger?.info(options, `monitoring ${monitor.config.localModelName}`);
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, stop.signal]);
    const begun = (this.#ending.get(target) ?? Promise.resolve()).then(() => monitor.isInstalled());
    // A model that is there is served at once and replaced later.
    const first = begun.then((isInstalled) => (isInstalled ? undefined : monitor.lookFirst(signal)));
    const ended = begun.then(async (isInstalled) => {
      await first;
      await monitor.run(signal, { hasLooked: !isInstalled });
    });
    this.#running.set(target, { monitor, stop, first, ended });
  }

  /**
   * Ends the monitor that brings the model of a directory, and waits for it; what it brought stays.
   *
   * @param monitor where another one than this does, it goes on. @default whichever it is
   */
  async end(target: string, monitor?: Monitor): Promise<void> {
    const running = this.#running.get(target);
    if (!running || (monitor && running.monitor !== monitor)) return;
    this.#running.delete(target);
    this.#ending.set(target, running.ended);
    running.stop.abort();
    await running.ended;
    this.#progress.delete(running.monitor);
    if (this.#ending.get(target) === running.ended) this.#ending.delete(target);
  }

  /**
   * Of models that are not there yet the first look is waited for, whatever comes of it, so that a server finds them.
   */
  async firstLooks(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ first }) => first));
  }

  /**
   * Waits for what a start begins with, as long as something comes. A place that says nothing for 20 s is not waited for: its
   * models come later.
   *
   * @throws what the work throws
   */
  async whileHeard(work: Promise<void>): Promise<void> {
    const { clock = systemClock, logger } = this.#options;
    const outer = this.#stop.signal;
    const idle = new IdleLimit({ clock, ms: startSilenceMs, label: 'the models that lie elsewhere', outer });
    this.#starting = idle;
    try {
      await endedBy(work, idle.signal);
    } catch (error) {
      if (!idle.signal.aborted) throw error;
      const waiting = [...this.#running.values()].flatMap(({ monitor }) => monitor.absence ?? []);
      if (!outer.aborted) logger?.warn(`the start goes on without models: ${waiting.join('; ')}`);
    } finally {
      idle.close();
      this.#starting = undefined;
    }
  }

  /** Something came of what `whileHeard` waits for. */
  heard(): void {
    this.#starting?.heard();
  }

  /** Whether there is one that brings the model of a directory. */
  has(directory: string): boolean {
    return this.#running.has(directory);
  }

  /** Whether there is any. */
  get hasAny(): boolean {
    return this.#running.size > 0;
  }

  /** Why there is no model in a directory yet; undefined where there is one, or no monitor brings it. */
  absenceOf(directory: string): string | undefined {
    return this.#running.get(directory)?.monitor.absence;
  }

  get counts(): readonly MonitorFigures[] {
    return [...this.#running.values()].map(({ monitor: { config, counts } }) => {
      const { installed, unchanged, absent, incomplete, changed, failed, bytes, failuresInARow } = counts;
      const looks = { installed, unchanged, absent, incomplete, changed, failed };
      return { monitor: config.localModelName, looks, bytes, failuresInARow };
    });
  }

  /** Ends what they are at and waits for it; idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all([...[...this.#running.values()].map(({ ended }) => ended), ...this.#ending.values()]);
  }

  #onProgress(monitor: Monitor, progress: FetchProgress | undefined): void {
    this.heard();
    if (progress) this.#progress.set(monitor, progress);
    else this.#progress.delete(monitor);
    this.#options.onProgress?.(sumOf([...this.#progress.values()]));
  }
}

function sumOf(all: readonly FetchProgress[]): FetchProgress | undefined {
  if (all.length === 0) return undefined;
  const sum = (of: (one: FetchProgress) => number): number =>
    all.reduce((before, one) => before + of(one), 0);
  const isKnown = all.every(({ totalBytes }) => totalBytes !== undefined);
  return {
    files: sum(({ files }) => files),
    bytes: sum(({ bytes }) => bytes),
    ...(isKnown ? { totalBytes: sum(({ totalBytes = 0 }) => totalBytes) } : {}),
  };
}
