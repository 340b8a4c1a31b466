import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SplitSettings } from '../../src/config/traffic-settings.js';
import { silentLogger } from '../../src/observe/logger.js';
import type { RequestRouting } from '../../src/server/service.js';
import { Split } from '../../src/traffic/split.js';
import { readChange } from '../../src/traffic/traffic-change.js';
import type { VariantTarget } from '../../src/traffic/variant-target.js';
import { ManualClock } from '../support/manual-clock.js';

/** A split whose targets are ready unless the test says otherwise; chance goes round its circle in even steps. */
function open(settings: SplitSettings): {
  split: Split;
  clock: ManualClock;
  notReady: Set<string>;
  /** Models that a request loads; they are not ready either. */
  dormant: Set<string>;
  /** Lets requests end: `seconds` undefined for failures. */
  serve(tag: string, count: number, seconds: number | undefined, code?: string): void;
  weights(): Record<string, number>;
} {
  const clock = new ManualClock();
  const notReady = new Set<string>();
  const dormant = new Set<string>();
  let turn = 0;
  const split = new Split('ranker', settings, {
    clock,
    logger: silentLogger(),
    random: () => (turn++ % 100) / 100,
    targets: {
      readyVersion: ({ model, version }: VariantTarget) =>
        notReady.has(model) || dormant.has(model) ? undefined : (version ?? 1),
      mayWake: ({ model }: VariantTarget) => dormant.has(model),
      problemWith: () => undefined,
    },
  });
  return {
    split,
    clock,
    notReady,
    dormant,
    serve: (tag, count, seconds, code = 'SRV_MODEL_RUN_FAILED') => {
      const variant = split.variants.find((one) => one.tag === tag)!;
      for (let i = 0; i < count; i++) {
        if (seconds === undefined) variant.recordFailure(clock.now(), code);
        else variant.recordAnswer(clock.now(), seconds);
      }
    },
    weights: () => Object.fromEntries(split.variants.map(({ tag, weight }) => [tag, weight])),
  };
}

const two = (more: Partial<SplitSettings> = {}): SplitSettings => ({
  variants: [
    { tag: 'a', model: 'old', weight: 90 },
    { tag: 'b', model: 'new', weight: 10 },
  ],
  ...more,
});

const guard = { control: 'a', max_error_rate_margin: 0.05, max_p99_ratio: 2, min_requests: 50, window_s: 10 };

const routing = (keys: {
  id?: string;
  headers?: Record<string, string>;
  parameters?: Record<string, unknown>;
}): RequestRouting => ({
  id: keys.id,
  header: (name) => keys.headers?.[name],
  parameter: (name) => keys.parameters?.[name],
});

const count = (
  split: Split,
  times: number,
  of?: (index: number) => RequestRouting,
): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (let i = 0; i < times; i++) {
    const { tag } = split.choose(of?.(i)).variant;
    counts[tag] = (counts[tag] ?? 0) + 1;
  }
  return counts;
};

test('without a key, requests go by weight', () => {
  assert.deepEqual(count(open(two()).split, 1000), { a: 900, b: 100 });
});

test('one key has one variant, by header, parameter or id; without the key chance decides and it is counted', () => {
  for (const [sticky, of] of [
    [{ by: 'header', name: 'x-user' }, (user) => routing({ headers: { 'x-user': user } })],
    [{ by: 'parameter', name: 'user' }, (user) => routing({ parameters: { user } })],
    [{ by: 'id' }, (user) => routing({ id: user })],
  ] as [NonNullable<SplitSettings['sticky']>, (user: string) => RequestRouting][]) {
    const { split } = open(two({ sticky }));
    for (const user of ['ann', 'bob', 'cem']) {
      assert.equal(Object.keys(count(split, 50, () => of(user))).length, 1, `${sticky.by} ${user}`);
    }
    const spread = count(split, 2000, (index) => of(`user-${index}`));
    assert.ok(Math.abs(spread.b! / 2000 - 0.1) < 0.025, JSON.stringify(spread));
    assert.equal(split.unkeyed, 0);
    assert.deepEqual(count(split, 100), { a: 90, b: 10 });
    assert.deepEqual(
      count(split, 100, () => of('')),
      { a: 90, b: 10 },
    );
    assert.equal(split.unkeyed, 200);
  }
});

test('numbers and truth values are keys of a parameter, objects are none', () => {
  const { split } = open(two({ sticky: { by: 'parameter', name: 'user' } }));
  split.choose(routing({ parameters: { user: 17 } }));
  split.choose(routing({ parameters: { user: true } }));
  assert.equal(split.unkeyed, 0);
  split.choose(routing({ parameters: { user: { id: 17 } } }));
  split.choose(routing({ parameters: { user: null } }));
  assert.equal(split.unkeyed, 2);
});

test('requests for a variant that is not ready go to the others and are counted; keys come back to it', () => {
  const { split, notReady } = open(two({ sticky: { by: 'id' } }));
  const placed = (): string[] =>
    Array.from({ length: 500 }, (_, user) => split.choose(routing({ id: `user-${user}` })).variant.tag);
  const before = placed();
  notReady.add('new');
  assert.ok(placed().every((tag) => tag === 'a'));
  assert.equal(split.variants[1]!.notReady, before.filter((tag) => tag === 'b').length);
  notReady.clear();
  assert.deepEqual(placed(), before);
});

test('a variant whose model a request loads takes its share, with what its target says', () => {
  const { split, dormant } = open({
    variants: [
      { tag: 'a', model: 'old', weight: 50 },
      { tag: 'b', model: 'new', label: 'canary', weight: 50 },
    ],
  });
  dormant.add('new');
  const choices = Array.from({ length: 100 }, () => split.choose(undefined));
  const woken = choices.filter(({ variant }) => variant.tag === 'b');
  assert.equal(woken.length, 50);
  for (const { version, label } of woken) assert.deepEqual([version, label], [undefined, 'canary']);
  assert.ok(woken.every(({ isWaking }) => isWaking));
  assert.equal(split.variants[1]!.notReady, 0);
  dormant.add('old');
  dormant.delete('new');
  assert.equal(
    split.representative().variant.tag,
    'b',
    'what is asked of a model without a request loads none',
  );
  dormant.add('new');
  dormant.delete('old');
  const [first] = split.variants;
  first!.recordAnswer(0, 30, true);
  assert.equal(first!.requests, 0, 'a load is no latency of the variant');
  assert.deepEqual(
    split.ready().map(({ tag }) => tag),
    ['a'],
  );
});

test('with no ready variant that has a weight, the request is refused and it is said which there are', () => {
  const { split, notReady } = open({
    variants: [
      { tag: 'a', model: 'old', weight: 0 },
      { tag: 'b', model: 'new', version: 3, weight: 1 },
    ],
  });
  notReady.add('new');
  assert.throws(() => split.choose(undefined), {
    code: 'SRV_MODEL_NOT_READY',
    message: "Request for unknown model: 'ranker' has no ready variant among b (new version 3)",
  });
  assert.equal(split.representative().variant.tag, 'a');
  notReady.add('old');
  assert.throws(() => split.representative(), {
    code: 'SRV_MODEL_NOT_READY',
    message: /no ready variant among a \(old\), b \(new version 3\)$/,
  });
});

test('a variant whose error rate passes the margin loses its share to the control, and it is said why', () => {
  const { split, serve, weights } = open(two({ guard }));
  serve('a', 98, 0.01);
  serve('a', 2, undefined);
  serve('b', 46, 0.01);
  serve('b', 3, undefined);
  assert.equal(split.rollout.tick(), false, 'too few requests');
  serve('b', 1, undefined);
  assert.equal(split.rollout.tick(), true);
  assert.deepEqual(weights(), { a: 100, b: 0 });
  const { phase, rollback } = split.status();
  assert.equal(phase, 'rolled_back');
  assert.equal(rollback?.variant, 'b');
  assert.equal(rollback.limit, 'error_rate');
  assert.equal(
    rollback.reason,
    "4 of its 50 requests failed (8 %), the control's rate is 2 %, and 5 % more is allowed",
  );
  assert.deepEqual([...split.rollout.rollbacks], [['b error_rate', 1]]);
  assert.equal(split.rollout.tick(), false, 'once');
});

test('an error rate within the margin of the control is no reason', () => {
  const { split, serve } = open(two({ guard }));
  serve('a', 45, 0.01);
  serve('a', 5, undefined);
  serve('b', 43, 0.01);
  serve('b', 7, undefined);
  assert.equal(split.rollout.tick(), false);
});

test('a p99 over its ratio takes a variant out', () => {
  const { split, serve, weights } = open(two({ guard }));
  serve('a', 100, 0.01);
  serve('b', 95, 0.01);
  serve('b', 5, 0.03);
  assert.equal(split.rollout.tick(), true);
  assert.deepEqual(weights(), { a: 100, b: 0 });
  assert.match(
    split.status().rollback!.reason,
    /^its p99 over 100 requests is 3\d(\.\d)? ms, the control's is 10(\.\d)? ms, and 2 times that is allowed$/,
  );
});

test('what callers gave up says nothing about a variant', () => {
  const { split, serve } = open(two({ guard }));
  serve('a', 100, 0.01);
  serve('b', 60, 0.01);
  serve('b', 60, undefined, 'SRV_CANCELLED');
  serve('b', 60, undefined, 'SRV_SHUTTING_DOWN');
  assert.equal(split.rollout.tick(), false);
  assert.equal(split.status().variants[1]!.requests, 60);
  assert.equal(split.variants[1]!.outcomes.get('SRV_CANCELLED'), 60);
});

test('failures older than the window are forgotten', async () => {
  const { split, serve, clock } = open(two({ guard }));
  serve('b', 100, undefined);
  await clock.advance(11_000);
  serve('a', 100, 0.01);
  serve('b', 100, 0.01);
  assert.equal(split.rollout.tick(), false);
});

test('with three variants the share of the failing one goes to the control and the third keeps its own', () => {
  const { split, serve, weights } = open({
    variants: [
      { tag: 'a', weight: 70 },
      { tag: 'b', weight: 20 },
      { tag: 'c', weight: 10 },
    ],
    guard,
  });
  for (const tag of ['a', 'c']) serve(tag, 100, 0.01);
  serve('b', 100, undefined);
  split.rollout.tick();
  assert.deepEqual(weights(), { a: 90, b: 0, c: 10 });
});

const steps = [
  { weight: 10, hold_s: 60 },
  { weight: 50, hold_s: 60 },
  { weight: 100, hold_s: 60 },
];

test('steps go up when they have held and the variant was found sound, and are done after the last', async () => {
  const { split, serve, clock, weights } = open(two({ guard, steps }));
  assert.deepEqual(weights(), { a: 90, b: 10 });
  assert.deepEqual([split.status().phase, split.status().step], ['stepping', 1]);
  await clock.advance(59_000);
  serve('a', 100, 0.01);
  serve('b', 100, 0.01);
  assert.equal(split.rollout.tick(), false, 'not held yet');
  await clock.advance(1000);
  assert.equal(split.rollout.tick(), true);
  assert.deepEqual(weights(), { a: 50, b: 50 });
  await clock.advance(61_000);
  assert.equal(split.rollout.tick(), false, 'no requests in this step');
  serve('a', 100, 0.01);
  serve('b', 49, 0.01);
  assert.equal(split.rollout.tick(), false, 'too few');
  serve('b', 1, 0.01);
  assert.equal(split.rollout.tick(), true);
  assert.deepEqual(weights(), { a: 0, b: 100 });
  assert.equal(split.status().step, 3);
  await clock.advance(61_000);
  serve('b', 100, 0.01);
  assert.equal(split.rollout.tick(), true, 'held against what the control did last');
  assert.equal(split.status().phase, 'done');
  assert.equal(split.rollout.tick(), false);
  assert.equal(split.rollout.stepsTaken, 2);
});

test('a breach at 100 % gives everything back to the control, which had no requests any more', async () => {
  const { split, serve, clock, weights } = open(
    two({ guard, steps: [{ weight: 60, hold_s: 0 }, steps[2]!] }),
  );
  serve('a', 100, 0.01);
  serve('b', 100, 0.01);
  assert.equal(split.rollout.tick(), true);
  assert.deepEqual(weights(), { a: 0, b: 100 });
  await clock.advance(30_000);
  serve('b', 100, undefined);
  assert.equal(split.rollout.tick(), true);
  assert.deepEqual(weights(), { a: 100, b: 0 });
  assert.equal(split.status().phase, 'rolled_back');
  serve('b', 100, 0.01);
  await clock.advance(120_000);
  assert.equal(split.rollout.tick(), false, 'steps do not go on by themselves');
});

test('new weights end steps and lift a rollback, and the past is forgotten', () => {
  const { split, serve, weights } = open(two({ guard, steps }));
  serve('a', 100, 0.01);
  serve('b', 100, undefined);
  split.rollout.tick();
  split.change({ weights: { a: 1, b: 1 } });
  const { phase, rollback, step } = split.status();
  assert.deepEqual([weights(), phase, rollback, step], [{ a: 1, b: 1 }, 'steady', null, null]);
  assert.equal(split.rollout.tick(), false, 'the failures before do not count again');
  serve('a', 100, 0.01);
  serve('b', 100, undefined);
  assert.equal(split.rollout.tick(), true, 'new ones do');
});

test('new steps begin with the first, and no steps leave the weights', () => {
  const { split, weights } = open(two({ guard }));
  split.change({ steps: [{ weight: 30, hold_s: 1 }] });
  assert.deepEqual([weights(), split.status().phase], [{ a: 70, b: 30 }, 'stepping']);
  split.change({ steps: [] });
  assert.deepEqual([weights(), split.status().phase], [{ a: 70, b: 30 }, 'steady']);
});

test('what was saved goes on in a new split of the same configuration', () => {
  const first = open(two({ guard, steps }));
  first.split.change({ steps: [{ weight: 5, hold_s: 1 }, steps[1]!] });
  const saved = JSON.parse(JSON.stringify(first.split.save()));
  const second = open(two({ guard, steps }));
  assert.equal(saved.declared, second.split.declared);
  second.split.restore(saved);
  assert.deepEqual(second.weights(), { a: 95, b: 5 });
  assert.deepEqual(second.split.status().steps, [{ weight: 5, hold_s: 1 }, steps[1]]);
  assert.notEqual(open(two({ guard })).split.declared, saved.declared);
});

test('changes are checked: every problem is named', () => {
  const { split } = open(two({ guard }));
  const problem = (change: unknown): string => {
    try {
      readChange(split, change);
    } catch (error) {
      assert.equal((error as { code: string }).code, 'SRV_BAD_REQUEST');
      return (error as Error).message;
    }
    return 'none';
  };
  assert.equal(problem({ weights: { a: 1, b: 0 } }), 'none');
  assert.equal(problem({ steps: [] }), 'none');
  assert.match(problem({ weights: { a: 0, b: 0 } }), /all are 0/);
  assert.match(problem({ weights: { a: 1 } }), /weights\.b: missing/);
  assert.match(
    problem({ weights: { a: -1, b: '1' } }),
    /weights\.a: expected .* got -1; weights\.b: .* got "1"/,
  );
  assert.match(
    problem({ weights: { a: 1, b: 1, bb: 1 } }),
    /weights\.bb: no variant has this tag; did you mean "b"/,
  );
  assert.match(problem({ weights: [1, 2] }), /weights: expected an object/);
  assert.match(problem({ wieghts: { a: 1, b: 1 } }), /wieghts: unknown key; did you mean "weights"/);
  assert.match(problem({ weights: { a: 1, b: 1 }, steps: [] }), /with weights .* or with steps/);
  assert.match(problem({}), /with weights .* or with steps/);
  assert.match(problem('weights'), /with weights .* or with steps/);
  assert.match(problem({ steps: [{ weight: 101, hold_s: 1 }] }), /steps\[0\]\.weight: expected a number/);
  assert.match(problem({ steps: [{ weight: 1 }] }), /steps\[0\]\.hold_s: missing/);
  assert.match(problem({ steps: [{ weight: 1, hold_s: 1, hold: 1 }] }), /steps\[0\]\.hold: unknown key/);
  const unguarded = open(two()).split;
  assert.throws(() => readChange(unguarded, { steps: [{ weight: 1, hold_s: 1 }] }), /need a guard/);
});
