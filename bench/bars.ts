import { textTable } from '../src/loadtest/text-table.js';
import type { BarSpec, Scenario, ScenarioResult } from './scenario.js';

/** What a line says about its bar. */
export type Verdict =
  | 'ok'
  | 'ok, aim met'
  | 'MISSED'
  | 'INVALID'
  | 'not measured'
  | 'SKIPPED'
  | 'does not apply';

/** One line of the bench's table. */
export interface BarLine extends BarSpec {
  readonly scenario: string;
  readonly measured: number | undefined;
  readonly verdict: Verdict;
}

/** The lines of a scenario. Without a result (it failed, or was not built) each says so. */
export function barLines(scenario: Scenario, outcome: ScenarioResult | Error): BarLine[] {
  return scenario.bars.map((bar) => {
    const measured = outcome instanceof Error ? undefined : outcome.measured[bar.name];
    return { ...bar, scenario: scenario.name, measured, verdict: verdictOf(bar, measured, outcome) };
  });
}

function verdictOf(bar: BarSpec, measured: number | undefined, outcome: ScenarioResult | Error): Verdict {
  if (outcome instanceof Error) return 'not measured';
  if (outcome.skipped !== undefined) return 'SKIPPED';
  if (outcome.invalid.length > 0) return 'INVALID';
  if (outcome.exempt?.includes(bar.name)) return 'does not apply';
  return measured === undefined ? 'not measured' : judge(bar, measured);
}

function judge({ limit, aim }: BarSpec, measured: number): Verdict {
  const keeps = (bound: number): boolean => ('atMost' in limit ? measured <= bound : measured >= bound);
  const isKept = keeps('atMost' in limit ? limit.atMost : limit.atLeast);
  if (!isKept) return 'MISSED';
  return aim !== undefined && keeps(aim) ? 'ok, aim met' : 'ok';
}

/** The table: name, measured, bar, aim, verdict. */
export function barTable(lines: readonly BarLine[]): string {
  return textTable([
    ['scenario: figure', 'measured', 'bar', 'aim', ''],
    ...lines.map(({ scenario, name, unit, measured, limit, aim, verdict }) => [
      `${scenario}: ${name}`,
      measured === undefined ? '-' : withUnit(measured, unit),
      'atMost' in limit ? `<= ${withUnit(limit.atMost, unit)}` : `>= ${withUnit(limit.atLeast, unit)}`,
      aim === undefined ? '' : withUnit(aim, unit),
      verdict,
    ]),
  ]);
}

function withUnit(value: number, unit: BarSpec['unit']): string {
  const digits = unit === 'x' ? 2 : Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}${unit === 'x' ? 'x' : ` ${unit}`}`;
}
