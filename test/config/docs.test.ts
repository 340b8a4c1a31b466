import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configurationPage, modelJsonPage, monitorOptionsTable } from '../../src/config/document.js';

const pages = [
  ['configuration.md', configurationPage()],
  ['model-json.md', modelJsonPage()],
] as const;

test('docs/monitor.md has the options of the schema', () => {
  const file = fileURLToPath(new URL('../../../docs/monitor.md', import.meta.url));
  const page = readFileSync(file, 'utf8');
  const table = /\| option \| takes .*?(?=\n\n)/s;
  assert.match(page, table);
  const fresh = page.replace(table, () => monitorOptionsTable());
  if (process.env.UPDATE_DOCS === '1') writeFileSync(file, fresh);
  assert.equal(
    readFileSync(file, 'utf8'),
    fresh,
    'docs/monitor.md is stale: run UPDATE_DOCS=1 node --test dist/test/config/docs.test.js',
  );
});

for (const [name, text] of pages) {
  test(`docs/${name} says what the schema says`, () => {
    const file = fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));
    if (process.env.UPDATE_DOCS === '1') writeFileSync(file, text);
    assert.equal(
      readFileSync(file, 'utf8'),
      text,
      `docs/${name} is stale: run UPDATE_DOCS=1 node --test dist/test/config/docs.test.js`,
    );
  });
}
