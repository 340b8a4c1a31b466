/** The network without its tables: the source's own bytes, less what was cut out, plus the inputs that take rows. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { type ByteSource, expectType, readFields, type WireField, WireWriter } from '../../protobuf-wire.js';
import { nodeMessage, type OnnxNode, tensorMessage, valueMessage } from '../onnx-writer.js';
import { ExternalLayout } from './external-layout.js';
import type { EmbeddingCut, FoundTable } from './find-embeddings.js';
import { readEntry, readTensor, type WireGraph, type WireNode } from './wire-graph.js';
import { WirePatch } from './wire-patch.js';

/** The files of the dense model, in its directory. */
export const denseModelFile = 'model.onnx';
export const denseDataFile = 'model.onnx.data';

/** What goes and what stays. */
export interface DensePlan {
  readonly nodes: ReadonlySet<WireNode>;
  /** Names of initialisers, inputs and values that are no longer there. */
  readonly names: ReadonlySet<string>;
  /** Inputs of the source that the network no longer has, because only stages read them. */
  readonly inputs: readonly string[];
}

/** What the graph no longer needs once the cuts are made. */
export function planDenseModel(graph: WireGraph, tables: readonly FoundTable[]): DensePlan {
  const cuts = tables.flatMap((table) => table.cuts);
  const nodes = new Set<WireNode>();
  const names = new Set<string>();
  const outputs = new Set(graph.outputs.map(({ summary }) => summary.name));
  const isUsed = (name: string): boolean =>
    outputs.has(name) || (graph.consumers.get(name) ?? []).some((user) => !nodes.has(user));
  for (const { nodes: cut } of cuts) for (const node of cut) nodes.add(node);
  // Sources of what goes are looked at once all that goes with them has gone: until nothing changes.
  for (let before = -1; before !== nodes.size; ) {
    before = nodes.size;
    for (const name of [...nodes].flatMap(({ inputs }) => inputs)) {
      const producer = graph.producers.get(name);
      if (producer && !producer.outputs.some((output) => output !== '' && isUsed(output)))
        nodes.add(producer);
    }
  }
  const sources = new Set([...nodes].flatMap(({ inputs }) => inputs).filter((name) => name !== ''));
  const inputs: string[] = [];
  for (const name of sources) {
    if (isUsed(name) || graph.producers.has(name)) continue;
    names.add(name);
    if (!graph.constants.has(name)) inputs.push(name);
  }
  for (const node of nodes) for (const output of node.outputs) names.add(output);
  return { nodes, names, inputs };
}

/**
 * Writes the dense model into a directory: `model.onnx`, and `model.onnx.data` where the source has external data that
 * stays. Weights are copied in stretches and never held.
 *
 * @throws SRV_MODEL_INVALID when external data is missing or too short, SRV_IO
 */
export async function writeDenseModel(
  source: ByteSource,
  modelFile: string,
  graph: WireGraph,
  tables: readonly FoundTable[],
  plan: DensePlan,
  directory: string,
  signal?: AbortSignal,
): Promise<void> {
  const data = new ExternalLayout(modelFile);
  const model = new WirePatch();
  for (const field of readFields(source)) {
    if (field.fieldStart === graph.field.fieldStart) {
      model.message(7, graphPatch(source, graph, tables, plan, data));
    } else if (field.number === 25) keepFunction(source, field, model, data, 25);
    else model.keep(field);
  }
  const original = await open(modelFile, 'r');
  try {
    const target = await open(join(directory, denseModelFile), 'wx');
    try {
      await model.writeTo(target, original, signal);
      await target.sync();
    } finally {
      await target.close();
    }
  } finally {
    await original.close();
  }
  await data.write(join(directory, denseDataFile), signal);
}

function graphPatch(
  source: ByteSource,
  graph: WireGraph,
  tables: readonly FoundTable[],
  plan: DensePlan,
  data: ExternalLayout,
): WirePatch {
  const cuts = tables.flatMap((table) => table.cuts);
  const inputNames = new Set(cuts.map(({ input }) => input.name));
  const goes = (name: string): boolean => plan.names.has(name) || inputNames.has(name);
  const removed = new Set<number>([
    ...[...plan.nodes].map(({ field }) => field.fieldStart),
    ...graph.initializers.filter(({ name }) => plan.names.has(name)).map(({ field }) => field.fieldStart),
    ...graph.inputs
      .filter(({ summary }) => plan.names.has(summary.name))
      .map(({ field }) => field.fieldStart),
    ...graph.valueInfos.filter(({ summary }) => goes(summary.name)).map(({ field }) => field.fieldStart),
  ]);
  const { nodes, initializers } = restoringNodes(cuts, graph);
  const patch = new WirePatch();
  // Nodes stand in the order of their use; these depend on inputs alone.
  for (const node of nodes) patch.add(new WireWriter().message(1, nodeMessage(node)));
  for (const field of readFields(source, graph.field.start, graph.field.end)) {
    if (removed.has(field.fieldStart)) continue;
    if (field.number === 1) keepNode(source, field, patch, data, 1);
    else if (field.number === 5) keepTensor(source, field, patch, data, 5);
    else if (field.number === 15) keepSparse(source, field, patch, data);
    else if (field.number !== 14 || !goes(annotated(source, field))) patch.keep(field);
  }
  for (const tensor of initializers) patch.add(new WireWriter().message(5, tensorMessage(tensor)));
  for (const { input } of cuts) {
    const value = { name: input.name, datatype: 'FP32', shape: input.shape } as const;
    patch.add(new WireWriter().message(11, valueMessage(value)));
  }
  return patch;
}

function keepSparse(source: ByteSource, field: WireField, target: WirePatch, data: ExternalLayout): void {
  keepParts(source, field, target, 15, (part, patch) => {
    if (part.number !== 1 && part.number !== 2) return false;
    keepTensor(source, part, patch, data, part.number);
    return true;
  });
}

/** The tensor that a quantisation annotation is about. */
function annotated(source: ByteSource, field: WireField): string {
  return readEntry(source, expectType(field, 2))[0];
}

/** What makes the old values of the new inputs. */
function restoringNodes(
  cuts: readonly EmbeddingCut[],
  graph: WireGraph,
): { nodes: OnnxNode[]; initializers: Parameters<typeof tensorMessage>[0][] } {
  const nodes: OnnxNode[] = [];
  const initializers: Parameters<typeof tensorMessage>[0][] = [];
  const isCopied = (value: string): boolean =>
    (graph.consumers.get(value) ?? []).length > 0 ||
    graph.outputs.some(({ summary }) => summary.name === value);
  for (const { input, value, restore, copies } of cuts) {
    if (restore) {
      let from = input.name;
      const { shape, elementType } = restore;
      if (shape) {
        const name = `${input.name}_shape`;
        const to = elementType === undefined ? value : `${input.name}_reshaped`;
        initializers.push({
          name,
          datatype: 'INT64',
          shape: [shape.length],
          data: BigInt64Array.from(shape, BigInt),
        });
        nodes.push({ op: 'Reshape', inputs: [from, name], outputs: [to] });
        from = to;
      }
      if (elementType !== undefined) {
        nodes.push({
          op: 'Cast',
          inputs: [from],
          outputs: [value],
          attributes: { to: { int: elementType } },
        });
      }
      if (!shape && elementType === undefined)
        nodes.push({ op: 'Identity', inputs: [from], outputs: [value] });
    }
    for (const copy of copies.filter(isCopied)) {
      nodes.push({ op: 'Identity', inputs: [value], outputs: [copy] });
    }
  }
  return { nodes, initializers };
}

/** Takes a node over as it is, or with the places of external data in its attributes and branches rewritten. */
function keepNode(
  source: ByteSource,
  field: WireField,
  target: WirePatch,
  data: ExternalLayout,
  number: number,
): void {
  keepParts(source, field, target, number, (part, patch) => {
    if (part.number !== 5) return false;
    keepParts(source, part, patch, 5, (inner, attribute) => {
      if (inner.number === 5 || inner.number === 10) keepTensor(source, inner, attribute, data, inner.number);
      else if (inner.number === 6 || inner.number === 11)
        keepGraph(source, inner, attribute, data, inner.number);
      else return false;
      return true;
    });
    return true;
  });
}

function keepGraph(
  source: ByteSource,
  field: WireField,
  target: WirePatch,
  data: ExternalLayout,
  number: number,
): void {
  keepParts(source, field, target, number, (part, patch) => {
    if (part.number === 1) keepNode(source, part, patch, data, 1);
    else if (part.number === 5) keepTensor(source, part, patch, data, 5);
    else return false;
    return true;
  });
}

/** A function of the model: its nodes may hold constants. */
function keepFunction(
  source: ByteSource,
  field: WireField,
  target: WirePatch,
  data: ExternalLayout,
  number: number,
): void {
  keepParts(source, field, target, number, (part, patch) => {
    if (part.number !== 7) return false;
    keepNode(source, part, patch, data, 7);
    return true;
  });
}

/** Rebuilds a message part by part; `rewrite` says whether it has dealt with a part. */
function keepParts(
  source: ByteSource,
  field: WireField,
  target: WirePatch,
  number: number,
  rewrite: (part: WireField, patch: WirePatch) => boolean,
): void {
  const patch = new WirePatch();
  for (const part of readFields(source, field.start, expectType(field, 2).end)) {
    if (!(part.type === 2 && rewrite(part, patch))) patch.keep(part);
  }
  target.message(number, patch);
}

function keepTensor(
  source: ByteSource,
  field: WireField,
  target: WirePatch,
  data: ExternalLayout,
  number: number,
): void {
  const tensor = readTensor(source, expectType(field, 2));
  if (!tensor.external) {
    target.keep(field);
    return;
  }
  const { offset, length } = data.place(tensor);
  const patch = new WirePatch();
  for (const part of readFields(source, field.start, field.end)) {
    if (part.number !== 13) {
      patch.keep(part);
      continue;
    }
    const [key] = readEntry(source, part);
    if (!['location', 'offset', 'length'].includes(key)) patch.keep(part);
  }
  const entries = { location: denseDataFile, offset: String(offset), length: String(length) };
  for (const [key, value] of Object.entries(entries)) {
    patch.add(new WireWriter().message(13, new WireWriter().string(1, key).string(2, value)));
  }
  target.message(number, patch);
}
