/** The sum or mean over the slots of a row, with weights or without, behind a Gather. */
import type { ByteSource } from '../../protobuf-wire.js';
import type { IdsView } from './ids-view.js';
import { constantIntegers, type WireGraph, type WireNode, type WireTensor } from './wire-graph.js';

/** What follows a Gather and can be left to its stage. */
export interface Pooling {
  readonly combiner: 'sum' | 'mean';
  readonly weights?: string;
  readonly nodes: readonly WireNode[];
  readonly value: string;
  /** The dimensions between batch and row that are left: none, or a 1. */
  readonly kept: readonly number[];
}

/** The sum or mean over the slots that is all that follows a Gather, with weights of an input where it has some. */
export function poolingOf(
  source: ByteSource,
  graph: WireGraph,
  tensor: WireTensor,
  gather: WireNode,
  view: IdsView,
): Pooling | undefined {
  if (tensor.elementType !== 1 || view.lead !== 'rows' || view.trailing.length !== 1) return undefined;
  const nodes: WireNode[] = [];
  let value = gather.outputs[0]!;
  let weights: string | undefined;
  let next = onlyUser(graph, value);
  if (next?.op === 'Mul') {
    weights = weightsOf(source, graph, next, value, view);
    if (weights === undefined) return undefined;
    nodes.push(next);
    value = next.outputs[0]!;
    next = onlyUser(graph, value);
  }
  if (next?.op !== 'ReduceSum' && !(next?.op === 'ReduceMean' && weights === undefined)) return undefined;
  const axes = next.attributes.get('axes')?.ints ?? constantIntegers(source, graph, next.inputs[1]);
  if (next.inputs[0] !== value || axes?.length !== 1 || ![1, -2].includes(axes[0]!)) return undefined;
  const keepsDims = (next.attributes.get('keepdims')?.int ?? 1) !== 0;
  return {
    combiner: next.op === 'ReduceSum' ? 'sum' : 'mean',
    ...(weights === undefined ? {} : { weights }),
    nodes: [...nodes, next],
    value: next.outputs[0]!,
    kept: keepsDims ? [1] : [],
  };
}

function onlyUser(graph: WireGraph, value: string): WireNode | undefined {
  const users = graph.consumers.get(value) ?? [];
  const isOutput = graph.outputs.some(({ summary }) => summary.name === value);
  return users.length === 1 && !isOutput && !users[0]!.captures.includes(value) ? users[0] : undefined;
}

/** The input [B, slots] whose elements a Mul multiplies the rows by, through the Unsqueeze that makes it [B, slots, 1]. */
function weightsOf(
  source: ByteSource,
  graph: WireGraph,
  mul: WireNode,
  rows: string,
  view: IdsView,
): string | undefined {
  const others = mul.inputs.filter((input) => input !== rows);
  const unsqueeze = others.length === 1 ? graph.producers.get(others[0]!) : undefined;
  if (unsqueeze?.op !== 'Unsqueeze') return undefined;
  const axes = unsqueeze.attributes.get('axes')?.ints ?? constantIntegers(source, graph, unsqueeze.inputs[1]);
  if (axes?.length !== 1 || ![2, -1].includes(axes[0]!)) return undefined;
  const inputOf = (name: string | undefined) =>
    graph.inputs.find(({ summary }) => summary.name === name && !graph.constants.has(summary.name))?.summary;
  const weights = inputOf(unsqueeze.inputs[0]);
  const ids = inputOf(view.inputs[0]);
  const isWhole =
    view.inputs.length === 1 &&
    (view.columns === 'any' || view.columns.every(({ column }, at) => column === at));
  const isSame = weights?.datatype === 'FP32' && String(weights.shape) === String(ids?.shape);
  return isWhole && isSame && view.trailing[0] === ids?.shape?.[1] ? weights.name : undefined;
}
