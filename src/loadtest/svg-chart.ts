import { shortNumber } from './text-table.js';

const width = 720;
const height = 300;
const margin = { left: 64, right: 150, top: 30, bottom: 44 };
const plotWidth = width - margin.left - margin.right;
const plotHeight = height - margin.top - margin.bottom;

/** Colours that stay apart for colour-blind readers (Okabe and Ito). */
const colours = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9'];

/** One line or one layer of bars: a value for each category. */
export interface Series {
  readonly label: string;
  readonly values: readonly number[];
}

/** Text made safe for element content and attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Lines over evenly spaced categories. `isLogarithmic` suits latencies: a p99.9 would flatten the rest. */
export function lineChart(
  categories: readonly string[],
  series: readonly Series[],
  options: { readonly unit: string; readonly isLogarithmic?: boolean },
): string {
  const values = series.flatMap((line) => line.values).filter((value) => value > 0);
  const scale = options.isLogarithmic ? logScale(values) : linearScale(values);
  const x = centres(categories.length);
  const lines = series.map((line, i) => {
    const colour = colours[i % colours.length];
    const points = line.values.map((value, at) => [x[at] ?? 0, scale.y(value)] as const);
    const dots = points.map(([cx, cy], at) =>
      tooltip(
        `<circle cx="${cx}" cy="${cy}" r="4" fill="${colour}">`,
        'circle',
        `${categories[at]}: ${line.label} ${shortNumber(line.values[at] ?? 0)} ${options.unit}`,
      ),
    );
    return `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${points.join(' ')}"/>${dots.join('')}`;
  });
  return frame(categories, series, scale, options.unit, lines.join(''));
}

/** One bar a category, its layers in the order of the series. */
export function stackedBars(categories: readonly string[], series: readonly Series[], unit: string): string {
  const sums = categories.map((_, at) => series.reduce((sum, layer) => sum + (layer.values[at] ?? 0), 0));
  const scale = linearScale(sums);
  const x = centres(categories.length);
  const barWidth = Math.min(56, (plotWidth / categories.length) * 0.6);
  const bars = categories.map((category, at) => {
    let base = 0;
    return series
      .map((layer, i) => {
        const value = layer.values[at] ?? 0;
        const top = scale.y(base + value);
        const rectangle = `<rect x="${(x[at] ?? 0) - barWidth / 2}" y="${top}" width="${barWidth}" height="${scale.y(base) - top}" fill="${colours[i % colours.length]}">`;
        base += value;
        return tooltip(rectangle, 'rect', `${category}: ${layer.label} ${shortNumber(value)} ${unit}`);
      })
      .join('');
  });
  return frame(categories, series, scale, unit, bars.join(''));
}

interface Scale {
  readonly ticks: readonly number[];
  y(value: number): number;
}

function linearScale(values: readonly number[]): Scale {
  const highest = Math.max(...values, 1e-9);
  const magnitude = 10 ** Math.floor(Math.log10(highest / 4));
  const step = ([1, 2, 5, 10].find((factor) => highest / 4 <= factor * magnitude) ?? 10) * magnitude;
  const top = Math.ceil(highest / step) * step;
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, i) => i * step);
  return { ticks, y: (value) => round(margin.top + plotHeight * (1 - value / top)) };
}

function logScale(values: readonly number[]): Scale {
  const low = Math.floor(Math.log10(Math.min(...values, 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values, 1))));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  return {
    ticks,
    y(value) {
      const share = (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low);
      return round(margin.top + plotHeight * (1 - share));
    },
  };
}

function centres(count: number): number[] {
  return Array.from({ length: count }, (_, i) => round(margin.left + (plotWidth * (i + 0.5)) / count));
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function tooltip(open: string, tag: string, text: string): string {
  return `${open}<title>${escapeHtml(text)}</title></${tag}>`;
}

function frame(
  categories: readonly string[],
  series: readonly Series[],
  scale: Scale,
  unit: string,
  content: string,
): string {
  const x = centres(categories.length);
  const grid = scale.ticks.map(
    (tick) =>
      `<line x1="${margin.left}" x2="${margin.left + plotWidth}" y1="${scale.y(tick)}" y2="${scale.y(tick)}" class="grid"/>` +
      `<text x="${margin.left - 8}" y="${scale.y(tick) + 4}" text-anchor="end">${shortNumber(tick)}</text>`,
  );
  const names = categories.map(
    (category, at) =>
      `<text x="${x[at]}" y="${height - margin.bottom + 20}" text-anchor="middle">${escapeHtml(category)}</text>`,
  );
  const legend = series.map((entry, i) => {
    const y = margin.top + 8 + i * 20;
    const left = width - margin.right + 16;
    return (
      `<rect x="${left}" y="${y - 9}" width="12" height="12" fill="${colours[i % colours.length]}"/>` +
      `<text x="${left + 18}" y="${y + 1}">${escapeHtml(entry.label)}</text>`
    );
  });
  return (
    `<svg viewBox="0 0 ${width} ${height}" role="img">${grid.join('')}` +
    `<text x="${margin.left - 8}" y="${margin.top - 12}" text-anchor="end">${escapeHtml(unit)}</text>` +
    `${names.join('')}${content}${legend.join('')}</svg>`
  );
}
