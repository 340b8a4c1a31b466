/** Stages of model.json against a network and its tables. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EmbeddingSettings } from '../../src/config/embedding-settings.js';
import { type EmbeddingPlan, type PlannedTable, planEmbeddings } from '../../src/model/embedding-plan.js';
import { type Tensor, type TensorSpec, tensor } from '../../src/tensor/tensor.js';

const plain: EmbeddingSettings = { table: 't', ids: 'ids', target: 'rows' };

function tableOf(dim: number, defaultRow?: readonly number[]): PlannedTable {
  return {
    files: { snapshot: ['x'], deltas: [] },
    inMemory: false,
    label: 't version 1',
    version: 1,
    dim,
    defaultRow,
  };
}

const float = (name: string, ...shape: readonly number[]): TensorSpec => ({ name, datatype: 'FP32', shape });

interface Around {
  readonly network?: readonly TensorSpec[];
  readonly tables?: readonly PlannedTable[];
  /** Public names, where they are not the network's own. */
  readonly names?: Readonly<Record<string, string>>;
}

/** Plans stages over the network `dense` [B, 2], `rows` [B, 4] and a table of dim 4, or what is given. */
function planOf(stages: readonly Partial<EmbeddingSettings>[], around: Around = {}): EmbeddingPlan {
  const { network = [float('dense', -1, 2), float('rows', -1, 4)], names = {} } = around;
  const { tables = stages.map(() => one) } = around;
  const inputs = network.map((spec) => ({ ...spec, name: names[spec.name] ?? spec.name }));
  const settings = stages.map((stage) => ({ ...plain, ...stage }));
  return planEmbeddings(settings, { inputs, outputs: [float('y', -1, 2)] }, network, tables, 'm version 1');
}
const one = tableOf(4);

function refused(stage: Partial<EmbeddingSettings>, message: RegExp, around: Around = {}): void {
  assert.throws(() => planOf([stage], around), { code: 'SRV_BAD_CONFIG', message });
}

const shapesOf = (plan: EmbeddingPlan): Record<string, string> =>
  Object.fromEntries(plan.inputs.map(({ name, datatype, shape }) => [name, `${datatype} [${shape}]`]));
const encoded = (plan: EmbeddingPlan, ...sent: readonly Tensor[]): unknown[] =>
  plan.encode(sent).map(({ datatype, shape, data }) => `${datatype} [${shape}] ${[...data]}`);

test('a target is no input any more; the ids stand behind what the network takes', () => {
  const plan = planOf([{}]);
  assert.deepEqual(shapesOf(plan), { dense: 'FP32 [-1,2]', ids: 'INT64 [-1]' });
  assert.equal(plan.fed, 1);
  assert.deepEqual(plan.stages, [
    { table: 0, keys: 1, combiner: 'none', failsOnMissing: false, target: 'rows', targetShape: [4] },
  ]);
  assert.deepEqual(plan.targets, [{ countedBy: 1, isCombined: false, rowBytes: 16 }]);
  assert.deepEqual(encoded(plan, tensor('FP32', [2, 2], [1, 2, 3, 4]), tensor('INT64', [2], [7n, 8n])), [
    'FP32 [2,2] 1,2,3,4',
    'UINT64 [2,1] 7,8',
  ]);
  assert.deepEqual([[...plan.ragged], [...plan.raggedInputs]], [[], []]);
});

test('every form of ids has its inputs', () => {
  const inputs = (stage: Partial<EmbeddingSettings>, width = -1): Record<string, string> => {
    const { dense: _, ...others } = shapesOf(
      planOf([stage], { network: [float('dense', -1, 2), float('rows', -1, width)] }),
    );
    return others;
  };
  assert.deepEqual(inputs({ slots: 26 }), { ids: 'INT64 [-1,26]' });
  assert.deepEqual(inputs({ slots: -1 }), { ids: 'INT64 [-1,-1]' });
  assert.deepEqual(inputs({ slots: 5, columns: [1, 3] }, 8), { ids: 'INT64 [-1,5]' });
  assert.deepEqual(inputs({ ids: ['a', 'b'] }, 8), { a: 'INT64 [-1]', b: 'INT64 [-1]' });
  assert.deepEqual(inputs({ ids: ['a', 'b'], slots: 1 }), { a: 'INT64 [-1,1]', b: 'INT64 [-1,1]' });
  assert.deepEqual(inputs({ datatype: 'UINT64', slots: 1 }), { ids: 'UINT64 [-1,1]' });
  assert.deepEqual(inputs({ datatype: 'INT32' }), { ids: 'INT32 [-1]' });
  assert.deepEqual(inputs({ datatype: 'BYTES', hash: { function: 'xxh64' } }), { ids: 'BYTES [-1]' });
  assert.deepEqual(inputs({ lengths: 'n', combiner: 'sum', weights: 'w' }, 4), {
    ids: 'INT64 [-1]',
    n: 'INT64 [-1]',
    w: 'FP32 [-1]',
  });
  assert.deepEqual(inputs({ offsets: 'o', combiner: 'mean' }, 4), { ids: 'INT64 [-1]', o: 'INT64 [-1]' });
  assert.deepEqual(inputs({ slots: 3, combiner: 'sum', weights: 'w' }, 4), {
    ids: 'INT64 [-1,3]',
    w: 'FP32 [-1,3]',
  });
  assert.deepEqual(inputs({ ids: ['a', 'b'], combiner: 'sum', weights: 'w' }, 4), {
    a: 'INT64 [-1]',
    b: 'INT64 [-1]',
    w: 'FP32 [-1,2]',
  });
});

test('stages share ids, lengths and tables', () => {
  const network = [float('rows', -1, 4), float('more', -1, 4)];
  const ragged = { lengths: 'n', combiner: 'sum' } as const;
  const plan = planOf([ragged, { ...ragged, target: 'more' }], { network, tables: [one, one] });
  assert.deepEqual(Object.keys(shapesOf(plan)), ['ids', 'n']);
  assert.equal(plan.fed, 0);
  assert.deepEqual(plan.tables, [one]);
  assert.deepEqual(
    plan.stages.map(({ table, keys, lengths }) => [table, keys, lengths]),
    [
      [0, 0, 1],
      [0, 2, 3],
    ],
  );
  const other = tableOf(4);
  assert.equal(
    planOf([ragged, { ...ragged, target: 'more' }], { network, tables: [one, other] }).tables.length,
    2,
  );
});

test('ragged rows: what is not counted in rows is known, with its lengths', () => {
  const plan = planOf([{ lengths: 'n', combiner: 'mean', weights: 'w' }]);
  assert.deepEqual([...plan.raggedInputs], [1, 3]);
  assert.deepEqual(
    [...plan.ragged],
    [
      [1, 2],
      [3, 2],
    ],
  );
  assert.deepEqual(plan.targets, [{ countedBy: 2, isCombined: true, rowBytes: 16 }]);
  const sent = [
    tensor('FP32', [2, 2], [1, 2, 3, 4]),
    tensor('INT64', [3], [7n, 8n, 9n]),
    tensor('INT64', [2], [1n, 2n]),
    tensor('FP32', [3], [1, 2, 3]),
  ];
  assert.deepEqual(encoded(plan, ...sent), [
    'FP32 [2,2] 1,2,3,4',
    'UINT64 [3] 7,8,9',
    'INT32 [2] 1,2',
    'FP32 [3] 1,2,3',
  ]);
  assert.throws(() => plan.encode([...sent.slice(0, 3), tensor('FP32', [2], [1, 2])]), {
    code: 'SRV_BAD_SIGNATURE',
    message: /'w' has 2 weights of shape \[2\] for 3 ids of 'ids'/,
  });
  assert.throws(() => plan.encode([sent[0]!, sent[1]!, tensor('INT64', [2], [1n, 1n]), sent[3]!]), {
    code: 'SRV_BAD_BAGS',
  });
});

test('lengths and offsets may be INT32 where the network takes them so', () => {
  for (const [datatype, stage] of [
    ['INT32', { lengths: 'n' }],
    ['INT64', { offsets: 'n' }],
  ] as const) {
    const network = [{ name: 'n', datatype, shape: [-1] }, float('rows', -1, 4)];
    const plan = planOf([{ ...stage, combiner: 'sum' }], { network });
    assert.equal(shapesOf(plan).n, `${datatype} [-1]`);
  }
});

test('ids that the network takes too come as they are, and as keys', () => {
  const network = [{ name: 'ids', datatype: 'INT64', shape: [-1, 2] }, float('rows', -1, 8)] as const;
  const plan = planOf([{ slots: 2, rows: 10 }], { network });
  assert.deepEqual(shapesOf(plan), { ids: 'INT64 [-1,2]' });
  assert.deepEqual(encoded(plan, tensor('INT64', [1, 2], [-1n, 3n])), [
    'INT64 [1,2] -1,3',
    'UINT64 [1,2] 9,3',
  ]);
  assert.deepEqual([...plan.stageInputs], [0]);
});

test('ragged ids and weights that the network takes too are split by their lengths', () => {
  const network = [
    { name: 'ids', datatype: 'INT64', shape: [-1] },
    { name: 'n', datatype: 'INT64', shape: [-1] },
    float('w', -1),
    float('rows', -1, 4),
  ] as const;
  const plan = planOf([{ lengths: 'n', combiner: 'sum', weights: 'w' }], { network });
  assert.deepEqual(plan.fed, 3);
  assert.deepEqual([...plan.raggedInputs], [0, 2]);
  // 3 keys, 4 lengths, 5 weights: behind what the network takes.
  assert.deepEqual(
    [...plan.ragged].sort(([a], [b]) => a - b),
    [
      [0, 4],
      [2, 4],
      [3, 4],
      [5, 4],
    ],
  );
  assert.equal(plan.canMerge, true);
});

test('offsets that the network takes too are those of one request: they do not merge', () => {
  const network = [{ name: 'o', datatype: 'INT64', shape: [-1] }, float('rows', -1, 4)] as const;
  assert.equal(planOf([{ offsets: 'o', combiner: 'sum' }], { network }).canMerge, false);
  assert.equal(planOf([{ offsets: 'o', combiner: 'sum' }]).canMerge, true);
});

test('a public name of an input of the network is what a stage means', () => {
  const network = [{ name: 'graph_ids', datatype: 'INT64', shape: [-1, 1] }, float('rows', -1, 4)] as const;
  const plan = planOf([{ slots: 1 }], { network, names: { graph_ids: 'ids' } });
  assert.deepEqual(shapesOf(plan), { ids: 'INT64 [-1,1]' });
  assert.equal(plan.fed, 1);
});

test('ids that the network takes as something else are refused', () => {
  const taken = (datatype: 'INT64' | 'FP32', ...shape: number[]): Around => ({
    network: [{ name: 'ids', datatype, shape }, float('rows', -1, 4)],
  });
  refused(
    {},
    /embeddings\[0\]: "ids" is INT64 \[-1\] there, but the network takes it as FP32 \[-1\]/,
    taken('FP32', -1),
  );
  refused(
    {},
    /"ids" is INT64 \[-1\] there, but the network takes it as INT64 \[-1,1\]/,
    taken('INT64', -1, 1),
  );
  refused({ slots: 2 }, /INT64 \[-1,2\] there, but .* INT64 \[-1,3\]/, taken('INT64', -1, 3));
});

test('targets take every shape that holds the numbers of a row', () => {
  const shapeOf = (stage: Partial<EmbeddingSettings>, ...target: readonly number[]): readonly number[] =>
    planOf([stage], { network: [float('rows', -1, ...target)] }).stages[0]!.targetShape;
  const three = { slots: 3 };
  assert.deepEqual(shapeOf(three, 12), [12]);
  assert.deepEqual(shapeOf(three, 3, 4), [3, 4]);
  assert.deepEqual(shapeOf(three, 1, 3, 4), [1, 3, 4]);
  assert.deepEqual(shapeOf(three, 1, 12), [1, 12]);
  // What follows from the stage is told at once, so that it holds for requests without rows too.
  assert.deepEqual(shapeOf(three, -1), [12]);
  assert.deepEqual(shapeOf(three, -1, 4), [3, 4]);
  assert.deepEqual(shapeOf(three, 3, -1), [3, 4]);
  assert.deepEqual(shapeOf(three, -1, -1), [3, 4]);
  assert.deepEqual(shapeOf({}, 4), [4]);
  assert.deepEqual(shapeOf({}, 1, 4), [1, 4]);
  assert.deepEqual(shapeOf({}, -1, -1), [1, 4]);
  assert.deepEqual(shapeOf({ slots: -1 }, -1, 4), [-1, 4]);
  assert.deepEqual(shapeOf({ slots: -1 }, -1, 1, 4), [-1, 1, 4]);
  assert.deepEqual(shapeOf({ slots: -1 }, -1), [-1]);
  assert.deepEqual(shapeOf({ slots: -1 }, 1, -1), [1, -1]);
  assert.deepEqual(shapeOf({ slots: -1 }, -1, -1), [-1, 4]);
  assert.deepEqual(shapeOf({ slots: -1, combiner: 'sum' }, 4), [4]);
  assert.deepEqual(shapeOf({ slots: 3, combiner: 'sum' }, 1, 4), [1, 4]);
  assert.deepEqual(shapeOf({ slots: 3, combiner: 'sum' }, -1), [4]);
  assert.deepEqual(shapeOf({ lengths: 'n', combiner: 'sum' }, -1, -1), [1, 4]);
});

test('targets that do not fit are refused, with both sides', () => {
  const target = (...shape: readonly number[]): Around => ({ network: [float('rows', ...shape)] });
  const twelve =
    /the settings of m version 1: embeddings\[0\]: it gives 12 numbers for each row of a request, but "rows" takes/;
  refused({ slots: 3 }, twelve, target(-1, 4));
  refused({ slots: 3 }, twelve, target(-1, 3, 5));
  refused({ slots: 3 }, twelve, target(-1, -1, 5));
  refused({ slots: 3 }, twelve, target(1, 12));
  refused({ slots: 3 }, twelve, target(12));
  refused({ slots: 3 }, twelve, target());
  refused({ slots: 3 }, twelve, target(-1, -1, -1, -1));
  const any = /it gives any number of rows of 4 for each row of a request, but "rows" takes/;
  refused({ slots: -1 }, any, target(-1, 12));
  refused({ slots: -1 }, any, target(-1, -1, 3));
  refused({ slots: -1 }, any, target(-1));
  // The rows would stand across: 4 x n instead of n x 4.
  refused({ slots: -1 }, any, target(-1, 4, -1));
  refused({}, /it gives 4 numbers .* "rows" takes \[-1,5\]/, target(-1, 5));
  refused({ slots: -1, combiner: 'sum' }, /it gives 4 numbers/, target(-1, 8));
  refused({ target: 'roes' }, /embeddings\[0\]: the network has no input "roes"; it has \[dense, rows\]/);
  refused({}, /"rows" takes INT64; rows are FP32/, {
    network: [{ name: 'rows', datatype: 'INT64', shape: [-1, 4] }],
  });
});

test('a default row is that of the stage, else that of the table', () => {
  const row = (stage: Partial<EmbeddingSettings>, table: PlannedTable): unknown =>
    planOf([stage], { tables: [table] }).stages[0]!.defaultRow;
  const own = tableOf(4, [1, 2, 3, 4]);
  assert.deepEqual(row({ missing: 'default' }, own), [1, 2, 3, 4]);
  assert.deepEqual(row({ missing: 'default', default_row: [5, 6, 7, 8] }, own), [5, 6, 7, 8]);
  assert.equal(row({}, own), undefined);
  assert.equal(row({ missing: 'error' }, own), undefined);
  refused({ missing: 'default' }, /neither default_row nor table t version 1 has a row/);
  refused({ missing: 'default', default_row: [1] }, /default_row has 1 numbers, rows of t version 1 have 4/);
});

test('the second stage of two is named by its place', () => {
  assert.throws(() => planOf([{}, { ids: 'more', target: 'dense', slots: 5 }], { tables: [one, one] }), {
    code: 'SRV_BAD_CONFIG',
    message: /embeddings\[1\]: it gives 20 numbers/,
  });
});

test('without stages nothing changes', () => {
  const plan = planOf([]);
  assert.equal(plan.fed, 2);
  assert.deepEqual([plan.stages, plan.targets, plan.tables], [[], [], []]);
  const sent = [tensor('FP32', [1, 2], [1, 2]), tensor('FP32', [1, 4], [1, 2, 3, 4])];
  assert.deepEqual(plan.encode(sent), sent);
});
