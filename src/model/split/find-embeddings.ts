/** Which matrices of a model are embedding tables that can be cut out, and what takes their place. */
import { didYouMean } from '../../config/suggest.js';
import { ServingError } from '../../errors.js';
import type { ByteSource } from '../../protobuf-wire.js';
import { type IdsView, idsViewOf } from './ids-view.js';
import { poolingOf } from './pooling.js';
import { rowElementTypes, tensorBytes } from './tensor-rows.js';
import { nodeLabel, type WireGraph, type WireNode, type WireTensor } from './wire-graph.js';

/** Which matrices to take. */
export interface FindOptions {
  /** Matrices of that many bytes and more are taken; without meaning where some are named. */
  readonly minBytes: number;
  /** The matrices to take, by name; empty: by size. */
  readonly initializers: readonly string[];
  /** Whether a sum or mean over the slots that follows is left to the stage. */
  readonly fusePooling: boolean;
}

/** A dimension: its size, the name of a free one, or -1. */
export type Dimension = number | string;

/** One value of the network that rows of a table will be fed for. */
export interface EmbeddingCut {
  readonly tensor: WireTensor;
  readonly view: IdsView;
  readonly combiner: 'none' | 'sum' | 'mean';
  /** The input of weights that rows are multiplied by before they are summed; absent: none. */
  readonly weights?: string;
  /** The nodes that the stage does the work of. */
  readonly nodes: readonly WireNode[];
  /** The value that the last of these nodes made. */
  readonly value: string;
  /** Values that were computed the same way a second time. */
  readonly copies: string[];
  /** The input of the network: its name is that of the value where nothing has to be restored. */
  readonly input: { readonly name: string; readonly shape: readonly Dimension[] };
  /** What makes the value of the input: to a shape, to an element type (`TensorProto.DataType`), or a plain copy. */
  readonly restore?: { readonly shape?: readonly number[]; readonly elementType?: number };
}

/** A table to be cut out, with all places where its rows are used. */
export interface FoundTable {
  readonly tensor: WireTensor;
  readonly cuts: readonly EmbeddingCut[];
}

/**
 * Finds the tables of a model.
 *
 * @throws SRV_MODEL_UNSUPPORTED when one of them cannot be cut out, naming the nodes; when there is none, listing
 * what was looked at
 * @throws SRV_BAD_CONFIG when a named one is not there
 */
export function findEmbeddings(
  source: ByteSource,
  graph: WireGraph,
  path: string,
  options: FindOptions,
): readonly FoundTable[] {
  for (const name of options.initializers) {
    if (graph.constants.has(name)) continue;
    const known = [...graph.constants.keys()];
    throw new ServingError(
      'SRV_BAD_CONFIG',
      `${path} has no initialiser '${name}'${didYouMean(name, known)}; model inspect lists them by size`,
    );
  }
  const names = new NewNames(graph);
  const found: FoundTable[] = [];
  const refusals: string[] = [];
  for (const tensor of graph.constants.values()) {
    const isNamed = options.initializers.includes(tensor.name);
    if (options.initializers.length > 0 ? !isNamed : tensorBytes(tensor) < options.minBytes) continue;
    const uses = usesOf(graph, tensor.name);
    if (!isNamed && !uses.some((use) => isLookup(tensor, use))) continue;
    const reasons = [...obstacles(graph, tensor, uses)];
    if (reasons.length === 0) {
      const cuts: EmbeddingCut[] = [];
      for (const { node } of uses) {
        const cut = cutOf(source, graph, tensor, node, names, options.fusePooling);
        if (typeof cut === 'string') reasons.push(`${nodeLabel(node)}: ${cut}`);
        else addCut(cuts, cut);
      }
      if (reasons.length === 0) found.push({ tensor, cuts });
    }
    for (const reason of reasons) refusals.push(`${tensorLabel(tensor)}: ${reason}`);
  }
  if (refusals.length > 0) throw refused(path, refusals, found);
  if (found.length === 0) throw nothingFound(graph, path, options);
  return found;
}

/** A tensor with its shape, as messages name it. */
export function tensorLabel({ name, shape }: WireTensor): string {
  return `'${name}' [${shape}]`;
}

function refused(path: string, refusals: readonly string[], found: readonly FoundTable[]): ServingError {
  const rest =
    found.length === 0
      ? ''
      : `\nTo split off only what can be: ${found.map(({ tensor }) => `--initializer ${tensor.name}`).join(' ')}`;
  return new ServingError(
    'SRV_MODEL_UNSUPPORTED',
    `${path} cannot be split:\n${refusals.map((text) => `  ${text}`).join('\n')}${rest}`,
    { details: { refusals } },
  );
}

const shownCandidates = 10;

function nothingFound(graph: WireGraph, path: string, { minBytes }: FindOptions): ServingError {
  const candidates = [...graph.constants.values()]
    .filter(({ shape }) => shape.length >= 1)
    .map((tensor) => ({ tensor, bytes: tensorBytes(tensor), uses: usesOf(graph, tensor.name) }))
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, shownCandidates)
    .map(({ tensor, bytes, uses }) => {
      const users = uses.slice(0, 3).map(({ node }) => nodeLabel(node));
      const more = uses.length > 3 ? ` and ${uses.length - 3} more` : '';
      return `  ${tensorLabel(tensor)}, ${bytes} bytes, used by ${users.join(', ') || 'nothing'}${more}`;
    });
  return new ServingError(
    'SRV_MODEL_UNSUPPORTED',
    `${path} has no matrix of ${minBytes} bytes or more (--min_bytes) that a Gather takes rows of.` +
      (candidates.length === 0
        ? ' It has no initialisers at all.'
        : ` Its largest initialisers:\n${candidates.join('\n')}\nName one with --initializer, or lower --min_bytes.`),
  );
}

interface Use {
  readonly node: WireNode;
  /** The name under which the node takes the tensor: its own or that of an Identity. */
  readonly as: string;
}

/** The nodes that use a value, also through Identity, in the order of the graph. */
function usesOf(graph: WireGraph, name: string): Use[] {
  return identitiesOf(graph, name)
    .flatMap((as) => (graph.consumers.get(as) ?? []).map((node) => ({ node, as })))
    .filter(({ node }) => node.op !== 'Identity')
    .sort((a, b) => a.node.index - b.node.index);
}

function identitiesOf(graph: WireGraph, name: string): string[] {
  const made = (graph.consumers.get(name) ?? []).filter(({ op }) => op === 'Identity');
  return [name, ...made.flatMap(({ outputs }) => identitiesOf(graph, outputs[0] ?? ''))];
}

const unsupportedLookups: Readonly<Record<string, string>> = {
  GatherND: 'indices of GatherND point at elements of several axes; export the lookup as Gather over axis 0',
  GatherElements: 'GatherElements takes single elements, not rows; export the lookup as Gather over axis 0',
  'com.microsoft:EmbedLayerNormalization':
    'the optimiser has fused the lookup with a normalisation; split the model before it is optimised',
  'com.microsoft:QEmbedLayerNormalization':
    'the optimiser has fused the lookup with a normalisation; split the model before it is optimised',
  'com.microsoft:GatherBlockQuantized':
    'the table is quantised in blocks; split the model before it is quantised, and use --dtype int8',
};

/** Element types that tables of numbers have: floats, and what they are quantised to. */
const numberTypes = [1, 2, 3, 10, 11, 16];

/** Whether a node looks rows up in a tensor, in a way that can be split off or in another. */
function isLookup({ elementType }: WireTensor, { node, as }: Use): boolean {
  if (!numberTypes.includes(elementType)) return false;
  return node.op === 'Gather' ? node.inputs[0] === as : Object.hasOwn(unsupportedLookups, node.op);
}

/** What keeps a tensor as a whole from being cut out. */
function* obstacles(graph: WireGraph, tensor: WireTensor, uses: readonly Use[]): Generator<string> {
  if (tensor.shape.length !== 2) {
    yield `has rank ${tensor.shape.length}; expected a matrix [rows, dim]`;
    return;
  }
  if (!Object.hasOwn(rowElementTypes, tensor.elementType)) {
    yield `has element type ${tensor.elementType}; expected FLOAT, FLOAT16 or DOUBLE (a quantised table: split the model before it is quantised, and use --dtype int8)`;
    return;
  }
  if (tensor.shape.some((size) => size < 1)) yield 'has no elements';
  if (uses.length === 0) yield 'is not used by any node';
  const names = identitiesOf(graph, tensor.name);
  for (const { summary } of graph.outputs) {
    if (names.includes(summary.name))
      yield `is given out as the output '${summary.name}'; remove that output`;
  }
  for (const { node, as } of uses) {
    const unsupported = unsupportedLookups[node.op];
    if (node.captures.includes(as)) {
      yield `${nodeLabel(node)} uses it inside its body or a branch (EmbeddingBag is exported so); look the rows up outside, with a fixed or free number of ids a row`;
    } else if (unsupported) yield `${nodeLabel(node)}: ${unsupported}`;
    else if (node.op !== 'Gather' || node.inputs[0] !== as || node.inputs[1] === as) {
      yield `${nodeLabel(node)} uses it too (tied weights?); the network would still need all of it. Give that node a matrix of its own`;
    } else if (![0, -2].includes(node.attributes.get('axis')?.int ?? 0)) {
      yield `${nodeLabel(node)} takes slices of axis ${node.attributes.get('axis')?.int}, not rows (axis 0); transpose the matrix before the export`;
    }
  }
}

/** Names for new values, none of which the graph has yet. */
class NewNames {
  readonly #taken: Set<string>;

  constructor(graph: WireGraph) {
    this.#taken = new Set(graph.names);
  }

  make(wanted: string): string {
    let name = wanted;
    for (let number = 2; this.#taken.has(name); number++) name = `${wanted}_${number}`;
    this.#taken.add(name);
    return name;
  }
}

function addCut(cuts: EmbeddingCut[], cut: EmbeddingCut): void {
  const key = (one: EmbeddingCut): string => JSON.stringify([one.view, one.combiner, one.weights]);
  const same = cuts.find((other) => key(other) === key(cut));
  if (!same) {
    cuts.push(cut);
    return;
  }
  same.copies.push(cut.value);
  cuts[cuts.indexOf(same)] = { ...same, nodes: [...same.nodes, ...cut.nodes] };
}

function cutOf(
  source: ByteSource,
  graph: WireGraph,
  tensor: WireTensor,
  gather: WireNode,
  names: NewNames,
  fusePooling: boolean,
): EmbeddingCut | string {
  const view = idsViewOf(source, graph, gather.inputs[1] ?? '');
  if (typeof view === 'string') return view;
  const obstacle = unsayable(graph, view);
  if (obstacle !== undefined) return obstacle;
  const pooled = fusePooling ? poolingOf(source, graph, tensor, gather, view) : undefined;
  const dim = tensor.shape[1]!;
  const value = pooled?.value ?? gather.outputs[0]!;
  const first = graph.inputs.find(({ summary }) => summary.name === view.inputs[0])!.summary;
  const sizeOf = (axis: number): Dimension => {
    const size = first.shape?.[axis] ?? -1;
    return size >= 0 ? size : first.dimNames[axis] || -1;
  };
  const width = view.columns === 'any' ? sizeOf(1) : view.columns.length;
  const between = view.trailing.map((size) => (size === -1 ? sizeOf(1) : size));
  const middle = pooled ? pooled.kept : view.lead === 'flat' ? [width] : between;
  const restore = {
    ...(view.lead === 'flat' ? { shape: [-1, ...view.trailing, dim] } : {}),
    ...(tensor.elementType === 1 ? {} : { elementType: tensor.elementType }),
  };
  const isOutput = graph.outputs.some(({ summary }) => summary.name === value);
  const isRestored = isOutput || Object.keys(restore).length > 0;
  return {
    tensor,
    view,
    combiner: pooled?.combiner ?? 'none',
    ...(pooled?.weights === undefined ? {} : { weights: pooled.weights }),
    nodes: [gather, ...(pooled?.nodes ?? [])],
    value,
    copies: [],
    input: {
      name: isRestored ? names.make(`${value}_rows`) : value,
      shape: [sizeOf(0), ...middle, dim],
    },
    ...(isRestored ? { restore } : {}),
  };
}

/** Why a stage cannot say this view, or undefined where it can. */
function unsayable(graph: WireGraph, view: IdsView): string | undefined {
  if (view.columns === 'any' || view.inputs.length === 1) return undefined;
  const ranks = new Set(
    view.inputs.map(
      (name) => graph.inputs.find(({ summary }) => summary.name === name)?.summary.shape?.length ?? 0,
    ),
  );
  const isOneEach =
    view.columns.length === view.inputs.length &&
    view.inputs.every((name, at) => {
      const input = graph.inputs.find(({ summary }) => summary.name === name)?.summary;
      const column = view.columns[at] as { readonly input: string };
      return column.input === name && (input?.shape?.[1] ?? 1) === 1;
    });
  if (isOneEach && ranks.size === 1) return undefined;
  return `its ids are joined of the inputs [${view.inputs.join(', ')}], which are not one id a row each, all [B] or all [B, 1]; join them before the request`;
}
