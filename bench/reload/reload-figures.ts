import type { LoadResult } from '../../src/loadtest/report.js';
import { textTable } from '../../src/loadtest/text-table.js';
import { median, medianRatio } from '../median.js';
import type { BarSpec } from '../scenario.js';
import { type ReloadRounds, settledAfter } from './reload-rounds.js';
import type { CheckedLoadResult } from './start-load.js';

const p99 = 'p99 with reloads over that without';
const longest = 'longest answer with reloads, over the p99 without';
const memory = `PSS after the last reload over that after ${settledAfter}`;

/** The bars of reloading, for a server of this name. */
export function reloadBars(name: string): BarSpec[] {
  return [
    { name: `${name}: ${p99}`, unit: 'x', limit: { atMost: 1.3 } },
    { name: `${name}: ${longest}`, unit: 'ms', limit: { atMost: 50 } },
    { name: `${name}: ${memory}`, unit: 'x', limit: { atMost: 1.1 } },
  ];
}

/** What those bars are compared with. */
export function reloadMeasures(name: string, found: ReloadRounds): Record<string, number> {
  const { without, during, pssMb } = found;
  const p99s = (results: readonly CheckedLoadResult[]): number[] =>
    results.map((result) => result.latencyMs.p99);
  return {
    [`${name}: ${p99}`]: medianRatio(p99s(during), p99s(without)),
    [`${name}: ${longest}`]: longestOf(during) - median(p99s(without)),
    [`${name}: ${memory}`]: pssMb.at(-1)! / pssMb[0]!,
  };
}

/** Latencies without and with reloads, one line each, of servers by name. */
export function reloadTable(byName: Readonly<Record<string, ReloadRounds>>): string {
  const cells = (results: readonly CheckedLoadResult[]): string[] => {
    const middle = (figure: (latency: LoadResult['latencyMs']) => number): string =>
      median(results.map((result) => figure(result.latencyMs))).toFixed(2);
    return [
      middle((latency) => latency.p50),
      middle((latency) => latency.p99),
      middle((latency) => latency.p999),
      longestOf(results).toFixed(2),
      median(results.map(({ generator }) => generator.latenessMs.p99)).toFixed(2),
      Math.max(...results.map(({ generator }) => generator.latenessMs.max)).toFixed(2),
    ];
  };
  return textTable([
    ['server', 'reloads', 'req/s', 'p50 ms', 'p99 ms', 'p99.9 ms', 'longest', 'sent late p99', 'most'],
    ...Object.entries(byName).flatMap(([name, found]) => [
      [name, 'without', String(found.ratePerSecond), ...cells(found.without)],
      [name, 'with', String(found.ratePerSecond), ...cells(found.during)],
    ]),
  ]);
}

/** What a reader of the bars ought to know of one server. */
export function reloadNote(name: string, found: ReloadRounds): string {
  const { reloads, pssMb, serverAloneMb, during, maximumPerSecond } = found;
  const times = reloads.flatMap(({ firstAnswerMs }) => firstAnswerMs ?? []);
  const answers = [...found.without, ...during].reduce((sum, { requests }) => sum + requests.succeeded, 0);
  const range = (values: readonly number[]): string =>
    `${values[0]!.toFixed(0)} MB after ${settledAfter} reloads, then ${values.at(-1)!.toFixed(0)} MB, most ${Math.max(...values).toFixed(0)} MB`;
  return (
    `${name}: ${maximumPerSecond.toFixed(0)} req/s at most; ${reloads.length} reloads, from rename to first answer ` +
    `${median(times).toFixed(0)} ms, at most ${Math.max(...times).toFixed(0)} ms; ${answers} answers checked; ` +
    `PSS ${range(pssMb)}; the server alone ${range(serverAloneMb)}`
  );
}

function longestOf(results: readonly CheckedLoadResult[]): number {
  return Math.max(...results.map((result) => result.latencyMs.max));
}
