/** Models with embedding tables, and splitting them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { EmbeddingSettings } from '../../../src/config/embedding-settings.js';
import { readOnnxFile } from '../../../src/model/onnx-file.js';
import type { OnnxModel, OnnxNode, OnnxTensor } from '../../../src/model/onnx-writer.js';
import { type SplitReport, splitModel } from '../../../src/model/split/split-model.js';
import type { SplitOptions } from '../../../src/model/split/split-options.js';
import type { SplitTools } from '../../../src/model/split/split-tools.js';
import { temporaryDirectory, writeModel } from '../model-fixtures.js';
import { type FakeTables, npyTables, readNpy } from './npy-tables.js';

/** A matrix of numbers that all differ, and do not add up exactly. */
export function matrix(name: string, rows: number, dim: number): OnnxTensor {
  const data = Float32Array.from({ length: rows * dim }, (_, at) => Math.sin(at + name.length) * 3);
  return { name, datatype: 'FP32', shape: [rows, dim], data };
}

/** A constant list of integers. */
export function integers(name: string, values: readonly number[], shape = [values.length]): OnnxTensor {
  return { name, datatype: 'INT64', shape, data: BigInt64Array.from(values, BigInt) };
}

/** A network behind rows `[..., dim]` of any rank: `y = tanh(rows) * 1.7`. */
export function head(rows = 'rows', output = 'y'): OnnxNode[] {
  return [
    { op: 'Tanh', inputs: [rows], outputs: [`${output}_tanh`] },
    { op: 'Mul', inputs: [`${output}_tanh`, 'factor'], outputs: [output] },
  ];
}

export const factor: OnnxTensor = {
  name: 'factor',
  datatype: 'FP32',
  shape: [1],
  data: Float32Array.of(1.7),
};

/** `ids` INT64 [B, slots] -> Gather -> `head`, with nodes between ids and Gather that end in the value `at`. */
export function embeddingModel(
  more: Partial<OnnxModel> & {
    readonly ids?: OnnxModel['inputs'][number];
    readonly at?: string;
    readonly before?: readonly OnnxNode[];
  } = {},
): OnnxModel {
  const { ids, at, before, initializers, ...rest } = more;
  const input = ids ?? { name: 'ids', datatype: 'INT64', shape: ['batch', 3] };
  return {
    nodes: [
      ...(before ?? []),
      { op: 'Gather', inputs: ['table', at ?? input.name], outputs: ['rows'] },
      ...head(),
    ],
    inputs: [input],
    outputs: [{ name: 'y', datatype: 'FP32' }],
    initializers: [matrix('table', 50, 4), factor, ...(initializers ?? [])],
    ...rest,
  };
}

/** What a split gave, and what lies in its directory. */
export interface SplitResult<Tools extends SplitTools = FakeTables> {
  readonly report: SplitReport;
  readonly source: string;
  readonly stages: readonly EmbeddingSettings[];
  readonly dense: ReturnType<typeof readOnnxFile>;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly tools: Tools;
}

export const splitDefaults = {
  minBytes: 1,
  initializers: [],
  fusePooling: false,
  dtype: 'f32',
  sequenceFiles: false,
} as const;

/** Writes a model and splits it into `<directory>/out`; tables are `.npy` files. */
export async function split<Tools extends SplitTools = FakeTables>(
  t: TestContext,
  model: OnnxModel,
  options: Partial<SplitOptions> = {},
  tools: Tools = npyTables() as SplitTools as Tools,
): Promise<SplitResult<Tools>> {
  const source = options.modelFile ?? writeModel(temporaryDirectory(t), model);
  const directory = options.directory ?? join(temporaryDirectory(t), 'out');
  const report = await splitModel({ ...splitDefaults, modelFile: source, directory, ...options }, tools);
  const settings = JSON.parse(readFileSync(join(directory, 'model.json'), 'utf8'));
  const dense = readOnnxFile(join(directory, 'model.onnx'));
  return { report, source, stages: settings.embeddings, dense, settings, tools };
}

/** The rows that a split wrote. */
export function writtenRows(
  result: SplitResult<SplitTools>,
  table = 'table',
): ReturnType<typeof readNpy> | undefined {
  const file = join(result.report.directory, 'tables', table, 'rows.npy');
  return existsSync(file) ? readNpy(file) : undefined;
}

/** The inputs of a network: name, datatype and shape, names of free dimensions in their place. */
export function inputsOf({ dense }: SplitResult<SplitTools>): unknown[] {
  return dense.inputs.map(({ name, datatype, shape, dimNames }) => [
    name,
    datatype,
    shape?.map((size, axis) => (size === -1 ? dimNames[axis] : size)),
  ]);
}
