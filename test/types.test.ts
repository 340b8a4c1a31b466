/** What the public types say; the compiler is the judge. Nothing here runs but the imports. */
import { test } from 'node:test';
import {
  type BuildTableOptions,
  type BuiltVersion,
  buildTable,
  type Combiner,
  compactTable,
  type Datatype,
  diffTables,
  type ErrorCode,
  type errorCodes,
  type Gathered,
  type GatherOptions,
  hashKeys,
  type InferOptions,
  type InferResult,
  type LocalTable,
  type Manifest,
  type MissingPolicy,
  type ModelStatus,
  type OpenTableOptions,
  openRuntime,
  openTable,
  type RowType,
  type Runtime,
  type RuntimeOptions,
  readWarmUpRequests,
  type ServerOptions,
  ServingError,
  type StringTensor,
  servingPlugin,
  type Tensor,
  type TensorMap,
  tensor,
  type WarmUpRequests,
  warmUpRequestsOfArrays,
  writeDelta,
  writeWarmUpRequests,
} from '../src/index.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

test('the public types accept what is right and refuse what is wrong', () => {
  ({
    models: [{ path: './m' }, { path: './n', name: 'n' }],
    maxQueueBytes: '64mb',
    threads: 2,
  }) satisfies RuntimeOptions;
  ({ threads: undefined, gpuIds: [0, 1], provider: 'cuda', idlePath: 'off' }) satisfies RuntimeOptions;
  ({ maxBodySize: '1gib', serverName: 'triton', port: 0 }) satisfies ServerOptions;
  // @ts-expect-error a misspelt option
  ({ thread: 2 }) satisfies RuntimeOptions;
  // @ts-expect-error not a provider
  ({ provider: 'rocm' }) satisfies RuntimeOptions;
  // @ts-expect-error text where only bytes may be text
  ({ threads: '2' }) satisfies RuntimeOptions;
  // @ts-expect-error a model needs a path
  ({ models: [{ name: 'n' }] }) satisfies RuntimeOptions;

  ({
    outputs: ['y'],
    timeoutMs: 5,
    priority: 1,
    signal: new AbortController().signal,
    version: 2,
  }) satisfies InferOptions;
  // @ts-expect-error a list, not a name
  ({ outputs: 'y' }) satisfies InferOptions;

  tensor('FP32', [1, 2], [1, 2]) satisfies Tensor;
  tensor('BYTES', [1], ['text']) satisfies Tensor;
  tensor('INT64', [1], [1n]) satisfies Tensor;
  'BF16' satisfies Datatype;
  // @ts-expect-error no datatype of the protocol
  const unknownDatatype: Datatype = 'FP8';
  // @ts-expect-error strings need the datatype BYTES
  const mixed: Tensor = { datatype: 'FP32', shape: [1], data: ['a'] };
  void [unknownDatatype, mixed];

  const narrowed = (value: Tensor): string | number => {
    if (value.datatype === 'BYTES') {
      true satisfies Equal<typeof value, StringTensor>;
      return value.data[0]!;
    }
    return value.data.byteLength;
  };
  const use = async (rt: Runtime): Promise<void> => {
    const result = await rt.infer('m', { x: tensor('FP32', [1], [1]) });
    true satisfies Equal<typeof result, InferResult>;
    true satisfies Equal<typeof result.outputs, TensorMap>;
    // @ts-expect-error an output may be absent: its name is not known to the compiler, and results are read-only
    result.outputs.y = tensor('FP32', [1], [1]);
    const [status] = rt.listModels();
    true satisfies Equal<typeof status, ModelStatus | undefined>;
    // @ts-expect-error the constructor is not for callers' own configurations
    rt.config.threads = 3;
    await rt.close({ timeoutMs: 5 });
  };
  void [narrowed, use, openRuntime, servingPlugin];

  const error = new ServingError('SRV_QUEUE_FULL', 'full');
  true satisfies Equal<typeof error.code, ErrorCode>;
  const wrong = (): ServingError =>
    // @ts-expect-error not a registered code
    new ServingError('SRV_NOTHING', 'nothing');
  void wrong;
  'SRV_QUEUE_FULL' satisfies keyof typeof errorCodes;
});

test('the public types of tables accept what is right and refuse what is wrong', () => {
  ({ version: 3, inMem: true, verify: true }) satisfies OpenTableOptions;
  // @ts-expect-error as in model.json; here it is inMem
  ({ in_mem: true }) satisfies OpenTableOptions;
  const gathers: readonly GatherOptions[] = [
    {},
    { out: new Float32Array(4), missing: 'default', defaultRow: Float32Array.of(1, 2) },
    {
      combiner: 'sqrtn',
      offsets: Int32Array.of(0),
      weights: Float32Array.of(1),
      missingBits: new Uint8Array(1),
    },
    { combiner: 'sum', offsets: BigInt64Array.of(0n), missing: 'error' },
  ];
  // @ts-expect-error no combiner is no option, not a name
  ({ combiner: 'none' }) satisfies GatherOptions;
  // @ts-expect-error rows are float32
  ({ out: new Float64Array(4) }) satisfies GatherOptions;
  // @ts-expect-error offsets are integers in a typed array
  ({ combiner: 'sum', offsets: [0] }) satisfies GatherOptions;
  true satisfies Equal<Combiner, 'sum' | 'mean' | 'sqrtn'>;
  true satisfies Equal<MissingPolicy, 'zeros' | 'default' | 'error'>;
  true satisfies Equal<RowType, 'f32' | 'f16' | 'int8' | 'bytes'>;
  ({
    output: 't',
    inputs: ['rows'],
    dtype: 'int8',
    shardNum: 4,
    defaultRow: 'mean',
  }) satisfies BuildTableOptions;
  // @ts-expect-error a table needs a place
  ({ inputs: ['rows'] }) satisfies BuildTableOptions;

  const use = async (): Promise<void> => {
    using table = await openTable('t', { version: 2, inMem: true });
    true satisfies Equal<typeof table, LocalTable>;
    const gathered = table.gather(BigUint64Array.of(1n), gathers[0]);
    true satisfies Equal<typeof gathered, Gathered>;
    [gathered.rows.length, gathered.missing] satisfies number[];
    // @ts-expect-error keys are 64-bit numbers
    table.gather([1n]);
    // @ts-expect-error and integers
    table.gather(Float64Array.of(1));
    const built: BuiltVersion = await buildTable({ output: 't', inputs: ['rows'] });
    true satisfies Equal<typeof built.manifest, Manifest>;
    // @ts-expect-error a version never changes
    built.manifest.version = 2;
    const folded = await compactTable('t', { version: 2, threads: 1 });
    true satisfies Equal<typeof folded, BuiltVersion>;
    const { difference } = await diffTables('a', 'b');
    true satisfies Equal<typeof difference.added, number>;
    await writeDelta('a', 'b', 'a', { signal: new AbortController().signal });
    table.gather(hashKeys(['text'], { function: 'murmur3', seed: 7n, modulus: 1000 }));
    const x = { name: 'x', tensor: tensor('FP32', [1], [1]) };
    await writeWarmUpRequests('a.bin', [{ inputs: [x], outputs: ['y'] }]);
    // @ts-expect-error a request has its tensors by name in a list
    await writeWarmUpRequests('a.bin', [{ inputs: { x: x.tensor } }]);
    await writeWarmUpRequests('a.jsonl', warmUpRequestsOfArrays([x], { rows: 1 }));
    const read = await readWarmUpRequests('a.bin', { timeoutMs: 5 });
    true satisfies Equal<typeof read, WarmUpRequests>;
    // @ts-expect-error no hash function of stages
    hashKeys(['text'], { function: 'md5' });
  };
  void use;
});
