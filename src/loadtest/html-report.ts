import type { LoadReport, LoadResult } from './report.js';
import { escapeHtml, lineChart, stackedBars } from './svg-chart.js';
import { reportText } from './text-table.js';

const style = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 860px; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
pre { overflow-x: auto; background: #f4f4f4; padding: 1rem; font-size: 13px; line-height: 1.4 }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #444 } .grid { stroke: #ddd }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem } dt { color: #666 } dd { margin: 0 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } pre { background: #242424 } svg text { fill: #bbb } .grid { stroke: #383838 } dt { color: #999 }
}`;

/** A report as one HTML page that needs nothing else: charts are inline SVG, no script, no network. */
export function htmlReport(report: LoadReport): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(`Load test of ${report.target}`)}</title><style>${style}</style></head>
<body><h1>Load test of ${escapeHtml(report.target)}</h1>
<dl>${facts(report)
    .map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`)
    .join('')}</dl>
<pre>${escapeHtml(reportText(report))}</pre>
${charts(report)}
</body></html>
`;
}

function facts({ environment, settings, ...report }: LoadReport): [string, string][] {
  return [
    ['started', report.startedAt],
    ['load generator', `${environment.cpu}, ${environment.cores} cores, ${environment.platform}`],
    ['node', environment.node],
    [
      'windows',
      `${settings.windowMs} ms each, at most ${settings.maxWindows}, after ${settings.warmupMs} ms`,
    ],
    [
      'stability',
      `three windows within ${settings.tolerance * 100} %: throughput, p${settings.stabilityPercentile}`,
    ],
    ...Object.entries(report.labels),
  ];
}

function charts(report: LoadReport): string {
  const closed = report.results.filter((result) => result.load.kind === 'closed');
  const open = report.results.filter((result) => result.load.kind === 'open');
  return [
    ...loadCharts('concurrency', closed),
    ...loadCharts('rate', open),
    ...stageCharts(report.results),
  ].join('\n');
}

function loadCharts(axis: string, results: readonly LoadResult[]): string[] {
  if (results.length === 0) return [];
  const categories = results.map(shortName);
  const latency = (['p50', 'p90', 'p99', 'p999', 'max'] as const).map((key) => ({
    label: key === 'p999' ? 'p99.9' : key,
    values: results.map((result) => result.latencyMs[key]),
  }));
  const throughput = [
    { label: 'answered', values: results.map((result) => result.requestsPerSecond) },
    { label: 'failed', values: results.map((result) => result.requests.failed / result.seconds) },
  ];
  return [
    `<h2>Latency by ${axis}</h2>${lineChart(categories, latency, { unit: 'ms', isLogarithmic: true })}`,
    `<h2>Throughput by ${axis}</h2>${lineChart(categories, throughput, { unit: 'req/s' })}`,
  ];
}

function stageCharts(results: readonly LoadResult[]): string[] {
  const measured = results.flatMap((result) =>
    result.stages ? [{ name: shortName(result), ...result.stages }] : [],
  );
  if (measured.length === 0) return [];
  const known = (at: (typeof measured)[number]): number => at.queueUs + at.inputUs + at.inferUs + at.outputUs;
  const series = [
    { label: 'queue', values: measured.map((at) => at.queueUs) },
    { label: 'input', values: measured.map((at) => at.inputUs) },
    { label: 'infer', values: measured.map((at) => at.inferUs) },
    { label: 'output', values: measured.map((at) => at.outputUs) },
    { label: 'other', values: measured.map((at) => Math.max(0, at.totalUs - known(at))) },
  ];
  const bars = stackedBars(
    measured.map((at) => at.name),
    series,
    'us',
  );
  return [`<h2>Mean time inside the server, by stage</h2>${bars}`];
}

function shortName({ load }: LoadResult): string {
  return load.kind === 'closed' ? `c ${load.concurrency}` : `${load.ratePerSecond}/s`;
}
