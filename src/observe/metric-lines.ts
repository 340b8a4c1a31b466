/** Lines of Prometheus' text format. */
import type { Histogram } from './histogram.js';

/** Adds what a metric is called and means. */
export function head(lines: string[], name: string, type: string, help: string): void {
  lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
}

/** The value of a label, in its quotes. */
export function quoted(value: string): string {
  return `"${value.replace(/["\\\n]/g, (c) => (c === '\n' ? '\\n' : `\\${c}`))}"`;
}

/** The labels of a version. */
export function labels(model: string, version: number): string {
  return `model=${quoted(model)},version="${version}"`;
}

/** Adds the samples of a histogram. */
export function writeHistogram(lines: string[], name: string, labelText: string, histogram: Histogram): void {
  let total = 0;
  histogram.bounds.forEach((bound, index) => {
    total += histogram.counts[index]!;
    lines.push(`${name}_bucket{${labelText},le="${bound}"} ${total}`);
  });
  lines.push(
    `${name}_bucket{${labelText},le="+Inf"} ${histogram.count}`,
    `${name}_sum{${labelText}} ${histogram.sum}`,
    `${name}_count{${labelText}} ${histogram.count}`,
  );
}
