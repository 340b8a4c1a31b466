import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fieldTable } from '../../src/repository/field-table.js';
import { modelsConfigFields } from '../../src/repository/models-config.js';
import { tritonFields } from '../../src/repository/triton-fields.js';

const tables = [
  ['models.config', fieldTable(modelsConfigFields)],
  ['config.pbtxt', fieldTable(tritonFields)],
] as const;

for (const [name, table] of tables) {
  test(`docs/models.md says what becomes of the fields of ${name}`, () => {
    const file = fileURLToPath(new URL('../../../docs/models.md', import.meta.url));
    const text = readFileSync(file, 'utf8');
    const marks = new RegExp(`(<!-- fields of ${name}[^\\n]*-->\\n)(.*?)(\\n<!-- end -->)`, 's');
    const found = marks.exec(text);
    assert.ok(found, `docs/models.md has a place for the fields of ${name}`);
    if (process.env.UPDATE_DOCS === '1') {
      writeFileSync(
        file,
        text.replace(marks, (_, before, _old, after) => before + table + after),
      );
      return;
    }
    assert.equal(
      found[2],
      table,
      'docs/models.md is stale: run UPDATE_DOCS=1 node --test dist/test/repository/field-docs.test.js',
    );
  });
}
