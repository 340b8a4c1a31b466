/** Reading what a `.onnx` file says about itself, without its weights. */
import { messageOf, ServingError } from '../errors.js';
import {
  ByteSource,
  expectType,
  fieldInteger,
  fieldIntegers,
  fieldNumber,
  fieldString,
  readFields,
  type WireField,
} from '../protobuf-wire.js';
import { type Datatype, datatypeOfOnnx, fixedDatatypes } from '../tensor/datatype.js';

/** What kind of value an input or output is. Only tensors travel in the protocol. */
export type OnnxValueKind =
  | 'tensor'
  | 'sequence'
  | 'map'
  | 'optional'
  | 'sparse_tensor'
  | 'opaque'
  | 'unknown';

/** An input or output as the file declares it. */
export interface OnnxValueSummary {
  readonly name: string;
  readonly kind: OnnxValueKind;
  /** `TensorProto.DataType`; 0 when the kind is not a tensor. */
  readonly elementType: number;
  /** Absent where the protocol has no such type (INT4, float8, ...). */
  readonly datatype: Datatype | undefined;
  /** Sizes, -1 for free ones; absent when the file does not tell the rank. */
  readonly shape: readonly number[] | undefined;
  /** The name of each free dimension, '' where it has none or is fixed. */
  readonly dimNames: readonly string[];
}

/** A constant of the graph: an initialiser, or the value of a Constant operator. */
export interface OnnxConstantSummary {
  readonly name: string;
  readonly elementType: number;
  readonly datatype: Datatype | undefined;
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly bytes: number;
  /** The file, relative to the model, that holds the elements; absent when they are in the model. */
  readonly externalFile: string | undefined;
}

/** What a model file says about itself. */
export interface OnnxSummary {
  /** Bytes of the file. */
  readonly fileBytes: number;
  readonly irVersion: number;
  /** Operator set version by domain; ONNX's own domain is `ai.onnx`. */
  readonly opsets: Readonly<Record<string, number>>;
  readonly producer: string;
  readonly graphName: string;
  /** Inputs that a request gives: those without an initialiser. */
  readonly inputs: readonly OnnxValueSummary[];
  /** Names of inputs that an initialiser gives a value, which no request needs to give. */
  readonly optionalInputs: readonly string[];
  readonly outputs: readonly OnnxValueSummary[];
  readonly constants: readonly OnnxConstantSummary[];
  /** Number of nodes by operator, as `Relu` or `domain:Op`, subgraphs and functions included. */
  readonly operators: Readonly<Record<string, number>>;
  /** Bytes of the largest constant inside a subgraph (a branch of If, the body of Loop or Scan); 0 for none. */
  readonly largestSubgraphConstantBytes: number;
}

/**
 * Reads the summary of a model file. Synchronous, but reads little: weights are skipped.
 *
 * @throws SRV_MODEL_INVALID when the file is empty, truncated or not ONNX; SRV_IO when it cannot be read
 */
export function readOnnxFile(path: string): OnnxSummary {
  let source: ByteSource;
  try {
    source = ByteSource.ofFile(path);
  } catch (error) {
    throw new ServingError('SRV_IO', `${path}: the model file cannot be opened: ${messageOf(error)}`, {
      cause: error,
    });
  }
  try {
    return readOnnx(source, path);
  } finally {
    source.close();
  }
}

/** Like {@link readOnnxFile}, for a model in memory; `name` stands in messages for the path. */
export function readOnnxBytes(bytes: Uint8Array, name = 'model'): OnnxSummary {
  return readOnnx(ByteSource.ofBytes(bytes), name);
}

function readOnnx(source: ByteSource, path: string): OnnxSummary {
  const invalid = (what: string): ServingError =>
    new ServingError('SRV_MODEL_INVALID', `${path}: ${what}`, { details: { path, bytes: source.length } });
  if (source.length === 0) throw invalid('the file is empty (0 bytes); expected an ONNX model');
  try {
    const summary = readModel(source);
    if (summary) return summary;
  } catch (error) {
    if (error instanceof ServingError && error.code !== 'SRV_MODEL_INVALID') throw error;
    throw invalid(
      `not a whole ONNX model: ${messageOf(error)} (the file has ${source.length} bytes); ` +
        'it is truncated or of another format',
    );
  }
  throw invalid(
    `not an ONNX model: expected an IR version and a graph, found none in ${source.length} bytes; ` +
      'it is truncated or of another format',
  );
}

interface GraphFacts {
  readonly constants: OnnxConstantSummary[];
  readonly operators: Record<string, number>;
  largestSubgraphConstantBytes: number;
}

function readModel(source: ByteSource): OnnxSummary | undefined {
  const facts: GraphFacts = { constants: [], operators: {}, largestSubgraphConstantBytes: 0 };
  const opsets: Record<string, number> = {};
  let irVersion = 0;
  let producer = '';
  let graph: ReturnType<typeof readGraph> | undefined;
  for (const field of readFields(source)) {
    if (field.number === 1) irVersion = fieldNumber(source, expectType(field, 0));
    else if (field.number === 2) producer = fieldString(source, expectType(field, 2));
    else if (field.number === 7) graph = readGraph(source, expectType(field, 2), facts);
    else if (field.number === 8) {
      const entry = strings(source, expectType(field, 2));
      const domain = entry.get(1) || 'ai.onnx';
      opsets[domain] = Number(entry.get(2) ?? 0);
    } else if (field.number === 25) readFunction(source, expectType(field, 2), facts);
  }
  if (irVersion < 1 || irVersion > 1_000 || !graph) return undefined;
  const given = new Set(facts.constants.map((constant) => constant.name));
  return {
    fileBytes: source.length,
    irVersion,
    opsets,
    producer,
    graphName: graph.name,
    inputs: graph.inputs.filter((input) => !given.has(input.name)),
    optionalInputs: graph.inputs.filter((input) => given.has(input.name)).map((input) => input.name),
    outputs: graph.outputs,
    constants: facts.constants,
    operators: facts.operators,
    largestSubgraphConstantBytes: facts.largestSubgraphConstantBytes,
  };
}

function readGraph(source: ByteSource, graph: WireField, facts: GraphFacts) {
  let name = '';
  const inputs: OnnxValueSummary[] = [];
  const outputs: OnnxValueSummary[] = [];
  for (const field of readFields(source, graph.start, graph.end)) {
    if (field.number === 1) readNode(source, expectType(field, 2), facts, false);
    else if (field.number === 2) name = fieldString(source, expectType(field, 2));
    else if (field.number === 5) facts.constants.push(readTensor(source, expectType(field, 2)));
    else if (field.number === 11) inputs.push(readValue(source, expectType(field, 2)));
    else if (field.number === 12) outputs.push(readValue(source, expectType(field, 2)));
    else if (field.number === 15) facts.constants.push(readSparse(source, expectType(field, 2)));
  }
  return { name, inputs, outputs };
}

function readSubgraph(source: ByteSource, graph: WireField, facts: GraphFacts): void {
  for (const field of readFields(source, graph.start, graph.end)) {
    if (field.number === 1) readNode(source, expectType(field, 2), facts, true);
    else if (field.number === 5) noteSubgraphConstant(readTensor(source, expectType(field, 2)), facts);
  }
}

function readFunction(source: ByteSource, body: WireField, facts: GraphFacts): void {
  for (const field of readFields(source, body.start, body.end)) {
    if (field.number === 7) readNode(source, expectType(field, 2), facts, true);
  }
}

function readNode(source: ByteSource, node: WireField, facts: GraphFacts, isInner: boolean): void {
  let op = '';
  let domain = '';
  let output = '';
  let value: OnnxConstantSummary | undefined;
  for (const field of readFields(source, node.start, node.end)) {
    if (field.number === 2 && !output) output = fieldString(source, expectType(field, 2));
    else if (field.number === 4) op = fieldString(source, expectType(field, 2));
    else if (field.number === 7) domain = fieldString(source, expectType(field, 2));
    else if (field.number === 5) {
      for (const part of readFields(source, field.start, expectType(field, 2).end)) {
        if (part.number === 5) value = readTensor(source, expectType(part, 2));
        else if (part.number === 6 || part.number === 11) readSubgraph(source, expectType(part, 2), facts);
      }
    }
  }
  const key = domain && domain !== 'ai.onnx' ? `${domain}:${op}` : op;
  facts.operators[key] = (facts.operators[key] ?? 0) + 1;
  if (op !== 'Constant' || !value) return;
  if (isInner) noteSubgraphConstant(value, facts);
  else facts.constants.push({ ...value, name: output });
}

function noteSubgraphConstant(constant: OnnxConstantSummary, facts: GraphFacts): void {
  facts.largestSubgraphConstantBytes = Math.max(facts.largestSubgraphConstantBytes, constant.bytes);
}

function readTensor(source: ByteSource, tensor: WireField): OnnxConstantSummary {
  let name = '';
  let elementType = 0;
  let storedBytes = 0;
  let externalFile: string | undefined;
  const shape: number[] = [];
  for (const field of readFields(source, tensor.start, tensor.end)) {
    if (field.number === 1) shape.push(...fieldIntegers(source, field));
    else if (field.number === 2) elementType = fieldNumber(source, expectType(field, 0));
    else if (field.number === 8) name = fieldString(source, expectType(field, 2));
    else if (field.number === 13) {
      const entry = strings(source, expectType(field, 2));
      if (entry.get(1) === 'location') externalFile = entry.get(2);
    } else if (field.type !== 0) storedBytes += field.end - field.start;
  }
  const datatype = datatypeOfOnnx(elementType);
  const elements = shape.reduce((product, dim) => product * dim, 1);
  const bytes = datatype && datatype !== 'BYTES' ? elements * fixedDatatypes[datatype].bytes : storedBytes;
  return { name, elementType, datatype, shape, bytes, externalFile };
}

function readSparse(source: ByteSource, sparse: WireField): OnnxConstantSummary {
  for (const field of readFields(source, sparse.start, sparse.end)) {
    if (field.number === 1) return readTensor(source, expectType(field, 2));
  }
  return { name: '', elementType: 0, datatype: undefined, shape: [], bytes: 0, externalFile: undefined };
}

const kinds: Readonly<Record<number, OnnxValueKind>> = {
  1: 'tensor',
  4: 'sequence',
  5: 'map',
  7: 'opaque',
  8: 'sparse_tensor',
  9: 'optional',
};

/** Reads a ValueInfoProto. */
export function readValue(source: ByteSource, value: WireField): OnnxValueSummary {
  let name = '';
  let kind: OnnxValueKind = 'unknown';
  let elementType = 0;
  let shape: number[] | undefined;
  const dimNames: string[] = [];
  for (const field of readFields(source, value.start, value.end)) {
    if (field.number === 1) name = fieldString(source, expectType(field, 2));
    if (field.number !== 2) continue;
    for (const type of readFields(source, field.start, expectType(field, 2).end)) {
      kind = kinds[type.number] ?? kind;
      if (type.number !== 1) continue;
      for (const part of readFields(source, type.start, expectType(type, 2).end)) {
        if (part.number === 1) elementType = fieldNumber(source, expectType(part, 0));
        else if (part.number === 2) shape = readShape(source, expectType(part, 2), dimNames);
      }
    }
  }
  return { name, kind, elementType, datatype: datatypeOfOnnx(elementType), shape, dimNames };
}

function readShape(source: ByteSource, shape: WireField, dimNames: string[]): number[] {
  const dims: number[] = [];
  for (const field of readFields(source, shape.start, shape.end)) {
    if (field.number !== 1) continue;
    let size = -1;
    let name = '';
    for (const part of readFields(source, field.start, expectType(field, 2).end)) {
      if (part.number === 1) size = fieldNumber(source, expectType(part, 0));
      else if (part.number === 2) name = fieldString(source, expectType(part, 2));
    }
    dims.push(size < 0 ? -1 : size);
    dimNames.push(name);
  }
  return dims;
}

/** The scalar fields of a small message, as text, by field number. */
function strings(source: ByteSource, message: WireField): Map<number, string> {
  const values = new Map<number, string>();
  for (const field of readFields(source, message.start, message.end)) {
    values.set(
      field.number,
      field.type === 0 ? String(fieldInteger(source, field)) : fieldString(source, field),
    );
  }
  return values;
}
