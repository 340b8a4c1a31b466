import type { ReportComparison } from './compare.js';
import type { LoadReport } from './report.js';

/** Lays out rows as columns; the first row is the heading, all columns but the first are right-aligned. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** A number with about three significant digits. */
export function shortNumber(value: number): string {
  if (!Number.isFinite(value)) return '-';
  const magnitude = Math.abs(value);
  if (magnitude >= 100 || value === 0) return value.toFixed(0);
  return value.toFixed(magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3);
}

/** The report as text for a terminal: one line a load, then what is doubtful about it. */
export function reportText(report: LoadReport): string {
  const rows = [
    ['load', 'req/s', 'rows/s', 'p50 ms', 'p90', 'p99', 'p99.9', 'max', 'failed', 'stable'],
    ...report.results.map((result) => [
      result.name,
      shortNumber(result.requestsPerSecond),
      shortNumber(result.rowsPerSecond),
      ...[
        result.latencyMs.p50,
        result.latencyMs.p90,
        result.latencyMs.p99,
        result.latencyMs.p999,
        result.latencyMs.max,
      ].map(shortNumber),
      String(result.requests.failed),
      result.isStable ? 'yes' : 'NO',
    ]),
  ];
  return [textTable(rows), ...stageLines(report), ...doubts(report)].join('\n');
}

function stageLines(report: LoadReport): string[] {
  const withStages = report.results.flatMap(({ name, stages }) => (stages ? [{ name, ...stages }] : []));
  if (withStages.length === 0) return [];
  return [
    '',
    textTable([
      ['inside the server, mean us', 'queue', 'input', 'infer', 'output', 'total', 'rows/batch'],
      ...withStages.map((stages) => [
        stages.name,
        ...[
          stages.queueUs,
          stages.inputUs,
          stages.inferUs,
          stages.outputUs,
          stages.totalUs,
          stages.meanBatchRows,
        ].map(shortNumber),
      ]),
    ]),
  ];
}

function doubts(report: LoadReport): string[] {
  const lines = report.results.flatMap((result) => {
    const { name, requests, generator } = result;
    const found: string[] = [];
    if (!result.isStable) {
      found.push(
        `${name}: not stable: no three windows in a row agreed within ${report.settings.tolerance * 100} %`,
      );
    }
    for (const [reason, count] of Object.entries(requests.failures))
      found.push(`${name}: ${count} x ${reason}`);
    if (requests.warmupFailed > 0) found.push(`${name}: ${requests.warmupFailed} failed while warming up`);
    if (generator.isLate) {
      found.push(
        `${name}: the generator was late (p99 ${shortNumber(generator.latenessMs.p99)} ms): doubtful`,
      );
    }
    if (generator.isBusy) {
      found.push(`${name}: the generator used ${generator.cpuShare.toFixed(2)} cores: it may be the limit`);
    }
    return found;
  });
  return lines.length > 0 ? ['', ...lines] : [];
}

/** A comparison as text for a terminal. */
export function comparisonText(comparison: ReportComparison): string {
  const times = (value: number): string => (Number.isFinite(value) ? `${value.toFixed(3)}x` : '-');
  const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
  const table = textTable([
    ['load', 'throughput', 'p50', 'p99', 'failed before', 'after', 'stable', 'regressed'],
    ...comparison.loads.map((load) => [
      load.name,
      times(load.throughputRatio),
      times(load.p50Ratio),
      times(load.p99Ratio),
      percent(load.failedShare[0]),
      percent(load.failedShare[1]),
      load.isStable ? 'yes' : 'NO',
      load.regressions.join(', ') || '-',
    ]),
  ]);
  return [table, ...comparison.unmatched.map((name) => `${name}: only in one of the reports`)].join('\n');
}
