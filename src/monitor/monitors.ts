import type { MonitorConfig } from '../config/monitor-settings.js';
import { Monitor, type MonitorDependencies } from './monitor.js';
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

/** The monitors of a server: they run beside serving until it ends. */
export class Monitors {
  readonly #monitors: readonly Monitor[];
  readonly #dependencies: MonitorDependencies;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];

  /** @throws SRV_BAD_CONFIG when an address is none */
  constructor(configs: readonly MonitorConfig[], dependencies: MonitorDependencies) {
    this.#dependencies = dependencies;
    this.#monitors = configs.map((config) => new Monitor(config, dependencies));
  }

  /**
   * Starts them. Of a model that is not there yet the first look is waited for, whatever comes of it, so that a server
   * finds it; one that is there is served at once and replaced later.
   */
  async start(): Promise<void> {
    await Promise.all(
      this.#monitors.map(async (monitor) => {
        const options = Object.fromEntries(shownOptions(monitor.config));
        this.#dependencies.logger?.info(options, `monitoring ${monitor.config.localModelName}`);
        if (!(await monitor.isInstalled())) await monitor.look(this.#stop.signal);
        this.#running.push(monitor.run(this.#stop.signal));
      }),
    );
  }

  get counts(): readonly MonitorFigures[] {
    return this.#monitors.map(({ config, counts }) => {
      const { installed, unchanged, absent, changed, failed, bytes, failuresInARow } = counts;
      const looks = { installed, unchanged, absent, changed, failed };
      return { monitor: config.localModelName, looks, bytes, failuresInARow };
    });
  }

  /** Ends what they are at and waits for it; idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }
}
