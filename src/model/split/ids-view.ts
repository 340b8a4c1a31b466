/**
 * From the indices of a Gather back to the inputs that carry the ids: which columns of which inputs they are, and in
 * what shape. What a stage cannot do before the network runs is refused by the node that does it.
 */
import type { ByteSource } from '../../protobuf-wire.js';
import { constantIntegers, nodeLabel, type WireGraph, type WireNode } from './wire-graph.js';

/** One id of a row: a column of an input. The column is 0 for an input of rank 1. */
export interface IdColumn {
  readonly input: string;
  readonly column: number;
}

/** What the indices of a Gather are, in terms of the graph's inputs. */
export interface IdsView {
  /** The ids of one row in order; 'any' for all columns of one input of free width. */
  readonly columns: readonly IdColumn[] | 'any';
  /** Inputs in the order in which they are first used. */
  readonly inputs: readonly string[];
  readonly datatype: 'INT32' | 'INT64';
  /** 'rows': the first dimension is the batch; 'flat': rows and their ids run into one first dimension. */
  readonly lead: 'rows' | 'flat';
  /** The dimensions behind the first; -1 where the width is free. */
  readonly trailing: readonly number[];
  readonly modulus: number | undefined;
}

/** Thrown inside the walk and turned into text by {@link idsViewOf}. */
class Refusal extends Error {}

/**
 * Follows a value back to the inputs.
 *
 * @returns the view, or in words why there is none
 */
export function idsViewOf(source: ByteSource, graph: WireGraph, value: string): IdsView | string {
  try {
    return viewOf({ source, graph }, value);
  } catch (error) {
    if (error instanceof Refusal) return error.message;
    throw error;
  }
}

/** The columns of a view by number, or undefined where it takes all columns of its one input in order. */
export function chosenColumns(view: IdsView, width: number): readonly number[] | undefined {
  if (view.columns === 'any') return undefined;
  const columns = view.columns.map(({ column }) => column);
  const isWhole = columns.length === width && columns.every((column, at) => column === at);
  return isWhole ? undefined : columns;
}

interface Walk {
  readonly source: ByteSource;
  readonly graph: WireGraph;
}

function viewOf(walk: Walk, value: string): IdsView {
  const node = walk.graph.producers.get(value);
  if (!node) return viewOfInput(walk, value);
  const data = node.inputs[0] ?? '';
  switch (node.op) {
    case 'Identity':
      return viewOf(walk, data);
    case 'Cast':
      return viewOfCast(walk, node, data);
    case 'Squeeze':
      return squeezed(walk, node, viewOf(walk, data));
    case 'Unsqueeze':
      return unsqueezed(walk, node, viewOf(walk, data));
    case 'Flatten':
      return flattened(node, viewOf(walk, data));
    case 'Reshape':
      return reshaped(walk, node, viewOf(walk, data));
    case 'Slice':
      return sliced(walk, node, viewOf(walk, data));
    case 'Split':
      return splitPart(walk, node, viewOf(walk, data), value);
    case 'Gather':
      return gathered(walk, node, viewOf(walk, data));
    case 'Mod':
      return reduced(walk, node, viewOf(walk, data));
    case 'Concat':
      return joined(
        node,
        node.inputs.map((input) => viewOf(walk, input)),
      );
    default:
      throw new Refusal(
        `its ids are computed by ${nodeLabel(node)}, which a stage cannot do; compute them before the request, and make the result an input of the model`,
      );
  }
}

function viewOfInput({ graph }: Walk, name: string): IdsView {
  if (graph.constants.has(name)) throw new Refusal(`its ids are the constant '${name}', not an input`);
  const input = graph.inputs.find(({ summary }) => summary.name === name)?.summary;
  if (!input) throw new Refusal(`its ids '${name}' are neither an input nor made by a node of the graph`);
  const { datatype, shape } = input;
  if (datatype !== 'INT64' && datatype !== 'INT32') {
    throw new Refusal(`its ids '${name}' are ${datatype ?? input.kind}; expected an input of INT64 or INT32`);
  }
  if (!shape) {
    throw new Refusal(`the file does not tell the shape of '${name}'; export the model with its shape`);
  }
  if (shape.length !== 1 && shape.length !== 2) {
    throw new Refusal(
      `its ids '${name}' have rank ${shape.length}; a stage reads [B] and [B, slots], so reshape them before the request`,
    );
  }
  const width = shape[1] ?? 1;
  const columns =
    width === -1 ? ('any' as const) : Array.from({ length: width }, (_, column) => ({ input: name, column }));
  return {
    columns,
    inputs: [name],
    datatype,
    lead: 'rows',
    trailing: shape.slice(1),
    modulus: undefined,
  };
}

function viewOfCast(walk: Walk, node: WireNode, data: string): IdsView {
  const to = node.attributes.get('to')?.int;
  if (to !== 6 && to !== 7) {
    throw new Refusal(`${nodeLabel(node)} makes its ids other than INT32 or INT64; give them as integers`);
  }
  return viewOf(walk, data);
}

function widthOf(view: IdsView): number {
  return view.columns === 'any' ? -1 : view.columns.length;
}

/** The axes of Squeeze and Unsqueeze: an attribute before opset 13, an input since. */
function axesOf({ source, graph }: Walk, node: WireNode, rank: number): readonly number[] | undefined {
  const axes = node.attributes.get('axes')?.ints ?? constantIntegers(source, graph, node.inputs[1]);
  return axes?.map((axis) => (axis < 0 ? axis + rank : axis));
}

function squeezed(walk: Walk, node: WireNode, view: IdsView): IdsView {
  const axes = axesOf(walk, node, view.trailing.length + 1);
  if (!axes || axes.includes(0)) {
    throw new Refusal(
      `${nodeLabel(node)} ${axes ? 'removes the batch axis of its ids' : 'does not tell its axes'}; expected constant axes of 1 and more`,
    );
  }
  return { ...view, trailing: view.trailing.filter((_, at) => !axes.includes(at + 1)) };
}

function unsqueezed(walk: Walk, node: WireNode, view: IdsView): IdsView {
  const count = (node.attributes.get('axes')?.ints ?? axesOf(walk, node, 0))?.length ?? 0;
  const axes = axesOf(walk, node, view.trailing.length + 1 + count);
  if (!axes || axes.includes(0)) {
    throw new Refusal(
      `${nodeLabel(node)} ${axes ? 'puts an axis before the batch axis of its ids' : 'does not tell its axes'}; expected constant axes of 1 and more`,
    );
  }
  const trailing = [...view.trailing];
  for (const axis of [...axes].sort((a, b) => a - b)) trailing.splice(axis - 1, 0, 1);
  return { ...view, trailing };
}

function flattened(node: WireNode, view: IdsView): IdsView {
  const axis = node.attributes.get('axis')?.int ?? 1;
  if (axis !== 1 || view.lead === 'flat') {
    throw new Refusal(`${nodeLabel(node)} flattens its ids at axis ${axis}; expected axis 1`);
  }
  return { ...view, trailing: [widthOf(view)] };
}

function reshaped(walk: Walk, node: WireNode, view: IdsView): IdsView {
  const shape = constantIntegers(walk.source, walk.graph, node.inputs[1]);
  if (!shape) {
    throw new Refusal(`${nodeLabel(node)} brings its ids to a computed shape; expected a constant one`);
  }
  const refusal = new Refusal(
    `${nodeLabel(node)} brings its ids to [${shape}], which is neither rows first nor one flat list; expected [0, ...] or [-1]`,
  );
  const [first, ...rest] = shape;
  const width = widthOf(view);
  const product = rest.reduce((all, size) => all * size, 1);
  if (first === -1 && product === width && view.lead === 'rows') return { ...view, trailing: rest };
  if (first === -1 && product === 1) return { ...view, lead: 'flat', trailing: rest };
  // 0 copies the dimension of the input at the same place, which for the first is the batch.
  if (first !== 0 || view.lead === 'flat' || (node.attributes.get('allowzero')?.int ?? 0) !== 0)
    throw refusal;
  const copied = rest.map((size, at) => (size === 0 ? (view.trailing[at] ?? 0) : size));
  const free = copied.indexOf(-1);
  if (free < 0 && copied.reduce((all, size) => all * size, 1) === width) return { ...view, trailing: copied };
  const others = copied.reduce((all, size, at) => (at === free ? all : all * size), 1);
  if (free < 0 || copied.indexOf(-1, free + 1) >= 0 || others < 1) throw refusal;
  if (width === -1 ? others !== 1 : width % others !== 0) throw refusal;
  copied[free] = width === -1 ? -1 : width / others;
  return { ...view, trailing: copied };
}

/** A matrix of ids [B, width] with a known width, of which a node takes columns. */
function matrixOf(node: WireNode, view: IdsView, axis: number | undefined): readonly IdColumn[] {
  const rank = view.trailing.length + 1;
  const at = axis !== undefined && axis < 0 ? axis + rank : axis;
  if (at !== 1 || view.lead === 'flat') {
    throw new Refusal(
      `${nodeLabel(node)} works on axis ${axis ?? 'unknown'} of its ids; a stage can only take columns (axis 1)`,
    );
  }
  if (view.columns === 'any') {
    throw new Refusal(
      `${nodeLabel(node)} takes columns of ids whose width is free; export the model with a fixed number of ids a row`,
    );
  }
  if (rank !== 2) {
    throw new Refusal(`${nodeLabel(node)} works on ids of rank ${rank}; expected [B, slots]`);
  }
  return view.columns;
}

function withColumns(view: IdsView, columns: readonly IdColumn[], trailing: readonly number[]): IdsView {
  return { ...view, columns, trailing, inputs: [...new Set(columns.map(({ input }) => input))] };
}

function sliced(walk: Walk, node: WireNode, view: IdsView): IdsView {
  const { source, graph } = walk;
  const list = (name: string, at: number): readonly number[] | undefined =>
    node.attributes.get(name)?.ints ?? constantIntegers(source, graph, node.inputs[at]);
  const starts = list('starts', 1);
  const ends = list('ends', 2);
  if (!starts || !ends) throw new Refusal(`${nodeLabel(node)} cuts its ids at computed places`);
  const axes = list('axes', 3) ?? starts.map((_, at) => at);
  const steps = list('steps', 4) ?? starts.map(() => 1);
  const rank = view.trailing.length + 1;
  let result = view;
  for (const [at, given] of axes.entries()) {
    const axis = given < 0 ? given + rank : given;
    const [start, end, step] = [starts[at] ?? 0, ends[at] ?? 0, steps[at] ?? 1];
    // What an exporter writes for x[:, 3] on the batch axis: everything.
    if (axis === 0 && start === 0 && end >= 2 ** 31 - 1 && step === 1) continue;
    const columns = matrixOf(node, result, given);
    const taken = sliceOf(columns, start, end, step);
    if (taken.length === 0) throw new Refusal(`${nodeLabel(node)} leaves no column of its ids`);
    result = withColumns(result, taken, [taken.length]);
  }
  return result;
}

function sliceOf<Item>(items: readonly Item[], start: number, end: number, step: number): Item[] {
  const { length } = items;
  const clamp = (at: number, low: number, high: number): number =>
    Math.min(high, Math.max(low, at < 0 ? at + length : at));
  const taken: Item[] = [];
  if (step > 0) {
    const to = clamp(end, 0, length);
    for (let at = clamp(start, 0, length); at < to; at += step) taken.push(items[at]!);
  } else if (step < 0) {
    const to = clamp(end, -1, length - 1);
    for (let at = clamp(start, 0, length - 1); at > to; at += step) taken.push(items[at]!);
  }
  return taken;
}

function splitPart(walk: Walk, node: WireNode, view: IdsView, value: string): IdsView {
  const columns = matrixOf(node, view, node.attributes.get('axis')?.int ?? 0);
  const part = node.outputs.indexOf(value);
  const told =
    node.attributes.get('split')?.ints ?? constantIntegers(walk.source, walk.graph, node.inputs[1]);
  if (!told && node.inputs[1]) throw new Refusal(`${nodeLabel(node)} splits its ids at computed places`);
  const even = Math.ceil(columns.length / node.outputs.length);
  const sizes = told ?? node.outputs.map((_, at) => Math.max(0, Math.min(even, columns.length - at * even)));
  const start = sizes.slice(0, part).reduce((sum, size) => sum + size, 0);
  const taken = columns.slice(start, start + (sizes[part] ?? 0));
  if (taken.length === 0) throw new Refusal(`${nodeLabel(node)} leaves no column of its ids`);
  return withColumns(view, taken, [taken.length]);
}

function gathered(walk: Walk, node: WireNode, view: IdsView): IdsView {
  const columns = matrixOf(node, view, node.attributes.get('axis')?.int ?? 0);
  const [, indexName = ''] = node.inputs;
  const chosen = constantIntegers(walk.source, walk.graph, indexName);
  if (!chosen) throw new Refusal(`${nodeLabel(node)} takes computed columns of its ids`);
  const taken = chosen.map((index) => columns[index < 0 ? index + columns.length : index]);
  if (taken.some((column) => !column) || taken.length === 0) {
    throw new Refusal(`${nodeLabel(node)} takes the columns [${chosen}] of ${columns.length}`);
  }
  const rank = constantRank(walk.graph, indexName);
  if (rank > 1)
    throw new Refusal(`${nodeLabel(node)} takes columns by indices of rank ${rank}; expected a list`);
  return withColumns(view, taken as readonly IdColumn[], rank === 0 ? [] : [taken.length]);
}

function constantRank(graph: WireGraph, name: string): number {
  const producer = graph.producers.get(name);
  if (producer?.op === 'Identity') return constantRank(graph, producer.inputs[0] ?? '');
  if (producer?.attributes.has('value_int')) return 0;
  if (producer?.attributes.has('value_ints')) return 1;
  return graph.constants.get(name)?.shape.length ?? 1;
}

function reduced(walk: Walk, node: WireNode, view: IdsView): IdsView {
  const divisor = constantIntegers(walk.source, walk.graph, node.inputs[1]);
  if (divisor?.length !== 1 || divisor[0]! < 1) {
    throw new Refusal(`${nodeLabel(node)} divides its ids by other than one positive constant`);
  }
  if ((node.attributes.get('fmod')?.int ?? 0) !== 0) {
    throw new Refusal(
      `${nodeLabel(node)} has fmod=1, which gives negative remainders of negative ids; expected fmod=0`,
    );
  }
  if (view.modulus !== undefined && view.modulus !== divisor[0]) {
    throw new Refusal(`${nodeLabel(node)} is a second Mod over its ids; a stage has one modulus`);
  }
  if (constantRank(walk.graph, node.inputs[1] ?? '') > view.trailing.length + 1) {
    throw new Refusal(`${nodeLabel(node)} raises the rank of its ids by its divisor; expected a scalar`);
  }
  return { ...view, modulus: divisor[0]! };
}

function joined(node: WireNode, views: readonly IdsView[]): IdsView {
  const [first] = views;
  const axis = node.attributes.get('axis')?.int;
  if (!first) throw new Refusal(`${nodeLabel(node)} joins nothing`);
  const columns = views.flatMap((view) => matrixOf(node, view, axis));
  if (views.some(({ modulus, datatype }) => modulus !== first.modulus || datatype !== first.datatype)) {
    throw new Refusal(
      `${nodeLabel(node)} joins ids of different datatypes or Mod; a stage has one for all of its ids`,
    );
  }
  return withColumns(first, columns, [columns.length]);
}
