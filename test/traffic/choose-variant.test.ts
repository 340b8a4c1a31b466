import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseByChance, chooseByKey } from '../../src/traffic/choose-variant.js';
import { hashText } from '../../src/traffic/sticky-key.js';

interface Choice {
  readonly tag: string;
  readonly weight: number;
  readonly hash: number;
}

const variants = (weights: Readonly<Record<string, number>>): Choice[] =>
  Object.entries(weights).map(([tag, weight]) => ({ tag, weight, hash: hashText(`ranker\n${tag}`) }));

const keys = Array.from({ length: 50_000 }, (_, user) => hashText(`user-${user}`));

const place = (weights: Readonly<Record<string, number>>): string[] => {
  const among = variants(weights);
  return keys.map((key) => chooseByKey(among, key)!.tag);
};

const share = (tags: readonly string[], tag: string): number =>
  tags.filter((one) => one === tag).length / tags.length;

/** Moves between two placements, as `from>to`, each with its share of all keys. */
function moves(before: readonly string[], after: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  before.forEach((from, index) => {
    const to = after[index]!;
    if (from !== to) counts[`${from}>${to}`] = (counts[`${from}>${to}`] ?? 0) + 1 / before.length;
  });
  return counts;
}

test('chance gives each its share, and none to a weight of 0', () => {
  const among = variants({ a: 10, none: 0, b: 90 });
  // Every thousandth of the way once: no luck is needed.
  const got = Array.from(
    { length: 1000 },
    (_, index) => chooseByChance(among, () => (index + 0.5) / 1000)!.tag,
  );
  assert.deepEqual([share(got, 'a'), share(got, 'none'), share(got, 'b')], [0.1, 0, 0.9]);
  assert.equal(chooseByChance(among, () => 0)!.tag, 'a');
  assert.equal(chooseByChance(among, () => 1 - 2 ** -53)!.tag, 'b');
  assert.equal(chooseByChance(variants({ b: 1, none: 0 }), () => 1 - 2 ** -53)!.tag, 'b');
});

test('where all weights are 0 there is no choice', () => {
  assert.equal(
    chooseByChance(variants({ a: 0 }), () => 0),
    undefined,
  );
  assert.equal(chooseByKey(variants({ a: 0, b: 0 }), 17), undefined);
  assert.equal(chooseByKey([], 17), undefined);
});

test('keys are shared out by weight, within half a point of 50,000', () => {
  for (const weights of [
    { a: 90, b: 10 },
    { a: 1, b: 1, c: 1, d: 1 },
    { a: 0.2, b: 0.3, c: 0.5 },
  ]) {
    const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
    const tags = place(weights);
    for (const [tag, weight] of Object.entries(weights)) {
      assert.ok(Math.abs(share(tags, tag) - weight / total) < 0.005, `${tag} of ${JSON.stringify(weights)}`);
    }
  }
});

test('a key stays while the weights stay, whatever their scale and the order of the variants', () => {
  const tags = place({ a: 90, b: 10, c: 20 });
  assert.deepEqual(moves(tags, place({ a: 90, b: 10, c: 20 })), {});
  assert.deepEqual(moves(tags, place({ c: 20, b: 10, a: 90 })), {});
  assert.deepEqual(moves(tags, place({ a: 9, b: 1, c: 2 })), {});
});

test('raising a weight moves keys to that variant only, and as many as its share grows', () => {
  const found = moves(place({ a: 90, b: 10, c: 20 }), place({ a: 90, b: 20, c: 20 }));
  assert.deepEqual(Object.keys(found).toSorted(), ['a>b', 'c>b']);
  const moved = Object.values(found).reduce((sum, part) => sum + part, 0);
  assert.ok(Math.abs(moved - (20 / 130 - 10 / 120)) < 0.005, String(moved));
});

test('between two variants a shift of percents moves the difference, one way', () => {
  const found = moves(place({ a: 90, b: 10 }), place({ a: 80, b: 20 }));
  assert.deepEqual(Object.keys(found), ['a>b']);
  assert.ok(Math.abs(found['a>b']! - 0.1) < 0.005);
});

test('lowering a weight to 0 moves its keys alone, to all others', () => {
  const found = moves(place({ a: 50, b: 25, c: 25 }), place({ a: 50, b: 0, c: 25 }));
  assert.deepEqual(Object.keys(found).toSorted(), ['b>a', 'b>c']);
});

test('the hash of a key is the same everywhere and always: keys that are out there must not move', () => {
  assert.deepEqual(
    ['', 'a', 'user-17', 'Käufer 🛒', 'x'.repeat(1000)].map((text) => hashText(text)),
    [7720515414929166, 3616308749023783, 432432667279139, 8884548358144376, 4815126216377887],
  );
});

test('two public names with equal tags part the same keys independently', () => {
  const other = ['a', 'b'].map((tag) => ({ tag, weight: 1, hash: hashText(`scorer\n${tag}`) }));
  const first = place({ a: 1, b: 1 });
  const both = keys.filter(
    (key, index) => first[index] === 'a' && chooseByKey(other, key)!.tag === 'a',
  ).length;
  assert.ok(Math.abs(both / keys.length - 0.25) < 0.01);
});
