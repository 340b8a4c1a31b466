/** Writes ONNX models from a plain description: for the sample model, the tests and the benchmarks. */

import { WireWriter } from '../protobuf-wire.js';
import { type Datatype, type FixedData, fixedDatatypes } from '../tensor/datatype.js';

/** A datatype, or the number of `TensorProto.DataType` for the types that have no datatype (22 is INT4). */
export type OnnxElementType = Datatype | number;

/** An input or output of the graph; the default kind is a dense tensor. */
export interface OnnxValue {
  readonly name: string;
  readonly datatype: OnnxElementType;
  /** Sizes; a string names a free dimension, -1 is a free one without a name. Absent: the rank is not told. */
  readonly shape?: readonly (number | string)[];
  /** @default 'tensor' */
  readonly kind?: 'tensor' | 'sequence' | 'optional';
}

/** A constant tensor: `data`, `strings` or `external`. */
export interface OnnxTensor {
  readonly name?: string;
  readonly datatype: OnnxElementType;
  readonly shape: readonly number[];
  /** Elements in row-major order; kept by reference until the model's bytes are made. */
  readonly data?: FixedData;
  /** Elements of a BYTES tensor. */
  readonly strings?: readonly string[];
  /** Where the bytes lie: a file relative to the model, offset and length in bytes. */
  readonly external?: { readonly location: string; readonly offset: number; readonly length: number };
}

/** An attribute: one key, which says its type. */
export type OnnxAttribute =
  | { readonly int: number | bigint }
  | { readonly float: number }
  | { readonly string: string }
  | { readonly ints: readonly (number | bigint)[] }
  | { readonly floats: readonly number[] }
  | { readonly strings: readonly string[] }
  | { readonly tensor: OnnxTensor }
  | { readonly graph: OnnxGraph };

/** One operator. */
export interface OnnxNode {
  readonly op: string;
  readonly domain?: string;
  readonly name?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

/** A graph: the model's own, or the branch of an operator such as If. */
export interface OnnxGraph {
  /** @default 'graph' */
  readonly name?: string;
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly initializers?: readonly OnnxTensor[];
}

/** A model. */
export interface OnnxModel extends OnnxGraph {
  /** Operator set by domain; '' is ONNX's own. @default { '': 17 } */
  readonly opsets?: Readonly<Record<string, number>>;
  /** @default 8 */
  readonly irVersion?: number;
  /** @default 'onnx-serving' */
  readonly producer?: string;
}

/** The bytes of a `.onnx` file (protobuf: less than 2 GiB). */
export function writeOnnxModel(model: OnnxModel): Uint8Array {
  const message = new WireWriter()
    .integer(1, model.irVersion ?? 8)
    .string(2, model.producer ?? 'onnx-serving')
    .message(7, graphMessage(model));
  for (const [domain, version] of Object.entries(model.opsets ?? { '': 17 })) {
    message.message(8, new WireWriter().string(1, domain).integer(2, version));
  }
  return message.toBytes();
}

function graphMessage(graph: OnnxGraph): WireWriter {
  const message = new WireWriter();
  for (const node of graph.nodes) message.message(1, nodeMessage(node));
  message.string(2, graph.name ?? 'graph');
  for (const tensor of graph.initializers ?? []) message.message(5, tensorMessage(tensor));
  for (const value of graph.inputs) message.message(11, valueMessage(value));
  for (const value of graph.outputs) message.message(12, valueMessage(value));
  return message;
}

/** A NodeProto. */
export function nodeMessage(node: OnnxNode): WireWriter {
  const message = new WireWriter();
  for (const input of node.inputs) message.string(1, input);
  for (const output of node.outputs) message.string(2, output);
  if (node.name) message.string(3, node.name);
  message.string(4, node.op);
  for (const [name, attribute] of Object.entries(node.attributes ?? {})) {
    message.message(5, attributeMessage(name, attribute));
  }
  if (node.domain) message.string(7, node.domain);
  return message;
}

function attributeMessage(name: string, attribute: OnnxAttribute): WireWriter {
  const message = new WireWriter().string(1, name);
  if ('float' in attribute) return message.float(2, attribute.float).integer(20, 1);
  if ('int' in attribute) return message.integer(3, attribute.int).integer(20, 2);
  if ('string' in attribute) return message.string(4, attribute.string).integer(20, 3);
  if ('tensor' in attribute) return message.message(5, tensorMessage(attribute.tensor)).integer(20, 4);
  if ('graph' in attribute) return message.message(6, graphMessage(attribute.graph)).integer(20, 5);
  if ('floats' in attribute) {
    for (const value of attribute.floats) message.float(7, value);
    return message.integer(20, 6);
  }
  if ('ints' in attribute) {
    for (const value of attribute.ints) message.integer(8, value);
    return message.integer(20, 7);
  }
  for (const value of attribute.strings) message.string(9, value);
  return message.integer(20, 8);
}

/** A TensorProto. */
export function tensorMessage(tensor: OnnxTensor): WireWriter {
  const message = new WireWriter();
  for (const dim of tensor.shape) message.integer(1, dim);
  message.integer(2, elementType(tensor.datatype));
  for (const value of tensor.strings ?? []) message.string(6, value);
  if (tensor.name) message.string(8, tensor.name);
  if (tensor.data) message.bytes(9, bytesOf(tensor.data));
  if (tensor.external) {
    for (const [key, value] of Object.entries(tensor.external)) {
      message.message(13, new WireWriter().string(1, key).string(2, String(value)));
    }
    message.integer(14, 1);
  }
  return message;
}

/** A ValueInfoProto. */
export function valueMessage(value: OnnxValue): WireWriter {
  const tensor = new WireWriter().integer(1, elementType(value.datatype));
  if (value.shape) tensor.message(2, shapeMessage(value.shape));
  let type = new WireWriter().message(1, tensor);
  if (value.kind === 'sequence') type = new WireWriter().message(4, new WireWriter().message(1, type));
  if (value.kind === 'optional') type = new WireWriter().message(9, new WireWriter().message(1, type));
  return new WireWriter().string(1, value.name).message(2, type);
}

function shapeMessage(shape: readonly (number | string)[]): WireWriter {
  const message = new WireWriter();
  for (const dim of shape) {
    const part = new WireWriter();
    if (typeof dim === 'string') part.string(2, dim);
    else if (dim >= 0) part.integer(1, dim);
    message.message(1, part);
  }
  return message;
}

function elementType(type: OnnxElementType): number {
  if (typeof type === 'number') return type;
  return type === 'BYTES' ? 8 : fixedDatatypes[type].onnx;
}

function bytesOf(data: FixedData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
