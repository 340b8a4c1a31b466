/** A model's graph as an index into its file: names, attributes and where everything lies. Weights are not read. */
import { ServingError } from '../../errors.js';
import {
  type ByteSource,
  expectType,
  fieldInteger,
  fieldIntegers,
  fieldNumber,
  fieldString,
  readFields,
  type WireField,
} from '../../protobuf-wire.js';
import { type OnnxValueSummary, readValue } from '../onnx-file.js';

/** A stretch of a file, in bytes. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Where a tensor's elements lie outside of the model file. */
export interface ExternalData {
  /** Relative to the model's directory. */
  readonly location: string;
  readonly offset: number;
  /** Absent: what the shape needs. */
  readonly length: number | undefined;
}

/** A TensorProto. */
export interface WireTensor {
  /** '' where it has none, as the value of an attribute. */
  readonly name: string;
  /** `TensorProto.DataType` */
  readonly elementType: number;
  readonly shape: readonly number[];
  readonly field: WireField;
  /** Its `raw_data`. */
  readonly raw: Span | undefined;
  /** Typed elements (`float_data` and its kin) by field number, each stretch as it is written. */
  readonly typed: readonly WireField[];
  readonly external: ExternalData | undefined;
}

/** An attribute of a node; a kind that no one asks for is only its name. */
export interface WireAttribute {
  readonly int?: number;
  readonly ints?: readonly number[];
  readonly text?: string;
  readonly tensor?: WireTensor;
}

/** A NodeProto. */
export interface WireNode {
  /** Position in the graph's list of nodes. */
  readonly index: number;
  readonly field: WireField;
  /** As `Relu`, or `domain:Op` outside of ONNX's own domain. */
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, WireAttribute>;
  /** Values of the graph that the branches or the body of this node use. */
  readonly captures: readonly string[];
}

/** An input or output of the graph, or a value whose type it tells. */
export interface WireValue {
  readonly field: WireField;
  readonly summary: OnnxValueSummary;
}

/** A model's own graph. */
export interface WireGraph {
  /** The graph's field in the model. */
  readonly field: WireField;
  readonly irVersion: number;
  /** Version of ONNX's own operator set. */
  readonly opset: number;
  readonly nodes: readonly WireNode[];
  readonly initializers: readonly WireTensor[];
  /** Inputs as written, those with an initialiser included. */
  readonly inputs: readonly WireValue[];
  readonly outputs: readonly WireValue[];
  readonly valueInfos: readonly WireValue[];
  /** Every name that stands for a value anywhere in the graph, so that a new one can differ. */
  readonly names: ReadonlySet<string>;
  /** The value of each name that is constant: initialisers, and outputs of Constant nodes. */
  readonly constants: ReadonlyMap<string, WireTensor>;
  /** The node that makes a value. */
  readonly producers: ReadonlyMap<string, WireNode>;
  /** The nodes that use a value, captures included, in order and each once. */
  readonly consumers: ReadonlyMap<string, readonly WireNode[]>;
}

/**
 * Reads the graph of a model.
 *
 * @throws SRV_MODEL_INVALID when the bytes are not a whole ONNX model
 */
export function readGraph(source: ByteSource, path: string): WireGraph {
  let irVersion = 0;
  let opset = 0;
  let graph: WireField | undefined;
  for (const field of readFields(source)) {
    if (field.number === 1) irVersion = fieldNumber(source, expectType(field, 0));
    else if (field.number === 7) graph = expectType(field, 2);
    else if (field.number === 8) opset = readOpset(source, expectType(field, 2)) ?? opset;
  }
  if (!graph) throw new ServingError('SRV_MODEL_INVALID', `${path}: not an ONNX model: it has no graph`);
  const nodes: WireNode[] = [];
  const initializers: WireTensor[] = [];
  const inputs: WireValue[] = [];
  const outputs: WireValue[] = [];
  const valueInfos: WireValue[] = [];
  for (const field of readFields(source, graph.start, graph.end)) {
    if (field.number === 1) nodes.push(readNode(source, expectType(field, 2), nodes.length));
    else if (field.number === 5) initializers.push(readTensor(source, expectType(field, 2)));
    else if (field.number === 11) inputs.push(readWireValue(source, field));
    else if (field.number === 12) outputs.push(readWireValue(source, field));
    else if (field.number === 13) valueInfos.push(readWireValue(source, field));
  }
  return {
    field: graph,
    irVersion,
    opset,
    nodes,
    initializers,
    inputs,
    outputs,
    valueInfos,
    ...indexOf(nodes, initializers, inputs, outputs, valueInfos),
  };
}

function indexOf(
  nodes: readonly WireNode[],
  initializers: readonly WireTensor[],
  ...values: readonly (readonly WireValue[])[]
): Pick<WireGraph, 'names' | 'constants' | 'producers' | 'consumers'> {
  const names = new Set(values.flat().map(({ summary }) => summary.name));
  const constants = new Map(initializers.map((tensor) => [tensor.name, tensor]));
  const producers = new Map<string, WireNode>();
  const consumers = new Map<string, WireNode[]>();
  for (const name of constants.keys()) names.add(name);
  for (const node of nodes) {
    const value = node.op === 'Constant' ? node.attributes.get('value')?.tensor : undefined;
    if (value && node.outputs[0]) constants.set(node.outputs[0], { ...value, name: node.outputs[0] });
    for (const output of node.outputs) {
      names.add(output);
      producers.set(output, node);
    }
    for (const used of new Set([...node.inputs, ...node.captures])) {
      if (used === '') continue;
      names.add(used);
      const users = consumers.get(used);
      if (users) users.push(node);
      else consumers.set(used, [node]);
    }
  }
  return { names, constants, producers, consumers };
}

/** How a message names a node: operator and name, or its first output where it has no name. */
export function nodeLabel(node: WireNode): string {
  return `${node.op} '${node.name || (node.outputs[0] ?? `number ${node.index}`)}'`;
}

function readOpset(source: ByteSource, entry: WireField): number | undefined {
  let domain = '';
  let version = 0;
  for (const field of readFields(source, entry.start, entry.end)) {
    if (field.number === 1) domain = fieldString(source, expectType(field, 2));
    else if (field.number === 2) version = fieldNumber(source, expectType(field, 0));
  }
  return domain === '' || domain === 'ai.onnx' ? version : undefined;
}

function readWireValue(source: ByteSource, field: WireField): WireValue {
  return { field, summary: readValue(source, expectType(field, 2)) };
}

function readNode(source: ByteSource, field: WireField, index: number): WireNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, WireAttribute>();
  const captures = new Set<string>();
  let name = '';
  let op = '';
  let domain = '';
  for (const part of readFields(source, field.start, field.end)) {
    if (part.number === 1) inputs.push(fieldString(source, expectType(part, 2)));
    else if (part.number === 2) outputs.push(fieldString(source, expectType(part, 2)));
    else if (part.number === 3) name = fieldString(source, expectType(part, 2));
    else if (part.number === 4) op = fieldString(source, expectType(part, 2));
    else if (part.number === 7) domain = fieldString(source, expectType(part, 2));
    else if (part.number === 5) {
      const attribute = readAttribute(source, expectType(part, 2), captures);
      attributes.set(attribute.name, attribute.value);
    }
  }
  const key = domain && domain !== 'ai.onnx' ? `${domain}:${op}` : op;
  return { index, field, op: key, name, inputs, outputs, attributes, captures: [...captures] };
}

function readAttribute(
  source: ByteSource,
  field: WireField,
  captures: Set<string>,
): { name: string; value: WireAttribute } {
  let name = '';
  let int: number | undefined;
  let text: string | undefined;
  let tensor: WireTensor | undefined;
  const ints: number[] = [];
  for (const part of readFields(source, field.start, field.end)) {
    if (part.number === 1) name = fieldString(source, expectType(part, 2));
    else if (part.number === 3) int = fieldNumber(source, expectType(part, 0));
    else if (part.number === 4) text = fieldString(source, expectType(part, 2));
    else if (part.number === 5) tensor = readTensor(source, expectType(part, 2));
    else if (part.number === 6 || part.number === 11) {
      for (const free of freeNames(source, expectType(part, 2))) captures.add(free);
    } else if (part.number === 8) ints.push(...fieldIntegers(source, part));
  }
  const value: WireAttribute = {
    ...(int === undefined ? {} : { int }),
    ...(text === undefined ? {} : { text }),
    ...(tensor === undefined ? {} : { tensor }),
    ...(ints.length === 0 ? {} : { ints }),
  };
  return { name, value };
}

/** The values that a subgraph uses and does not make itself. */
function freeNames(source: ByteSource, graph: WireField): Set<string> {
  const made = new Set<string>();
  const used = new Set<string>();
  for (const field of readFields(source, graph.start, graph.end)) {
    if (field.number === 1) {
      const node = readNode(source, expectType(field, 2), 0);
      for (const name of [...node.inputs, ...node.captures]) used.add(name);
      for (const name of node.outputs) made.add(name);
    } else if (field.number === 5) made.add(readTensor(source, expectType(field, 2)).name);
    else if (field.number === 11) made.add(readWireValue(source, field).summary.name);
    else if (field.number === 12) used.add(readWireValue(source, field).summary.name);
  }
  return new Set([...used].filter((name) => name !== '' && !made.has(name)));
}

const typedDataFields = [4, 5, 6, 7, 10, 11];

/** Reads a TensorProto without its elements. */
export function readTensor(source: ByteSource, field: WireField): WireTensor {
  let name = '';
  let elementType = 0;
  let raw: Span | undefined;
  let isExternal = false;
  const shape: number[] = [];
  const typed: WireField[] = [];
  const entries = new Map<string, string>();
  for (const part of readFields(source, field.start, field.end)) {
    if (part.number === 1) shape.push(...fieldIntegers(source, part));
    else if (part.number === 2) elementType = fieldNumber(source, expectType(part, 0));
    else if (part.number === 8) name = fieldString(source, expectType(part, 2));
    else if (part.number === 9) raw = { start: expectType(part, 2).start, end: part.end };
    else if (part.number === 13) entries.set(...readEntry(source, expectType(part, 2)));
    else if (part.number === 14) isExternal = fieldInteger(source, expectType(part, 0)) === 1n;
    else if (typedDataFields.includes(part.number)) typed.push(part);
  }
  const length = entries.get('length');
  const external = isExternal
    ? {
        location: entries.get('location') ?? '',
        offset: Number(entries.get('offset') ?? 0),
        length: length === undefined ? undefined : Number(length),
      }
    : undefined;
  return { name, elementType, shape, field, raw, typed, external };
}

/** Reads a StringStringEntryProto. */
export function readEntry(source: ByteSource, entry: WireField): [key: string, value: string] {
  let key = '';
  let value = '';
  for (const field of readFields(source, entry.start, entry.end)) {
    if (field.number === 1) key = fieldString(source, expectType(field, 2));
    else if (field.number === 2) value = fieldString(source, expectType(field, 2));
  }
  return [key, value];
}

const maxConstantIntegers = 65_536;

/** The elements of a small constant of INT64 or INT32 that lies in the model file; undefined for any other value. */
export function constantIntegers(
  source: ByteSource,
  graph: WireGraph,
  name: string | undefined,
): readonly number[] | undefined {
  if (name === undefined || name === '') return undefined;
  const producer = graph.producers.get(name);
  if (producer?.op === 'Identity') return constantIntegers(source, graph, producer.inputs[0]);
  if (producer?.op === 'Constant') {
    const int = producer.attributes.get('value_int')?.int;
    const ints = producer.attributes.get('value_ints')?.ints;
    if (int !== undefined || ints) return ints ?? [int!];
  }
  // A value that is a graph input too may be given by a request.
  const tensor = graph.constants.get(name);
  if (!tensor || (tensor.elementType !== 7 && tensor.elementType !== 6)) return undefined;
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  if (count > maxConstantIntegers || tensor.external) return undefined;
  if (!tensor.raw) return tensor.typed.flatMap((field) => fieldIntegers(source, field));
  const bytes = source.bytes(tensor.raw.start, tensor.raw.end);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = tensor.elementType === 7 ? 8 : 4;
  return Array.from({ length: Math.min(count, Math.floor(bytes.length / width)) }, (_, at) =>
    width === 8 ? Number(view.getBigInt64(at * 8, true)) : view.getInt32(at * 4, true),
  );
}
