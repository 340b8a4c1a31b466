import { collectDefaultMetrics, Registry } from 'prom-client';
import { type Histogram, sumOf } from './histogram.js';
import { head, labels, quoted, writeHistogram } from './metric-lines.js';
import { type ModelStats, type RequestStats, requestStages, stages } from './model-stats.js';
import { type SplitMetrics, writeTraffic } from './traffic-metrics.js';

/** One version's numbers at the time of a scrape. */
export interface VersionMetrics {
  readonly model: string;
  readonly version: number;
  readonly stats: ModelStats;
  readonly queueSize: number;
  readonly inFlight: number;
  readonly fileBytes: number;
  /** Undefined where the warm-up is switched off. */
  readonly warmUp: { readonly requests: number; readonly failed: number; readonly ms: number } | undefined;
}

/** The runtime's numbers at the time of a scrape. */
export interface RuntimeMetrics {
  readonly versions: readonly VersionMetrics[];
  readonly devices: readonly {
    readonly device: string;
    readonly instances: number;
    readonly busyMs: number;
    readonly totalMs: number;
  }[];
  readonly queueBytes: number;
  readonly slabBytes: number;
  /** Requests that were refused before a version was found, by protocol and code. */
  readonly refusals: ReadonlyMap<string, number>;
  /** What the monitors of this process have done, by the name of the model that each brings. */
  readonly monitors: readonly {
    readonly monitor: string;
    readonly looks: Readonly<Record<string, number>>;
    readonly bytes: number;
    readonly failuresInARow: number;
  }[];
  /** What was done for tables in the background. */
  readonly upkeep: {
    readonly sound: number;
    readonly corrupt: number;
    readonly compacted: number;
    readonly notCompacted: number;
  };
  /** What has become of loads. */
  readonly lifecycle: {
    readonly loaded: number;
    readonly failed: number;
    /** Loads that failed, by model and code. */
    readonly failures: ReadonlyMap<string, ReadonlyMap<string, number>>;
    readonly unloaded: number;
    readonly rolledBack: number;
    readonly evicted: number;
    /** How often a request had a model loaded, and how long those requests waited for it, by model. */
    readonly firstUses: ReadonlyMap<string, { readonly count: number; readonly seconds: number }>;
  };
  /** Versions that ought to be served and cannot be. */
  readonly failed: readonly {
    readonly model: string;
    readonly version: number | undefined;
    readonly code: string;
  }[];
  /** Public names. */
  readonly traffic: readonly SplitMetrics[];
}

interface BusySample {
  readonly busyMs: number;
  readonly totalMs: number;
}

/**
 * Writes all metrics in Prometheus' text format. Names are fixed and documented in docs/metrics.md.
 *
 * Node's own metrics (heap, event-loop lag, CPU) come from prom-client; those of requests are written here, from
 * counters that cost nothing to keep.
 */
export class MetricsPage {
  readonly #registry = new Registry();
  readonly #collect: () => RuntimeMetrics;
  readonly #lastBusy = new Map<string, BusySample>();

  constructor(collect: () => RuntimeMetrics) {
    this.#collect = collect;
    collectDefaultMetrics({ register: this.#registry, prefix: 'onnx_serving_' });
  }

  async text(): Promise<string> {
    const numbers = this.#collect();
    const lines: string[] = [];
    this.#writeRequests(lines, numbers);
    this.#writeCounts(lines, numbers);
    this.#writeMonitors(lines, numbers);
    writeTraffic(lines, numbers.traffic);
    this.#writeDevices(lines, numbers);
    return `${lines.join('\n')}\n${await this.#registry.metrics()}`;
  }

  close(): void {
    this.#registry.clear();
  }

  #writeRequests(lines: string[], numbers: RuntimeMetrics): void {
    const { versions, refusals, queueBytes, slabBytes } = numbers;
    const shares = sharesOfVariants(numbers);
    head(
      lines,
      'onnx_serving_requests_total',
      'counter',
      'Requests answered, by outcome: ok or an error code.',
    );
    for (const [key, count] of refusals) {
      const [protocol, code] = key.split(' ');
      lines.push(
        `onnx_serving_requests_total{model="",version="",protocol="${protocol}",code="${code}"} ${count}`,
      );
    }
    for (const { model, version, stats } of versions) {
      writeOutcomes(lines, labels(model, version), '', stats);
    }
    for (const { labelText, variantText, counted } of shares) {
      writeOutcomes(lines, labelText, variantText, counted);
    }
    const used = versions.filter(({ stats }) => stats.stages.total.count > 0 || stats.executionCount > 0);
    head(lines, 'onnx_serving_stage_seconds', 'histogram', 'Time that requests spent in each stage.');
    for (const { model, version, stats } of used) {
      for (const stage of stages) {
        const histogram = stats.stages[stage];
        writeHistogram(
          lines,
          'onnx_serving_stage_seconds',
          `${labels(model, version)},stage="${stage}"`,
          histogram,
        );
      }
    }
    for (const { labelText, variantText, counted } of shares) {
      for (const stage of requestStages) {
        writeHistogram(
          lines,
          'onnx_serving_stage_seconds',
          `${labelText},stage="${stage}"${variantText}`,
          counted.stages[stage],
        );
      }
    }
    head(lines, 'onnx_serving_batch_rows', 'histogram', 'Rows of the batches that were run.');
    for (const { model, version, stats } of used) {
      writeHistogram(lines, 'onnx_serving_batch_rows', labels(model, version), stats.batchRows);
    }
    head(
      lines,
      'onnx_serving_gather_keys_total',
      'counter',
      'Keys looked up in tables, by result: found or missing.',
    );
    for (const { model, version, stats } of used) {
      const { looked, missing } = stats.gatheredKeys;
      if (looked === 0) continue;
      const named = `onnx_serving_gather_keys_total{${labels(model, version)}`;
      lines.push(`${named},result="found"} ${looked - missing}`, `${named},result="missing"} ${missing}`);
    }
    gauge(lines, 'onnx_serving_queue_depth', 'Requests that wait.', versions, ({ queueSize }) => queueSize);
    gauge(
      lines,
      'onnx_serving_in_flight',
      'Requests that are being run.',
      versions,
      ({ inFlight }) => inFlight,
    );
    gauge(
      lines,
      'onnx_serving_loaded_bytes',
      'Size of the files of loaded versions.',
      versions,
      ({ fileBytes }) => fileBytes,
    );
    const warmed = versions.filter(({ warmUp }) => warmUp !== undefined);
    gauge(
      lines,
      'onnx_serving_warm_up_seconds',
      'Duration of the warm-up on the slowest instance.',
      warmed,
      ({ warmUp }) => warmUp!.ms / 1000,
    );
    gauge(
      lines,
      'onnx_serving_warm_up_requests',
      'Requests that the warm-up ran on each instance.',
      warmed,
      ({ warmUp }) => warmUp!.requests,
    );
    gauge(
      lines,
      'onnx_serving_warm_up_failed',
      'Requests of the warm-up that failed and were passed over.',
      warmed,
      ({ warmUp }) => warmUp!.failed,
    );
    head(lines, 'onnx_serving_queue_bytes', 'gauge', 'Tensor bytes that wait or run.');
    lines.push(`onnx_serving_queue_bytes ${queueBytes}`);
    head(lines, 'onnx_serving_slab_bytes', 'gauge', 'Memory of all slabs.');
    lines.push(`onnx_serving_slab_bytes ${slabBytes}`);
  }

  #writeCounts(lines: string[], { upkeep, lifecycle, failed }: RuntimeMetrics): void {
    const write = (name: string, help: string, results: Readonly<Record<string, number>>): void => {
      head(lines, name, 'counter', help);
      for (const [result, count] of Object.entries(results)) {
        lines.push(`${name}{result="${result}"} ${count}`);
      }
    };
    write(
      'onnx_serving_table_verifications_total',
      'Tables that were verified in the background, by result: sound or corrupt.',
      { sound: upkeep.sound, corrupt: upkeep.corrupt },
    );
    write(
      'onnx_serving_table_compactions_total',
      'Chains of deltas that were folded in the background, by result: done or failed.',
      { done: upkeep.compacted, failed: upkeep.notCompacted },
    );
    write('onnx_serving_loads_total', 'Loads of versions, by result: ready or failed.', {
      ready: lifecycle.loaded,
      failed: lifecycle.failed,
    });
    head(lines, 'onnx_serving_load_failures_total', 'counter', 'Loads that failed, by error code.');
    for (const [model, codes] of lifecycle.failures) {
      for (const [code, count] of codes) {
        lines.push(`onnx_serving_load_failures_total{model=${quoted(model)},code="${code}"} ${count}`);
      }
    }
    head(
      lines,
      'onnx_serving_version_failed',
      'gauge',
      'Versions that ought to be served and cannot be, by error code.',
    );
    for (const { model, version, code } of failed) {
      const labelText = `model=${quoted(model)},version="${version ?? ''}",code="${code}"`;
      lines.push(`onnx_serving_version_failed{${labelText}} 1`);
    }
    head(lines, 'onnx_serving_unloads_total', 'counter', 'Versions that were unloaded.');
    lines.push(`onnx_serving_unloads_total ${lifecycle.unloaded}`);
    head(lines, 'onnx_serving_rollbacks_total', 'counter', 'Rollbacks to an earlier version.');
    lines.push(`onnx_serving_rollbacks_total ${lifecycle.rolledBack}`);
    head(lines, 'onnx_serving_evictions_total', 'counter', 'Models that were unloaded to make room.');
    lines.push(`onnx_serving_evictions_total ${lifecycle.evicted}`);
    head(lines, 'onnx_serving_first_uses_total', 'counter', 'Loads of models for a request.');
    for (const [model, { count }] of lifecycle.firstUses) {
      lines.push(`onnx_serving_first_uses_total{model=${quoted(model)}} ${count}`);
    }
    head(lines, 'onnx_serving_first_use_seconds_total', 'counter', 'Time that those requests waited.');
    for (const [model, { seconds }] of lifecycle.firstUses) {
      lines.push(`onnx_serving_first_use_seconds_total{model=${quoted(model)}} ${seconds}`);
    }
  }

  #writeMonitors(lines: string[], { monitors }: RuntimeMetrics): void {
    const label = (monitor: string): string => `monitor=${quoted(monitor)}`;
    head(
      lines,
      'onnx_serving_monitor_looks_total',
      'counter',
      'Looks of monitors at their done files, by result: installed, unchanged, absent, incomplete, changed or failed.',
    );
    for (const { monitor, looks } of monitors) {
      for (const [result, count] of Object.entries(looks)) {
        lines.push(`onnx_serving_monitor_looks_total{${label(monitor)},result="${result}"} ${count}`);
      }
    }
    head(
      lines,
      'onnx_serving_monitor_bytes_total',
      'counter',
      'Bytes of the models that monitors installed.',
    );
    for (const { monitor, bytes } of monitors) {
      lines.push(`onnx_serving_monitor_bytes_total{${label(monitor)}} ${bytes}`);
    }
    head(
      lines,
      'onnx_serving_monitor_failures_in_a_row',
      'gauge',
      'Failures of a monitor since something went well.',
    );
    for (const { monitor, failuresInARow } of monitors) {
      lines.push(`onnx_serving_monitor_failures_in_a_row{${label(monitor)}} ${failuresInARow}`);
    }
  }

  #writeDevices(lines: string[], { devices }: RuntimeMetrics): void {
    head(lines, 'onnx_serving_workers', 'gauge', 'Instances of a device.');
    for (const { device, instances } of devices) {
      lines.push(`onnx_serving_workers{device="${device}"} ${instances}`);
    }
    head(
      lines,
      'onnx_serving_worker_busy_seconds_total',
      'counter',
      'Time that instances were busy, summed.',
    );
    for (const { device, busyMs } of devices) {
      lines.push(`onnx_serving_worker_busy_seconds_total{device="${device}"} ${busyMs / 1000}`);
    }
    head(
      lines,
      'onnx_serving_worker_busy_ratio',
      'gauge',
      'Busy share of the instances since the last scrape.',
    );
    for (const { device, busyMs, totalMs } of devices) {
      const last = this.#lastBusy.get(device) ?? { busyMs: 0, totalMs: 0 };
      this.#lastBusy.set(device, { busyMs, totalMs });
      const ratio = totalMs > last.totalMs ? (busyMs - last.busyMs) / (totalMs - last.totalMs) : 0;
      lines.push(`onnx_serving_worker_busy_ratio{device="${device}"} ${ratio}`);
    }
  }
}

/** What a variant got of a version's requests. */
interface VariantShare {
  readonly labelText: string;
  readonly variantText: string;
  readonly counted: RequestStats;
}

/** Public names may have variants of one tag for one version: those are one share, as no series may come twice. */
function sharesOfVariants({ versions, traffic }: RuntimeMetrics): readonly VariantShare[] {
  const variants = traffic.flatMap((split) => split.variants);
  return versions.flatMap(({ model, version, stats }) => {
    const byTag = new Map<string, RequestStats[]>();
    for (const { tag, stats: ofVariant } of variants) {
      const counted = ofVariant.find(stats);
      if (counted) byTag.set(tag, [...(byTag.get(tag) ?? []), counted]);
    }
    return [...byTag].map(([tag, all]) => ({
      labelText: labels(model, version),
      variantText: `,variant="${tag}"`,
      counted: all.length === 1 ? all[0]! : joined(all),
    }));
  });
}

function joined(all: readonly RequestStats[]): RequestStats {
  const requests = new Map<string, Map<string, number>>();
  for (const one of all) {
    for (const [protocol, outcomes] of one.requests) {
      const sums = requests.get(protocol) ?? new Map<string, number>();
      requests.set(protocol, sums);
      for (const [code, count] of outcomes) sums.set(code, (sums.get(code) ?? 0) + count);
    }
  }
  const sum = (stage: (typeof requestStages)[number]): Histogram =>
    sumOf(all.map(({ stages }) => stages[stage]));
  const stages = { decode: sum('decode'), queue: sum('queue'), encode: sum('encode'), total: sum('total') };
  return { requests, stages };
}

function writeOutcomes(
  lines: string[],
  labelText: string,
  variantText: string,
  { requests }: RequestStats,
): void {
  for (const [protocol, outcomes] of requests) {
    for (const [code, count] of outcomes) {
      lines.push(
        `onnx_serving_requests_total{${labelText},protocol="${protocol}",code="${code}"${variantText}} ${count}`,
      );
    }
  }
}

function gauge(
  lines: string[],
  name: string,
  help: string,
  versions: readonly VersionMetrics[],
  value: (version: VersionMetrics) => number,
): void {
  head(lines, name, 'gauge', help);
  for (const version of versions) {
    lines.push(`${name}{${labels(version.model, version.version)}} ${value(version)}`);
  }
}
