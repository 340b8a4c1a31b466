import type { Field, Fields } from './text-fields.js';

/** What becomes of the fields of a message, as a table in Markdown for `docs/`. */
export function fieldTable(fields: Fields): string {
  const rows = rowsOf(fields, '');
  return [
    '| field | what becomes of it |',
    '|---|---|',
    ...rows.map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n');
}

function rowsOf(fields: Fields, path: string): string[][] {
  return Object.entries(fields).flatMap(([name, field]) => {
    const text = textOf(field);
    const own = text === '' ? [] : [[`\`${path}${name}\``, text]];
    return typeof field.type === 'object' ? [...own, ...rowsOf(field.type, `${path}${name}.`)] : own;
  });
}

function textOf({ used, ignored, refused }: Field): string {
  const parts = [
    used,
    ignored === undefined ? undefined : `**ignored**: ${ignored}`,
    refused === undefined ? undefined : `**refused**: ${refused}`,
  ];
  return parts.filter((part) => part !== undefined).join('; ');
}
