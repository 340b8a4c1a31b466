/** The metrics of public names, their variants and shadows. */
import type { Histogram } from './histogram.js';
import { head, quoted, writeHistogram } from './metric-lines.js';
import type { VariantStats } from './variant-stats.js';

/** A variant's numbers at the time of a scrape. */
export interface VariantMetrics {
  readonly tag: string;
  readonly model: string;
  /** The version that it means now; undefined while it is not ready. */
  readonly version: number | undefined;
  readonly weight: number;
  /** Requests by outcome: `ok` or an error code. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly seconds: Histogram;
  readonly notReady: number;
  /** Its part in the numbers of versions. */
  readonly stats: VariantStats;
}

/** A shadow's numbers at the time of a scrape. */
export interface ShadowMetrics {
  readonly tag: string;
  readonly compared: number;
  readonly failed: number;
  readonly shed: number;
  readonly maxAbsDifference: number | undefined;
  readonly argmaxFlips: number;
  readonly argmaxRows: number;
  readonly latencyDifference: Histogram;
}

/** The numbers of one public name at the time of a scrape. */
export interface SplitMetrics {
  readonly name: string;
  readonly unkeyed: number;
  readonly stepsTaken: number;
  /** Variants that were taken out, by `<tag> <limit>`. */
  readonly rollbacks: ReadonlyMap<string, number>;
  readonly variants: readonly VariantMetrics[];
  readonly shadows: readonly ShadowMetrics[];
}

/** Adds the metrics of all public names. */
export function writeTraffic(lines: string[], splits: readonly SplitMetrics[]): void {
  writeVariants(lines, splits);
  writeShadows(lines, splits);
}

function writeVariants(lines: string[], splits: readonly SplitMetrics[]): void {
  const each = (write: (labelText: string, variant: VariantMetrics) => void): void => {
    for (const { name, variants } of splits) {
      for (const variant of variants) write(`model=${quoted(name)},variant="${variant.tag}"`, variant);
    }
  };
  head(
    lines,
    'onnx_serving_variant_requests_total',
    'counter',
    'Requests that variants answered, by outcome: ok or an error code.',
  );
  each((labelText, { outcomes }) => {
    for (const [code, count] of outcomes) {
      lines.push(`onnx_serving_variant_requests_total{${labelText},code="${code}"} ${count}`);
    }
  });
  head(
    lines,
    'onnx_serving_variant_seconds',
    'histogram',
    'Time from a decoded request to its answer, by variant.',
  );
  each((labelText, { seconds }) => writeHistogram(lines, 'onnx_serving_variant_seconds', labelText, seconds));
  head(lines, 'onnx_serving_variant_weight', 'gauge', 'Weights of variants.');
  each((labelText, { weight }) => lines.push(`onnx_serving_variant_weight{${labelText}} ${weight}`));
  head(
    lines,
    'onnx_serving_variant_info',
    'gauge',
    '1 for the version that a variant means now: joins the metrics of versions to variants.',
  );
  each((labelText, { model, version }) => {
    if (version === undefined) return;
    lines.push(`onnx_serving_variant_info{${labelText},target=${quoted(model)},version="${version}"} 1`);
  });
  head(
    lines,
    'onnx_serving_variant_not_ready_total',
    'counter',
    'Requests meant for a variant while it was not ready.',
  );
  each((labelText, { notReady }) =>
    lines.push(`onnx_serving_variant_not_ready_total{${labelText}} ${notReady}`),
  );
  head(
    lines,
    'onnx_serving_variant_rollbacks_total',
    'counter',
    'Variants that were taken out by their guard.',
  );
  for (const { name, rollbacks } of splits) {
    for (const [key, count] of rollbacks) {
      const [tag, limit] = key.split(' ');
      lines.push(
        `onnx_serving_variant_rollbacks_total{model=${quoted(name)},variant="${tag}",limit="${limit}"} ${count}`,
      );
    }
  }
  const total = (name: string, help: string, value: (split: SplitMetrics) => number): void => {
    head(lines, name, 'counter', help);
    for (const split of splits) lines.push(`${name}{model=${quoted(split.name)}} ${value(split)}`);
  };
  total(
    'onnx_serving_traffic_steps_total',
    'Steps that were taken by themselves.',
    ({ stepsTaken }) => stepsTaken,
  );
  total(
    'onnx_serving_traffic_unkeyed_total',
    'Requests without the key that their public name splits by.',
    ({ unkeyed }) => unkeyed,
  );
}

function writeShadows(lines: string[], splits: readonly SplitMetrics[]): void {
  const each = (write: (labelText: string, shadow: ShadowMetrics) => void): void => {
    for (const { name, shadows } of splits) {
      for (const shadow of shadows) write(`model=${quoted(name)},shadow="${shadow.tag}"`, shadow);
    }
  };
  head(
    lines,
    'onnx_serving_shadow_copies_total',
    'counter',
    'Copies for shadows, by result: compared, failed or shed.',
  );
  each((labelText, { compared, failed, shed }) => {
    for (const [result, count] of Object.entries({ compared, failed, shed })) {
      lines.push(`onnx_serving_shadow_copies_total{${labelText},result="${result}"} ${count}`);
    }
  });
  head(
    lines,
    'onnx_serving_shadow_max_abs_difference',
    'gauge',
    'Largest difference of two numbers between the answers of a shadow and those served.',
  );
  each((labelText, { maxAbsDifference }) => {
    if (maxAbsDifference === undefined) return;
    const value = maxAbsDifference === Number.POSITIVE_INFINITY ? '+Inf' : maxAbsDifference;
    lines.push(`onnx_serving_shadow_max_abs_difference{${labelText}} ${value}`);
  });
  head(
    lines,
    'onnx_serving_shadow_argmax_total',
    'counter',
    'Rows that were compared, by result: same or flipped.',
  );
  each((labelText, { argmaxFlips, argmaxRows }) => {
    lines.push(
      `onnx_serving_shadow_argmax_total{${labelText},result="same"} ${argmaxRows - argmaxFlips}`,
      `onnx_serving_shadow_argmax_total{${labelText},result="flipped"} ${argmaxFlips}`,
    );
  });
  head(
    lines,
    'onnx_serving_shadow_latency_difference_seconds',
    'histogram',
    'Latency of a shadow less that of the served answer.',
  );
  each((labelText, { latencyDifference }) =>
    writeHistogram(lines, 'onnx_serving_shadow_latency_difference_seconds', labelText, latencyDifference),
  );
}
