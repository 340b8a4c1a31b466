import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { auc } from '../../examples/ctr/auc.js';
import { categoryColumns, denseColumns } from '../../examples/ctr/columns.js';
import { parseCriteo } from '../../examples/ctr/criteo-file.js';
import { hashId, pythonHashModulo, tableRows } from '../../examples/ctr/feature-hash.js';
import { categoryText, ImpressionStream, seeds } from '../../examples/ctr/generator.js';
import { categoryIds, denseInput } from '../../examples/ctr/model-input.js';
import { RandomStream } from '../../examples/ctr/random.js';
import { truth } from '../../examples/ctr/truth.js';
import { ZipfRanks } from '../../examples/ctr/zipf.js';

/** CPython 2's string hash in whole numbers, modulo the table's rows as Python has it. */
function hashIdByBigInt(column: number, text: string): number {
  const bytes = Buffer.from(column + text);
  let x = BigInt(bytes[0]!) << 7n;
  for (const byte of bytes) x = BigInt.asUintN(64, 1_000_003n * x) ^ BigInt(byte);
  x = BigInt.asIntN(64, x ^ BigInt(bytes.length));
  if (x === -1n) x = -2n;
  const modulus = BigInt(tableRows);
  return Number(((x % modulus) + modulus) % modulus);
}

describe('ids of the CTR sample', () => {
  test('are those of the reference', () => {
    assert.equal(pythonHashModulo('145a9ed9b0', tableRows), 230_803);
    assert.equal(hashId(14, '5a9ed9b0'), 230_803);
    assert.equal(hashId(14, ''), 25_204);
    assert.equal(hashId(14, '05db9164'), 737_395);
  });

  test('agree with the hash in whole numbers, for short, long and non-ASCII texts', () => {
    const random = new RandomStream(11);
    for (let i = 0; i < 5_000; i++) {
      const column = 14 + (i % 26);
      const text =
        random
          .bits()
          .toString(16)
          .repeat(i % 5) + (i % 7 === 0 ? 'é€😀' : '');
      assert.equal(hashId(column, text), hashIdByBigInt(column, text), `${column} ${text}`);
    }
    assert.equal(pythonHashModulo('', tableRows), 0);
  });
});

describe('the generator of the CTR sample', () => {
  const first = new ImpressionStream(5);
  const rows = Array.from({ length: 20_000 }, () => first.next());

  test('gives the same rows for the same seed, and others for another', () => {
    const again = new ImpressionStream(5);
    for (const row of rows.slice(0, 500)) assert.deepEqual(again.next(), row);
    const texts = (seed: number): string => {
      const stream = new ImpressionStream(seed);
      return Array.from({ length: 3 }, () => stream.next().ranks.join()).join();
    };
    assert.equal(new Set([...Object.values(seeds), 5].map(texts)).size, 4);
  });

  test('is the same on every machine', () => {
    const stream = new ImpressionStream(seeds.demo);
    const { dense, ranks, label } = stream.next();
    assert.deepEqual(
      { dense: [...denseInput(dense)], ids: [...categoryIds({ dense, ranks })], label },
      firstDemoRow,
    );
  });

  test('lets 20 to 25 % of the rows be clicked, as its probabilities say', () => {
    const clicks = rows.filter(({ label }) => label === 1).length / rows.length;
    const expected = rows.reduce((sum, { probability }) => sum + probability, 0) / rows.length;
    assert.ok(clicks > 0.2 && clicks < 0.25, String(clicks));
    assert.ok(Math.abs(clicks - expected) < 0.01, `${clicks} ${expected}`);
    for (const row of rows.slice(0, 100)) assert.equal(truth(row), row.probability);
  });

  test('is learnable: its own probabilities rank clicks well, though not without fault', () => {
    const best = auc(
      rows.map(({ probability }) => probability),
      rows.map(({ label }) => label),
    );
    assert.ok(best > 0.8 && best < 0.85, String(best));
  });

  test('has heavy-tailed counts and missing values in the shares that the columns name', () => {
    denseColumns.forEach(({ name, min, missing }, column) => {
      const counts = rows.map(({ dense }) => dense[column]!);
      const there = counts.filter((count) => !Number.isNaN(count)).sort((a, b) => a - b);
      assert.ok(Math.abs(1 - there.length / rows.length - missing) < 0.02, name);
      assert.ok(
        there.every((count) => Number.isInteger(count) && count >= min),
        name,
      );
      assert.ok(there.at(-1)! - min > 5 * (there[there.length >> 1]! - min), name);
    });
    categoryColumns.forEach(({ name, missing, vocabulary }, column) => {
      const ranks = rows.map((row) => row.ranks[column]!);
      assert.ok(Math.abs(ranks.filter((rank) => rank === -1).length / rows.length - missing) < 0.02, name);
      assert.ok(
        ranks.every((rank) => rank < vocabulary),
        name,
      );
    });
  });

  test('writes categories as 8 hex digits, no two alike in a column, and missing ones as nothing', () => {
    assert.equal(categoryText(3, -1), '');
    const texts = new Set(Array.from({ length: 50_000 }, (_, rank) => categoryText(3, rank)));
    assert.equal(texts.size, 50_000);
    for (const text of texts) assert.match(text, /^[0-9a-f]{8}$/);
    const [row] = rows;
    const ids = categoryColumns.map(({ column }, at) => hashId(column, categoryText(at, row!.ranks[at]!)));
    assert.deepEqual([...categoryIds(row!)], ids);
  });

  test('draws ranks by Zipf', () => {
    const zipf = new ZipfRanks(1_000, 1.1);
    const random = new RandomStream(3);
    const draws = new Uint32Array(1_000);
    for (let i = 0; i < 400_000; i++) draws[zipf.draw(random)]! += 1;
    const total = Array.from({ length: 1_000 }, (_, rank) => (rank + 1) ** -1.1).reduce((a, b) => a + b);
    for (const rank of [0, 1, 2, 9, 99]) {
      const expected = (400_000 * (rank + 1) ** -1.1) / total;
      assert.ok(
        Math.abs(draws[rank]! - expected) < 5 * Math.sqrt(expected),
        `${rank}: ${draws[rank]} ${expected}`,
      );
    }
  });
});

describe('the AUC', () => {
  test('is the share of pairs in order, ties counting half', () => {
    assert.equal(auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 0.75);
    assert.equal(auc([0.5, 0.5, 0.5], [1, 0, 1]), 0.5);
    assert.equal(auc([1, 2, 3], [1, 0, 0]), 0);
    assert.ok(Number.isNaN(auc([1, 2], [1, 1])));
  });
});

describe('a file of Criteo rows', () => {
  const header = ['label', ...denseColumns, ...categoryColumns].map((c) =>
    typeof c === 'string' ? c : c.name,
  );
  const counts = ['', '-1', '19.0', ...Array<string>(10).fill('')];
  const categories = ['05db9164', ...Array<string>(25).fill('')];

  test('is read with its missing fields: counts as the least value, categories as the id of nothing', () => {
    const rows = parseCriteo(`${header}\r\n1,${counts},${categories}\r\n\r\n`);
    assert.equal(rows.length, 1);
    assert.deepEqual([...rows[0]!.dense], [0, -1, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual([...rows[0]!.ids].slice(0, 2), [737_395, hashId(15, '')]);
    assert.equal(rows[0]!.label, 1);
    assert.equal(rows[0]!.missing, 36);
  });

  test('that is none is refused with its line', () => {
    assert.throws(() => parseCriteo('a,b\n'), /line 1: expected the header label,I1,/);
    assert.throws(() => parseCriteo(`${header}\n1,2\n`), /line 2: expected 40 fields, got 2/);
    assert.throws(
      () => parseCriteo(`${header}\n?,${counts},${categories}\n`),
      /line 2: expected label 0 or 1/,
    );
    const words = ['many', ...counts.slice(1)];
    assert.throws(
      () => parseCriteo(`${header}\n0,${words},${categories}\n`),
      /expected a number in I1, got "many"/,
    );
  });
});

/** What the first row of the demo is, so that a change of the generator is not made by accident. */
const firstDemoRow = {
  dense: [0, 4, 20, 2, 9845, 267, 4, 57, 26, 0, 1, 0, 43],
  ids: [
    59268, 848024, 294104, 124567, 470083, 623566, 597533, 189672, 538574, 778091, 138625, 696116, 355319,
    653238, 838584, 429993, 285026, 142380, 900855, 26229, 302529, 26235, 959613, 138540, 26224, 82177,
  ],
  label: 0,
};
